//! What the stages of a date have left in the output.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::{StreamExt, TryStreamExt};
use serde_json::Value;

use super::day::Draft;
use crate::artifacts::{RunDate, SampleFacts, StageRecord, keys};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::pipeline::{Stage, records};
use crate::storage::{Store, unseal};

/// Manifests of one date that are read at once.
const AT_ONCE: usize = 8;

/// Which dates have anything in the output, from one listing each.
pub(super) struct Output {
    samples: BTreeSet<RunDate>,
    /// Runs that did not come to their end.
    begun: BTreeMap<RunDate, Vec<String>>,
    /// Candidates that a gate refused.
    refused: HashMap<RunDate, Vec<String>>,
}

/// What is finished of one date.
#[derive(Default)]
pub(super) struct Left {
    pub finished: BTreeSet<(Stage, String)>,
    /// What its candidate's samples, or else the newest ones, were made from.
    pub samples: Option<SampleFacts>,
    /// Where the word on a refused candidate lies.
    pub refused: Option<String>,
    has_candidate: bool,
}

impl Left {
    /// Whether there is a result of `stage`, of whatever inputs.
    pub fn has_result(&self, stage: Stage) -> bool {
        match stage {
            Stage::Publish => self.has_candidate,
            stage => self.finished.iter().any(|(finished, _)| *finished == stage),
        }
    }
}

impl Output {
    pub async fn list(output: &Store, begun: BTreeMap<RunDate, Vec<String>>) -> Result<Output> {
        let (folders, _) = output.list_level(keys::SAMPLES).await?;
        let samples = folders.iter().filter_map(|folder| folder.strip_prefix("dt=")?.parse().ok()).collect();
        let mut refused: HashMap<RunDate, Vec<String>> = HashMap::new();
        for object in output.list(keys::REJECTED).await? {
            let date = object.key.split('/').nth(1).and_then(|folder| folder.strip_prefix("dt=")?.parse().ok());
            if let Some(date) = date {
                refused.entry(date).or_default().push(object.key);
            }
        }
        Ok(Output { samples, begun, refused })
    }

    /// What the stages of a date that is not done have left.
    pub async fn left(&self, job: &Job, draft: &Draft<'_>) -> Result<Left> {
        let mut left = Left { has_candidate: draft.candidate.is_some(), ..Left::default() };
        let runs = self.begun.get(&draft.date).map(Vec::as_slice).unwrap_or_default();
        left.finished = finished(&job.output, draft, runs).await?;
        if self.samples.contains(&draft.date) {
            self.samples(job, draft, &mut left).await?;
        }
        if let Some(refused) = self.refused.get(&draft.date) {
            let places: Vec<String> = refused.iter().map(|key| job.output.url_of(key)).collect();
            left.refused = Some(format!("a gate refused it: {}", super::day::first_of(&places, "more")));
        }
        Ok(left)
    }

    async fn samples(&self, job: &Job, draft: &Draft<'_>, left: &mut Left) -> Result<()> {
        let output = &job.output;
        let manifest = draft.candidate.and_then(|candidate| candidate.manifest.as_ref());
        // the folder of a candidate's samples tells whether they are those of now
        let same = |digest: &str| {
            manifest.is_some_and(|manifest| manifest.samples.starts_with(&keys::samples(draft.date, digest)))
        };
        if let Some(digest) = draft.samples_digest().filter(|digest| !same(digest))
            && let Some(done) = records::noted::<SampleFacts>(output, draft.date, Stage::Samples, digest).await?
        {
            left.finished.insert((Stage::Samples, digest.to_string()));
            left.samples = Some(done.record.facts);
        }
        let folder = match manifest {
            Some(manifest) => Some(manifest.samples.clone()),
            None if left.samples.is_none() => newest_attempt(output, draft.date).await?,
            None => None,
        };
        let Some(folder) = folder else { return Ok(()) };
        // one that is gone or of another version tells nothing
        let bytes = output.get(&format!("{folder}/{}", keys::MANIFEST)).await?;
        let record = bytes.and_then(|bytes| unseal::<StageRecord<SampleFacts>>(&bytes).ok());
        if let Some(record) = record {
            left.finished.insert((Stage::Samples, record.inputs_digest));
            left.samples = Some(record.facts);
        }
        Ok(())
    }
}

/// The stages of all runs of a date, with their digests: of candidates by what they say of themselves, of `runs` by the manifests.
async fn finished(output: &Store, draft: &Draft<'_>, runs: &[String]) -> Result<BTreeSet<(Stage, String)>> {
    let mut known = BTreeSet::new();
    let mut places: Vec<(Stage, String)> = Vec::new();
    for made in &draft.own {
        let digests = &made.as_parent.digests;
        known.insert((Stage::Train, digests.model.clone()));
        known.insert((Stage::Embed, digests.embeddings.clone()));
        known.insert((Stage::Index, digests.index.clone()));
        // what comes after the index is asked for where that is the same
        if draft.index_digest() == Some(&digests.index) {
            places.push((Stage::Evaluate, records::stage_folder(draft.date, &made.as_parent.run_id, Stage::Evaluate)));
        }
    }
    let stages = [Stage::Train, Stage::Embed, Stage::Index, Stage::Evaluate];
    let all = |run_id: &String| stages.map(|stage| (stage, records::stage_folder(draft.date, run_id, stage)));
    places.extend(runs.iter().flat_map(all));
    let read: Vec<(Stage, String)> = futures::stream::iter(places)
        .map(|(stage, folder)| async move {
            let manifest = output.get(&format!("{folder}/{}", keys::MANIFEST)).await?;
            let value = manifest.and_then(|bytes| unseal::<Value>(&bytes).ok());
            Ok::<_, Error>(value.and_then(|value| Some((stage, value["inputs_digest"].as_str()?.to_string()))))
        })
        .buffer_unordered(AT_ONCE)
        .try_filter_map(async |found| Ok(found))
        .try_collect()
        .await?;
    known.extend(read);
    Ok(known)
}

/// The newest attempt at any samples of a date.
async fn newest_attempt(output: &Store, date: RunDate) -> Result<Option<String>> {
    let above = format!("{}/dt={date}", keys::SAMPLES);
    let mut newest: Option<(String, String)> = None;
    for digest in output.list_level(&above).await?.0 {
        let (attempts, _) = output.list_level(&format!("{above}/{digest}")).await?;
        if let Some(attempt) = attempts.into_iter().next_back() {
            newest = newest.max(Some((attempt.clone(), format!("{above}/{digest}/{attempt}"))));
        }
    }
    Ok(newest.map(|(_, folder)| folder))
}
