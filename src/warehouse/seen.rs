//! What some rows say of a column: how many values, how far apart, and what they look like.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use chrono::Utc;
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::compute::kernels::cast_utils::string_to_datetime;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::array_value_to_string;

use super::types::{sql_name, table_type};
use crate::config::ColumnType;

/// Values of a column that are kept to be shown.
const EXAMPLES: usize = 20;
/// The units of numbers since 1970, as the functions of SQL call them, and how many make a second.
pub const EPOCHS: [(&str, f64); 4] = [("seconds", 1.0), ("millis", 1e3), ("micros", 1e6), ("nanos", 1e9)];
/// Seconds that can be a time of a log: from 2001-09-09 to 2103.
pub const EPOCH_SECONDS: std::ops::Range<f64> = 1e9..4.2e9;

/// The numbers that can be a time in one unit: how many, and the latest.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epoch {
    pub values: usize,
    pub latest: f64,
}

/// A column and what the rows looked at say of it.
#[derive(Debug, Clone, Default)]
pub struct ColumnSeen {
    pub name: String,
    /// `None` for a type that no table can have.
    pub column_type: Option<ColumnType>,
    /// Its type as people write it.
    pub type_name: String,
    /// Values that are not null, and how many different ones.
    pub values: usize,
    pub distinct: usize,
    /// Finite numbers: all but NaN and the infinite ones; of texts, those that are written so, and the whole ones of these.
    pub numbers: usize,
    pub whole: usize,
    /// The numbers that can be a time since 1970, by the units of [`EPOCHS`].
    pub epochs: [Epoch; EPOCHS.len()],
    /// Of the finite values of numbers.
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub mean: f64,
    /// Of texts: how many have several words, have `|` or `,` between their parts, are points in time.
    pub worded: usize,
    pub barred: usize,
    pub listed: usize,
    pub timed: usize,
    /// The last of dates and times, in the order of texts.
    pub last: Option<String>,
    /// Shortest and longest list.
    pub lengths: Option<(usize, usize)>,
    /// Lists with a null or a number that is not finite.
    pub gaps: usize,
    /// Some of its values, all different.
    pub examples: Vec<String>,
}

impl ColumnSeen {
    /// Whether every value that was seen is among the examples.
    pub fn is_listed_whole(&self) -> bool {
        self.distinct == self.examples.len()
    }

    fn count(&mut self, number: f64) {
        self.numbers += 1;
        for (epoch, (_, per_second)) in self.epochs.iter_mut().zip(EPOCHS) {
            if EPOCH_SECONDS.contains(&(number / per_second)) {
                epoch.values += 1;
                epoch.latest = epoch.latest.max(number);
            }
        }
    }
}

/// A column that is being looked at.
pub struct Seeing {
    column: ColumnSeen,
    hashes: HashSet<u64>,
    sum: f64,
}

impl Seeing {
    pub fn new(name: &str, data_type: &DataType) -> Self {
        let column_type = table_type(data_type).as_ref().and_then(column_type);
        let type_name = sql_name(data_type);
        let column = ColumnSeen { name: name.to_string(), column_type, type_name, ..Default::default() };
        Seeing { column, hashes: HashSet::new(), sum: 0.0 }
    }

