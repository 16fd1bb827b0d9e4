//! Which row of its table a value takes.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Date32Type, Field, Int64Type, Schema, SchemaRef};

use super::{Keys, ValueType};
use crate::error::{Error, Result};
use crate::kernels::random::fnv1a64;

/// Rows that are written at a time.
const ROWS_AT_ONCE: usize = 1 << 16;

/// Rows of one table by value. The unknown rows stand first; known values follow by descending count, then by value. Where a model
/// went on from an earlier day's, values that were known then come before those that are new.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    pub unknown_rows: usize,
    pub rows: Rows,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    Int(HashMap<i64, Entry>),
    Text(HashMap<Box<str>, Entry>),
}

/// What is kept of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub row: u32,
    /// Date of the last samples that had it, in days since 1970.
    pub last_seen: i32,
    /// How often those had it.
    pub count: u64,
}

/// The vocabularies of all tables but those of buckets, by table name.
pub type Vocabularies = BTreeMap<String, Vocabulary>;

/// How often each value of a table was seen.
#[derive(Debug, Clone)]
pub(super) enum Counts {
    Int(HashMap<i64, u64>),
    Text(HashMap<Box<str>, u64>),
}

impl Counts {
    pub fn new(value_type: ValueType) -> Self {
        match value_type {
            ValueType::Varchar => Counts::Text(HashMap::new()),
            ValueType::Bigint | ValueType::Bucket | ValueType::Trigram | ValueType::Crossed => {
                Counts::Int(HashMap::new())
            }
        }
    }

    pub fn value_type(&self) -> ValueType {
        match self {
            Counts::Int(_) => ValueType::Bigint,
            Counts::Text(_) => ValueType::Varchar,
        }
    }

    /// Adds `by` to the count of the value at `at`, which is of this table's type; null is no value.
    pub fn add(&mut self, keys: &Keys, at: usize, by: u64) {
        match (self, keys) {
            (Counts::Int(counts), Keys::Int(keys)) if keys.is_valid(at) => {
                *counts.entry(keys.value(at)).or_default() += by
            }
            (Counts::Text(counts), Keys::Text(keys)) if keys.is_valid(at) => match counts.get_mut(keys.value(at)) {
                Some(count) => *count += by,
                None => drop(counts.insert(keys.value(at).into(), by)),
            },
            _ => {}
        }
    }

