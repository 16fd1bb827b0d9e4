//! Reading a column of lists: ids, their weights, vectors.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::datatypes::{DataType, Field, Float32Type};

use super::ValueType;
use super::columns::{Keys, Place, value_type};
use crate::error::{Error, Result};

/// A column of lists: list `i` holds the keys `bounds(i)`; a null list is empty.
pub(super) struct KeyLists {
    lists: ListArray,
    pub keys: Keys,
}

impl KeyLists {
    pub fn len(&self) -> usize {
        self.lists.len()
    }

    pub fn bounds(&self, row: usize) -> Range<usize> {
        bounds(&self.lists, row)
    }
}

fn bounds(lists: &ListArray, row: usize) -> Range<usize> {
    if lists.is_null(row) {
        return 0..0;
    }
    let offsets = lists.value_offsets();
    offsets[row] as usize..offsets[row + 1] as usize
}

/// The type of a list's values.
fn inner(found: &DataType) -> Option<&DataType> {
    match found {
        DataType::List(inner) | DataType::LargeList(inner) | DataType::FixedSizeList(inner, _) => {
            Some(inner.data_type())
        }
        DataType::ListView(inner) | DataType::LargeListView(inner) => Some(inner.data_type()),
        _ => None,
    }
}

impl Place<'_> {
    fn lists(&self, column: &ArrayRef, of: DataType) -> Result<ListArray> {
        let list = DataType::List(Arc::new(Field::new("item", of, true)));
        Ok(self.cast(column, &list)?.as_list::<i32>().clone())
    }

    /// Keys of an `ids` feature.
    pub fn key_lists(&self, column: &ArrayRef) -> Result<KeyLists> {
        let to = match inner(column.data_type()).and_then(value_type) {
            Some(ValueType::Varchar) => DataType::Utf8,
            Some(_) => DataType::Int64,
            None => return Err(self.wrong(column.data_type(), "BIGINT[] or VARCHAR[]")),
        };
        let lists = self.lists(column, to)?;
        let keys = self.keys(lists.values())?;
        Ok(KeyLists { lists, keys })
    }

    /// The weight of each id of `ids`, at the same place; those of ids that stand in no list are 0.
    pub fn weights(&self, column: &ArrayRef, ids: &KeyLists) -> Result<Vec<f32>> {
        if !inner(column.data_type()).is_some_and(DataType::is_numeric) {
            return Err(self.wrong(column.data_type(), "DOUBLE[], a weight for each id"));
        }
        let lists = self.lists(column, DataType::Float32)?;
        let values = lists.values().as_primitive::<Float32Type>();
        let odd = |found: String, expected: &str| {
            let Place { reader, column, table } = self;
            Error::config(format!(
                "{reader}.weights: column `{column}` of table `{table}`: found {found}, expected {expected}; mend it in the table's SQL"
            ))
        };
        let mut weights = vec![0.0; ids.keys.len()];
        for row in 0..ids.len() {
            let (of_ids, of_weights) = (ids.bounds(row), bounds(&lists, row));
            if of_ids.len() != of_weights.len() {
                let found = format!("{} weights beside {} ids in one row", of_weights.len(), of_ids.len());
                return Err(odd(found, "as many weights as ids"));
            }
            for (to, from) in of_ids.zip(of_weights) {
                let weight = values.is_valid(from).then(|| values.value(from));
                match weight.filter(|weight| weight.is_finite() && *weight >= 0.0) {
                    Some(weight) => weights[to] = weight,
                    None => {
                        let found = weight.map_or("null".to_string(), |weight| weight.to_string());
                        return Err(odd(found, "finite weights of at least 0"));
                    }
                }
            }
        }
        Ok(weights)
    }

    /// The length that all vectors of a `vector` feature have; none where there are no vectors yet.
    pub fn vector_length(&self, column: &ArrayRef, before: Option<usize>) -> Result<Option<usize>> {
        let lists = self.vectors(column)?;
        let mut length = before;
        for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
            self.check_length(bounds(&lists, row).len(), *length.get_or_insert(bounds(&lists, row).len()))?;
        }
        Ok(length)
    }

    /// Calls `take` with each row's vector of `length` finite numbers, none for null.
    pub fn each_vector(&self, column: &ArrayRef, length: usize, mut take: impl FnMut(Option<&[f32]>)) -> Result<()> {
        let lists = self.vectors(column)?;
        let values = lists.values().as_primitive::<Float32Type>();
        for row in 0..lists.len() {
            if lists.is_null(row) {
                take(None);
                continue;
            }
            let bounds = bounds(&lists, row);
            self.check_length(bounds.len(), length)?;
            let vector = &values.values()[bounds.clone()];
            if bounds.clone().any(|at| values.is_null(at)) || vector.iter().any(|value| !value.is_finite()) {
                let Place { reader, column, table } = self;
                return Err(Error::config(format!(
                    "{reader}: column `{column}` of table `{table}`: found a vector with null or a number that is not finite, expected finite numbers, or null for the whole vector; mend it in the table's SQL"
                )));
            }
            take(Some(vector));
        }
        Ok(())
    }

    fn vectors(&self, column: &ArrayRef) -> Result<ListArray> {
        if !inner(column.data_type()).is_some_and(DataType::is_numeric) {
            return Err(self.wrong(column.data_type(), "a list of floats"));
        }
        self.lists(column, DataType::Float32)
    }

    fn check_length(&self, found: usize, expected: usize) -> Result<()> {
        if found == expected && expected > 0 {
            return Ok(());
        }
        let Place { reader, column, table } = self;
        let expected =
            if expected > 0 { format!("{expected} numbers, as the others have") } else { "at least one".into() };
        Err(Error::config(format!(
            "{reader}: column `{column}` of table `{table}`: found a vector of {found} numbers, expected {expected}; mend it in the table's SQL"
        )))
    }
}
