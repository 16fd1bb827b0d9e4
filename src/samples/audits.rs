//! Audits: SELECTs that must return no row.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use tracing::warn;

use super::order::reads;
use super::parse::SqlFile;
use super::planner::{IdColumn, Planner};
use super::query::fold;
use super::rows::{Rows, row_as_json, rows};
use crate::artifacts::{AuditOutcome, AuditVerdict};
use crate::config::AuditLevel;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::warehouse::table_type;

/// Offending rows that are kept.
const EXAMPLES: usize = 5;

/// Audits that run at the same time, where memory is enough for two: one works while the other plans, opens files or waits for its last
/// partition.
const SIDE_BY_SIDE: usize = 2;
/// Bytes of memory that are enough for two.
const ENOUGH: usize = 512 << 20;

/// Runs every audit; the failing ones together make one error. One that is off, or whose tables and columns the job does not have, stands among
/// the outcomes too: that it found nothing would be another thing.
pub async fn run(job: &Job, planner: &Planner, audits: &[SqlFile]) -> Result<Vec<AuditOutcome>> {
    let looks: Vec<_> = audits.iter().map(|audit| look(job, planner, audit)).collect();
    let at_once = if job.config.samples.memory.bytes() < ENOUGH { 1 } else { SIDE_BY_SIDE };
    let outcomes: Vec<_> = stream::iter(looks).buffered(at_once).try_collect().await?;
    let mut failed = Vec::new();
    for (audit, outcome) in audits.iter().zip(&outcomes) {
        let rows = outcome.rows;
        if rows == 0 {
            continue;
        }
        let shown = outcome.examples.iter().map(Value::to_string).collect::<Vec<_>>().join("\n    ");
        let text = format!("audit `{}` found {rows} rows ({}):\n    {shown}", audit.name, audit.shown);
        match outcome.outcome {
            AuditVerdict::Failed => failed.push(text),
            _ => warn!(audit = %audit.name, rows, "{text}"),
        }
    }
    if failed.is_empty() {
        return Ok(outcomes);
    }
    Err(Error::config(format!(
        "{}\n  mend the data or the SQL; `samples.audits.NAME: warn` lets a job go on in spite of an audit",
        failed.join("\n")
    )))
}

/// Runs one audit, where it is on and has something to look at.
async fn look(job: &Job, planner: &Planner, audit: &SqlFile) -> Result<AuditOutcome> {
    job.stop.check()?;
    let level = job.config.samples.audit_level(&audit.name);
    let (outcome, rows, examples) = if level == AuditLevel::Off {
        (AuditVerdict::Off, 0, Vec::new())
    } else if !can_run(job, planner, audit) {
        (AuditVerdict::NothingToLookAt, 0, Vec::new())
    } else {
        let _spinner = job.progress.spinner(&format!("audit {}", audit.name));
        let (rows, examples) = offending(job, planner, audit).await?;
        let outcome = match (rows, level) {
            (0, _) => AuditVerdict::Passed,
            (_, AuditLevel::Warn) => AuditVerdict::Warned,
            _ => AuditVerdict::Failed,
        };
        (outcome, rows, examples)
    };
    Ok(AuditOutcome { name: audit.name.clone(), outcome, rows, examples })
}

/// Columns that a table may have, by how the names of the built-in audits end that look at them.
const OF_COLUMNS: [(&str, &str, &str); 4] = [
    ("features_after_the_event", "positives", "features_time"),
    ("held_out_clicks_inside_training", "liked", "event_time"),
    ("held_out_clicks_inside_training", "liked", "held_out"),
    ("negatives_held_out_for_the_user", "liked", "held_out"),
];

/// A built-in audit is left out where the job does not have the tables and columns it looks at.
pub fn can_run(job: &Job, planner: &Planner, audit: &SqlFile) -> bool {
    let there = |name: &String| planner.has_table(name) || job.config.sources.contains_key(name);
    let column = |&(name, table, column): &(&str, &str, &str)| {
        !audit.name.ends_with(name) || planner.column(table, column).is_some()
    };
    let of_items = |column: &String| {
        let item = planner.ids.get(&IdColumn::Item).map(|(found, _)| found);
        let tables = reads(audit);
        let mut found = tables.iter().filter_map(|table| planner.column(table, column));
        found.any(|list| matches!(list, DataType::List(held) if Some(held.data_type()) == item))
    };
    !audit.built_in
        || reads(audit).iter().all(there)
            && OF_COLUMNS.iter().all(column)
            && audit.history.as_ref().is_none_or(of_items)
}

/// How many rows an audit returns, and the first of them.
async fn offending(job: &Job, planner: &Planner, audit: &SqlFile) -> Result<(u64, Vec<Value>)> {
    fold(job, planner, audit, Default::default, |(rows, examples): &mut (u64, Vec<Value>), batch| {
        *rows += batch.num_rows() as u64;
        let left = EXAMPLES - examples.len();
        if left > 0 {
            let batch = plain(&batch)?;
            examples.extend((0..batch.num_rows().min(left)).map(|row| row_as_json(&batch, row)));
        }
        Ok(())
    })
    .await
}

/// Every row that an audit returns.
pub async fn rows_of(job: &Job, planner: &Planner, audit: &SqlFile) -> Result<Rows> {
    let (_, plan) = planner.plan_query(audit).await?;
    let columns = plan.schema().fields().iter().map(|field| field.name().clone()).collect();
    let batches = fold(job, planner, audit, Vec::new, |found, batch| {
        found.push(plain(&batch)?);
        Ok(())
    })
    .await?;
    Ok(Rows { columns, rows: rows(&batches)? })
}

/// A batch with the plain types of tables.
fn plain(batch: &RecordBatch) -> datafusion::error::Result<RecordBatch> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let plain = match table_type(field.data_type()) {
            Some(wanted) => cast(column, &wanted)?,
            None => column.clone(),
        };
        Ok((field.name().clone(), plain))
    });
    Ok(RecordBatch::try_from_iter(columns.collect::<datafusion::error::Result<Vec<_>>>()?)?)
}
