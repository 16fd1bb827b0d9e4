//! `explain` and `check`: every table planned against the sources' schemas, none of them run.

use std::fmt::Write;

use datafusion::physical_plan::displayable;

use super::audits::can_run;
use super::plan::{SamplePlan, plan};
use super::planner::Planner;
use super::previous::Releases;
use crate::artifacts::Statistics;
use crate::error::{Error, Result, did_you_mean};
use crate::features::{Learner, Side};
use crate::job::Job;
use crate::warehouse::{Joins, Listing, Retyped};

/// Files named for each partition.
const FILES_SHOWN: usize = 3;

/// For each table (or one), the SQL with its values and the physical plan; then what was listed for each source.
pub async fn explain(job: &Job, releases: &Releases, table: Option<&str>) -> Result<String> {
    let plan = plan(job, releases).await?;
    if let Some(table) = table.filter(|table| !plan.files.contains_key(*table)) {
        let known = plan.order.iter().map(String::as_str);
        return Err(Error::usage(format!(
            "no table `{table}`{}; there are {}",
            did_you_mean(table, known),
            plan.order.join(", ")
        )));
    }
    let mut planner = Planner::new(job, &plan).await?;
    let mut text = String::new();
    let mut read = Vec::new();
    for name in &plan.order {
        let Some(file) = plan.files.get(name) else {
            add_previous(&plan, &mut planner, name)?;
            continue;
        };
        let planned = planner.plan_table(file).await?;
        if table.is_none_or(|table| table == name) {
            let physical = planner.physical(&planned, file, Joins::Hash).await?;
            let tree = displayable(physical.as_ref()).indent(false).to_string();
            let _ = writeln!(text, "-- table {name} ({})\n{:#}\n\n{tree}", file.shown, planned.query);
            read.extend(super::order::reads(file));
        }
        planner.add_planned(name, planned.shape.schema.clone())?;
    }
    for listing in plan.sources.iter().filter(|listing| table.is_none() || read.contains(&listing.source)) {
        list_files(&mut text, listing);
    }
    Ok(text)
}

/// Plans every table and audit; returns what is allowed and rarely meant.
pub async fn check(job: &Job, releases: &Releases) -> Result<Vec<String>> {
    let plan = plan(job, releases).await?;
    check_plan(job, &plan).await?;
    Ok(plan.warnings)
}

async fn check_plan(job: &Job, plan: &SamplePlan) -> Result<()> {
    let mut planner = Planner::new(job, plan).await?;
    plan_tables(job, plan, &mut planner).await?;
    planner.add_measured(&Statistics::default(), job.date)?;
    for audit in plan.audits.iter() {
        if can_run(job, &planner, audit) {
            planner.plan_query(audit).await?;
        }
    }
    Ok(())
}

/// Plans every table, each over the columns that those before it will have, and finds there what the features read. A mistake that would be
/// none if a source's files had the types that they had before is not the SQL's: the file that changed is named.
pub(super) async fn plan_tables(job: &Job, plan: &SamplePlan, planner: &mut Planner) -> Result<()> {
    let Err(error) = plan_each(job, plan, planner).await else { return Ok(()) };
    let retyped = planner.warehouse.retyped.clone();
    if retyped.is_empty() || !is_planned_with(job, plan, planner, &retyped).await? {
        return Err(error);
    }
    // that without which it cannot be planned; several may be to blame
    let mut to_blame = 0;
    for at in 0..retyped.len() {
        let others = [&retyped[..at], &retyped[at + 1..]].concat();
        if !is_planned_with(job, plan, planner, &others).await? {
            to_blame = at;
            break;
        }
    }
    Err(Error::config(retyped[to_blame].words.clone()).context("planning the SQL").caused_by(error))
}

/// Whether every table can be planned where `columns` have the types that they had before.
async fn is_planned_with(job: &Job, plan: &SamplePlan, planner: &mut Planner, columns: &[Retyped]) -> Result<bool> {
    planner.warehouse.plan_with(columns)?;
    planner.forget_tables();
    Ok(plan_each(job, plan, planner).await.is_ok())
}

async fn plan_each(job: &Job, plan: &SamplePlan, planner: &mut Planner) -> Result<()> {
    let mut learner = Learner::new(&job.config);
    for name in &plan.order {
        let Some(file) = plan.files.get(name) else {
            add_previous(plan, planner, name)?;
            continue;
        };
        let planned = planner.plan_table(file).await?;
        planner.physical(&planned, file, Joins::Hash).await?;
        let schema = planned.shape.schema.clone();
        let side = [Side::User, Side::Item].into_iter().find(|side| side.tables().contains(&name.as_str()));
        if let Some(side) = side {
            let read = learner.check_columns(side, name, schema.clone());
            read.map_err(|error| error.context(format!("planning `{name}` ({})", file.shown)))?;
        }
        planner.add_planned(name, schema)?;
    }
    Ok(())
}

/// The table that no SQL makes.
fn add_previous(plan: &SamplePlan, planner: &mut Planner, name: &str) -> Result<()> {
    let Some(previous) = &plan.previous else { return Ok(()) };
    let schema = previous.schema(planner)?;
    planner.add_planned(name, schema)
}

fn list_files(text: &mut String, listing: &Listing) {
    let files = listing.partitions.iter().map(|partition| partition.files.len()).sum::<usize>();
    let bytes: u64 = listing.inputs().iter().map(|input| input.bytes).sum();
    let _ = writeln!(text, "-- source {} at {}: {files} files, {bytes} bytes", listing.source, listing.store.url());
    for partition in &listing.partitions {
        let folder = if partition.folder.is_empty() { "all" } else { partition.folder.as_str() };
        let key = |key: &str| key.strip_prefix(&partition.folder).unwrap_or(key).trim_start_matches('/').to_string();
        let mut names: Vec<String> = partition.files.iter().take(FILES_SHOWN).map(|file| key(&file.key)).collect();
        if partition.files.len() > FILES_SHOWN {
            names.push(format!("and {} more", partition.files.len() - FILES_SHOWN));
        }
        let _ = writeln!(text, "--   {folder}: {}", names.join(", "));
    }
}
