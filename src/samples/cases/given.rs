//! Given rows as tables.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::json::ReaderBuilder;
use datafusion::arrow::json::reader::infer_json_schema_from_iterator;
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::artifacts::{ColumnContract, RunDate, contracts};
use crate::config::{ColumnType, Source};
use crate::error::{Error, Result};
use crate::samples::measure::MEASURED_TABLES;
use crate::samples::names::PREVIOUS_TABLE;
use crate::samples::planner::{IdColumn, Planner};
use crate::warehouse::{TIMESTAMP, declared, normalised};

/// Rows of a source or table.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Given {
    Rows(Vec<Row>),
    /// With names and types of the columns, where neither config nor contract tells them.
    Typed {
        #[serde(with = "crate::config::ordered")]
        columns: IndexMap<String, ColumnType>,
        rows: Vec<Row>,
    },
}

/// One row: values in the order of the columns, or by name, what is not named being null.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Row {
    Values(Vec<Value>),
    Named(Map<String, Value>),
}

/// Columns with what is known of their types.
type Columns = IndexMap<String, Option<DataType>>;

/// The rows of a source that its window or snapshot takes on `date`. The partition is a column like any other here; a row that does not
/// name it is of the date, or of the last day of a window that does not hold the date.
pub fn rows_of_source(name: &str, source: &Source, date: RunDate, given: Option<&Given>) -> Result<RecordBatch> {
    let mut columns: Columns =
        source.columns.iter().map(|(name, found)| (name.clone(), Some(declared(*found)))).collect();
    let mut rows = match given {
        Some(given) => named_rows(name, given, &mut columns)?,
        None => Vec::new(),
    };
    if columns.is_empty() {
        return Err(Error::config(format!(
            "given: source `{name}` is read and has neither rows here nor `columns` in the config; give it rows, or declare its columns"
        )));
    }
    if let Some(partition) = &source.partition {
        columns.entry(partition.clone()).or_insert(Some(DataType::Date32));
        let (from, to) = (date.offset(source.days.from), date.offset(source.days.to));
        let usual = if source.snapshot || (from..=to).contains(&date) { date } else { to };
        let mut dates = Vec::new();
        for row in &mut rows {
            let value = row.entry(partition.clone()).or_insert(Value::Null);
            if value.is_null() {
                *value = usual.to_string().into();
            }
            let day = value.as_str().and_then(|text| text.parse::<RunDate>().ok()).ok_or_else(|| {
                Error::config(format!(
                    "given: source `{name}`: `{partition}` is {value}, expected a date like 2026-11-20"
                ))
            })?;
            dates.push(day);
        }
        let newest = dates.iter().filter(|day| **day <= date).max().copied();
        let taken = |day: RunDate| if source.snapshot { Some(day) == newest } else { (from..=to).contains(&day) };
        let mut dates = dates.into_iter();
        rows.retain(|_| dates.next().is_some_and(taken));
    }
    batch(name, columns, rows)
}

/// The rows of a table, with the types that its contract asks for.
pub fn rows_of_table(name: &str, given: &Given) -> Result<RecordBatch> {
    let mut columns = Columns::new();
    for contract in contracts().iter().filter(|contract| contract.table == name) {
        columns.extend(contract.columns.iter().map(|(column, wanted, _)| (column.to_string(), type_of(*wanted))));
    }
    let further: &[(&str, Option<DataType>)] = match name {
        PREVIOUS_TABLE => {
            &[("user_id", None), ("item_id", None), ("score", Some(DataType::Float64)), ("rank", Some(DataType::Int64))]
        }
        name if name == MEASURED_TABLES[0] => &[("day", Some(DataType::Date32))],
        _ => &[],
    };
    columns.extend(further.iter().map(|(column, found)| (column.to_string(), found.clone())));
    let all = columns.clone();
    let rows = named_rows(name, given, &mut columns)?;
    // of optional columns only those that are given
    columns.retain(|column, _| {
        !all.contains_key(column) || rows.is_empty() || rows.iter().any(|row| row.contains_key(column))
    });
    batch(name, columns, rows)
}

/// `previous_candidates` without a release before.
pub fn empty_previous(planner: &Planner) -> Result<RecordBatch> {
    let mut columns = Columns::new();
    for (name, kind) in [("user_id", IdColumn::User), ("item_id", IdColumn::Item)] {
        columns.insert(name.into(), planner.ids.get(&kind).map(|(found, _)| found.clone()));
    }
    columns.insert("score".into(), Some(DataType::Float64));
    columns.insert("rank".into(), Some(DataType::Int64));
    batch(PREVIOUS_TABLE, columns, Vec::new())
}

fn type_of(wanted: ColumnContract) -> Option<DataType> {
    match wanted {
        ColumnContract::UserId | ColumnContract::ItemId => None,
        ColumnContract::SampleId | ColumnContract::Integer => Some(DataType::Int64),
        ColumnContract::Timestamp => Some(TIMESTAMP),
        ColumnContract::Number => Some(DataType::Float64),
    }
}

