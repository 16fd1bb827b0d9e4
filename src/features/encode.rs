//! From table columns to [`Encoded`]: table rows as u32, numbers as f32.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use rayon::prelude::*;

use super::columns::{Keys, Place};
use super::encoded::{Encoded, EncodedColumn, NO_ROW};
use super::hashing;
use super::learn::{Side, transformed};
use super::spec::{Encoding, FeatureSpec, FeatureSpecEntry, TableSpec, TowerSpec};
use super::vocabulary::{Vocabularies, Vocabulary};
use crate::error::{Error, Result};

/// Encodes one side's features.
pub struct Encoder<'a> {
    side: Side,
    tower: &'a TowerSpec,
    tables: &'a BTreeMap<String, TableSpec>,
    vocabularies: &'a Vocabularies,
}

impl<'a> Encoder<'a> {
    pub fn new(spec: &'a FeatureSpec, side: Side, vocabularies: &'a Vocabularies) -> Self {
        let tower = match side {
            Side::User => &spec.user,
            Side::Item => &spec.item,
        };
        Encoder { side, tower, tables: &spec.tables, vocabularies }
    }

    /// Appends the rows of `batch`, a piece of `table`.
    pub fn encode(&self, table: &str, batch: &RecordBatch, into: &mut Encoded) -> Result<()> {
        if into.columns.is_empty() {
            into.columns = self.tower.features.iter().map(|feature| EncodedColumn::empty(&feature.encoding)).collect();
        }
        for (feature, column) in self.tower.features.iter().zip(&mut into.columns) {
            let reader = format!("features.{}.{}", self.side.name(), feature.name);
            let place = Place { table, column: &feature.column, reader: &reader };
            self.encode_feature(feature, place, batch, column)?;
        }
        into.rows += batch.num_rows();
        Ok(())
    }

    fn encode_feature(
        &self,
        feature: &FeatureSpecEntry,
        place: Place,
        batch: &RecordBatch,
        into: &mut EncodedColumn,
    ) -> Result<()> {
        let found = place.find(batch)?;
        match (&feature.encoding, into) {
            (Encoding::Id { table } | Encoding::Categorical { table }, EncodedColumn::One(rows)) => {
                rows.extend(self.rows_of(table, &place.keys(found)?, place)?);
            }
            (Encoding::Ids { table, max_length, .. }, EncodedColumn::Bag { offsets, ids }) => {
                let lists = place.key_lists(found)?;
                let rows = self.rows_of(table, &lists.keys, place)?;
                for row in 0..lists.len() {
                    let kept = lists.bounds(row).take(max_length.unwrap_or(usize::MAX));
                    ids.extend(
                        kept.filter(|at| !lists.keys.is_null(*at)).map(|at| rows[at]).filter(|row| *row != NO_ROW),
                    );
                    offsets.push(ids.len() as u64);
                }
            }
            (Encoding::Numeric { transform, mean, deviation }, EncodedColumn::Numbers(numbers)) => {
                numbers.extend(place.numbers(found)?.iter().flat_map(|value| {
                    match value.filter(|value| value.is_finite()) {
                        Some(value) => [((transformed(*transform, value) - mean) / deviation) as f32, 0.0],
                        None => [0.0, 1.0],
                    }
                }));
            }
            (Encoding::Boolean, EncodedColumn::Numbers(numbers)) => {
                numbers.extend(place.flags(found)?.iter().flat_map(|value| match value {
                    Some(value) => [f32::from(u8::from(value)), 0.0],
                    None => [0.0, 1.0],
                }));
            }
            (Encoding::Bucketized { boundaries, .. }, EncodedColumn::One(rows)) => {
                rows.extend(place.numbers(found)?.iter().map(|value| match value.filter(|value| !value.is_nan()) {
                    Some(value) => 1 + boundaries.partition_point(|boundary| *boundary <= value) as u32,
                    None => 0,
                }));
            }
            _ => return Err(Error::internal(format!("{}: encoded columns of another model", place.reader))),
        }
        Ok(())
    }

    /// The table row of every key, or [`NO_ROW`].
    fn rows_of(&self, table: &str, keys: &Keys, place: Place) -> Result<Vec<u32>> {
        let spec = &self.tables[table];
        // a column of nothing but nulls may come as any type
        if spec.value_type != keys.value_type() && (0..keys.len()).any(|at| !keys.is_null(at)) {
            return Err(Error::config(format!(
                "{}: column `{}` of table `{}` holds {:?}, and the embedding table `{table}` holds {:?}; cast it in the SQL",
                place.reader,
                place.column,
                place.table,
                keys.value_type(),
                spec.value_type
            )));
        }
        let rows = (0..keys.len()).into_par_iter().with_min_len(4096);
        if spec.row_hash.is_some() {
            return Ok(rows.map(|at| hashing::key_row(keys, at, spec.rows).unwrap_or(NO_ROW)).collect());
        }
        let known: &Vocabulary = self.vocabularies.get(table).ok_or_else(|| {
            Error::config(format!("{}: the model has no vocabulary for table `{table}`", place.reader))
        })?;
        Ok(rows.map(|at| known.row(keys, at).unwrap_or(NO_ROW)).collect())
    }
}
