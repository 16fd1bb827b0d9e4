//! Several objectives in one training: what a positive weighs by what followed it.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use indexmap::IndexMap;

use crate::artifacts::SampleSet;
use crate::error::{Error, Result, did_you_mean};
use crate::features::numbers;

/// What of a positive holds, one bit an objective in the config's order, and the sum of their weights.
pub type Held = (u32, f64);

/// One entry a row of `positives`; a null does not hold.
pub fn held(batch: &RecordBatch, objectives: &IndexMap<String, f64>) -> Result<Vec<Held>> {
    let mut rows = vec![(0, 0.0); batch.num_rows()];
    for (at, (column, weight)) in objectives.iter().enumerate() {
        let Some(values) = numbers(batch, "positives", column)? else { continue };
        for (row, value) in rows.iter_mut().zip(values.iter()) {
            if value.is_some_and(|value| value > 0.0) {
                row.0 |= 1 << at;
                row.1 += weight;
            }
        }
    }
    Ok(rows)
}

/// Rows for which each objective holds.
pub fn counts(objectives: &IndexMap<String, f64>, held: &[u32]) -> BTreeMap<String, u64> {
    let count = |at: usize| held.iter().filter(|bits| *bits >> at & 1 == 1).count() as u64;
    objectives.keys().enumerate().map(|(at, name)| (name.clone(), count(at))).collect()
}

/// Names the objective whose column `positives` lacks or holds with another type, before anything is read.
pub fn check_columns(objectives: &IndexMap<String, f64>, samples: &SampleSet) -> Result<()> {
    let Some(positives) = samples.record.facts.tables.get("positives") else { return Ok(()) };
    for name in objectives.keys() {
        let Some(column) = positives.columns.iter().find(|column| column.name == *name) else {
            let known = || positives.columns.iter().map(|column| column.name.as_str());
            return Err(Error::config(format!(
                "training.objectives.{name}: table `positives` has no column `{name}`{}; it has {}: select it in the table's SQL",
                did_you_mean(name, known()),
                known().collect::<Vec<_>>().join(", ")
            )));
        };
        if !["Boolean", "Int64", "Float64"].contains(&column.data_type.as_str()) {
            return Err(Error::config(format!(
                "training.objectives.{name}: column `{name}` of table `positives`: found type {}, expected BOOLEAN or a number; cast it in the table's SQL",
                column.data_type
            )));
        }
    }
    Ok(())
}
