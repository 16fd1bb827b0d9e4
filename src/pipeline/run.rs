//! One date: every stage in turn, skipping those that were done before for the same inputs.

use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::{Instrument, error_span, info, warn};

use super::{Scope, Stage, digests, parent, records};
use crate::artifacts::{Counted, Digests, Done, EvaluateFacts, Measured, Release, SampleSet, Start, Written, keys};
use crate::error::{Context, Error, Kind, Result};
use crate::job::Job;
use crate::progress::{available, count, peak};
use crate::publish::{self, Candidate, How, Judgement, Published};
use crate::recommend::LastRelease;
use crate::samples::SamplePlan;
use crate::storage::{Holder, Lease};
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
    /// What it made or went through: how many, and of what.
    pub rows: (u64, &'static str),
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

/// Runs the stages in `scope` for the job's date: samples beside whoever else is at work, the others as the only writer to the
/// output.
///
/// Log lines carry the date and, within a stage, the run. The spans are of the highest level, so that a warning has them at any
/// verbosity.
pub async fn run(job: &Job, scope: Scope, how: &How) -> Result<Outcome> {
    let span = error_span!("job", date = %job.date);
    stages(job, scope, how).instrument(span).await
}

async fn stages(job: &Job, scope: Scope, how: &How) -> Result<Outcome> {
    let plan = samples::plan(job, &LastRelease::shared()).await?;
    job.progress.expect_stages(scope.count());
    let mut flow = Flow { job, lease: None, scope, stages: Vec::new(), run_id: None };
    // an attempt has a folder of its own, and two of them are both good: no lease, so that dates are sampled side by side
    flow.samples(&plan).await?;
    if scope.last() == Stage::Samples {
        return Ok(flow.ended());
    }
    let holder = Holder::new(&format!("running {} for {}", scope.last(), job.date), job.config.lease.ttl.0);
    let leases = job.output.folder(keys::LEASES);
    let lease = Lease::take(&leases, &holder, job.config.lease.wait.0, || job.stop.check()).await?;
    flow.lease = Some(&lease);
    let outcome = match under_lease(job, &lease, flow, &plan, how).await {
        // who lost the lease may have seen files go that another removed: not the fault of data or config
        Err(error) if error.kind == Kind::Config => Err(match lease.check().await {
            Err(lost) => lost.caused_by(error),
            Ok(()) => error,
        }),
        outcome => outcome,
    };
    lease.release().await;
    outcome
}

async fn under_lease(job: &Job, lease: &Lease, mut flow: Flow<'_>, plan: &SamplePlan, how: &How) -> Result<Outcome> {
    publish::finish_removals(&job.output, lease, &job.config.retention).await?;
    let scope = flow.scope;

    // again: gc may have removed old ones while the lease was waited for
    let Some(samples) = flow.samples(plan).await? else { return Ok(flow.ended()) };

    let (start, digest) = parent::find(job, &plan.digest).await?;
    let mut digests_made = Digests { model: digest.clone(), ..Digests::default() };
    let checkpoints = keys::checkpoints(job.date, &digest);
    let learned = async |folder: &str| {
        let late = parent::late(job, &start, &samples).await?;
        if !late.is_empty() {
            warn!(
                partitions = late.join(", "),
                "rows came late for days that the parent was taught, and are not learned: `twotower plan` names the stale dates, `backfill --stale` runs them again"
            );
        }
        let start = Start { late, ..start.clone() };
        train::run(job, &samples, &start, &checkpoints, folder).await
    };
    let model = flow.stage(Stage::Train, &digest, learned).await?;
    if model.is_some() {
        train::remove_checkpoints(job, &checkpoints).await;
    }
    let Some(model) = model else { return Ok(flow.ended()) };

    let digest = digests::embed(&job.config, &digest, &start);
    digests_made.embeddings.clone_from(&digest);
    let embeddings = flow
        .stage(Stage::Embed, &digest, async |folder| embed::run(job, &samples, &model, &start, folder).await)
        .await?;
    let Some(embeddings) = embeddings else { return Ok(flow.ended()) };

    let digest = digests::index(&job.config, &digest, &start);
    digests_made.index.clone_from(&digest);
    let built = async |folder: &str| index::run(job, &samples, &model, &embeddings, &start, folder).await;
    let Some(item_index) = flow.stage(Stage::Index, &digest, built).await? else {
        return Ok(flow.ended());
    };

    let digest = digests::evaluate(&job.config, &digest);
    let measured = async |folder: &str| {
        let evaluation = evaluate::run(job, &samples, &model, &embeddings, &item_index).await?;
        let portrait = serde_json::to_string(&evaluation.portrait).expect("a portrait is JSON") + "\n";
        let file = job.output.put_file(format!("{folder}/{}", keys::PORTRAIT), portrait, None).await?;
        Ok(Written { files: vec![file], facts: evaluation.facts })
    };
    let Some(evaluated) = flow.stage(Stage::Evaluate, &digest, measured).await? else {
        return Ok(flow.ended());
    };

    let digest = digests::publish(&job.config, &digest);
    let facts = evaluated.record.facts.clone();
    if scope.last() < Stage::Publish {
        return Ok(Outcome { evaluation: Some(facts), ..flow.ended() });
    }
    let candidate = Candidate {
        digest: &digest,
        digests: digests_made,
        start: &start,
        config_digest: digests::config(&job.config),
        settings: digests::settings(&job.config),
        sql_digest: plan.sql_digest.clone(),
        window: plan.window,
        samples: &samples,
        model: &model,
        embeddings: &embeddings,
        index: &item_index,
        evaluated: &evaluated,
        how,
    };
    let started = Instant::now();
    let line = job.progress.stage(Stage::Publish.name(), available());
    let span = error_span!("stage", run_id = %evaluated.record.run_id, stage = Stage::Publish.name());
    let published = judge_and_publish(job, lease, &candidate).instrument(span).await?;
    let skipped = matches!(published, Published::Before(_));
    let rows = match &published {
        Published::Now(release) | Published::Before(release) => (release.items, "items"),
        Published::Withheld(_) => (0, "items"),
    };
    line.done(match &published {
        Published::Now(_) => "published",
        Published::Before(_) => "done before",
        Published::Withheld(_) => "not published",
    });
    flow.add(Stage::Publish, skipped, started, rows);
    let (status, judged, release) = match published {
        Published::Now(release) => ("published".to_string(), release.clone(), Some(release)),
        Published::Before(release) => ("done before".into(), release.clone(), Some(release)),
        Published::Withheld(judged) => (format!("not published: {}", judged.ruling), judged.release, None),
    };
    let report = Some(job.output.url_of(judged.report_page()));
    Ok(Outcome { evaluation: Some(facts), report, release, ..flow.outcome(&status) })
}

async fn judge_and_publish(job: &Job, lease: &Lease, candidate: &Candidate<'_>) -> Result<Published> {
    match publish::judge(job, lease, candidate).await? {
        Judgement::Before(release) => Ok(Published::Before(*release)),
        Judgement::New(judged) => {
            let files = report::write(job, candidate, &judged).await?;
            publish::conclude(job, lease, judged, files).await
        }
    }
}

/// The stages so far of one date.
struct Flow<'a> {
    job: &'a Job,
    /// Held by all stages but samples.
    lease: Option<&'a Lease>,
    scope: Scope,
    stages: Vec<StageOutcome>,
    run_id: Option<String>,
}

