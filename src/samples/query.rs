//! Queries whose rows are looked at and not kept: audits and figures.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use futures::StreamExt;

use super::build::explain;
use super::parse::SqlFile;
use super::planner::Planner;
use crate::error::Result;
use crate::job::Job;
use crate::warehouse::{Joins, execute, is_out_of_memory};

/// Runs `file` and gives each batch to `add`. Where hash joins need more memory than there is, it runs again from `start` with joins
/// that spill.
pub async fn fold<T>(
    job: &Job,
    planner: &Planner,
    file: &SqlFile,
    start: impl Fn() -> T,
    mut add: impl FnMut(&mut T, RecordBatch) -> Result<(), DataFusionError>,
) -> Result<T> {
    let (query, plan) = planner.plan_query(file).await?;
    planner.load_drawing(file).await?;
    let mut joins = Joins::Hash;
    let before = planner.warehouse.reserved();
    loop {
        let physical = planner.physical_of(&plan, &query, file, joins).await?;
        let context = Arc::new((&planner.warehouse.state_with(joins)).into());
        let mut found = start();
        let read = async {
            let mut stream = execute(physical, context)?;
            while let Some(batch) = stream.next().await {
                add(&mut found, batch?)?;
            }
            Ok(())
        };
        match read.await {
            Ok(()) => return Ok(found),
            Err(error) if joins == Joins::Hash && is_out_of_memory(&error) => {
                planner.warehouse.given_back(before).await;
                planner.warehouse.share_memory_equally();
                joins = Joins::SortMerge;
            }
            Err(error) => return Err(explain(job, planner, file, error).await),
        }
    }
}
