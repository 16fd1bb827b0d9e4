//! The columns of a table against its contract, before a row is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DFSchema;

use super::ast::place_of_column;
use super::parse::SqlFile;
use super::place::error_at;
use super::planner::IdColumn;
use crate::artifacts::{ColumnContract, Contract, Need, contracts};
use crate::error::{Result, did_you_mean};
use crate::warehouse::{sql_name, table_type};

/// What a table's files will look like.
#[derive(Debug, Clone)]
pub struct Shape {
    pub schema: SchemaRef,
    /// The column whose hash leads the order of rows.
    pub hashed: Option<String>,
    pub order: Vec<String>,
    /// Columns that no two rows may share.
    pub key: Vec<String>,
    /// Columns that may not be null.
    pub required: Vec<String>,
    /// Whether a table without rows is a mistake.
    pub needs_rows: bool,
}

/// Checks names and types, and remembers those of ids in `ids`.
pub fn shape(file: &SqlFile, found: &DFSchema, ids: &mut BTreeMap<IdColumn, (DataType, String)>) -> Result<Shape> {
    let contract = contracts().iter().find(|contract| contract.table == file.name);
    let mut fields: Vec<Field> = Vec::new();
    for field in found.fields() {
        let name = field.name();
        if fields.iter().any(|known| known.name() == name) {
            let message = format!("table `{}` has two columns `{name}`; rename or leave out one", file.name);
            return Err(error_at(&file.shown, place_of_column(&file.query, name), message));
        }
        let Some(data_type) = table_type(field.data_type()) else {
            let message = format!(
                "column `{}.{name}`: found {}, expected bigint, double, varchar, boolean, date, timestamp or a list of these; cast it",
                file.name,
                sql_name(field.data_type())
            );
            return Err(error_at(&file.shown, place_of_column(&file.query, name), message));
        };
        fields.push(Field::new(name, data_type, true));
    }
    let names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
    let schema = Arc::new(Schema::new(fields));
    let Some(contract) = contract else {
        // a table without a contract: every column makes its order
        let hashed = schema.fields().iter().find(|field| !matches!(field.data_type(), DataType::List(_)));
        let hashed = hashed.map(|field| field.name().clone());
        return Ok(Shape { hashed, order: names, key: Vec::new(), required: Vec::new(), needs_rows: false, schema });
    };
    let mut required = Vec::new();
    for (name, wanted, need) in contract.columns {
        match schema.field_with_name(name) {
            Ok(field) => check_type(file, name, *wanted, field.data_type(), ids)?,
            Err(_) if *need == Need::Optional => continue,
            Err(_) => {
                let message = format!(
                    "table `{}` lacks column `{name}` ({}){}; it has {}",
                    file.name,
                    expected(*wanted),
                    did_you_mean(name, names.iter().map(String::as_str)),
                    names.join(", ")
                );
                return Err(error_at(&file.shown, Some(file.start), message));
            }
        }
        if *need == Need::Required && !matches!(wanted, ColumnContract::Number | ColumnContract::Integer) {
            required.push(name.to_string());
        }
    }
    let needs_rows = ["positives", "item_features"].contains(&contract.table);
    let (hashed, order) = (Some(contract.order[0].to_string()), order(contract, &names));
    let key = contract.key.iter().map(|name| name.to_string()).collect();
    Ok(Shape { schema, hashed, order, key, required, needs_rows })
}

/// The contract's order; where it leaves ties, all other columns break them.
fn order(contract: &Contract, names: &[String]) -> Vec<String> {
    let mut order: Vec<String> = contract.order.iter().map(|name| name.to_string()).collect();
    if contract.key.is_empty() {
        let rest: Vec<String> = names.iter().filter(|name| !order.contains(name)).cloned().collect();
        order.extend(rest);
    }
    order
}

fn expected(wanted: ColumnContract) -> &'static str {
    match wanted {
        ColumnContract::UserId | ColumnContract::ItemId => "bigint or varchar",
        ColumnContract::SampleId => "bigint",
        ColumnContract::Timestamp => "timestamp",
        ColumnContract::Number => "a number",
        ColumnContract::Integer => "bigint",
    }
}

fn check_type(
    file: &SqlFile,
    column: &str,
    wanted: ColumnContract,
    found: &DataType,
    ids: &mut BTreeMap<IdColumn, (DataType, String)>,
) -> Result<()> {
    let fits = match wanted {
        ColumnContract::UserId | ColumnContract::ItemId => matches!(found, DataType::Int64 | DataType::Utf8),
        ColumnContract::SampleId | ColumnContract::Integer => *found == DataType::Int64,
        ColumnContract::Timestamp => matches!(found, DataType::Timestamp(..)),
        ColumnContract::Number => matches!(found, DataType::Int64 | DataType::Float64),
    };
    if !fits {
        let message = format!(
            "column `{}.{column}`: found {}, expected {}; cast it in the SQL, or declare its type under the source's `columns`",
            file.name,
            sql_name(found),
            expected(wanted)
        );
        return Err(error_at(&file.shown, place_of_column(&file.query, column), message));
    }
    let kind = match wanted {
        ColumnContract::UserId => IdColumn::User,
        ColumnContract::ItemId => IdColumn::Item,
        _ => return Ok(()),
    };
    let here = format!("{}.{column}", file.name);
    match ids.get(&kind) {
        None => {
            ids.insert(kind, (found.clone(), here));
            Ok(())
        }
        Some((known, _)) if known == found => Ok(()),
        Some((known, first)) => {
            let message = format!(
                "ids of two types: `{here}` is {} and `{first}` is {}; cast one of them",
                sql_name(found),
                sql_name(known)
            );
            Err(error_at(&file.shown, place_of_column(&file.query, column), message))
        }
    }
}
