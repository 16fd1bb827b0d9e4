//! Audits: SELECTs that must return no row.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use serde_json::Value;
use tracing::warn;

use super::build::explain;
use super::order::reads;
use super::parse::SqlFile;
use super::planner::Planner;
use super::rows::row_as_json;
use crate::artifacts::AuditOutcome;
use crate::config::AuditLevel;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::warehouse::{Joins, table_type};

/// Offending rows that are kept.
const EXAMPLES: usize = 5;

/// Runs every audit; the failing ones together make one error.
pub async fn run(job: &Job, planner: &Planner, audits: &[SqlFile]) -> Result<Vec<AuditOutcome>> {
    let mut outcomes = Vec::new();
    let mut failed = Vec::new();
    for audit in audits {
        job.stop.check()?;
        let level = job.config.samples.audits.get(&audit.name).copied().unwrap_or_default();
        if level == AuditLevel::Off || !can_run(job, planner, audit) {
            continue;
        }
        let _spinner = job.progress.spinner(&format!("audit {}", audit.name));
        let (rows, examples) = offending(job, planner, audit).await?;
        let outcome = match (rows, level) {
            (0, _) => "passed",
            (_, AuditLevel::Warn) => "warned",
            _ => "failed",
        };
        if rows > 0 {
            let shown = examples.iter().map(Value::to_string).collect::<Vec<_>>().join("\n    ");
            let text = format!("audit `{}` found {rows} rows ({}):\n    {shown}", audit.name, audit.shown);
            match level {
                AuditLevel::Warn => warn!(audit = %audit.name, rows, "{text}"),
                _ => failed.push(text),
            }
        }
        outcomes.push(AuditOutcome { name: audit.name.clone(), outcome: outcome.into(), rows, examples });
    }
    if failed.is_empty() {
        return Ok(outcomes);
    }
    Err(Error::config(format!(
        "{}\n  mend the data or the SQL; `samples.audits.NAME: warn` lets a job go on in spite of an audit",
        failed.join("\n")
    )))
}

/// A built-in audit is left out where the job does not have the tables it looks at.
pub fn can_run(job: &Job, planner: &Planner, audit: &SqlFile) -> bool {
    let there = |name: &String| planner.has_table(name) || job.config.sources.contains_key(name);
    !audit.built_in || reads(audit).iter().all(there)
}

/// How many rows an audit returns, and the first of them.
async fn offending(job: &Job, planner: &Planner, audit: &SqlFile) -> Result<(u64, Vec<Value>)> {
    let (query, plan) = planner.plan_query(audit).await?;
    planner.load_drawing(audit).await?;
    let mut joins = Joins::Hash;
    loop {
        let physical = planner.physical_of(&plan, &query, audit, joins).await?;
        let context = std::sync::Arc::new((&planner.warehouse.state_with(joins)).into());
        let counted = async {
            let mut stream = execute_stream(physical, context)?;
            let (mut rows, mut examples) = (0, Vec::new());
            while let Some(batch) = stream.next().await {
                let batch = batch?;
                rows += batch.num_rows() as u64;
                let batch = plain(&batch)?;
                let left = EXAMPLES - examples.len();
                examples.extend((0..batch.num_rows().min(left)).map(|row| row_as_json(&batch, row)));
            }
            Ok((rows, examples))
        };
        match counted.await {
            Ok(found) => return Ok(found),
            Err(error) if joins == Joins::Hash && crate::warehouse::is_out_of_memory(&error) => {
                joins = Joins::SortMerge
            }
            Err(error) => return Err(explain(job, planner, audit, error).await),
        }
    }
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
