//! The figures of the sample tables: what was counted while they were written, and what takes a pass over one or two of their
//! columns. Sums of integers only, so that no order of rows and no number of threads shows in them.

use std::collections::BTreeMap;
use std::fmt::Write;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;

use super::measure::{Measured, rank_bands, spread};
use super::order::DRAWN_TABLE;
use super::parse::parse;
use super::planner::Planner;
use super::query::fold;
use crate::artifacts::{AccidentalHits, PopularityBand, Statistics, TableFacts, contracts};
use crate::error::Result;
use crate::job::Job;
use crate::warehouse::Listing;

/// The catalogue is cut at these shares of its length, the most popular items first.
const CUTS: [f64; 7] = [0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0];
/// Sizes of batches that accidental hits are told for.
const BATCHES: [u64; 5] = [256, 1024, 4096, 16_384, 65_536];
const POSITIVES: &str = "positives";
const RANDOM: &str = "random_negatives";
const HARD: &str = "hard_negatives";
const SHOWN: &str = "shown_negatives";

/// Measures the tables that were built.
pub async fn statistics(
    job: &Job,
    planner: &Planner,
    sources: &[Listing],
    tables: &BTreeMap<String, TableFacts>,
    measured: BTreeMap<String, Measured>,
) -> Result<Statistics> {
    let _spinner = job.progress.spinner("statistics");
    let ranks = measured.get(HARD).map(|measured| rank_bands(&measured.ranks)).unwrap_or_default();
    let mut all = Statistics {
        tables: measured.into_iter().map(|(name, measured)| (name, measured.table)).collect(),
        hard_negative_ranks: ranks,
        ..Default::default()
    };
    for listing in sources {
        let days = planner.warehouse.rows_by_day(&listing.source);
        if !days.is_empty() {
            all.sources.insert(listing.source.clone(), days);
        }
    }
    let positives = all.tables.get(POSITIVES).map_or(0, |table| table.rows);
    for name in [RANDOM, HARD, SHOWN] {
        if let Some(table) = all.tables.get(name).filter(|_| positives > 0) {
            all.negatives_per_positive.insert(name.into(), table.rows as f64 / positives as f64);
        }
    }
    if let Some(table) = all.tables.get_mut(POSITIVES) {
        let lengths = rows_per_user(job, planner).await?;
        (table.users, table.per_user) = (Some(lengths.values().sum()), spread(&lengths));
    }
    job.stop.check()?;
    measure_items(job, planner, tables, &mut all).await?;
    Ok(all)
}

/// How many users have each number of positives.
async fn rows_per_user(job: &Job, planner: &Planner) -> Result<BTreeMap<u64, u64>> {
    let text = "with counted as (select count(*) as n from positives group by user_id) \
                select n, count(*) as users from counted group by n";
    let file = parse("statistics", "statistics of users", text.into(), true)?;
    fold(job, planner, &file, BTreeMap::new, |lengths, batch| {
        let (counts, users) = (integers(&batch, 0), integers(&batch, 1));
        for (count, users) in counts.zip(users) {
            *lengths.entry(count).or_default() += users;
        }
        Ok(())
    })
    .await
}

/// A column of counts; null is 0.
fn integers(batch: &RecordBatch, at: usize) -> impl Iterator<Item = u64> + '_ {
    batch.column(at).as_primitive::<Int64Type>().iter().map(|value| value.unwrap_or(0).max(0) as u64)
}

/// Tables whose items are counted: those of the contract with an item in each of several rows.
fn with_items(tables: &BTreeMap<String, TableFacts>) -> Vec<&'static str> {
    let counted = contracts().iter().filter(|contract| {
        let there = tables.get(contract.table);
        there.is_some_and(|table| table.columns.iter().any(|column| column.name == "item_id"))
            && contract.key != ["item_id"]
    });
    counted.map(|contract| contract.table).collect()
}

