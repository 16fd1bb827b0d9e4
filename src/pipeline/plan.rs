//! What would run for a date, and why. Reads listings and manifests only.

use serde::Serialize;

use super::{Stage, digests, parent, records};
use crate::artifacts::{RunDate, SampleFacts};
use crate::error::{Kind, Result};
use crate::job::Job;
use crate::{publish, samples};

/// What would become of one date.
#[derive(Debug, Clone, Serialize)]
pub struct DayPlan {
    pub date: RunDate,
    /// `done`, `partly done`, `stale` (done from other inputs), `missing`, `not ready`, `no data`.
    pub state: String,
    pub to_run: Vec<String>,
    pub input_files: usize,
    pub input_bytes: u64,
    pub why: String,
}

/// Plans one date; changes nothing.
pub async fn plan(job: &Job) -> Result<DayPlan> {
    let day = |state: &str, to_run: Vec<String>, why: String| DayPlan {
        date: job.date,
        state: state.into(),
        to_run,
        input_files: 0,
        input_bytes: 0,
        why,
    };
    let all = || Stage::ALL.iter().map(|stage| stage.name().to_string()).collect::<Vec<_>>();
    let samples = match samples::plan(job).await {
        Ok(plan) => plan,
        Err(error) if error.kind == Kind::NoData => return Ok(day("no data", Vec::new(), error.message)),
        Err(error) if error.message.contains("partition") => return Ok(day("not ready", all(), error.message)),
        Err(error) => return Err(error),
    };
    let mut to_run = Vec::new();
    let mut need = |stage: Stage, found: bool| {
        if !found {
            to_run.push(stage.name().to_string());
        }
    };
    let found = records::find::<SampleFacts>(&job.output, job.date, Stage::Samples, &samples.digest).await?;
    need(Stage::Samples, found.is_some());
    let (_, mut digest) = parent::find(job, &samples.digest).await?;
    need(
        Stage::Train,
        records::find::<serde_json::Value>(&job.output, job.date, Stage::Train, &digest).await?.is_some(),
    );
    for (stage, next) in [
        (Stage::Embed, digests::embed as fn(&_, &str) -> String),
        (Stage::Index, digests::index),
        (Stage::Evaluate, digests::evaluate),
    ] {
        digest = next(&job.config, &digest);
        need(stage, records::find::<serde_json::Value>(&job.output, job.date, stage, &digest).await?.is_some());
    }
    digest = digests::publish(&job.config, &digest);
    let releases = publish::of_date(&job.output, job.date).await?;
    need(Stage::Publish, releases.iter().any(|release| release.inputs_digest == digest));

    let earlier = releases.last();
    let (state, why) = match (to_run.is_empty(), earlier) {
        (true, _) => ("done", earlier.map(|r| format!("release {}", r.release)).unwrap_or_default()),
        (false, Some(release)) => ("stale", format!("inputs, SQL or config changed since release {}", release.release)),
        (false, None) if to_run.len() < Stage::ALL.len() => ("partly done", "goes on where it stopped".into()),
        (false, None) => ("missing", "never run".into()),
    };
    Ok(DayPlan {
        input_files: samples.inputs.len(),
        input_bytes: samples.inputs.iter().map(|file| file.bytes).sum(),
        ..day(state, to_run, why)
    })
}
