//! Rows of their own for sorts, where a grouping gives out parts of one large batch.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
    SendableRecordBatchStream,
};
use futures::StreamExt;

use super::lists;
use super::rule::{Rule, with_input};

/// Gives a sort of what was grouped rows of its own. A grouping gives out its groups as parts of one batch, and a sort counts the whole of it
/// for each part, a hundred times and more: it wrote five million rows to disk with six gigabytes free.
pub const OWN_ROWS_BEFORE_SORT: Rule = Rule { name: "OwnRowsBeforeSort", instead: over_own_rows };

/// The same sort over rows of their own, if `plan` sorts what was grouped.
fn over_own_rows(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(sort) = plan.downcast_ref::<SortExec>().filter(|sort| gives_groups(sort.input())) else { return Ok(None) };
    let own = Arc::new(OwnRowsExec { input: sort.input().clone() });
    with_input(plan.clone(), own).map(Some)
}

/// Whether rows come from a grouping, by steps that leave batches as they are or take few of their rows.
fn gives_groups(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let passes = plan.downcast_ref::<ProjectionExec>().is_some() || plan.downcast_ref::<FilterExec>().is_some();
    plan.downcast_ref::<AggregateExec>().is_some() || passes && gives_groups(plan.children()[0])
}

/// Copies the rows of batches that are parts of larger ones.
#[derive(Debug)]
struct OwnRowsExec {
    input: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for OwnRowsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "OwnRowsExec")
    }
}

impl ExecutionPlan for OwnRowsExec {
    fn name(&self) -> &'static str {
        "OwnRowsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(OwnRowsExec { input: children.swap_remove(0) }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), input.map(|batch| own(batch?)))))
    }
}

/// The same rows, which hold no others in memory.
fn own(batch: RecordBatch) -> Result<RecordBatch> {
    let mut needed = 0;
    for column in batch.columns() {
        needed += column.to_data().get_slice_memory_size()?;
    }
    // buffers are a little larger than what is in them
    if batch.get_array_memory_size() <= 2 * needed {
        return Ok(batch);
    }
    let columns = batch.columns().iter().map(lists::own).collect::<Result<_>>()?;
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int64Array};
    use datafusion::datasource::MemTable;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::physical_plan::{collect, displayable};
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    /// The plan of a query over 200,000 rows `n` with 24 MiB of memory, and how often it spilled.
    async fn run(query: &str, own: bool) -> (String, usize) {
        let settings = SessionConfig::new().with_target_partitions(1).with_sort_spill_reservation_bytes(64 << 10);
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(24 << 20, 1.0).build_arc().unwrap();
        let mut state =
            SessionStateBuilder::new().with_config(settings).with_runtime_env(runtime).with_default_features();
        if own {
            state = state.with_physical_optimizer_rule(Arc::new(OWN_ROWS_BEFORE_SORT));
        }
        let context = SessionContext::new_with_state(state.build());
        let n: ArrayRef = Arc::new(Int64Array::from_iter_values((0..200_000).map(|n| n * 7919 % 200_000)));
        let batch = RecordBatch::try_from_iter([("n", n)]).unwrap();
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
        context.register_table("t", Arc::new(table)).unwrap();
        let plan = context.sql(query).await.unwrap().create_physical_plan().await.unwrap();
        let found = collect(plan.clone(), context.task_ctx()).await.unwrap();
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 200_000);
        let sort = plan.downcast_ref::<SortExec>().expect("the last step sorts");
        let spills = sort.metrics().unwrap().spill_count().unwrap();
        (displayable(plan.as_ref()).indent(false).to_string(), spills)
    }

    #[tokio::test]
    async fn a_sort_of_groups_spills_for_what_it_holds_and_not_for_what_was_there_before() {
        let grouped = "select n + 1 as m, n from t group by n order by m";
        let ((engine, spilled), (plan, spills)) = (run(grouped, false).await, run(grouped, true).await);
        assert!(!engine.contains("OwnRowsExec") && spilled > 0, "{spilled} {engine}");
        assert!(plan.contains("OwnRowsExec") && spills == 0, "{spills} {plan}");
        let rows = "select n from t order by n";
        assert!(!run(rows, true).await.0.contains("OwnRowsExec"));
    }

    #[test]
    fn batches_that_are_no_part_of_others_stay_as_they_are() {
        let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        let batch = RecordBatch::try_from_iter([("n", n)]).unwrap();
        let same = own(batch.clone()).unwrap();
        assert_eq!(same.column(0).to_data().buffers()[0].as_ptr(), batch.column(0).to_data().buffers()[0].as_ptr());
        let part = own(batch.slice(10, 20)).unwrap();
        assert_eq!(part, batch.slice(10, 20));
        assert!(part.get_array_memory_size() < 1000);
    }
}
