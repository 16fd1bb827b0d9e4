//! Rows in order before their lists are unnested, where the engine would put them in order afterwards.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::ordered_runs::OrderedRunsExec;
use super::rule::{Rule, with_input};

/// Sorts rows by as much of their order as does not come out of a list, and unnests the lists then; rows of one list are sorted among
/// themselves. A hundred draws for each positive are put in order as one row and not as a hundred.
///
/// Not where another list stays in the rows: it would go through the sort whole.
pub const SORT_BEFORE_UNNEST: Rule = Rule { name: "SortBeforeUnnest", instead: sorted_early };

/// The same rows as those of `plan`, if it sorts unnested lists.
fn sorted_early(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let merge = plan.downcast_ref::<SortPreservingMergeExec>().filter(|merge| merge.fetch().is_none());
    let mut above = Vec::new();
    let sorted = match merge {
        Some(merge) => through_projections(merge.input(), &mut above),
        None => plan.clone(),
    };
    let Some(sort) = sorted.downcast_ref::<SortExec>().filter(|sort| sort.fetch().is_none()) else { return Ok(None) };
    if merge.is_none() && sort.input().output_partitioning().partition_count() > 1 {
        return Ok(None);
    }
    // down to the lists, with the order in the columns of each step
    let mut order: Vec<PhysicalSortExpr> = sort.expr().iter().cloned().collect();
    let mut steps = Vec::new();
    let below = through_projections(sort.input(), &mut steps);
    for projection in steps.iter().filter_map(|step| step.downcast_ref::<ProjectionExec>()) {
        let made = |column: &Column| projection.expr()[column.index()].expr.clone();
        for key in &mut order {
            key.expr = over(&key.expr, made)?;
        }
    }
    let Some(unnest) = below.downcast_ref::<UnnestExec>() else { return Ok(None) };
    let input = unnest.input();
    let fields = input.schema().fields().clone();
    let lists: Vec<usize> = unnest.list_column_indices().iter().map(|list| list.index_in_input_schema).collect();
    // a column is at the same place before and after
    let in_place = unnest.struct_column_indices().is_empty() && unnest.schema().fields().len() == fields.len();
    let others_nested = (0..fields.len()).any(|at| !lists.contains(&at) && fields[at].data_type().is_nested());
    let from_lists =
        |key: &PhysicalSortExpr| collect_columns(&key.expr).iter().any(|column| lists.contains(&column.index()));
    order.truncate(order.iter().position(from_lists).unwrap_or(order.len()));
    let length = order.len();
    if !in_place || others_nested {
        return Ok(None);
    }
    for key in &mut order {
        key.expr = over(&key.expr, |column| Arc::new(Column::new(fields[column.index()].name(), column.index())))?;
    }
    let Some(order) = LexOrdering::new(order) else { return Ok(None) };
    let mut sorted: Arc<dyn ExecutionPlan> =
        Arc::new(SortExec::new(order.clone(), input.clone()).with_preserve_partitioning(true));
    if input.output_partitioning().partition_count() > 1 {
        sorted = Arc::new(SortPreservingMergeExec::new(order, sorted));
    }
    steps.push(below.clone());
    for step in steps.into_iter().rev() {
        sorted = with_input(step, sorted)?;
    }
    sorted = Arc::new(OrderedRunsExec::try_new(sorted, sort.expr().clone(), length)?);
    for step in above.into_iter().rev() {
        sorted = with_input(step, sorted)?;
    }
    Ok(Some(sorted))
}

/// What lies below the projections on top of `plan`, which are added to `passed`.
fn through_projections(
    plan: &Arc<dyn ExecutionPlan>,
    passed: &mut Vec<Arc<dyn ExecutionPlan>>,
) -> Arc<dyn ExecutionPlan> {
    let mut at = plan.clone();
    while let Some(projection) = at.downcast_ref::<ProjectionExec>() {
        let input = projection.input().clone();
        passed.push(std::mem::replace(&mut at, input));
    }
    at
}

/// An expression with something else in place of each column.
fn over(
    expression: &Arc<dyn PhysicalExpr>,
    other: impl Fn(&Column) -> Arc<dyn PhysicalExpr>,
) -> Result<Arc<dyn PhysicalExpr>> {
    let replaced = expression.clone().transform_up(|part| {
        Ok(match part.downcast_ref::<Column>() {
            Some(column) => Transformed::yes(other(column)),
            None => Transformed::no(part),
        })
    });
    replaced.data()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::datasource::MemTable;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    /// The plan of a query and what it answers, over 300 rows in three partitions: `n`, a key `k` that repeats, lists `a` and `b`.
    async fn answer(query: &str, early: bool) -> (String, String) {
        let settings = SessionConfig::new().with_target_partitions(3).with_batch_size(16);
        let mut state = SessionStateBuilder::new().with_config(settings).with_default_features();
        if early {
            state = state.with_physical_optimizer_rule(Arc::new(SORT_BEFORE_UNNEST));
        }
        let context = SessionContext::new_with_state(state.build());
        let batches = (0..3i64).map(|part| {
            let n = || (part * 100..part * 100 + 100).map(|n| n * 7919 % 300);
            let list = |from: i64| -> ArrayRef {
                let lists = n().map(|n| (n % 11 != 0).then(|| (from..from + n % 7).map(move |at| Some((at * n) % 13))));
                Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))
            };
            let columns: Vec<(&str, ArrayRef)> = vec![
                ("n", Arc::new(Int64Array::from_iter_values(n()))),
                ("k", Arc::new(Int64Array::from_iter(n().map(|n| (n % 17 != 0).then_some(n % 40))))),
                ("a", list(0)),
                ("b", list(1)),
            ];
            vec![
                RecordBatch::try_from_iter_with_nullable(
                    columns.into_iter().map(|(name, column)| (name, column, true)),
                )
                .unwrap(),
            ]
        });
        let batches: Vec<_> = batches.collect();
        let table = MemTable::try_new(batches[0][0].schema(), batches).unwrap();
        context.register_table("t", Arc::new(table)).unwrap();
        let frame = context.sql(query).await.unwrap();
        let plan = frame.clone().create_physical_plan().await.unwrap();
        let plan = displayable(plan.as_ref()).indent(false).to_string();
        (plan, pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string())
    }

    #[tokio::test]
    async fn rows_come_in_the_same_order_and_lists_are_unnested_last() {
        for query in [
            "select k, unnest(a) as v from t order by k, v",
            "select -v as w, k + 1 as l from (select k, unnest(a) as v from t) order by l desc, abs(w), w",
            "select k, unnest(a) as v, unnest(b) as w from t order by k, w, v",
            "select unnest(a) as v, n from t order by n % 5, n, v desc",
        ] {
            let ((late_plan, late), (plan, early)) = (answer(query, false).await, answer(query, true).await);
            assert!(!late_plan.contains("OrderedRunsExec") && plan.contains("OrderedRunsExec"), "{query}\n{plan}");
            let (unnest, sort) = (plan.find("UnnestExec").unwrap(), plan.find(" SortExec").unwrap());
            assert!(unnest < sort, "{plan}");
            assert_eq!(late, early, "{query}\n{plan}");
        }
    }

    #[tokio::test]
    async fn rows_with_another_list_and_orders_that_begin_in_a_list_stay_as_they_are() {
        for query in [
            "select k, unnest(a) as v, b from t order by k, v",
            "select k, unnest(a) as v from t order by v, k",
            "select k, unnest(a) as v from t order by k, v limit 3",
            "select k, a from t order by k, a",
        ] {
            assert_eq!(answer(query, false).await, answer(query, true).await, "{query}");
        }
    }
}
