//! Ids as numbers 0, 1, 2 …, and tables of two ids.

use std::collections::HashMap;

use futures::{Stream, StreamExt};

use super::users::table;
use crate::artifacts::{Id, IdType, Ids, SampleFacts};
use crate::error::{Error, Result};
use crate::storage::{Store, read_parquet_stream, sorted_parts};

/// A number for each id, in order of first appearance.
pub enum IdNumbers {
    Int(HashMap<i64, u32>),
    Str(HashMap<Box<str>, u32>),
}

impl IdNumbers {
    pub fn new(id_type: IdType) -> Self {
        match id_type {
            IdType::Bigint => IdNumbers::Int(HashMap::new()),
            IdType::Varchar => IdNumbers::Str(HashMap::new()),
        }
    }

    /// Each id's position; of a repeated id the first.
    pub fn of(ids: &Ids) -> Self {
        let mut numbers = IdNumbers::new(ids.id_type());
        match (&mut numbers, ids) {
            (IdNumbers::Int(map), Ids::Int(ids)) => {
                for (at, id) in ids.iter().enumerate() {
                    map.entry(*id).or_insert(at as u32);
                }
            }
            (IdNumbers::Str(map), Ids::Str(ids)) => {
                for (at, id) in ids.iter().enumerate() {
                    map.entry(id.clone()).or_insert(at as u32);
                }
            }
            _ => unreachable!("made with the type of these ids"),
        }
        numbers
    }

    pub fn len(&self) -> usize {
        match self {
            IdNumbers::Int(map) => map.len(),
            IdNumbers::Str(map) => map.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of the id at `at`, if it has one. Ids of the other type have none.
    pub fn get(&self, ids: &Ids, at: usize) -> Option<u32> {
        match (self, ids) {
            (IdNumbers::Int(map), Ids::Int(ids)) => map.get(&ids[at]).copied(),
            (IdNumbers::Str(map), Ids::Str(ids)) => map.get(&ids[at]).copied(),
            _ => None,
        }
    }

    /// The number of `id`, if it has one.
    pub fn of_id(&self, id: &Id) -> Option<u32> {
        match (self, id) {
            (IdNumbers::Int(map), Id::Int(id)) => map.get(id).copied(),
            (IdNumbers::Str(map), Id::Str(id)) => map.get(id).copied(),
            _ => None,
        }
    }

    /// The number of the id at `at`; a new id takes the next one.
    pub fn number(&mut self, ids: &Ids, at: usize) -> Result<u32> {
        let next = self.len() as u32;
        match (self, ids) {
            (IdNumbers::Int(map), Ids::Int(ids)) => Ok(*map.entry(ids[at]).or_insert(next)),
            (IdNumbers::Str(map), Ids::Str(ids)) => match map.get(&ids[at]) {
                Some(number) => Ok(*number),
                None => Ok(*map.entry(ids[at].clone()).or_insert(next)),
            },
            _ => Err(Error::internal("ids of two types in one table")),
        }
    }
}

/// Streams a sample table of user and item ids; nothing where the samples have no such table.
pub fn id_pairs<'a>(
    store: &Store,
    samples: &'a SampleFacts,
    name: &'a str,
) -> impl Stream<Item = Result<(Ids, Ids)>> + Unpin + use<'a> {
    let keys = samples.tables.get(name).map(|table| sorted_parts(&table.files)).unwrap_or_default();
    let columns = vec!["user_id".to_string(), "item_id".to_string()];
    read_parquet_stream(store, keys, Some(columns), 65_536).map(move |batch| {
        let batch = batch?;
        let column = |column: &str, id_type| {
            let mut ids = Ids::new(id_type);
            ids.extend_from(table::column(&batch, name, column)?, &format!("{name}.{column}"))?;
            Ok::<_, Error>(ids)
        };
        Ok((column("user_id", samples.user_id_type)?, column("item_id", samples.item_id_type)?))
    })
}