impl Flow<'_> {
    async fn samples(&mut self, plan: &SamplePlan) -> Result<Option<SampleSet>> {
        let job = self.job;
        self.stage(Stage::Samples, &plan.digest, async |folder| samples::run(job, plan, folder).await).await
    }

    /// Finds a stage's result or makes it; `None` when the scope ends before it.
    async fn stage<T: Serialize + DeserializeOwned + Counted>(
        &mut self,
        stage: Stage,
        digest: &str,
        body: impl AsyncFnOnce(&str) -> Result<Written<T>>,
    ) -> Result<Option<Done<T>>> {
        if stage > self.scope.last() {
            return Ok(None);
        }
        self.job.stop.check()?;
        let (job, output) = (self.job, &self.job.output);
        let told = self.stages.iter().any(|outcome| outcome.stage == stage);
        let again = self.scope.is_again(stage) && !told;
        if !again && let Some(done) = records::find::<T>(output, job.date, stage, digest).await? {
            if self.scope.may_run(stage) && !told {
                info!(stage = stage.name(), folder = done.folder, "done before for the same inputs, skipped");
                job.progress.stage(stage.name(), None).done("done before for the same inputs");
                let rows = done.record.facts.rows();
                self.stages.push(StageOutcome { stage, skipped: true, seconds: 0.0, peak_memory: peak(), rows });
                job.progress.stage_done();
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
        let (run_id, folder) = records::place(job, stage, digest, self.run_id.as_deref()).await?;
        // samples belong to no run: their attempt stands for it in the log
        let shown = if run_id.is_empty() { folder.rsplit('/').next().unwrap_or_default() } else { &run_id };
        let span = error_span!("stage", run_id = %shown, stage = stage.name());
        let limit = match stage {
            Stage::Samples => Some((job.config.samples.memory.bytes() as u64, "samples.memory")),
            _ => available(),
        };
        let line = job.progress.stage(stage.name(), limit);
        let done = async {
            info!(folder, "started");
            let written = body(&folder).await.while_(|| format!("running {stage} for {}", job.date))?;
            let measured = Measured { seconds: started.elapsed().as_secs_f64(), peak_memory: peak() };
            let at = records::Place { stage, folder: &folder, run_id: &run_id, digest };
            let done = records::commit(output, self.lease, &at, written, measured).await?;
            info!(seconds = measured.seconds, peak_memory_mib = measured.peak_memory >> 20, "finished");
            Ok::<_, Error>(done)
        }
        .instrument(span)
        .await?;
        self.see(&done);
        let (rows, of) = done.record.facts.rows();
        line.done(&format!("{} {of}", count(rows)));
        self.add(stage, false, started, (rows, of));
        Ok(Some(done))
    }

    /// The newest stage decides which run the next one belongs to.
    fn see<T>(&mut self, done: &Done<T>) {
        if !done.record.run_id.is_empty() {
            self.run_id = Some(done.record.run_id.clone());
        }
    }

    fn add(&mut self, stage: Stage, skipped: bool, started: Instant, rows: (u64, &'static str)) {
        let seconds = started.elapsed().as_secs_f64();
        let told = self.stages.len();
        self.stages.retain(|outcome| outcome.stage != stage);
        if told == self.stages.len() {
            self.job.progress.stage_done();
        }
        self.stages.push(StageOutcome { stage, skipped, seconds, peak_memory: peak(), rows });
    }

    /// What there is when the scope ends before publication.
    fn ended(self) -> Outcome {
        let status = match self.scope.last() {
            Stage::Samples => "samples are built",
            Stage::Train => "the model is trained",
            Stage::Embed => "the item vectors are written",
            Stage::Index => "the index is built",
            Stage::Evaluate | Stage::Publish => "the candidate is measured",
        };
        self.outcome(status)
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
    /// Of all stages that were run.
    pub fn seconds(&self) -> f64 {
        self.stages.iter().map(|stage| stage.seconds).sum()
    }

    /// With the stages of `earlier`, which was the same date's, in the place of what was found of them.
    pub fn after(mut self, earlier: Option<Outcome>) -> Outcome {
        let earlier = earlier.map(|earlier| earlier.stages).unwrap_or_default();
        self.stages.retain(|stage| !earlier.iter().any(|before| before.stage == stage.stage));
        self.stages.splice(0..0, earlier);
        self
    }

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
