//! Manifests of finished stages: found again by the digest of their inputs, and written last.

use chrono::Utc;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Stage;
use crate::artifacts::{Done, Measured, RunDate, SCHEMA_VERSION, StageRecord, Written, keys};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::storage::{Created, Lease, Store, sha256_hex, user_and_host};

/// Claims a stage's folder for one attempt.
const STARTED: &str = "started.json";

/// Folder of a stage inside a run.
fn folder_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Samples | Stage::Publish => unreachable!("these two do not live in a run's folder"),
        Stage::Train => keys::MODEL,
        Stage::Embed => keys::EMBEDDINGS,
        Stage::Index => keys::INDEX,
        Stage::Evaluate => keys::REPORT,
    }
}

/// The manifest in `folder`, when the stage there is finished and came from these inputs.
async fn read<T: DeserializeOwned>(output: &Store, folder: &str, digest: &str) -> Result<Option<Done<T>>> {
    let key = format!("{folder}/{}", keys::MANIFEST);
    let Some(bytes) = output.get(&key).await? else { return Ok(None) };
    let broken = |text: String| {
        Error::config(format!(
            "{} is not a readable manifest: {text}; remove it to run its stage again",
            output.url_of(&key)
        ))
    };
    // looked at as plain JSON first: another stage version's facts need not parse
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
    if value["inputs_digest"] != digest {
        return Ok(None);
    }
    if value["schema_version"].as_u64() > Some(SCHEMA_VERSION.into()) {
        return Err(broken(format!(
            "its schema version is {}, this program knows {SCHEMA_VERSION}; update the program",
            value["schema_version"]
        )));
    }
    let record: StageRecord<T> = serde_json::from_value(value).map_err(|error| broken(error.to_string()))?;
    Ok(Some(Done { folder: folder.to_string(), record }))
}

/// A finished stage with this digest in any run of the date, or in any attempt at its samples.
pub async fn find<T: DeserializeOwned>(
    output: &Store,
    date: RunDate,
    stage: Stage,
    digest: &str,
) -> Result<Option<Done<T>>> {
    let above = if stage == Stage::Samples { keys::samples(date, digest) } else { keys::runs(date) };
    let (attempts, _) = output.list_level(&above).await?;
    for attempt in attempts {
        let folder = match stage {
            Stage::Samples => format!("{above}/{attempt}"),
            _ => format!("{above}/{attempt}/{}", folder_name(stage)),
        };
        if let Some(done) = read(output, &folder, digest).await? {
            return Ok(Some(done));
        }
    }
    Ok(None)
}

/// Run id and folder for a stage's result: beside what it is made from, or else in a new run. No two attempts share a folder, whatever
/// became of the first: a writer that stalled cannot change what another one finished.
pub async fn place(job: &Job, stage: Stage, digest: &str, beside: Option<&str>) -> Result<(String, String)> {
    if stage == Stage::Samples {
        // belongs to no run: other runs of the date may use it
        return Ok((String::new(), format!("{}/{}", keys::samples(job.date, digest), new_run_id())));
    }
    let folder = |run_id: &str| format!("{}/{}", keys::run(job.date, run_id), folder_name(stage));
    if let Some(run_id) = beside {
        let folder = folder(run_id);
        let text = serde_json::json!({ "inputs_digest": digest, "by": user_and_host() }).to_string();
        if job.output.put_new(&format!("{folder}/{STARTED}"), text + "\n").await? == Created::Yes {
            return Ok((run_id.to_string(), folder));
        }
    }
    let run_id = new_run_id();
    let folder = folder(&run_id);
    Ok((run_id, folder))
}

/// Which result of which stage lies where.
pub struct Place<'a> {
    pub stage: Stage,
    pub folder: &'a str,
    pub run_id: &'a str,
    pub digest: &'a str,
}

/// Writes a stage's manifest, which makes it count, if the lease is still held.
pub async fn commit<T: Serialize>(
    output: &Store,
    lease: &Lease,
    at: &Place<'_>,
    written: Written<T>,
    measured: Measured,
) -> Result<Done<T>> {
    let record = StageRecord {
        schema_version: SCHEMA_VERSION,
        stage: at.stage.name().to_string(),
        run_id: at.run_id.to_string(),
        inputs_digest: at.digest.to_string(),
        files: written.files,
        measured,
        facts: written.facts,
    };
    let text = serde_json::to_string_pretty(&record).expect("a manifest is JSON") + "\n";
    lease.check().await?;
    output.put(&format!("{}/{}", at.folder, keys::MANIFEST), text).await?;
    Ok(Done { folder: at.folder.to_string(), record })
}

/// Sorts by time, and differs between processes that start in the same second.
fn new_run_id() -> String {
    let now = Utc::now();
    let salt =
        sha256_hex(format!("{} {}", now.timestamp_nanos_opt().unwrap_or_default(), std::process::id()).as_bytes());
    format!("{}-{}", now.format("%Y%m%dT%H%M%SZ"), &salt[..6])
}
