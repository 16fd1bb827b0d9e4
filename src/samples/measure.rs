//! What is counted of a table while its rows pass by on their way into its files, where it costs next to nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::kernels::cmp::distinct;
use datafusion::arrow::compute::partition;
use datafusion::arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use datafusion::error::DataFusionError;

use super::columns::Shape;
use crate::artifacts::{RankBand, RunDate, Spread, Statistics, TableStatistics};
use crate::error::{Error, Result};

/// Bands that the ranks of hard negatives are put into at most.
const RANK_BANDS: i64 = 20;
const MICROSECONDS_A_DAY: i64 = 86_400_000_000;

/// The counts of one table.
pub struct Measure {
    rows: u64,
    /// Names of the columns, with the nulls in each.
    nulls: Vec<(String, u64)>,
    /// Rows that follow one another with the same value in the column that leads the order.
    runs: Option<Runs>,
    event_time: Option<usize>,
    days: BTreeMap<i64, u64>,
    ranker_rank: Option<usize>,
    ranks: BTreeMap<i64, u64>,
    keyed_by: Option<String>,
}

/// A finished [`Measure`].
#[derive(Debug, Clone, Default)]
pub struct Measured {
    pub table: TableStatistics,
    /// Rows by `ranker_rank`.
    pub ranks: BTreeMap<i64, u64>,
}

impl Measured {
    /// Of a table whose rows did not pass by.
    pub fn of_rows(rows: u64) -> Measured {
        Measured { table: TableStatistics { rows, ..Default::default() }, ranks: BTreeMap::new() }
    }
}

impl Measure {
    pub fn new(shape: &Shape) -> Self {
        let place = |name: &str, fits: fn(&DataType) -> bool| {
            shape.schema.index_of(name).ok().filter(|at| fits(shape.schema.field(*at).data_type()))
        };
        let keyed_by = (shape.key.len() == 1).then(|| shape.key[0].clone());
        let hashed = shape.hashed.as_deref().filter(|name| ["user_id", "sample_id"].contains(name));
        let runs = hashed.filter(|name| keyed_by.as_deref() != Some(name));
        Measure {
            rows: 0,
            nulls: shape.schema.fields().iter().map(|field| (field.name().clone(), 0)).collect(),
            runs: runs.and_then(|name| Some(Runs::new(shape.schema.index_of(name).ok()?, name == "sample_id"))),
            event_time: place("event_time", |found| matches!(found, DataType::Timestamp(..))),
            days: BTreeMap::new(),
            ranker_rank: place("ranker_rank", |found| *found == DataType::Int64),
            ranks: BTreeMap::new(),
            keyed_by,
        }
    }

