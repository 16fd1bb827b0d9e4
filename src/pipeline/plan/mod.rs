//! What would run for the dates of a range, and why. Reads listings and manifests only, and changes nothing.
//!
//! Everything that is asked of a store is asked for the whole range at once or a few times for each date that is not done, so that
//! a year is planned in seconds.

mod changed;
mod cost;
mod day;
mod left;

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;

pub use day::{Day, State};

use super::{Scope, parent};
use crate::artifacts::RunDate;
use crate::config::{StartFrom, WarmStart};
use crate::error::Result;
use crate::job::Job;
use crate::recommend::LastRelease;
use crate::samples::{Recipe, Unlisted};
use cost::Reads;
use day::Draft;
use left::Output;

/// Dates that are looked into at once.
const AT_ONCE: usize = 16;

/// What is to be planned.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    pub first: RunDate,
    /// Included.
    pub last: RunDate,
    pub scope: Scope,
    /// Whether a candidate is to be published although a later date is.
    pub publish: bool,
    /// Whether the first date starts from nothing, whatever the others do.
    pub cold: bool,
}

impl Question {
    /// What `date` may go on from.
    pub(super) fn warm_start(&self, job: &Job, date: RunDate) -> WarmStart {
        let mut rule = job.config.warm_start.clone();
        if self.cold && date == self.first {
            rule.from = StartFrom::Nothing;
        }
        rule
    }
}

/// What would run for each date of a range.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub days: Vec<Day>,
    /// What all of its days would read.
    pub reads: Reads,
}

/// Plans the dates of `question`, as things are now: what a date would go on from is asked as if the missing ones before it had run.
pub async fn plan(job: &Job, question: &Question) -> Result<Plan> {
    let recipe = Recipe::open(job, &LastRelease::shared(), question.first, question.last).await?;
    let lineage = parent::lineage(job, question.first, question.last).await?;
    let made = &lineage.made;
    let output = Output::list(&job.output, lineage.begun).await?;
    let mut drafts = Vec::new();
    for date in question.first.to(question.last) {
        let samples = match recipe.plan(date).await {
            Err(Unlisted::Failed(error)) => return Err(error),
            other => other,
        };
        drafts.push(Draft::new(job, question, date, samples, made));
    }
    let output = &output;
    let left = futures::stream::iter(&drafts)
        .map(|draft| async move { if draft.is_done() { Ok(None) } else { output.left(job, draft).await.map(Some) } })
        .buffered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await?;
    // dates that would run, as the parents of those after them
    let mut and_to_come = made.clone();
    let mut days = Vec::new();
    for (draft, left) in drafts.iter().zip(&left) {
        let day = draft.day(job, question, left.as_ref(), &and_to_come, made);
        if matches!(day.state, State::Missing | State::Unfinished) {
            and_to_come.extend(draft.to_come(job, &and_to_come));
        }
        days.push(day);
    }
    let reads = cost::reads(&drafts, &left, &mut days).await?;
    Ok(Plan { days, reads })
}
