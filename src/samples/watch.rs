//! How far a query is, told while it runs: rows that its scans have read, from the engine's own counters.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::error::Result;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::StreamExt;

use crate::progress::{Bar, count};

/// Sorts hand over nothing until they have everything, so the time between two batches may be long.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(250);

/// The next batch of a plan that is being run. `written` rows have come out of it so far.
pub async fn next(
    stream: &mut SendableRecordBatchStream,
    plan: &Arc<dyn ExecutionPlan>,
    written: u64,
    bar: &Bar,
) -> Option<Result<RecordBatch>> {
    loop {
        let waited = tokio::time::timeout(LOOKED_AT_EVERY, stream.next()).await;
        let read = count(scanned(plan));
        bar.message(match written {
            0 => format!("{read} rows read"),
            _ => format!("{read} rows read, {} written", count(written)),
        });
        if let Ok(batch) = waited {
            return batch;
        }
    }
}

/// Rows that came out of a plan's scans so far.
fn scanned(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let children = plan.children();
    if children.is_empty() {
        return plan.metrics().and_then(|metrics| metrics.output_rows()).unwrap_or(0) as u64;
    }
    children.into_iter().map(scanned).sum()
}
