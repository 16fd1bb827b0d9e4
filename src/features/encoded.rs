//! Rows of a table as compact columns, and the part of them that a batch takes.

use std::ops::Range;

use super::spec::Encoding;
use crate::error::{Error, Result};
use crate::spill::{Column, Spill};

/// In place of a row: the value has none.
pub(super) const NO_ROW: u32 = u32::MAX;

/// Encoded features of many rows, column by column in the order of the tower's features.
#[derive(Debug, Default)]
pub struct Encoded {
    pub rows: usize,
    pub columns: Vec<EncodedColumn>,
}

#[derive(Debug)]
pub enum EncodedColumn {
    /// One table row (or none) a row.
    One(Column<u32>),
    /// A bag of table rows a row: those of row `i` are `ids[offsets[i]..offsets[i + 1]]`.
    /// `weights` has one for each; none, where all are 1.
    Bag { offsets: Column<u64>, ids: Column<u32>, weights: Column<f32> },
    /// `width` numbers a row.
    Numbers { width: usize, values: Column<f32> },
}

impl EncodedColumn {
    pub(super) fn empty(encoding: &Encoding) -> Self {
        match encoding {
            Encoding::Id { .. }
            | Encoding::Categorical { .. }
            | Encoding::Bucketized { .. }
            | Encoding::Crossed { .. } => EncodedColumn::One(Column::default()),
            Encoding::Ids { .. } | Encoding::Text { .. } => {
                EncodedColumn::Bag { offsets: vec![0].into(), ids: Column::default(), weights: Column::default() }
            }
            Encoding::Numeric { .. } | Encoding::Boolean => {
                EncodedColumn::Numbers { width: 2, values: Column::default() }
            }
            Encoding::Vector { length, .. } => EncodedColumn::Numbers { width: length + 1, values: Column::default() },
        }
    }

    /// The same feature without rows.
    fn like(&self) -> Self {
        match self {
            EncodedColumn::One(_) => EncodedColumn::One(Column::default()),
            EncodedColumn::Bag { .. } => {
                EncodedColumn::Bag { offsets: vec![0].into(), ids: Column::default(), weights: Column::default() }
            }
            EncodedColumn::Numbers { width, .. } => EncodedColumn::Numbers { width: *width, values: Column::default() },
        }
    }

    /// Appends rows of the same feature.
    fn append(&mut self, more: &EncodedColumn, spill: &Spill) -> Result<()> {
        match (self, more) {
            (EncodedColumn::One(rows), EncodedColumn::One(more)) => rows.append(more, spill),
            (
                EncodedColumn::Bag { offsets, ids, weights },
                EncodedColumn::Bag { offsets: ends, ids: new, weights: of },
            ) => {
                let first = ids.len() as u64;
                let ends: Vec<u64> = ends[1..].iter().map(|end| first + end).collect();
                offsets.append(&ends, spill)?;
                ids.append(new, spill)?;
                weights.append(of, spill)
            }
            (EncodedColumn::Numbers { values, .. }, EncodedColumn::Numbers { values: more, .. }) => {
                values.append(more, spill)
            }
            _ => Err(Error::internal("rows of another feature")),
        }
    }
}

/// The features of one batch, as the kernels take them.
#[derive(Debug, Clone, Default)]
pub struct FeatureBatch {
    pub rows: usize,
    pub columns: Vec<BatchColumn>,
}

#[derive(Debug, Clone)]
pub enum BatchColumn {
    /// As in [`EncodedColumn::Bag`].
    Bag { offsets: Vec<u32>, ids: Vec<u32>, weights: Vec<f32> },
    /// [rows, width].
    Numbers { width: usize, values: Vec<f32> },
}

