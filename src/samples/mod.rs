//! Sample tables: SQL files, in the order of what they read, each written as Parquet and held to its contract.

mod ast;
mod audits;
mod blame;
mod build;
pub mod cases;
mod changes;
mod columns;
mod counts;
mod explain;
mod files;
mod measure;
mod names;
mod order;
mod params;
mod parse;
mod place;
mod placeholders;
mod plan;
mod planner;
mod previous;
mod query;
mod rows;
mod statistics;
mod timeless;
mod watch;

pub use changes::{Change, PartitionChange, changes};
pub use counts::{Counts, count_rows};
pub use explain::{check, explain};
pub use plan::{Recipe, SamplePlan, plan};
pub use previous::{Previous, Releases};

pub use crate::warehouse::Unlisted;

use std::collections::BTreeMap;
use std::time::Instant;

use tracing::{info, warn};

use crate::allocator::Kept;
use crate::artifacts::{SampleFacts, Statistics, Written};
use crate::error::Result;
use crate::job::Job;

/// Builds every sample table of `plan` below `folder` and audits them. The bytes written depend on the inputs, the SQL and its
/// parameters alone: not on threads, memory or time.
pub async fn run(job: &Job, plan: &SamplePlan, folder: &str) -> Result<Written<SampleFacts>> {
    plan.warnings.iter().for_each(|text| warn!("{text}"));
    let _kept = Kept::up_to(job.config.samples.memory.bytes());
    let mut planner = planner::Planner::new(job, plan).await?;
    // mistakes in the last table are told before a row of the first is read
    explain::plan_tables(job, plan, &mut planner).await?;
    let mut tables = BTreeMap::new();
    let mut measured = BTreeMap::new();
    let mut files = Vec::new();
    let mut dropped = BTreeMap::new();
    for name in &plan.order {
        job.stop.check()?;
        let (facts, counted) = match (plan.files.get(name), &plan.previous) {
            (None, Some(previous)) => {
                let facts = previous.build(job, &mut planner, &tables["user_features"], folder).await?;
                let counted = measure::Measured::of_rows(facts.rows);
                (facts, counted)
            }
            _ => build::build(job, &mut planner, &plan.files[name], folder).await?,
        };
        let left_out = planner.warehouse.dropped.take().into_iter();
        // hard negatives have rules by default, so their names stand alone
        dropped.extend(left_out.map(|(rule, rows)| match name.as_str() {
            "hard_negatives" => (rule, rows),
            table => (format!("{table}.{rule}"), rows),
        }));
        info!(table = %name, rows = facts.rows, seconds = facts.seconds, "built sample table");
        files.extend(facts.files.iter().cloned());
        tables.insert(name.clone(), facts);
        measured.insert(name.clone(), counted);
    }
    let began = Instant::now();
    let statistics = statistics::statistics(job, &planner, &plan.sources, &tables, measured).await?;
    planner.add_measured(&statistics, job.date)?;
    info!(seconds = began.elapsed().as_secs_f64(), "measured the sample tables");
    let began = Instant::now();
    let audits = audits::run(job, &planner, &plan.audits).await?;
    let ran = audits.iter().filter(|audit| audit.outcome.ran()).count();
    info!(audits = ran, seconds = began.elapsed().as_secs_f64(), "audited the sample tables");
    let (user_id_type, item_id_type) = planner.id_types()?;
    let facts = SampleFacts {
        user_id_type,
        item_id_type,
        tables,
        inputs: plan.inputs.clone(),
        sql: plan.sql.clone(),
        audits,
        statistics: Statistics { dropped, ..statistics },
        origins: plan.origins.clone(),
    };
    Ok(Written { files, facts })
}
