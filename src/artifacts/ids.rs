//! User and item ids: BIGINT or VARCHAR, by the user's choice.

use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::error::{Error, Result};

/// Which of the two an id column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdType {
    Bigint,
    Varchar,
}

impl IdType {
    pub fn arrow(self) -> DataType {
        match self {
            IdType::Bigint => DataType::Int64,
            IdType::Varchar => DataType::Utf8,
        }
    }
}

/// One id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    Int(i64),
    Str(Box<str>),
}

impl Id {
    /// Reads an id of a given type from the command line.
    pub fn parse(text: &str, id_type: IdType) -> Result<Id> {
        match id_type {
            IdType::Varchar => Ok(Id::Str(text.into())),
            IdType::Bigint => text.parse().map(Id::Int).map_err(|_| {
                Error::usage(format!("`{text}` is not an id: the ids of this release are integers (BIGINT)"))
            }),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Int(id) => write!(f, "{id}"),
            Id::Str(id) => f.write_str(id),
        }
    }
}

/// A column of ids, without nulls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ids {
    Int(Vec<i64>),
    Str(Vec<Box<str>>),
}

impl Ids {
    pub fn new(id_type: IdType) -> Self {
        match id_type {
            IdType::Bigint => Ids::Int(Vec::new()),
            IdType::Varchar => Ids::Str(Vec::new()),
        }
    }

    pub fn id_type(&self) -> IdType {
        match self {
            Ids::Int(_) => IdType::Bigint,
            Ids::Str(_) => IdType::Varchar,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Ids::Int(ids) => ids.len(),
            Ids::Str(ids) => ids.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, at: usize) -> Id {
        match self {
            Ids::Int(ids) => Id::Int(ids[at]),
            Ids::Str(ids) => Id::Str(ids[at].clone()),
        }
    }

    /// Appends an id of the same type.
    ///
    /// # Panics
    /// If it is of the other type: both are made with the type that a manifest names.
    pub fn push(&mut self, id: Id) {
        match (self, id) {
            (Ids::Int(ids), Id::Int(id)) => ids.push(id),
            (Ids::Str(ids), Id::Str(id)) => ids.push(id),
            _ => unreachable!("both were made with the manifest's type"),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Id> + '_ {
        (0..self.len()).map(|at| self.get(at))
    }

    /// Appends a column of a table. `what` names it in errors (`positives.user_id`).
    pub fn extend_from(&mut self, column: &ArrayRef, what: &str) -> Result<()> {
        if column.null_count() > 0 {
            return Err(Error::config(format!("{what}: {} null ids; filter them out in the SQL", column.null_count())));
        }
        let (found, wanted) = (column.data_type().clone(), self.id_type());
        match (self, &found) {
            (Ids::Int(ids), DataType::Int64) => ids.extend_from_slice(column.as_primitive::<Int64Type>().values()),
            (Ids::Str(ids), DataType::Utf8) => ids.extend(column.as_string::<i32>().iter().flatten().map(Box::from)),
            (Ids::Str(ids), DataType::Utf8View) => ids.extend(column.as_string_view().iter().flatten().map(Box::from)),
            (Ids::Str(ids), DataType::LargeUtf8) => {
                ids.extend(column.as_string::<i64>().iter().flatten().map(Box::from))
            }
            _ => {
                return Err(Error::config(format!(
                    "{what}: found type {found}, expected {:?}, as in the other tables; cast it in the SQL",
                    wanted
                )));
            }
        }
        Ok(())
    }

    /// Appends ids of the same type.
    ///
    /// # Panics
    /// If the types differ: both sides are made with the type that a manifest names.
    pub fn append(&mut self, more: Ids) {
        match (self, more) {
            (Ids::Int(ids), Ids::Int(more)) => ids.extend(more),
            (Ids::Str(ids), Ids::Str(more)) => ids.extend(more),
            _ => unreachable!("both were made with the manifest's type"),
        }
    }

    pub fn to_arrow(&self) -> ArrayRef {
        match self {
            Ids::Int(ids) => Arc::new(Int64Array::from(ids.clone())),
            Ids::Str(ids) => Arc::new(StringArray::from_iter_values(ids.iter())),
        }
    }
}
