//! Ids as dense numbers.

use std::collections::HashMap;

use arrow::array::{Array, RecordBatch};

use crate::error::Result;
use crate::features::{Keys, id_keys};

/// Numbers ids in the order in which they come.
#[derive(Default)]
pub struct IdMap {
    ints: HashMap<i64, u32>,
    texts: HashMap<Box<str>, u32>,
}

impl IdMap {
    pub fn len(&self) -> usize {
        self.ints.len() + self.texts.len()
    }

    /// The numbers of a column's ids; new ones get the next.
    pub fn number(&mut self, batch: &RecordBatch, table: &str, column: &str) -> Result<Vec<u32>> {
        let mut next = self.len() as u32;
        let mut new = || {
            next += 1;
            next - 1
        };
        Ok(match id_keys(batch, table, column)? {
            Keys::Int(ids) => ids.values().iter().map(|id| *self.ints.entry(*id).or_insert_with(&mut new)).collect(),
            Keys::Text(ids) => {
                let mut numbers = Vec::with_capacity(ids.len());
                for id in ids.iter().flatten() {
                    numbers.push(match self.texts.get(id) {
                        Some(number) => *number,
                        None => *self.texts.entry(id.into()).or_insert_with(&mut new),
                    });
                }
                numbers
            }
        })
    }

    /// The numbers of ids that are known.
    pub fn find(&self, batch: &RecordBatch, table: &str, column: &str) -> Result<Vec<Option<u32>>> {
        Ok(match id_keys(batch, table, column)? {
            Keys::Int(ids) => ids.values().iter().map(|id| self.ints.get(id).copied()).collect(),
            Keys::Text(ids) => ids.iter().map(|id| id.and_then(|id| self.texts.get(id).copied())).collect(),
        })
    }
}
