//! What the dates of a plan would read from the sources.

use serde::Serialize;

use super::day::{Day, Draft};
use super::left::Left;
use crate::error::Result;
use crate::pipeline::Stage;
use crate::samples::{Counts, count_rows};

/// What samples are made from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Reads {
    pub files: u64,
    pub bytes: u64,
    /// Absent where not every file tells: text, or more footers than are worth the reading.
    pub rows: Option<u64>,
}

/// Sets what each day would read, and returns their sum.
pub(super) async fn reads(drafts: &[Draft<'_>], left: &[Option<Left>], days: &mut [Day]) -> Result<Reads> {
    let mut counts = Counts::default();
    for samples in left.iter().flatten().filter_map(|left| left.samples.as_ref()) {
        counts.learn(samples);
    }
    let builds = |day: &Day| day.to_run.contains(&Stage::Samples);
    let built = drafts.iter().zip(&*days).filter(|(_, day)| builds(day));
    let plans: Vec<_> = built.filter_map(|(draft, _)| draft.samples.as_ref().ok()).collect();
    let mut rows = count_rows(&plans, counts).await?.into_iter();
    let mut total = Reads { rows: Some(0), ..Reads::default() };
    for (draft, day) in drafts.iter().zip(days) {
        day.reads.rows = Some(0);
        if let Some(plan) = draft.samples.as_ref().ok().filter(|_| builds(day)) {
            day.reads.files = plan.inputs.len() as u64;
            day.reads.bytes = plan.inputs.iter().map(|file| file.bytes).sum();
            day.reads.rows = rows.next().flatten();
        }
        total.files += day.reads.files;
        total.bytes += day.reads.bytes;
        total.rows = total.rows.zip(day.reads.rows).map(|(total, rows)| total + rows);
    }
    Ok(total)
}