impl Encoded {
    /// Collects `rows` in their order. Of the values of a bag only those stay for which `keep(column, position in
    /// rows, table row, place in the bag)` holds; single values always stay.
    pub fn select(&self, rows: &[u32], keep: Option<&dyn Fn(usize, usize, u32, usize) -> bool>) -> FeatureBatch {
        let columns = self.columns.iter().enumerate().map(|(index, column)| match column {
            EncodedColumn::One(values) => {
                let (mut offsets, mut ids) = (Vec::with_capacity(rows.len() + 1), Vec::with_capacity(rows.len()));
                offsets.push(0);
                for &row in rows {
                    ids.extend(Some(values[row as usize]).filter(|value| *value != NO_ROW));
                    offsets.push(ids.len() as u32);
                }
                BatchColumn::Bag { offsets, ids, weights: Vec::new() }
            }
            EncodedColumn::Bag { offsets: from, ids: values, weights: all } => {
                // all of them first: each lies at a random place of memory, and so they are waited for together
                let place = |row: &u32| from[*row as usize] as usize..from[*row as usize + 1] as usize;
                let places: Vec<Range<usize>> = rows.iter().map(place).collect();
                let most = places.iter().map(Range::len).sum();
                let (mut offsets, mut ids, mut weights) =
                    (Vec::with_capacity(rows.len() + 1), Vec::with_capacity(most), Vec::new());
                offsets.push(0);
                for (position, place) in places.into_iter().enumerate() {
                    let (bag, of_bag) = (&values[place.clone()], all.get(place).unwrap_or_default());
                    match keep {
                        None => {
                            ids.extend_from_slice(bag);
                            weights.extend_from_slice(of_bag);
                        }
                        Some(keep) => {
                            let kept = bag.iter().enumerate().filter(|(at, id)| keep(index, position, **id, *at));
                            for (at, id) in kept {
                                ids.push(*id);
                                weights.extend(of_bag.get(at));
                            }
                        }
                    }
                    offsets.push(ids.len() as u32);
                }
                BatchColumn::Bag { offsets, ids, weights }
            }
            EncodedColumn::Numbers { width, values: all } => {
                let mut values = Vec::with_capacity(rows.len() * width);
                rows.iter().for_each(|&row| values.extend_from_slice(&all[row as usize * width..][..*width]));
                BatchColumn::Numbers { width: *width, values }
            }
        });
        FeatureBatch { rows: rows.len(), columns: columns.collect() }
    }

    /// Appends rows of the same tower.
    pub fn append(&mut self, more: Encoded, spill: &Spill) -> Result<()> {
        if self.columns.is_empty() {
            // to be appended to those that are empty, so that they count as memory that was taken
            self.columns = more.columns.iter().map(EncodedColumn::like).collect();
        }
        for (column, more) in self.columns.iter_mut().zip(&more.columns) {
            column.append(more, spill)?;
        }
        self.rows += more.rows;
        Ok(())
    }

    /// Gives back memory that was reserved for more rows.
    pub fn shrink(&mut self) {
        for column in &mut self.columns {
            match column {
                EncodedColumn::One(rows) => rows.shrink(),
                EncodedColumn::Bag { offsets, ids, weights } => {
                    offsets.shrink();
                    weights.shrink();
                    ids.shrink();
                }
                EncodedColumn::Numbers { values, .. } => values.shrink(),
            }
        }
    }

    /// Lets go of what was read of files, see [`Column::release`].
    pub fn release(&self) {
        for column in &self.columns {
            match column {
                EncodedColumn::One(rows) => rows.release(),
                EncodedColumn::Bag { offsets, ids, weights } => {
                    offsets.release();
                    ids.release();
                    weights.release();
                }
                EncodedColumn::Numbers { values, .. } => values.release(),
            }
        }
    }

    /// Fetches `rows`, see [`Column::will_need`].
    pub fn will_need(&self, rows: Range<usize>) {
        for column in &self.columns {
            match column {
                EncodedColumn::One(of) => of.will_need(rows.clone()),
                EncodedColumn::Bag { offsets, ids, weights } => {
                    offsets.will_need(rows.start..rows.end + 1);
                    let places = offsets[rows.start] as usize..offsets[rows.end] as usize;
                    ids.will_need(places.clone());
                    weights.will_need(places);
                }
                EncodedColumn::Numbers { width, values } => values.will_need(rows.start * width..rows.end * width),
            }
        }
    }
}