    /// The count of the value at `at`.
    pub fn of(&self, keys: &Keys, at: usize) -> u64 {
        match (self, keys) {
            (Counts::Int(counts), Keys::Int(keys)) if keys.is_valid(at) => {
                counts.get(&keys.value(at)).copied().unwrap_or(0)
            }
            (Counts::Text(counts), Keys::Text(keys)) if keys.is_valid(at) => {
                counts.get(keys.value(at)).copied().unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// The first vocabulary of a table, counted on `day`.
    pub fn into_vocabulary(self, min_count: u64, unknown_rows: usize, day: i32) -> Vocabulary {
        let rows = match self {
            Counts::Int(counts) => Rows::Int(number(counts, min_count, unknown_rows, day)),
            Counts::Text(counts) => Rows::Text(number(counts, min_count, unknown_rows, day)),
        };
        Vocabulary { unknown_rows, rows }
    }
}

fn number<V: Ord + Hash>(
    counts: HashMap<V, u64>,
    min_count: u64,
    unknown_rows: usize,
    last_seen: i32,
) -> HashMap<V, Entry> {
    let mut kept: Vec<(V, u64)> = counts.into_iter().filter(|(_, count)| *count >= min_count).collect();
    kept.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let entry = |row: u32, count: u64| Entry { row, last_seen, count };
    kept.into_iter().zip(unknown_rows as u32..).map(|((value, count), row)| (value, entry(row, count))).collect()
}

impl Vocabulary {
    /// Rows of the table: unknown ones and known ones.
    pub fn len(&self) -> usize {
        self.unknown_rows
            + match &self.rows {
                Rows::Int(rows) => rows.len(),
                Rows::Text(rows) => rows.len(),
            }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows that known values take, in no order.
    pub fn rows(&self) -> impl Iterator<Item = u32> + '_ {
        let (ints, texts) = match &self.rows {
            Rows::Int(rows) => (Some(rows.values()), None),
            Rows::Text(rows) => (None, Some(rows.values())),
        };
        ints.into_iter().flatten().chain(texts.into_iter().flatten()).map(|entry| entry.row)
    }

    pub fn value_type(&self) -> ValueType {
        match self.rows {
            Rows::Int(_) => ValueType::Bigint,
            Rows::Text(_) => ValueType::Varchar,
        }
    }

    /// The row of the value at `at`; `None` for a value without one (see [`super::TableSpec::unknown_rows`]). The
    /// keys are of this vocabulary's type.
    pub fn row(&self, keys: &Keys, at: usize) -> Option<u32> {
        let unknown = |hash: u64| (self.unknown_rows > 0).then(|| (hash % self.unknown_rows as u64) as u32);
        if keys.is_null(at) {
            return unknown(0);
        }
        match (&self.rows, keys) {
            (Rows::Int(rows), Keys::Int(keys)) => {
                let value = keys.value(at);
                rows.get(&value).map(|found| found.row).or_else(|| unknown(fnv1a64(&value.to_le_bytes())))
            }
            (Rows::Text(rows), Keys::Text(keys)) => {
                let value = keys.value(at);
                rows.get(value).map(|found| found.row).or_else(|| unknown(fnv1a64(value.as_bytes())))
            }
            (_, Keys::Int(_) | Keys::Text(_)) => None,
        }
    }
}

/// Columns of `vocabulary.parquet`: exactly one of the two values is given.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("table", DataType::Utf8, false),
        Field::new("value_int", DataType::Int64, true),
        Field::new("value_text", DataType::Utf8, true),
        Field::new("row", DataType::Int64, false),
        Field::new("count", DataType::Int64, false),
        Field::new("last_seen", DataType::Date32, false),
    ]))
}

/// One vocabulary as rows of `vocabulary.parquet`, by row, some at a time.
pub(crate) fn to_arrow<'a>(
    table: &'a str,
    vocabulary: &'a Vocabulary,
) -> impl Iterator<Item = Result<RecordBatch>> + 'a {
    let (ints, texts) = match &vocabulary.rows {
        Rows::Int(rows) => (by_row(rows.iter().map(|(value, entry)| (*value, entry))), Vec::new()),
        Rows::Text(rows) => (Vec::new(), by_row(rows.iter().map(|(value, entry)| (&**value, entry)))),
    };
    let starts = (0..ints.len() + texts.len()).step_by(ROWS_AT_ONCE);
    starts.map(move |start| batch(table, part(&ints, start), part(&texts, start)))
}

fn by_row<'a, V>(rows: impl Iterator<Item = (V, &'a Entry)>) -> Vec<(V, &'a Entry)> {
    let mut sorted: Vec<_> = rows.collect();
    sorted.sort_unstable_by_key(|(_, entry)| entry.row);
    sorted
}

fn part<T>(all: &[T], start: usize) -> &[T] {
    &all[start.min(all.len())..(start + ROWS_AT_ONCE).min(all.len())]
}

fn batch(table: &str, ints: &[(i64, &Entry)], texts: &[(&str, &Entry)]) -> Result<RecordBatch> {
    let entries: Vec<&Entry> =
        ints.iter().map(|(_, entry)| *entry).chain(texts.iter().map(|(_, entry)| *entry)).collect();
    let int = |at: usize| ints.get(at).map(|(value, _)| *value);
    let text = |at: usize| texts.get(at).map(|(value, _)| *value);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(table, entries.len()))),
        Arc::new((0..entries.len()).map(int).collect::<Int64Array>()),
        Arc::new((0..entries.len()).map(text).collect::<StringArray>()),
        Arc::new(Int64Array::from_iter_values(entries.iter().map(|entry| i64::from(entry.row)))),
        Arc::new(Int64Array::from_iter_values(entries.iter().map(|entry| entry.count as i64))),
        Arc::new(Date32Array::from_iter_values(entries.iter().map(|entry| entry.last_seen))),
    ];
    RecordBatch::try_new(schema(), columns)
        .map_err(|error| Error::internal("cannot make the table of vocabularies").caused_by(error))
}

