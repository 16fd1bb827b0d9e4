//! Reading the sample tables: which columns, and what to say when one is missing.

use arrow::array::RecordBatch;

use super::objectives;
use crate::artifacts::{SampleSet, TableFacts};
use crate::config::{Config, ItemBias};
use crate::error::{Error, Result};
use crate::features::{ITEM_BIAS, Side, no_column};
use crate::job::Job;
use crate::storage::{read_parquet_stream, sorted_parts};

/// Rows read at a time.
const BATCH_ROWS: usize = 16_384;

/// Streams a sample table, with the columns that training reads of it; no rows where the table is absent.
pub fn read(
    job: &Job,
    samples: &SampleSet,
    table: &str,
) -> impl futures::Stream<Item = Result<RecordBatch>> + Send + Unpin + use<> {
    let columns = columns(&job.config, samples, table);
    let parts = samples.record.facts.tables.get(table).map(|facts| sorted_parts(&facts.files)).unwrap_or_default();
    read_parquet_stream(&job.output, parts, Some(columns), BATCH_ROWS)
}

/// The columns that training reads of a table.
fn columns(config: &Config, samples: &SampleSet, table: &str) -> Vec<String> {
    let (side, wanted, optional): (&str, &[&str], &[&str]) = match table {
        "positives" => ("user", &["sample_id", "user_id", "item_id", "event_time"], &["weight"]),
        "item_features" => ("item", &["item_id"], &[]),
        _ => ("", &["sample_id", "item_id"], &["sampling_probability"]),
    };
    let has = |name: &str| samples.record.facts.tables.get(table).is_some_and(|facts| has_column(facts, name));
    let mut columns: Vec<String> = wanted.iter().map(|name| name.to_string()).collect();
    columns.extend(optional.iter().filter(|name| has(name)).map(|name| name.to_string()));
    if table == "positives" {
        columns.extend(config.training.objectives.keys().cloned());
    }
    columns.extend(
        config
            .all_features()
            .filter(|(s, ..)| *s == side)
            .flat_map(|(_, name, feature)| feature.columns(name))
            .map(str::to_string),
    );
    columns
}

fn has_column(facts: &TableFacts, name: &str) -> bool {
    facts.columns.iter().any(|column| column.name == name)
}

/// Training does without an item's bias, so that only the vectors after it would find out.
fn check_bias(bias: &ItemBias, items: &TableFacts) -> Result<()> {
    let number = |found: &str| {
        ["Boolean", "Int64", "Float64"].contains(&found)
            || ["Timestamp", "Date"].iter().any(|time| found.starts_with(time))
    };
    match items.columns.iter().find(|column| column.name == bias.column) {
        Some(column) if !number(&column.data_type) => Err(Error::config(format!(
            "{ITEM_BIAS}: column `{}` of table `item_features`: found type {}, expected a number; cast it in the table's SQL",
            bias.column, column.data_type
        ))),
        _ => Ok(()),
    }
}

/// Names the feature whose column a table lacks, before anything is read. The samples stage looks too, but samples that were made
/// for other features are taken as they are.
pub fn check_columns(config: &Config, samples: &SampleSet) -> Result<()> {
    let facts = &samples.record.facts;
    objectives::check_columns(&config.training.objectives, samples)?;
    let has_all = |reader: &str, table: &str, columns: &[&str]| -> Result<()> {
        let Some(found) = facts.tables.get(table) else {
            return Err(Error::config(format!("the samples have no table `{table}`; run the samples stage again")));
        };
        let known = found.columns.iter().map(|column| column.name.as_str());
        match columns.iter().find(|column| !has_column(found, column)) {
            Some(column) => Err(no_column(reader, table, column, known)),
            None => Ok(()),
        }
    };
    for side in [Side::User, Side::Item] {
        for (_, name, feature) in config.all_features().filter(|(of, ..)| *of == side.name()) {
            for table in side.tables() {
                has_all(&format!("features.{}.{name}", side.name()), table, &feature.columns(name))?;
            }
        }
    }
    if let Some(bias) = &config.model.item_bias {
        has_all(ITEM_BIAS, "item_features", &[&bias.column])?;
        check_bias(bias, &facts.tables["item_features"])?;
    }
    Ok(())
}
