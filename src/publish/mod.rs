//! From a candidate to a release: gates, then one create-if-absent object. Data first, manifest last.

mod gates;
mod releases;

use chrono::Utc;
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::artifacts::{
    Done, Embeddings, Evaluated, ItemIndex, Metrics, Release, RunDate, SCHEMA_VERSION, SampleSet, TrainedModel, keys,
};
use crate::error::{Error, Kind, Result};
use crate::job::Job;
use crate::storage::{Created, FileEntry, Store};

pub use releases::{Fault, list, newest, read, verify};

/// Everything that is published together.
pub struct Candidate<'a> {
    pub digest: &'a str,
    pub config_digest: String,
    pub sql_digest: String,
    /// First and last day of data in the samples.
    pub window: (RunDate, RunDate),
    pub samples: &'a SampleSet,
    pub model: &'a TrainedModel,
    pub embeddings: &'a Embeddings,
    pub index: &'a ItemIndex,
    pub evaluated: &'a Evaluated,
    /// Publish although a release of a later date is out.
    pub publish_older: bool,
}

/// What became of a candidate.
pub enum Published {
    Now(Release),
    /// The same candidate is a release already.
    Before(Release),
    /// It passed its gates and was not made the newest release, for this reason.
    Withheld(String),
}

/// Holds the candidate against the gates and publishes it.
///
/// # Errors
/// [`Kind::GateRefused`] with every gate that did not pass; the published release stays as it is.
pub async fn run(job: &Job, candidate: &Candidate<'_>) -> Result<Published> {
    let releases = list(&job.output).await?;
    if let Some(before) = releases.iter().rev().find(|release| release.inputs_digest == candidate.digest) {
        info!(release = before.release, "this candidate is published already, skipped");
        return Ok(Published::Before(before.clone()));
    }
    let current = releases.last();
    let gates = gates::check(&job.config.gates, candidate, current);
    let release = describe(job, candidate, gates);
    let folder = keys::run(job.date, &release.run_id);
    let text = to_json(&release);
    job.output.put(&format!("{folder}/{}", keys::MANIFEST), text).await?;

    let refused: Vec<String> = release.gates.iter().filter(|gate| !gate.passed).map(gates::in_words).collect();
    if !refused.is_empty() {
        let published =
            current.map_or("nothing is published yet".into(), |r| format!("release {} stays published", r.release));
        return Err(Error::new(
            Kind::GateRefused,
            format!(
                "the candidate was refused, {published}: {}; look at {}",
                refused.join("; "),
                job.output.url_of(&candidate.evaluated.folder)
            ),
        ));
    }
    if let Some(later) = releases.iter().rev().find(|release| release.date > job.date)
        && !candidate.publish_older
    {
        let reason =
            format!("release {} of {} is newer; give --publish to make this one the newest", later.release, later.date);
        warn!("not published: {reason}");
        return Ok(Published::Withheld(reason));
    }
    commit(job, release, current.map_or(0, |r| r.release)).await
}

/// Takes the next free number. A number that someone else took first is read back: the store may have repeated our own write.
async fn commit(job: &Job, mut release: Release, newest: u64) -> Result<Published> {
    release.release = newest + 1;
    loop {
        job.stop.check()?;
        let created = job.output.put_new(&keys::release(release.release), to_json(&release)).await;
        match created {
            Ok(Created::Yes) => break,
            Ok(Created::AlreadyThere) | Err(_) => match read(&job.output, release.release).await? {
                Some(found) if found.run_id == release.run_id && found.inputs_digest == release.inputs_digest => break,
                Some(found) if found.inputs_digest == release.inputs_digest => return Ok(Published::Before(found)),
                Some(_) => release.release += 1,
                None => {
                    created?;
                    release.release += 1;
                }
            },
        }
    }
    // a convenience for people; readers go by the numbers, so that a failure here loses nothing
    if let Err(error) = job.output.put(keys::LATEST, to_json(&release)).await {
        warn!("the release is published, only {} could not be written: {error}", keys::LATEST);
    }
    info!(release = release.release, items = release.items, "published");
    Ok(Published::Now(release))
}

fn describe(job: &Job, candidate: &Candidate<'_>, gates: Vec<crate::artifacts::GateResult>) -> Release {
    let Candidate { samples, model, embeddings, index, evaluated, .. } = candidate;
    let mut files: Vec<FileEntry> = samples.record.files.clone();
    files.extend(model.record.files.iter().cloned());
    files.extend(embeddings.record.files.iter().cloned());
    files.extend(index.record.files.iter().cloned());
    files.extend(evaluated.record.files.iter().cloned());
    let facts = &index.record.facts;
    Release {
        schema_version: SCHEMA_VERSION,
        release: 0,
        name: job.config.name.clone(),
        run_id: evaluated.record.run_id.clone(),
        date: job.date,
        created: Utc::now(),
        parent: None,
        rollback_of: None,
        data_window: candidate.window,
        config_digest: candidate.config_digest.clone(),
        sql_digest: candidate.sql_digest.clone(),
        inputs_digest: candidate.digest.to_string(),
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
        files,
        metrics: metrics(candidate),
        gates,
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
        "index_recall": candidate.index.record.facts.recall,
        "validation_recall": candidate.model.record.facts.best_recall,
        "positives": candidate.samples.record.facts.tables.get("positives").map(|t| t.rows),
    })
}

fn to_json(release: &Release) -> String {
    serde_json::to_string_pretty(release).expect("a release is JSON") + "\n"
}

/// The release that readers take now.
pub async fn current(output: &Store) -> Result<Release> {
    newest(output)
        .await?
        .ok_or_else(|| Error::config(format!("nothing is published below {}; run `twotower run` first", output.url())))
}