/// Takes rows of `vocabulary.parquet` in; every table of `into` is there from the start.
pub(crate) fn extend(into: &mut Vocabularies, batch: &RecordBatch) -> Result<()> {
    let damaged = || Error::config("vocabulary.parquet is not what training wrote; train the model anew");
    let column = |name: &str| batch.column_by_name(name).ok_or_else(damaged);
    let (tables, texts) = (column("table")?.as_string_opt::<i32>(), column("value_text")?.as_string_opt::<i32>());
    let (tables, texts) = tables.zip(texts).ok_or_else(damaged)?;
    let integers = |name: &str| column(name)?.as_primitive_opt::<Int64Type>().cloned().ok_or_else(damaged);
    let (ints, rows, counts) = (integers("value_int")?, integers("row")?, integers("count")?);
    let seen = column("last_seen")?.as_primitive_opt::<Date32Type>().ok_or_else(damaged)?;
    for at in 0..batch.num_rows() {
        let place = Entry { row: rows.value(at) as u32, last_seen: seen.value(at), count: counts.value(at) as u64 };
        match into.get_mut(tables.value(at)).map(|vocabulary| &mut vocabulary.rows) {
            Some(Rows::Int(known)) if ints.is_valid(at) => drop(known.insert(ints.value(at), place)),
            Some(Rows::Text(known)) if texts.is_valid(at) => drop(known.insert(texts.value(at).into(), place)),
            _ => return Err(damaged()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(values: &[&str]) -> Keys {
        Keys::Text(StringArray::from_iter_values(values))
    }

    fn counted() -> Vocabulary {
        let seen = keys(&["b", "a", "c", "c", "rare", "a", "b"]);
        let mut counts = Counts::new(ValueType::Varchar);
        (0..seen.len()).for_each(|at| counts.add(&seen, at, 1));
        counts.into_vocabulary(2, 3, 20_000)
    }

    #[test]
    fn rows_follow_count_then_value_and_rare_values_share_the_unknown_rows() {
        let vocabulary = counted();
        let asked = keys(&["a", "b", "c", "rare", "never seen"]);
        let rows: Vec<u32> = (0..5).map(|at| vocabulary.row(&asked, at).unwrap()).collect();
        assert_eq!(rows[..3], [3, 4, 5]);
        assert!(rows[3..].iter().all(|row| *row < 3));
        assert_eq!(vocabulary.len(), 6);
    }

    #[test]
    fn without_unknown_rows_an_unknown_value_has_no_row() {
        let vocabulary = Vocabulary { unknown_rows: 0, ..counted() };
        assert_eq!(vocabulary.row(&keys(&["rare"]), 0), None);
    }

    #[test]
    fn vocabularies_read_back_as_written() {
        let text = counted();
        let mut counts = Counts::new(ValueType::Bigint);
        let numbers = Keys::Int(Int64Array::from(vec![7, -1, 7]));
        (0..3).for_each(|at| counts.add(&numbers, at, 5));
        let ints = counts.into_vocabulary(1, 1, -5);
        let mut read = Vocabularies::new();
        read.insert("t".into(), Vocabulary { unknown_rows: 3, rows: Rows::Text(HashMap::new()) });
        read.insert("n".into(), Vocabulary { unknown_rows: 1, rows: Rows::Int(HashMap::new()) });
        let written = to_arrow("t", &text).chain(to_arrow("n", &ints));
        written.for_each(|batch| extend(&mut read, &batch.unwrap()).unwrap());
        assert_eq!((&read["t"], &read["n"]), (&text, &ints));
    }
}