    pub fn look_at(&mut self, chunk: &RecordBatch) -> Result<(), DataFusionError> {
        self.rows += chunk.num_rows() as u64;
        for ((_, nulls), column) in self.nulls.iter_mut().zip(chunk.columns()) {
            *nulls += column.null_count() as u64;
        }
        if let Some(runs) = &mut self.runs {
            runs.look_at(chunk.column(runs.column))?;
        }
        if let Some(at) = self.event_time {
            for time in chunk.column(at).as_primitive::<TimestampMicrosecondType>().iter().flatten() {
                *self.days.entry(time.div_euclid(MICROSECONDS_A_DAY)).or_default() += 1;
            }
        }
        if let Some(at) = self.ranker_rank {
            for rank in chunk.column(at).as_primitive::<Int64Type>().iter().flatten() {
                *self.ranks.entry(rank).or_default() += 1;
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Measured {
        let day = |(day, rows): (i64, u64)| Some((RunDate::from_epoch(day)?, rows));
        let mut table = TableStatistics {
            rows: self.rows,
            days: self.days.into_iter().filter_map(day).collect(),
            nulls: self.nulls.into_iter().filter(|(_, nulls)| *nulls > 0).collect(),
            ..Default::default()
        };
        match self.keyed_by.as_deref() {
            Some("user_id") => table.users = Some(self.rows),
            Some("item_id") => table.items = Some(self.rows),
            _ => {}
        }
        if let Some(runs) = self.runs {
            let of_samples = runs.of_samples;
            let lengths = runs.finish();
            let (many, spread) = (Some(lengths.values().sum()), spread(&lengths));
            if of_samples {
                (table.samples, table.per_sample) = (many, spread);
            } else {
                (table.users, table.per_user) = (many, spread);
            }
        }
        Measured { table, ranks: self.ranks }
    }
}

/// Tables of figures that only audits can read, since they are known when all others are built.
pub const MEASURED_TABLES: [&str; 2] = ["measured_days", "measured_columns"];

/// The figures as tables: rows by day of each source and of `positives`, and nulls by column of each table.
pub fn measured_tables(all: &Statistics, date: RunDate) -> Result<[(&'static str, RecordBatch); 2]> {
    // other tables with a time are steps on the way to these
    let positives = all.tables.get_key_value("positives").map(|(name, table)| (name, without_gaps(&table.days, date)));
    let (mut counted, mut day, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for (name, days) in all.sources.iter().chain(positives.as_ref().map(|(name, days)| (*name, days))) {
        for (date, count) in days {
            counted.push(name.as_str());
            day.push(date.days_since_epoch());
            rows.push(*count as i64);
        }
    }
    let days = RecordBatch::try_from_iter([
        ("counted", Arc::new(StringArray::from(counted)) as ArrayRef),
        ("day", Arc::new(Date32Array::from(day))),
        ("rows", Arc::new(Int64Array::from(rows))),
    ]);
    let (mut table_name, mut column_name, mut nulls, mut rows) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (name, table) in &all.tables {
        for (column, count) in &table.nulls {
            table_name.push(name.as_str());
            column_name.push(column.as_str());
            nulls.push(*count as i64);
            rows.push(table.rows as i64);
        }
    }
    let columns = RecordBatch::try_from_iter([
        ("table_name", Arc::new(StringArray::from(table_name)) as ArrayRef),
        ("column_name", Arc::new(StringArray::from(column_name))),
        ("nulls", Arc::new(Int64Array::from(nulls))),
        ("rows", Arc::new(Int64Array::from(rows))),
    ]);
    let broken = |error| Error::internal("figures make no table").caused_by(error);
    Ok([(MEASURED_TABLES[0], days.map_err(broken)?), (MEASURED_TABLES[1], columns.map_err(broken)?)])
}

/// The same with a zero for each day without a row, from the first day on: what is missing is no row that a query could find.
fn without_gaps(days: &BTreeMap<RunDate, u64>, date: RunDate) -> BTreeMap<RunDate, u64> {
    let mut all: BTreeMap<RunDate, u64> = match days.keys().next() {
        Some(first) => first.to(date).map(|day| (day, 0)).collect(),
        None => BTreeMap::new(),
    };
    all.extend(days);
    all
}

/// Lengths of runs of equal values.
struct Runs {
    column: usize,
    of_samples: bool,
    last: Option<ArrayRef>,
    open: u64,
    lengths: BTreeMap<u64, u64>,
}

impl Runs {
    fn new(column: usize, of_samples: bool) -> Self {
        Runs { column, of_samples, last: None, open: 0, lengths: BTreeMap::new() }
    }

    fn look_at(&mut self, values: &ArrayRef) -> Result<(), DataFusionError> {
        if values.is_empty() {
            return Ok(());
        }
        for run in partition(std::slice::from_ref(values))?.ranges() {
            let goes_on = match &self.last {
                Some(last) if run.start == 0 => !distinct(last, &values.slice(0, 1))?.value(0),
                _ => false,
            };
            if !goes_on {
                self.close();
            }
            self.open += run.len() as u64;
        }
        self.last = Some(values.slice(values.len() - 1, 1));
        Ok(())
    }

    fn close(&mut self) {
        if self.open > 0 {
            *self.lengths.entry(std::mem::take(&mut self.open)).or_default() += 1;
        }
    }

    fn finish(mut self) -> BTreeMap<u64, u64> {
        self.close();
        self.lengths
    }
}

/// The spread of a count, from how many have each; `None` when nobody has any.
pub fn spread(many_by_count: &BTreeMap<u64, u64>) -> Option<Spread> {
    let (min, max) = (*many_by_count.keys().next()?, *many_by_count.keys().next_back()?);
    let many: u64 = many_by_count.values().sum();
    let total: u128 = many_by_count.iter().map(|(count, many)| u128::from(*count) * u128::from(*many)).sum();
    let quantile = |hundredths: u128| {
        let wanted = (u128::from(many) * hundredths).div_ceil(100);
        let mut below = 0u128;
        let reached = many_by_count.iter().find(|(_, many)| {
            below += u128::from(**many);
            below >= wanted
        });
        reached.map_or(max, |(count, _)| *count)
    };
    let mean = total as f64 / many as f64;
    Some(Spread { min, p50: quantile(50), p90: quantile(90), p99: quantile(99), max, mean })
}

/// Ranks in bands of equal width, those without a row left out.
pub fn rank_bands(ranks: &BTreeMap<i64, u64>) -> Vec<RankBand> {
    let (Some(first), Some(last)) = (ranks.keys().next(), ranks.keys().next_back()) else { return Vec::new() };
    let width = (last.saturating_sub(*first) / RANK_BANDS).saturating_add(1);
    let mut bands: BTreeMap<i64, u64> = BTreeMap::new();
    for (rank, rows) in ranks {
        *bands.entry(rank.saturating_sub(*first) / width).or_default() += rows;
    }
    let band = |(number, rows): (i64, u64)| {
        let from = first.saturating_add(number.saturating_mul(width));
        RankBand { from, to: from.saturating_add(width - 1).min(*last), rows }
    };
    bands.into_iter().map(band).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_on_from_chunk_to_chunk() {
        let mut runs = Runs::new(0, false);
        for chunk in [vec![5, 5, 7], vec![7], vec![], vec![7, 2], vec![9, 9]] {
            let chunk: ArrayRef = Arc::new(Int64Array::from(chunk));
            runs.look_at(&chunk).unwrap();
        }
        // 5 twice, 7 three times, 2 once, 9 twice
        assert_eq!(runs.finish(), BTreeMap::from([(1, 1), (2, 2), (3, 1)]));
    }

    #[test]
    fn a_day_without_rows_counts_as_zero() {
        let day = |text: &str| text.parse::<RunDate>().unwrap();
        let days = BTreeMap::from([(day("2026-11-17"), 5), (day("2026-11-19"), 7)]);
        let all: Vec<u64> = without_gaps(&days, day("2026-11-20")).into_values().collect();
        assert_eq!(all, [5, 0, 7, 0]);
        assert_eq!(without_gaps(&BTreeMap::new(), day("2026-11-20")), BTreeMap::new());
    }

    #[test]
    fn a_quantile_is_a_count_that_its_share_does_not_exceed() {
        // ninety users with one row, nine with five, one with a hundred
        let found = spread(&BTreeMap::from([(1, 90), (5, 9), (100, 1)])).unwrap();
        assert_eq!(found, Spread { min: 1, p50: 1, p90: 1, p99: 5, max: 100, mean: 2.35 });
        assert_eq!(spread(&BTreeMap::new()), None);
    }

    #[test]
    fn ranks_fall_into_bands_of_one_width() {
        let few = rank_bands(&BTreeMap::from([(3, 4), (5, 1)]));
        assert_eq!(few, [RankBand { from: 3, to: 3, rows: 4 }, RankBand { from: 5, to: 5, rows: 1 }]);
        let many = rank_bands(&(101..=500).map(|rank| (rank, 2)).collect());
        assert_eq!(many.len(), 20);
        assert_eq!(
            (many[0], many[19]),
            (RankBand { from: 101, to: 120, rows: 40 }, RankBand { from: 481, to: 500, rows: 40 })
        );
        assert!(rank_bands(&BTreeMap::from([(i64::MIN, 1), (i64::MAX, 1)])).len() <= 21);
    }
}