/// Counts each table's rows by item, once, and joins them with the catalogue's order by popularity in the same pass.
async fn measure_items(
    job: &Job,
    planner: &Planner,
    tables: &BTreeMap<String, TableFacts>,
    all: &mut Statistics,
) -> Result<()> {
    let (counted, Some(catalogue)) = (with_items(tables), tables.get(DRAWN_TABLE)) else { return Ok(()) };
    let file = parse("statistics", "statistics of items", items_sql(&counted), true)?;
    let start = || ByItem::new(counted.len(), catalogue.rows);
    let found = fold(job, planner, &file, start, |found, batch| {
        found.add(&batch);
        Ok(())
    })
    .await?;
    for (at, name) in counted.iter().enumerate() {
        if let Some(table) = all.tables.get_mut(*name) {
            table.items = Some(found.items[at]);
            table.outside_catalogue = Some(found.outside[at]);
        }
    }
    all.popularity =
        found.bands(&counted, &all.tables.iter().map(|(name, table)| (name.as_str(), table.rows)).collect());
    let place = |name: &str| counted.iter().position(|counted| *counted == name);
    if let (Some(positives), Some(random)) = (place(POSITIVES), place(RANDOM)) {
        all.accidental_hits = found.accidental_hits(positives, random);
    }
    Ok(())
}

/// One row an item: its place in the catalogue by popularity, from 0, null outside of it; then its rows in each table.
fn items_sql(counted: &[&str]) -> String {
    let mut text = format!(
        "with every as (select item_id, \
         cast(row_number() over (order by positives desc nulls last, item_id) as bigint) - 1 as place{} from {DRAWN_TABLE}",
        (0..counted.len()).fold(String::new(), |columns, at| columns + &format!(", 0 as n{at}"))
    );
    for (at, table) in counted.iter().enumerate() {
        text += " union all select item_id, cast(null as bigint)";
        for other in 0..counted.len() {
            text += if other == at { ", count(*)" } else { ", 0" };
        }
        let _ = write!(text, " from {table} group by item_id");
    }
    text += ") select max(place) as place";
    for at in 0..counted.len() {
        let _ = write!(text, ", sum(n{at}) as n{at}");
    }
    text + " from every group by item_id"
}

/// What is summed up over items.
struct ByItem {
    /// Place of the first item after each cut.
    ends: [u64; CUTS.len()],
    /// By table: different items, and rows outside of the catalogue.
    items: Vec<u64>,
    outside: Vec<u64>,
    /// By cut, then by table: rows.
    bands: [Vec<u64>; CUTS.len()],
    /// Of items with each number of rows in the first table: the rows in each of the others.
    rows_by_first: BTreeMap<u64, Vec<u64>>,
}

impl ByItem {
    fn new(tables: usize, catalogue: u64) -> Self {
        ByItem {
            ends: CUTS.map(|share| ((share * catalogue as f64).ceil() as u64).min(catalogue)),
            items: vec![0; tables],
            outside: vec![0; tables],
            bands: std::array::from_fn(|_| vec![0; tables]),
            rows_by_first: BTreeMap::new(),
        }
    }

    fn add(&mut self, batch: &RecordBatch) {
        let places = batch.column(0).as_primitive::<Int64Type>();
        let counts: Vec<Vec<u64>> = (1..batch.num_columns()).map(|at| integers(batch, at).collect()).collect();
        for row in 0..batch.num_rows() {
            let place = (!places.is_null(row)).then(|| places.value(row) as u64);
            let band = place.and_then(|place| self.ends.iter().position(|end| place < *end));
            for (table, counts) in counts.iter().enumerate() {
                let rows = counts[row];
                self.items[table] += u64::from(rows > 0);
                match band {
                    Some(band) => self.bands[band][table] += rows,
                    None => self.outside[table] += rows,
                }
            }
            let sums = self.rows_by_first.entry(counts[0][row]).or_insert_with(|| vec![0; counts.len()]);
            sums.iter_mut().zip(&counts).for_each(|(sum, counts)| *sum += counts[row]);
        }
    }

