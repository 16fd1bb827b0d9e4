//! Reading a column of any fitting Arrow type as keys, numbers or flags, with errors that name the feature.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};

use super::ValueType;
use crate::error::{Error, Result, did_you_mean};

/// Values that a vocabulary maps to rows.
#[derive(Debug, Clone)]
pub enum Keys {
    Int(Int64Array),
    Text(StringArray),
}

impl Keys {
    pub fn value_type(&self) -> ValueType {
        match self {
            Keys::Int(_) => ValueType::Bigint,
            Keys::Text(_) => ValueType::Varchar,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Keys::Int(values) => values.len(),
            Keys::Text(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn is_null(&self, at: usize) -> bool {
        match self {
            Keys::Int(values) => values.is_null(at),
            Keys::Text(values) => values.is_null(at),
        }
    }
}

/// Where a column stands, for errors.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub table: &'a str,
    pub column: &'a str,
    /// `features.user.age`, or what else reads the column.
    pub reader: &'a str,
}

impl Place<'_> {
    pub fn find<'b>(&self, batch: &'b RecordBatch) -> Result<&'b ArrayRef> {
        batch.column_by_name(self.column).ok_or_else(|| {
            let schema = batch.schema();
            no_column(self.reader, self.table, self.column, schema.fields().iter().map(|field| field.name().as_str()))
        })
    }

    /// The same of a column that every row needs; what is missing is told as so many `nulls`.
    fn find_whole<'b>(&self, batch: &'b RecordBatch, nulls: &str) -> Result<&'b ArrayRef> {
        let found = self.find(batch)?;
        if found.null_count() > 0 {
            let Place { table, column, .. } = self;
            let count = found.null_count();
            return Err(Error::config(format!("{table}.{column}: {count} {nulls}; filter them out in the SQL")));
        }
        Ok(found)
    }

    pub fn wrong(&self, found: &DataType, expected: &str) -> Error {
        Error::config(format!(
            "{}: column `{}` of table `{}`: found type {found}, expected {expected}; cast it in the table's SQL, or change the feature's kind",
            self.reader, self.column, self.table
        ))
    }

    pub fn cast(&self, column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
        cast(column, to).map_err(|error| self.wrong(column.data_type(), &to.to_string()).caused_by(error))
    }

    /// Keys of an `id` or `categorical` feature. Whole floating-point numbers count as integers, true and false as 1
    /// and 0.
    pub fn keys(&self, column: &ArrayRef) -> Result<Keys> {
        match value_type(column.data_type()) {
            Some(ValueType::Varchar) => Ok(Keys::Text(self.cast(column, &DataType::Utf8)?.as_string::<i32>().clone())),
            Some(_) => Ok(Keys::Int(self.cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone())),
            None if column.data_type().is_floating() => {
                let numbers = self.cast(column, &DataType::Float64)?;
                let numbers = numbers.as_primitive::<Float64Type>();
                if let Some(odd) = numbers.iter().flatten().find(|value| value.fract() != 0.0) {
                    return Err(
                        self.wrong(column.data_type(), &format!("integers or text for ids and categories, not {odd}"))
                    );
                }
                Ok(Keys::Int(numbers.iter().map(|value| value.map(|value| value as i64)).collect()))
            }
            None => Err(self.wrong(column.data_type(), "BIGINT or VARCHAR")),
        }
    }

    /// Numbers of a `numeric` or `bucketized` feature: a point in time in seconds since 1970, true as 1.
    pub fn numbers(&self, column: &ArrayRef) -> Result<Float64Array> {
        let as_float =
            |column: &ArrayRef| Ok(self.cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone());
        match column.data_type() {
            found if found.is_numeric() || *found == DataType::Boolean => as_float(column),
            DataType::Timestamp(_, zone) => {
                let micros = self.cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
                let micros = as_float(&self.cast(&micros, &DataType::Int64)?)?;
                Ok(micros.iter().map(|value| value.map(|value| value / 1e6)).collect())
            }
            DataType::Date32 | DataType::Date64 => {
                let days = as_float(&self.cast(&self.cast(column, &DataType::Date32)?, &DataType::Int32)?)?;
                Ok(days.iter().map(|value| value.map(|value| value * 86_400.0)).collect())
            }
            found => Err(self.wrong(found, "a number")),
        }
    }

    /// Columns of a crossed feature must hold what they held in training; one of nothing but nulls may come as any type.
    pub fn check_type(&self, keys: &Keys, expected: ValueType) -> Result<()> {
        if keys.value_type() == expected || (0..keys.len()).all(|at| keys.is_null(at)) {
            return Ok(());
        }
        let Place { reader, column, table } = self;
        Err(Error::config(format!(
            "{reader}: column `{column}` of table `{table}` holds {:?}, expected {expected:?}, as elsewhere; cast it in the SQL",
            keys.value_type()
        )))
    }

    /// Texts of a `text` feature.
    pub fn texts(&self, column: &ArrayRef) -> Result<StringArray> {
        match value_type(column.data_type()) {
            Some(ValueType::Varchar) => Ok(self.cast(column, &DataType::Utf8)?.as_string::<i32>().clone()),
            _ => Err(self.wrong(column.data_type(), "VARCHAR")),
        }
    }

    pub fn flags(&self, column: &ArrayRef) -> Result<BooleanArray> {
        match column.data_type() {
            found if found.is_integer() || *found == DataType::Boolean => {
                Ok(self.cast(column, &DataType::Boolean)?.as_boolean().clone())
            }
            found => Err(self.wrong(found, "BOOLEAN")),
        }
    }
}

/// A table, with the columns `known`, lacks one that `reader` needs.
pub fn no_column<'a>(reader: &str, table: &str, column: &str, known: impl Iterator<Item = &'a str> + Clone) -> Error {
    let hint = did_you_mean(column, known.clone());
    let known = known.collect::<Vec<_>>().join(", ");
    Error::config(format!(
        "{reader}: table `{table}` has no column `{column}`{hint}; it has {known}: select it in the table's SQL, or name another with `column`"
    ))
}

/// What the values of a type are as keys.
pub(super) fn value_type(found: &DataType) -> Option<ValueType> {
    match found {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(ValueType::Varchar),
        DataType::Dictionary(_, inner) => value_type(inner),
        DataType::Boolean => Some(ValueType::Bigint),
        found if found.is_integer() => Some(ValueType::Bigint),
        _ => None,
    }
}

/// A column that every row needs, as integers: `sample_id`. A point in time comes as microseconds.
pub fn integers(batch: &RecordBatch, table: &str, column: &str) -> Result<Int64Array> {
    let place = Place { table, column, reader: "training" };
    let found = place.find_whole(batch, "nulls")?;
    let found = match found.data_type() {
        DataType::Timestamp(_, zone) => place.cast(found, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?,
        other if other.is_integer() || other.is_temporal() => found.clone(),
        other => return Err(place.wrong(other, "BIGINT")),
    };
    Ok(place.cast(&found, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// A column of numbers that may be absent: `weight`, `sampling_probability`.
pub fn numbers(batch: &RecordBatch, table: &str, column: &str) -> Result<Option<Float64Array>> {
    let place = Place { table, column, reader: "training" };
    batch.column_by_name(column).map(|found| place.numbers(found)).transpose()
}

/// A column of ids, none of them null.
pub fn id_keys(batch: &RecordBatch, table: &str, column: &str) -> Result<Keys> {
    let place = Place { table, column, reader: "training" };
    place.keys(place.find_whole(batch, "null ids")?)
}
