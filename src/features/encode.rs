//! From table columns to [`Encoded`]: table rows as u32, numbers as f32.

use std::collections::BTreeMap;

use arrow::array::{Array, RecordBatch};
use rayon::prelude::*;

use super::columns::{Keys, Place};
use super::encoded::{Encoded, EncodedColumn, NO_ROW};
use super::hashing;
use super::learn::{Side, transformed};
use super::spec::{CrossedColumn, Encoding, FeatureSpec, FeatureSpecEntry, TableSpec, TowerSpec};
use super::vocabulary::{Vocabularies, Vocabulary};
use crate::error::{Error, Result};
use crate::kernels::math::dot_f64;

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
                rows.memory().extend(self.rows_of(table, &place.keys(found)?, place)?);
            }
            (Encoding::Ids { table, max_length, weights: by, .. }, EncodedColumn::Bag { offsets, ids, weights }) => {
                let (offsets, ids, weights) = (offsets.memory(), ids.memory(), weights.memory());
                let lists = place.key_lists(found)?;
                let rows = self.rows_of(table, &lists.keys, place)?;
                let given = match by {
                    Some(column) => {
                        let place = Place { column, ..place };
                        Some(place.weights(place.find(batch)?, &lists)?)
                    }
                    None => None,
                };
                for row in 0..lists.len() {
                    let kept = lists.bounds(row).take(max_length.unwrap_or(usize::MAX));
                    let kept = kept.filter(|at| !lists.keys.is_null(*at) && rows[*at] != NO_ROW);
                    for at in kept {
                        ids.push(rows[at]);
                        weights.extend(given.as_ref().map(|given| given[at]));
                    }
                    offsets.push(ids.len() as u64);
                }
            }
            (Encoding::Text { table, max_length, .. }, EncodedColumn::Bag { offsets, ids, .. }) => {
                let (texts, limit) = (place.texts(found)?, max_length.unwrap_or(usize::MAX));
                let of = |at: usize| match texts.is_valid(at) {
                    true => hashing::trigram_rows(texts.value(at), limit, self.tables[table].rows),
                    false => Vec::new(),
                };
                let bags: Vec<Vec<u32>> = (0..texts.len()).into_par_iter().with_min_len(256).map(of).collect();
                let (offsets, ids) = (offsets.memory(), ids.memory());
                for bag in bags {
                    ids.extend(bag);
                    offsets.push(ids.len() as u64);
                }
            }
            (Encoding::Crossed { table, of }, EncodedColumn::One(rows)) => {
                let columns = of.iter().map(|one| self.crossed(one, place, batch)).collect::<Result<Vec<_>>>()?;
                let into = self.tables[table].rows;
                let all = (0..batch.num_rows()).into_par_iter().with_min_len(4096);
                rows.memory().extend(all.map(|at| hashing::crossed_row(&columns, at, into)).collect::<Vec<_>>());
            }
            (Encoding::Vector { length, normalize }, EncodedColumn::Numbers { values, .. }) => {
                let values = values.memory();
                place.each_vector(found, *length, |vector| match vector {
                    Some(vector) => {
                        let norm = if *normalize { dot_f64(vector, vector).sqrt() } else { 1.0 };
                        let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
                        values.extend(vector.iter().map(|value| (f64::from(*value) * scale) as f32));
                        values.push(0.0);
                    }
                    None => {
                        values.extend(std::iter::repeat_n(0.0, *length));
                        values.push(1.0);
                    }
                })?;
            }
            (Encoding::Numeric { transform, mean, deviation }, EncodedColumn::Numbers { values, .. }) => {
                values.memory().extend(place.numbers(found)?.iter().flat_map(|value| {
                    match value.filter(|value| value.is_finite()) {
                        Some(value) => [((transformed(*transform, value) - mean) / deviation) as f32, 0.0],
                        None => [0.0, 1.0],
                    }
                }));
            }
            (Encoding::Boolean, EncodedColumn::Numbers { values, .. }) => {
                values.memory().extend(place.flags(found)?.iter().flat_map(|value| match value {
                    Some(value) => [f32::from(u8::from(value)), 0.0],
                    None => [0.0, 1.0],
                }));
            }
            (Encoding::Bucketized { boundaries, .. }, EncodedColumn::One(rows)) => {
                rows.memory().extend(place.numbers(found)?.iter().map(|value| {
                    match value.filter(|value| !value.is_nan()) {
                        Some(value) => 1 + boundaries.partition_point(|boundary| *boundary <= value) as u32,
                        None => 0,
                    }
                }));
            }
            _ => return Err(Error::internal(format!("{}: encoded columns of another model", place.reader))),
        }
        Ok(())
    }

    /// One column of a crossed feature, of the type that training saw.
    fn crossed(&self, one: &CrossedColumn, place: Place, batch: &RecordBatch) -> Result<Keys> {
        let place = Place { column: &one.column, ..place };
        let keys = place.keys(place.find(batch)?)?;
        place.check_type(&keys, one.value_type)?;
        Ok(keys)
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