    fn bands(&self, counted: &[&str], rows: &BTreeMap<&str, u64>) -> Vec<PopularityBand> {
        let mut bands = Vec::new();
        let mut start = (0, 0.0);
        let mut sums = vec![0; counted.len()];
        for (band, (end, cut)) in self.ends.iter().zip(CUTS).enumerate() {
            sums.iter_mut().zip(&self.bands[band]).for_each(|(sum, rows)| *sum += rows);
            // a small catalogue has no item in a thousand: its first parts are one
            if self.ends.get(band + 1).is_some_and(|next| next == end) || *end == start.0 {
                continue;
            }
            let taught = counted.iter().enumerate().filter(|(_, name)| [POSITIVES, RANDOM, HARD, SHOWN].contains(name));
            let share = |(at, name): (usize, &&str)| {
                let all = rows.get(name).copied().unwrap_or(0);
                (all > 0).then(|| (name.to_string(), sums[at] as f64 / all as f64))
            };
            let from = if start.0 == 0 { "top".into() } else { format!("{} to", percent(start.1)) };
            bands.push(PopularityBand {
                label: format!("{from} {} %", percent(cut)),
                items: end - start.0,
                shares: taught.filter_map(share).collect(),
            });
            start = (*end, cut);
            sums.fill(0);
        }
        bands
    }

    /// `None` without rows in either table. `positives` must be the first of the tables.
    fn accidental_hits(&self, positives: usize, random: usize) -> Option<AccidentalHits> {
        debug_assert_eq!(positives, 0, "the contract begins with `positives`");
        let total = |table: usize| self.rows_by_first.values().map(|rows| rows[table]).sum::<u64>();
        let (liked, drawn) = (total(positives), total(random));
        if liked == 0 || drawn == 0 {
            return None;
        }
        let same: u128 = self.rows_by_first.iter().map(|(n, rows)| u128::from(*n) * u128::from(rows[random])).sum();
        let within = |batch: u64| {
            let missed = |n: u64| (1.0 - n as f64 / liked as f64).powf(batch as f64);
            let hits = self.rows_by_first.iter().map(|(n, rows)| rows[random] as f64 * (1.0 - missed(*n)));
            hits.sum::<f64>() / drawn as f64
        };
        Some(AccidentalHits {
            pairs: same as f64 / liked as f64 / drawn as f64,
            by_batch_size: BATCHES.iter().map(|batch| (*batch, within(*batch))).collect(),
        })
    }
}

/// `0.1`, `1`, `50`.
fn percent(share: f64) -> f64 {
    (share * 1000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn shares_and_hits_are_those_counted_by_hand() {
        // place, positives, random negatives: four items of the catalogue and one outside of it
        let columns: [Vec<Option<i64>>; 3] = [
            vec![Some(0), Some(1), Some(2), Some(3), None],
            vec![Some(6), Some(2), Some(1), Some(0), Some(1)],
            vec![Some(5), Some(5), Some(5), Some(5), Some(0)],
        ];
        let columns = columns.map(|values| Arc::new(Int64Array::from(values)) as ArrayRef);
        let names = ["place", "n0", "n1"].into_iter().zip(columns);
        let mut found = ByItem::new(2, 4);
        found.add(&RecordBatch::try_from_iter(names).unwrap());
        assert_eq!((found.items.as_slice(), found.outside.as_slice()), ([4, 4].as_slice(), [1, 0].as_slice()));
        let bands = found.bands(&[POSITIVES, RANDOM], &BTreeMap::from([(POSITIVES, 10), (RANDOM, 20)]));
        let shown: Vec<_> =
            bands.iter().map(|b| (b.label.as_str(), b.items, b.shares[POSITIVES], b.shares[RANDOM])).collect();
        assert_eq!(shown, [("top 20 %", 1, 0.6, 0.25), ("20 to 50 %", 1, 0.2, 0.25), ("50 to 100 %", 2, 0.1, 0.5)]);
        let hits = found.accidental_hits(0, 1).unwrap();
        // (6 * 5 + 2 * 5 + 1 * 5) / (10 * 20)
        assert!((hits.pairs - 0.225).abs() < 1e-12);
        let batch = |size: i32| {
            let missed = |share: f64| (1.0 - share).powi(size);
            (3.0 - missed(0.6) - missed(0.2) - missed(0.1)) / 4.0
        };
        assert!((hits.by_batch_size[&256] - batch(256)).abs() < 1e-12);
    }
}