    pub fn look_at(&mut self, values: &ArrayRef) -> Result<(), ArrowError> {
        let column = &mut self.column;
        column.values += values.len() - values.null_count();
        if column.column_type.is_none() {
            return Ok(());
        }
        if let DataType::List(_) = values.data_type() {
            for list in values.as_list::<i32>().iter().flatten() {
                let (shortest, longest) = column.lengths.unwrap_or((list.len(), list.len()));
                column.lengths = Some((shortest.min(list.len()), longest.max(list.len())));
                let numbers = list.as_primitive_opt::<Float64Type>();
                let is_lost = |number: Option<f64>| !number.is_some_and(f64::is_finite);
                column.gaps += usize::from(numbers.is_some_and(|numbers| numbers.iter().any(is_lost)));
            }
        }
        if matches!(column.column_type, Some(ColumnType::Bigint | ColumnType::Double)) {
            let numbers = cast(values, &DataType::Float64)?;
            // one NaN would make a NaN of the mean, and nothing can be told from that
            for number in numbers.as_primitive::<Float64Type>().iter().flatten().filter(|number| number.is_finite()) {
                column.min = Some(column.min.map_or(number, |min| min.min(number)));
                column.max = Some(column.max.map_or(number, |max| max.max(number)));
                self.sum += number;
                column.count(number);
            }
        }
        for row in (0..values.len()).filter(|row| !values.is_null(*row)) {
            let text = array_value_to_string(values, row)?;
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            let mut is_time = matches!(column.column_type, Some(ColumnType::Date | ColumnType::Timestamp));
            let new = self.hashes.insert(hasher.finish());
            if column.column_type == Some(ColumnType::Varchar) {
                column.worded += usize::from(text.trim().contains(' '));
                column.barred += usize::from(text.contains('|'));
                column.listed += usize::from(text.contains(',') && !text.contains(' '));
                // as the engine's cast would take it
                is_time = string_to_datetime(&Utc, &text).is_ok();
                column.timed += usize::from(is_time);
                if let Some(number) = text.parse().ok().filter(|number: &f64| number.is_finite()) {
                    column.whole += usize::from(text.parse::<i64>().is_ok());
                    column.count(number);
                }
            }
            if is_time && column.last.as_ref().is_none_or(|last| *last < text) {
                column.last = Some(text.clone());
            }
            if new && column.examples.len() < EXAMPLES {
                column.examples.push(text);
            }
        }
        Ok(())
    }

    pub fn finish(mut self) -> ColumnSeen {
        self.column.distinct = self.hashes.len();
        self.column.mean = self.sum / self.column.numbers.max(1) as f64;
        self.column
    }
}

/// The type a config declares for it, if there is one.
pub fn column_type(data_type: &DataType) -> Option<ColumnType> {
    Some(match data_type {
        DataType::Int64 => ColumnType::Bigint,
        DataType::Float64 => ColumnType::Double,
        DataType::Utf8 => ColumnType::Varchar,
        DataType::Boolean => ColumnType::Boolean,
        DataType::Date32 => ColumnType::Date,
        DataType::Timestamp(..) => ColumnType::Timestamp,
        DataType::List(item) => match item.data_type() {
            DataType::Int64 => ColumnType::BigintList,
            DataType::Float64 => ColumnType::DoubleList,
            DataType::Utf8 => ColumnType::VarcharList,
            _ => return None,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Float64Array, ListArray, StringArray};

    use super::super::types::list_of;
    use super::*;

    fn seen(values: ArrayRef) -> ColumnSeen {
        let mut seeing = Seeing::new("a", values.data_type());
        seeing.look_at(&values).unwrap();
        seeing.finish()
    }

    #[test]
    fn what_is_no_finite_number_does_not_spoil_the_figures_of_the_others() {
        let column = seen(Arc::new(Float64Array::from(vec![f64::NAN, 1.0, f64::INFINITY, 3.0, f64::NEG_INFINITY])));
        assert_eq!((column.min, column.max, column.mean), (Some(1.0), Some(3.0), 2.0));
        assert_eq!((column.values, column.numbers), (5, 2));
        let nothing = seen(Arc::new(Float64Array::from(vec![f64::NAN])));
        assert_eq!((nothing.min, nothing.mean, nothing.numbers), (None, 0.0, 0));
    }

    #[test]
    fn vectors_with_gaps_are_counted() {
        let lists = [Some(vec![Some(1.0), Some(2.0)]), Some(vec![None, Some(2.0)]), None, Some(vec![Some(f64::NAN)])];
        let lists = ListArray::from_iter_primitive::<Float64Type, _, _>(lists);
        let column = seen(cast(&(Arc::new(lists) as ArrayRef), &list_of(DataType::Float64)).unwrap());
        assert_eq!((column.gaps, column.lengths), (2, Some((1, 2))));
    }

    #[test]
    fn a_text_is_a_time_where_the_engine_can_cast_it() {
        let texts =
            ["2026-11-20", "2026-11-20T10:00:00Z", "2026-11-20 10:00:00+0200", "20/11/2026 10:00", "1763596800"];
        let column = seen(Arc::new(StringArray::from(texts.to_vec())));
        assert_eq!((column.timed, column.numbers, column.epochs[0].values), (3, 1, 1));
    }
}
