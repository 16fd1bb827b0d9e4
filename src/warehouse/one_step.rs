//! Lists of groups in one step, where the engine would make them in two.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};

use super::rule::Rule;

/// Sends the rows of an `array_agg` to the thread of their group and makes its list there. The engine lets each thread make lists of what it has
/// read and joins these: a sum gets smaller that way, but lists hold every value, so they are only made twice.
pub const LISTS_IN_ONE_STEP: Rule = Rule { name: "ListsInOneStep", instead: in_one_step };

/// The same rows as those of `plan`, if it is the second step over rows that the first has grouped.
fn in_one_step(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(second) = plan.downcast_ref::<AggregateExec>() else { return Ok(None) };
    let of_lists = second.aggr_expr().iter().any(|aggregate| aggregate.fun().name() == "array_agg");
    let Some(between) = second.input().downcast_ref::<RepartitionExec>() else { return Ok(None) };
    let Some(first) = between.input().downcast_ref::<AggregateExec>() else { return Ok(None) };
    let Partitioning::Hash(_, threads) = between.partitioning() else { return Ok(None) };
    let two_steps = *second.mode() == AggregateMode::FinalPartitioned && *first.mode() == AggregateMode::Partial;
    if !of_lists || !two_steps || !first.group_expr().is_single() {
        return Ok(None);
    }
    let groups = Partitioning::Hash(first.group_expr().input_exprs(), *threads);
    let rows = RepartitionExec::try_new(first.input().clone(), groups)?;
    let aggregate = AggregateExec::try_new(
        AggregateMode::SinglePartitioned,
        first.group_expr().clone(),
        first.aggr_expr().to_vec(),
        first.filter_expr().to_vec(),
        Arc::new(rows),
        first.input_schema(),
    )?;
    Ok(Some(Arc::new(aggregate)))
}
