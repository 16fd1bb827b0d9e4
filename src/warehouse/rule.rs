//! How rules change the engine's plans.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};

/// A step of a plan, with all that it reads from.
pub type Step = Arc<dyn ExecutionPlan>;

/// Looks at each step of a plan, before those that it reads from, and puts another in its place where there is one. The
/// plan gives the same rows and columns as before.
#[derive(Debug)]
pub struct Rule {
    pub name: &'static str,
    /// What stands in place of a step, or none to leave it.
    pub instead: fn(&Step) -> Result<Option<Step>>,
}

impl PhysicalOptimizerRule for Rule {
    fn optimize(&self, plan: Step, _config: &ConfigOptions) -> Result<Step> {
        plan.transform_down(|plan| {
            Ok(match (self.instead)(&plan)? {
                Some(other) => Transformed::yes(other),
                None => Transformed::no(plan),
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        self.name
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The same step over another input.
pub fn with_input(step: Step, input: Step) -> Result<Step> {
    step.replace_children(vec![input], ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}
