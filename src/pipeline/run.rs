//! One date: every stage in turn, skipping those that were done before for the same inputs.

use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::{Instrument, info, info_span};

use super::{Scope, Stage, digests, records};
use crate::artifacts::{Done, EvaluateFacts, Measured, Release, Written, keys};
use crate::error::{Context, Error, Kind, Result};
use crate::job::Job;
use crate::publish::{self, Candidate, Published};
use crate::{embed, evaluate, index, report, samples, train};

/// What became of one stage.
#[derive(Debug, Clone)]
pub struct StageOutcome {
    pub stage: Stage,
    /// Done before for the same inputs, and not again.
    pub skipped: bool,
    pub seconds: f64,
    /// Largest resident set of the process up to the stage's end, in bytes.
    pub peak_memory: u64,
}

/// What became of one date.
pub struct Outcome {
    pub date: crate::artifacts::RunDate,
    pub run_id: Option<String>,
    pub stages: Vec<StageOutcome>,
    pub evaluation: Option<EvaluateFacts>,
    pub release: Option<Release>,
    /// In words: `published`, `done before`, `not published: …`, or the stage that was done.
    pub status: String,
    /// Where the report lies.
    pub report: Option<String>,
}

/// Runs the stages in `scope` for the job's date. `publish_older` publishes although a later date's release is out.
pub async fn run(job: &Job, scope: Scope, publish_older: bool) -> Result<Outcome> {
    let mut flow = Flow { job, scope, stages: Vec::new(), run_id: None };
    let plan = samples::plan(job).await?;

    let folder = keys::samples(job.date, &plan.digest);
    let samples = flow
        .stage(Stage::Samples, &plan.digest, async |folder| samples::run(job, &plan, folder).await, Some(folder))
        .await?;
    let Some(samples) = samples else { return Ok(flow.outcome("samples are built")) };

    let digest = digests::train(&job.config, &plan.digest);
    let checkpoints = keys::checkpoints(job.date, &digest);
    let learned = async |folder: &str| train::run(job, &samples, &checkpoints, folder).await;
    let model = flow.stage(Stage::Train, &digest, learned, None).await?;
    if model.is_some() {
        train::remove_checkpoints(job, &checkpoints).await;
    }
    let Some(model) = model else { return Ok(flow.outcome("the model is trained")) };

    let digest = digests::embed(&job.config, &digest);
    let embeddings =
        flow.stage(Stage::Embed, &digest, async |folder| embed::run(job, &samples, &model, folder).await, None).await?;
    let Some(embeddings) = embeddings else { return Ok(flow.outcome("the item vectors are written")) };

    let digest = digests::index(&job.config, &digest);
    let built = async |folder: &str| index::run(job, &samples, &model, &embeddings, folder).await;
    let Some(item_index) = flow.stage(Stage::Index, &digest, built, None).await? else {
        return Ok(flow.outcome("the index is built"));
    };

    let digest = digests::evaluate(&job.config, &digest);
    let measured = async |folder: &str| {
        let facts = evaluate::run(job, &samples, &model, &embeddings, &item_index).await?;
        let of = report::Subject { job, samples: &samples, model: &model, embeddings: &embeddings, index: &item_index };
        let files = report::write(&of, &facts, folder).await?;
        Ok(Written { files, facts })
    };
    let Some(evaluated) = flow.stage(Stage::Evaluate, &digest, measured, None).await? else {
        return Ok(flow.outcome("the candidate is measured"));
    };

    let digest = digests::publish(&job.config, &digest);
    let report = job.output.url_of(&format!("{}/{}", evaluated.folder, keys::REPORT_HTML));
    let facts = evaluated.record.facts.clone();
    let done = |flow: Flow, status: String, release: Option<Release>| Outcome {
        evaluation: Some(facts),
        report: Some(report),
        release,
        ..flow.outcome(&status)
    };
    if scope.last() < Stage::Publish {
        return Ok(done(flow, "the candidate is measured".into(), None));
    }
    let candidate = Candidate {
        digest: &digest,
        config_digest: digests::config(&job.config),
        sql_digest: plan.sql_digest.clone(),
        window: plan.window,
        samples: &samples,
        model: &model,
        embeddings: &embeddings,
        index: &item_index,
        evaluated: &evaluated,
        publish_older,
    };
    let started = Instant::now();
    let span = info_span!("stage", date = %job.date, run_id = %evaluated.record.run_id, stage = "publish");
    let published = publish::run(job, &candidate).instrument(span).await?;
    let skipped = matches!(published, Published::Before(_));
    flow.add(Stage::Publish, skipped, started);
    match published {
        Published::Now(release) => Ok(done(flow, "published".into(), Some(release))),
        Published::Before(release) => Ok(done(flow, "done before".into(), Some(release))),
        Published::Withheld(reason) => Ok(done(flow, format!("not published: {reason}"), None)),
    }
}

/// The stages so far of one date.
struct Flow<'a> {
    job: &'a Job,
    scope: Scope,
    stages: Vec<StageOutcome>,
    run_id: Option<String>,
}

