//! Rows for people and for JSON.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::writer::{LineDelimited, WriterBuilder};
use datafusion::arrow::util::display::array_value_to_string;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// `user_id 7, item_id 9`.
pub fn row_as_text(batch: &RecordBatch, row: usize) -> String {
    let schema = batch.schema();
    let cells = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let text =
            if column.is_null(row) { "null".into() } else { array_value_to_string(column, row).unwrap_or_default() };
        format!("{} {text}", field.name())
    });
    cells.collect::<Vec<_>>().join(", ")
}

/// Rows as JSON, by the order of their columns.
pub struct Rows {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
}

/// The values of all rows, times and dates as ISO 8601 writes them.
pub fn rows(batches: &[RecordBatch]) -> Result<Vec<Vec<Value>>> {
    let broken = |error: ArrowError| Error::internal("rows cannot be shown as JSON").caused_by(error);
    let mut text = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut text);
    writer.write_batches(&batches.iter().collect::<Vec<_>>()).and_then(|()| writer.finish()).map_err(broken)?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let row = |line: &[u8]| {
        let object: Map<String, Value> = serde_json::from_slice(line)
            .map_err(|error| Error::internal("rows cannot be shown as JSON").caused_by(error))?;
        Ok(object.into_iter().map(|(_, value)| value).collect())
    };
    lines.map(row).collect()
}

/// One row as a JSON object.
pub fn row_as_json(batch: &RecordBatch, row: usize) -> Value {
    let schema = batch.schema();
    let cells = schema.fields().iter().zip(batch.columns());
    Value::Object(cells.map(|(field, column)| (field.name().clone(), cell(column, row))).collect::<Map<_, _>>())
}

fn cell(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            (0..items.len()).map(|at| cell(&items, at)).collect()
        }
        _ => array_value_to_string(column, row).unwrap_or_default().into(),
    }
}
