//! From a candidate to a release: gates, then one create-if-absent object. Data first, manifest last.

mod commit;
mod diff;
mod drift;
mod gates;
mod gc;
mod lineage;
mod releases;
#[cfg(test)]
mod tests;

use chrono::Utc;
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::artifacts::{
    Digests, Done, Embeddings, Evaluated, Forced, GateResult, ItemIndex, Metrics, Publication, Release, RunDate,
    SCHEMA_VERSION, SampleSet, Start, TrainedModel, keys,
};
use crate::error::{Error, Kind, Result};
use crate::job::Job;
use crate::storage::{FileEntry, Lease, Store, seal, user_and_host};

use commit::commit;

pub use diff::{Difference, diff};
pub use drift::between as drift_between;
pub use gc::{Folder, Garbage, condemned, finish_removals, garbage, gc, rollback};
pub use lineage::{Lineage, Made, lineage};
pub use releases::{Fault, find, list, newest, newest_ones, verify};

/// Everything that is published together.
pub struct Candidate<'a> {
    pub digest: &'a str,
    /// Those of the stages behind it.
    pub digests: Digests,
    pub start: &'a Start,
    pub config_digest: String,
    /// The settings that it depends on.
    pub settings: Value,
    pub sql_digest: String,
    /// First and last day of data in the samples.
    pub window: (RunDate, RunDate),
    pub samples: &'a SampleSet,
    pub model: &'a TrainedModel,
    pub embeddings: &'a Embeddings,
    pub index: &'a ItemIndex,
    pub evaluated: &'a Evaluated,
    pub how: &'a How,
}

/// How the candidate is to be published.
#[derive(Debug, Clone, Default)]
pub struct How {
    /// Although a release of a later date is published.
    pub older: bool,
    /// Although gates refuse it, for this reason.
    pub force: Option<String>,
}

impl Candidate<'_> {
    /// Every file of it.
    fn files(&self) -> impl Iterator<Item = &FileEntry> {
        let stages = [
            &self.samples.record.files,
            &self.model.record.files,
            &self.embeddings.record.files,
            &self.index.record.files,
            &self.evaluated.record.files,
        ];
        stages.into_iter().flatten()
    }
}

/// What became of a candidate.
pub enum Published {
    Now(Release),
    /// The same candidate is a release already.
    Before(Release),
    /// It passed its gates and was not made the newest release.
    Withheld(Box<Judged>),
}

/// A candidate that was held against the gates, and is not published yet.
pub struct Judged {
    /// As it would be published, with the number that it would ask for.
    pub release: Release,
    /// The release that readers take now.
    pub current: Option<Release>,
    pub ruling: Ruling,
}

/// What is to become of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Ruling {
    Publish,
    /// Not to be made the newest release, for this reason.
    Withhold(String),
    /// By gates, each in words.
    Refuse(Vec<String>),
}

impl std::fmt::Display for Ruling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ruling::Publish => f.write_str("published"),
            Ruling::Withhold(reason) => f.write_str(reason),
            Ruling::Refuse(gates) => f.write_str(&gates.join("; ")),
        }
    }
}

pub enum Judgement {
    New(Box<Judged>),
    /// The same candidate is a release already.
    Before(Box<Release>),
}

/// Holds the candidate against the gates; changes nothing.
///
/// # Errors
/// [`Kind::GateRefused`] when it is a release already, and the gates are others than then and refuse it.
pub async fn judge(job: &Job, lease: &Lease, candidate: &Candidate<'_>) -> Result<Judgement> {
    let output = &job.output;
    if let Some(before) = published_before(job, candidate).await? {
        info!(release = before.release, "this candidate is published already, skipped");
        return Ok(Judgement::Before(Box::new(before)));
    }
    let current = newest(output).await?;
    let mut release = describe(job, candidate);
    release.release = current.as_ref().map_or(0, |current| current.release) + 1;
    release.gates = gates::check(output, &job.config.gates, candidate, current.as_ref()).await?;
    release.publication = Publication {
        fence: lease.number(),
        by: user_and_host(),
        compared_with: current.as_ref().map(|release| release.release),
        gates_digest: gates::digest(&job.config.gates),
        ..Default::default()
    };
    let refused: Vec<String> = release.gates.iter().filter(|gate| !gate.passed).map(gates::in_words).collect();
    let newer = current.as_ref().filter(|current| current.date > job.date && !candidate.how.older);
    let withhold = || match newer {
        None => Ruling::Publish,
        Some(Release { release: number, date, .. }) => {
            Ruling::Withhold(format!("release {number} of {date} is newer; give --publish to make this one the newest"))
        }
    };
    let ruling = match &candidate.how.force {
        _ if refused.is_empty() => withhold(),
        Some(reason) => {
            warn!("published by force although {}", refused.join("; "));
            release.publication.forced = Some(Forced { gates: refused, reason: reason.clone() });
            withhold()
        }
        None => Ruling::Refuse(refused),
    };
    Ok(Judgement::New(Box::new(Judged { release, current, ruling })))
}