impl Flow<'_> {
    /// Finds a stage's result or makes it; `None` when the scope ends before it. `fixed_folder` is for samples, which have a
    /// folder by digest and belong to no run.
    async fn stage<T: Serialize + DeserializeOwned>(
        &mut self,
        stage: Stage,
        digest: &str,
        body: impl AsyncFnOnce(&str) -> Result<Written<T>>,
        fixed_folder: Option<String>,
    ) -> Result<Option<Done<T>>> {
        if stage > self.scope.last() {
            return Ok(None);
        }
        self.job.stop.check()?;
        let (job, output) = (self.job, &self.job.output);
        let found = match &fixed_folder {
            Some(folder) => records::read(output, folder, digest).await?,
            None => records::find(output, job.date, stage, digest).await?,
        };
        if let Some(done) = found {
            if self.scope.may_run(stage) {
                info!(date = %job.date, stage = stage.name(), folder = done.folder, "done before for the same inputs, skipped");
                self.stages.push(StageOutcome { stage, skipped: true, seconds: 0.0, peak_memory: peak_memory() });
            }
            self.see(&done);
            return Ok(Some(done));
        }
        if !self.scope.may_run(stage) {
            return Err(Error::config(format!(
                "{stage} has not been run for {} with these inputs and this config; run `twotower {stage}` first, or `twotower run` for everything",
                job.date
            )));
        }
        let started = Instant::now();
        let fixed = fixed_folder.clone();
        let (run_id, folder) = match fixed_folder {
            Some(folder) => (String::new(), folder),
            None => records::place(job, stage, self.run_id.as_deref()).await?,
        };
        let span = info_span!("stage", date = %job.date, run_id = %run_id, stage = stage.name());
        let done = async {
            info!(folder, "started");
            let written = match body(&folder).await.while_(|| format!("running {stage} for {}", job.date)) {
                Err(error) if error.kind != Kind::Terminated && fixed.is_none() => {
                    // a run beside this one that was first has removed the checkpoints of both
                    let Some(done) = records::find(output, job.date, stage, digest).await? else { return Err(error) };
                    info!("failed, but another run has finished this stage for the same inputs; its result is taken: {error}");
                    return Ok(done);
                }
                written => written?,
            };
            let measured = Measured { seconds: started.elapsed().as_secs_f64(), peak_memory: peak_memory() };
            let done = records::commit(output, stage, &folder, &run_id, digest, written, measured).await?;
            info!(seconds = measured.seconds, peak_memory_mib = measured.peak_memory >> 20, "finished");
            Ok::<_, Error>(done)
        }
        .instrument(span)
        .await?;
        self.see(&done);
        self.add(stage, false, started);
        Ok(Some(done))
    }

    /// The newest stage decides which run the next one belongs to.
    fn see<T>(&mut self, done: &Done<T>) {
        if !done.record.run_id.is_empty() {
            self.run_id = Some(done.record.run_id.clone());
        }
    }

    fn add(&mut self, stage: Stage, skipped: bool, started: Instant) {
        let seconds = started.elapsed().as_secs_f64();
        self.stages.push(StageOutcome { stage, skipped, seconds, peak_memory: peak_memory() });
    }

    fn outcome(self, status: &str) -> Outcome {
        let before = !self.stages.is_empty() && self.stages.iter().all(|stage| stage.skipped);
        Outcome {
            date: self.job.date,
            run_id: self.run_id,
            stages: self.stages,
            evaluation: None,
            release: None,
            status: if before && !status.starts_with("not published") { "done before".into() } else { status.into() },
            report: None,
        }
    }
}

impl Outcome {
    /// The summary for schedulers: one line of JSON, well below 4 KiB.
    pub fn summary(&self) -> Value {
        let stages: serde_json::Map<String, Value> = self
            .stages
            .iter()
            .map(|s| {
                let value = if s.skipped { json!("skipped") } else { json!((s.seconds * 100.0).round() / 100.0) };
                (s.stage.name().to_string(), value)
            })
            .collect();
        let at = |metrics: &crate::artifacts::Metrics| {
            let values =
                metrics.at.iter().map(|(k, at)| (format!("recall@{k}"), json!((at.recall * 1e4).round() / 1e4)));
            Value::Object(values.collect())
        };
        json!({
            "status": self.status,
            "date": self.date,
            "run_id": self.run_id,
            "release": self.release.as_ref().map(|r| r.release),
            "items": self.release.as_ref().map(|r| r.items),
            "recall": self.evaluation.as_ref().map(|e| at(&e.exact)),
            "popularity": self.evaluation.as_ref().map(|e| at(&e.popularity)),
            "stages": stages,
            "report": self.report,
        })
    }
}

/// Largest resident set of this process so far, in bytes.
fn peak_memory() -> u64 {
    // SAFETY: getrusage fills the struct it is given and has no other effect
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    // Linux counts in KiB, macOS in bytes
    usage.ru_maxrss as u64 * if cfg!(target_os = "macos") { 1 } else { 1024 }
}
