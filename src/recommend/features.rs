//! One row of `user_features` from a JSON object.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch, RecordBatchOptions, StringArray,
    new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema};
use serde_json::Value;

use crate::error::{Error, Result, did_you_mean};

/// A row with the columns `wanted` of a table with `schema`. A key that is no column is an error; a column without a key is null.
pub fn row(given: &Value, schema: &Schema, wanted: &[String]) -> Result<RecordBatch> {
    let Value::Object(given) = given else {
        return Err(Error::usage(format!(
            "the features are {}, expected a JSON object like {{\"age\": 30}}",
            kind(given)
        )));
    };
    let known = || schema.fields().iter().map(|field| field.name().as_str());
    if let Some(unknown) = given.keys().find(|key| schema.field_with_name(key).is_err()) {
        return Err(Error::usage(format!(
            "`{unknown}` is not a column of `user_features`{}; its columns are {}",
            did_you_mean(unknown, known()),
            known().collect::<Vec<_>>().join(", ")
        )));
    }
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for name in wanted {
        let field = schema.field_with_name(name).map_err(|_| {
            Error::config(format!("`user_features` of the release has no column `{name}`, which its model reads"))
        })?;
        columns.push(column(name, given.get(name).unwrap_or(&Value::Null), field.data_type())?);
        fields.push(Field::new(name, field.data_type().clone(), true));
    }
    // with the count of rows given, since a model may read no column at all
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|error| Error::internal("cannot make a row of the features").caused_by(error))
}

/// One value as a column of type `wanted`.
fn column(name: &str, value: &Value, wanted: &DataType) -> Result<ArrayRef> {
    let wrong = || Error::usage(format!("feature `{name}` is {value}, expected {wanted}"));
    if value.is_null() {
        return Ok(new_null_array(wanted, 1));
    }
    let plain = match (value, wanted) {
        (
            Value::Array(values),
            DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _),
        ) => {
            let values: Vec<&Value> = values.iter().collect();
            let values = array(&values, field.data_type()).ok_or_else(wrong)?;
            let offsets = OffsetBuffer::from_lengths([values.len()]);
            let item = Arc::new(Field::new("item", values.data_type().clone(), true));
            Arc::new(ListArray::new(item, offsets, values, None)) as ArrayRef
        }
        (Value::Array(_), _) | (_, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)) => {
            return Err(wrong());
        }
        _ => array(&[value], wanted).ok_or_else(wrong)?,
    };
    convert(&plain, wanted).ok_or_else(wrong)
}

/// Values that are not lists. `None` where their JSON types do not fit the column's.
fn array(values: &[&Value], wanted: &DataType) -> Option<ArrayRef> {
    // a null stays a null; anything else must be of the kind that the column holds
    fn all<T>(values: &[&Value], read: impl Fn(&Value) -> Option<T>) -> Option<Vec<Option<T>>> {
        values.iter().map(|value| if value.is_null() { Some(None) } else { read(value).map(Some) }).collect()
    }
    let text = |value: &Value| value.as_str().map(str::to_string);
    let plain: ArrayRef = match wanted {
        DataType::Boolean => Arc::new(BooleanArray::from(all(values, Value::as_bool)?)),
        wanted if wanted.is_integer() => Arc::new(Int64Array::from(all(values, Value::as_i64)?)),
        wanted if wanted.is_floating() || matches!(wanted, DataType::Decimal128(..) | DataType::Decimal256(..)) => {
            Arc::new(Float64Array::from(all(values, Value::as_f64)?))
        }
        // text, and what is written as text in JSON: dates and times
        _ => Arc::new(StringArray::from(all(values, text)?)),
    };
    convert(&plain, wanted)
}

fn convert(plain: &ArrayRef, wanted: &DataType) -> Option<ArrayRef> {
    cast_with_options(plain, wanted, &CastOptions { safe: false, ..Default::default() }).ok()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::{Float32Type, Int32Type, Int64Type};
    use serde_json::json;

    fn schema() -> Schema {
        let list = |item| DataType::List(Arc::new(Field::new("element", item, true)));
        Schema::new(vec![
            Field::new("user_id", DataType::Int64, false),
            Field::new("age", DataType::Int32, true),
            Field::new("income", DataType::Float32, true),
            Field::new("city", DataType::Utf8View, true),
            Field::new("active", DataType::Boolean, true),
            Field::new("history", list(DataType::Int64), true),
            Field::new(
                "taste",
                DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float32, true)), 2),
                true,
            ),
            Field::new("since", DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None), true),
        ])
    }

    fn all() -> Vec<String> {
        schema().fields().iter().map(|field| field.name().clone()).collect()
    }

    #[test]
    fn a_row_has_the_table_s_types_and_null_where_nothing_was_given() {
        let given = json!({"age": 30, "income": 12, "city": "Riga", "active": true, "history": [3, 1], "taste": [0.5, 2], "since": "2026-11-20T00:00:00"});
        let row = row(&given, &schema(), &all()).unwrap();
        assert_eq!(row.num_rows(), 1);
        for (found, wanted) in row.schema().fields().iter().zip(schema().fields()) {
            assert_eq!(found.data_type(), wanted.data_type());
        }
        assert!(row["user_id"].is_null(0));
        assert_eq!(row["age"].as_primitive::<Int32Type>().value(0), 30);
        assert_eq!(row["income"].as_primitive::<Float32Type>().value(0), 12.0);
        assert_eq!(row["city"].as_string_view().value(0), "Riga");
        assert_eq!(row["history"].as_list::<i32>().value(0).as_primitive::<Int64Type>().values(), &[3, 1]);
        assert_eq!(row["taste"].as_fixed_size_list().value(0).as_primitive::<Float32Type>().values(), &[0.5, 2.0]);
        assert!(!row["since"].is_null(0));
    }

    #[test]
    fn only_the_columns_that_the_model_reads_are_made() {
        let row = row(&json!({"age": null, "city": "Riga"}), &schema(), &["history".into(), "age".into()]).unwrap();
        assert_eq!((row.num_columns(), row["age"].is_null(0), row["history"].is_null(0)), (2, true, true));
        assert_eq!(super::row(&json!({}), &schema(), &[]).unwrap().num_rows(), 1);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (given, said) in [
            (json!([1]), "the features are a list"),
            (json!({"agee": 1}), "did you mean `age`?"),
            (json!({"age": "thirty"}), "feature `age` is \"thirty\", expected Int32"),
            (json!({"age": 3_000_000_000i64}), "expected Int32"),
            (json!({"age": 1.5}), "expected Int32"),
            (json!({"city": 7}), "feature `city` is 7"),
            (json!({"history": 7}), "feature `history` is 7, expected List"),
            (json!({"history": ["x"]}), "feature `history`"),
            (json!({"taste": [1, 2, 3]}), "feature `taste` is [1,2,3], expected FixedSizeList"),
            (json!({"taste": 1}), "feature `taste` is 1"),
            (json!({"city": ["x"]}), "feature `city`"),
            (json!({"since": "yesterday"}), "feature `since`"),
        ] {
            let text = row(&given, &schema(), &all()).unwrap_err().to_string();
            assert!(text.contains(said), "{given}: {text}");
        }
    }
}