/// Rows by name; adds to `columns` what they name.
fn named_rows(name: &str, given: &Given, columns: &mut Columns) -> Result<Vec<Map<String, Value>>> {
    let rows = match given {
        Given::Rows(rows) => rows,
        Given::Typed { columns: typed, rows } => {
            // their order is that of the values
            let rest = std::mem::take(columns);
            columns.extend(typed.iter().map(|(column, found)| (column.clone(), Some(declared(*found)))));
            for (column, found) in rest {
                columns.entry(column).or_insert(found);
            }
            rows
        }
    };
    let order: Vec<String> = columns.keys().cloned().collect();
    let mut named = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        named.push(match row {
            Row::Values(values) if values.len() > order.len() => {
                return Err(Error::config(format!(
                    "given: `{name}`: row {} has {} values for {} columns ({}); name them: {{COLUMN: VALUE, …}}",
                    at + 1,
                    values.len(),
                    order.len(),
                    order.join(", ")
                )));
            }
            Row::Values(values) => order.iter().cloned().zip(values.iter().cloned()).collect(),
            Row::Named(values) => {
                for column in values.keys() {
                    columns.entry(column.clone()).or_insert(None);
                }
                values.clone()
            }
        });
    }
    Ok(named)
}

fn batch(name: &str, columns: Columns, rows: Vec<Map<String, Value>>) -> Result<RecordBatch> {
    let bad = |error: datafusion::arrow::error::ArrowError| {
        let types: Vec<String> = columns
            .iter()
            .filter_map(|(column, found)| Some(format!("{column} {}", crate::warehouse::sql_name(found.as_ref()?))))
            .collect();
        Error::config(format!("given: `{name}`: a value does not fit its column ({})", types.join(", ")))
            .caused_by(error)
    };
    let values: Vec<Value> = rows.into_iter().map(Value::Object).collect();
    let inferred = infer_json_schema_from_iterator(values.iter().map(Ok)).map_err(bad)?;
    let field = |(column, known): (&String, &Option<DataType>)| {
        let inferred = || match inferred.field_with_name(column).map(|field| normalised(field.data_type())) {
            Ok(DataType::Null) | Err(_) => DataType::Utf8,
            Ok(found) => found,
        };
        Field::new(column, known.clone().unwrap_or_else(inferred), true)
    };
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let reader = ReaderBuilder::new(schema.clone()).with_coerce_primitive(true).with_batch_size(values.len().max(1));
    let mut decoder = reader.build_decoder().map_err(bad)?;
    decoder.serialize(&values).map_err(bad)?;
    Ok(decoder.flush().map_err(bad)?.unwrap_or_else(|| RecordBatch::new_empty(schema)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::rows::rows;

    fn source(text: &str) -> Source {
        serde_yaml::from_str(text).unwrap()
    }

    fn taken(settings: &str, given: &str) -> String {
        let date = "2026-11-20".parse().unwrap();
        let given: Given = serde_yaml::from_str(given).unwrap();
        match rows_of_source("users", &source(settings), date, Some(&given)) {
            Ok(batch) => {
                Value::from(rows(&[batch]).unwrap().into_iter().map(Value::from).collect::<Vec<_>>()).to_string()
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn rows_lie_in_the_partition_that_they_name_or_in_that_of_the_date() {
        let week = "{path: u, partition: dt, days: -1..0, columns: {user_id: bigint, country: varchar}}";
        assert_eq!(taken(week, "[[1, de]]"), r#"[[1,"de","2026-11-20"]]"#);
        let given = "[{user_id: 1, dt: 2026-11-19}, {user_id: 2, dt: 2026-11-18}, {user_id: 3, more: [1]}]";
        assert_eq!(taken(week, given), r#"[[1,null,"2026-11-19",null],[3,null,"2026-11-20",[1]]]"#);
        let snapshot = "{path: u, partition: dt, snapshot: true, columns: {user_id: bigint}}";
        let given = "[{user_id: 1, dt: 2026-11-18}, {user_id: 2, dt: 2026-11-19}, {user_id: 3, dt: 2026-11-21}]";
        assert_eq!(taken(snapshot, given), r#"[[2,"2026-11-19"]]"#);
        assert_eq!(
            taken("{path: u, partition: dt, days: 1..2, columns: {user_id: bigint}}", "[[1]]"),
            r#"[[1,"2026-11-22"]]"#
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let plain = "{path: u, columns: {user_id: bigint, country: varchar}}";
        assert!(taken(plain, "[[1, de, 3]]").contains("row 1 has 3 values for 2 columns (user_id, country)"));
        assert!(
            taken(plain, "[[one, de]]").contains("a value does not fit its column (user_id bigint, country varchar)")
        );
        assert_eq!(
            taken("{path: u}", "{columns: {at: timestamp}, rows: [[\"2026-11-20 08:00:00\"]]}"),
            r#"[["2026-11-20T08:00:00"]]"#
        );
        assert!(taken("{path: u}", "[]").contains("neither rows here nor `columns`"));
    }
}