/// Publishes what was judged worth it, with its report's files.
///
/// # Errors
/// [`Kind::GateRefused`] with every gate that did not pass; the published release stays as it is.
pub async fn conclude(job: &Job, lease: &Lease, mut judged: Box<Judged>, report: Vec<FileEntry>) -> Result<Published> {
    let output = &job.output;
    judged.release.publication.report = report;
    let Judged { release, current, ruling } = &*judged;
    match ruling {
        Ruling::Publish => {}
        Ruling::Withhold(reason) => {
            warn!("not published: {reason}");
            // without a number it is no release, and a later day may go on from it
            let folder = keys::run(job.date, &release.run_id);
            let note = Release { release: 0, ..release.clone() };
            output.put(&format!("{folder}/{}", keys::MANIFEST), seal(&note)).await?;
            return Ok(Published::Withheld(judged));
        }
        Ruling::Refuse(gates) => {
            // it was given no number
            let mark = Release { release: 0, ..release.clone() };
            output.put(&keys::rejected(job.date, &release.run_id), seal(&mark)).await?;
            let stays = current.as_ref().map_or("nothing is published yet".into(), |current| {
                format!("release {} stays published", current.release)
            });
            return Err(refusal(job, release, gates, &stays));
        }
    }
    // noted before the number is asked for, so that a rerun finds out whether it was given
    let folder = keys::run(job.date, &release.run_id);
    output.put(&format!("{folder}/{}", keys::MANIFEST), seal(&release)).await?;
    job.stop.check()?;
    let release = commit(output, lease, judged.release).await?;
    if let Err(error) = output.delete(&keys::rejected(job.date, &release.run_id)).await {
        warn!("the release is published, only its mark as refused could not be removed: {error}");
    }
    Ok(Published::Now(release))
}

/// The release that this candidate is already. It is held against the gates again when they are others than then.
async fn published_before(job: &Job, candidate: &Candidate<'_>) -> Result<Option<Release>> {
    let output = &job.output;
    let Some(note) = releases::note(output, job.date, &candidate.evaluated.record.run_id).await? else {
        return Ok(None);
    };
    let found = find(output, note.release).await?;
    let same = |found: &Release| found.run_id == note.run_id && found.inputs_digest == candidate.digest;
    let Some(before) = found.filter(same) else { return Ok(None) };
    if before.publication.gates_digest == gates::digest(&job.config.gates) || candidate.how.force.is_some() {
        return Ok(Some(before));
    }
    let compared_with = match before.publication.compared_with {
        Some(number) => find(output, number).await?,
        None => None,
    };
    let results = gates::check(output, &job.config.gates, candidate, compared_with.as_ref()).await?;
    let forced = |gate: &GateResult| {
        let forced = before.publication.forced.as_ref();
        forced.is_some_and(|forced| forced.gates.iter().any(|words| words.starts_with(&format!("{} ", gate.name))))
    };
    let refused = results.iter().filter(|gate| !gate.passed && !forced(gate));
    let refused: Vec<String> = refused.map(gates::in_words).collect();
    if refused.is_empty() {
        return Ok(Some(before));
    }
    let stays = format!(
        "it is release {} already, published under other gates; `twotower release rollback` takes it back",
        before.release
    );
    Err(refusal(job, &before, &refused, &stays))
}

fn refusal(job: &Job, release: &Release, gates: &[String], stays: &str) -> Error {
    let report = job.output.url_of(release.report_page());
    Error::new(Kind::GateRefused, format!("the candidate was refused, {stays}: {}; look at {report}", gates.join("; ")))
}

fn describe(job: &Job, candidate: &Candidate<'_>) -> Release {
    let Candidate { samples, model, embeddings, index, evaluated, .. } = candidate;
    let facts = &index.record.facts;
    Release {
        schema_version: SCHEMA_VERSION,
        release: 0,
        name: job.config.name.clone(),
        run_id: evaluated.record.run_id.clone(),
        date: job.date,
        created: Utc::now(),
        parent: candidate.start.parent.as_ref().and_then(|parent| parent.release),
        started_from: candidate.start.parent.clone(),
        rollback_of: None,
        data_window: candidate.window,
        config_digest: candidate.config_digest.clone(),
        settings: candidate.settings.clone(),
        sql_digest: candidate.sql_digest.clone(),
        inputs_digest: candidate.digest.to_string(),
        digests: candidate.digests.clone(),
        dim: facts.dim,
        metric: facts.metric.clone(),
        items: facts.items,
        user_id_type: samples.record.facts.user_id_type,
        item_id_type: samples.record.facts.item_id_type,
        index_factory: facts.factory.clone(),
        search_parameters: facts.parameters.clone(),
        samples: folder(samples),
        model: folder(model),
        embeddings: folder(embeddings),
        index: folder(index),
        report: folder(evaluated),
        files: candidate.files().cloned().collect(),
        metrics: metrics(candidate),
        gates: Vec::new(),
        publication: Publication::default(),
    }
}

fn folder<T>(done: &Done<T>) -> String {
    done.folder.clone()
}

fn metrics(candidate: &Candidate<'_>) -> Value {
    let facts = &candidate.evaluated.record.facts;
    let of = |metrics: &Metrics| json!(metrics.at);
    json!({
        "users": facts.users,
        "targets": facts.targets,
        "exact": of(&facts.exact),
        "indexed": of(&facts.indexed),
        "popularity": of(&facts.popularity),
        "among_candidates": facts.among_candidates,
        "index_recall": candidate.index.record.facts.recall,
        "validation_recall": candidate.model.record.facts.best_recall,
        "positives": candidate.samples.record.facts.tables.get("positives").map(|t| t.rows),
    })
}

/// The release that readers take now.
pub async fn current(output: &Store) -> Result<Release> {
    newest(output)
        .await?
        .ok_or_else(|| Error::config(format!("nothing is published below {}; run `twotower run` first", output.url())))
}
