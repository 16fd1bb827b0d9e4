//! Manifests of finished stages: found again by the digest of their inputs, and written last.

use std::collections::HashMap;

use chrono::Utc;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use super::Stage;
use crate::artifacts::{Done, Measured, RunDate, SCHEMA_VERSION, StageRecord, Written, keys};
use crate::error::{Error, Kind, Result};
use crate::job::Job;
use crate::publish;
use crate::storage::{Created, Lease, Store, seal, sha256_hex, unseal, user_and_host};

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

/// Folder of a stage's result.
pub fn stage_folder(date: RunDate, run_id: &str, stage: Stage) -> String {
    format!("{}/{}", keys::run(date, run_id), folder_name(stage))
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
    let value: serde_json::Value = unseal(&bytes).map_err(broken)?;
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

/// A finished stage with this digest in any run of the date, or in any attempt at its samples; the newest of several.
pub async fn find<T: DeserializeOwned>(
    output: &Store,
    date: RunDate,
    stage: Stage,
    digest: &str,
) -> Result<Option<Done<T>>> {
    if stage != Stage::Samples {
        return noted(output, date, stage, digest).await;
    }
    // before the files are looked at: see `stands`
    let condemned = publish::condemned(output).await?;
    for folder in folders(output, date, stage, digest).await? {
        if condemned.contains(&folder) {
            continue;
        }
        let Some(done) = read(output, &folder, digest).await? else { continue };
        if whole(output, &done).await? {
            return Ok(Some(done));
        }
        warn!(folder, "the manifest names files that are not there any more; it does not count");
    }
    Ok(None)
}

/// The same by manifests alone, which may name samples that are gone.
pub async fn noted<T: DeserializeOwned>(
    output: &Store,
    date: RunDate,
    stage: Stage,
    digest: &str,
) -> Result<Option<Done<T>>> {
    for folder in folders(output, date, stage, digest).await? {
        if let Some(done) = read(output, &folder, digest).await? {
            return Ok(Some(done));
        }
    }
    Ok(None)
}

/// Where a stage may have a result, the newest attempt first.
async fn folders(output: &Store, date: RunDate, stage: Stage, digest: &str) -> Result<Vec<String>> {
    let above = if stage == Stage::Samples { keys::samples(date, digest) } else { keys::runs(date) };
    let (attempts, _) = output.list_level(&above).await?;
    let folder = |attempt: &String| match stage {
        Stage::Samples => format!("{above}/{attempt}"),
        _ => stage_folder(date, attempt, stage),
    };
    Ok(attempts.iter().rev().map(folder).collect())
}

/// Whether an attempt at samples, whose manifest was just written, is one that others may rely on.
///
/// Samples are built without the lease, so `release gc` may take an attempt that was not written to for all of `retention.grace` for
/// one that nobody goes on with. gc writes a removal, lists the folder, deletes what it has listed, manifest first, and removes the removal. Here
/// the manifest is written first, then removals are read, then files are looked for. If no removal is seen, either gc's
/// comes later and its listing has the manifest, or all its deletions are over and files are seen to be missing.
async fn stands<T>(output: &Store, done: &Done<T>) -> Result<bool> {
    Ok(!publish::condemned(output).await?.contains(&done.folder) && whole(output, done).await?)
}

/// Whether every file of the manifest is there, with its size.
async fn whole<T>(output: &Store, done: &Done<T>) -> Result<bool> {
    let objects = output.list(&done.folder).await?;
    let sizes: HashMap<&str, u64> = objects.iter().map(|object| (object.key.as_str(), object.size)).collect();
    Ok(done.record.files.iter().all(|file| sizes.get(file.key.as_str()) == Some(&file.bytes)))
}

/// Run id and folder for a stage's result: beside what it is made from, or else in a new run. No two attempts share a folder, whatever
/// became of the first: a writer that stalled cannot change what another one finished.
pub async fn place(job: &Job, stage: Stage, digest: &str, beside: Option<&str>) -> Result<(String, String)> {
    if stage == Stage::Samples {
        // belongs to no run: other runs of the date may use it
        return Ok((String::new(), format!("{}/{}", keys::samples(job.date, digest), new_run_id())));
    }
    if let Some(run_id) = beside {
        let folder = stage_folder(job.date, run_id, stage);
        let text = serde_json::json!({ "inputs_digest": digest, "by": user_and_host() }).to_string();
        // where the answer was lost, the folder may be claimed by nobody: another one does as well
        match job.output.put_new(&format!("{folder}/{STARTED}"), text + "\n").await {
            Ok(Created::Yes) => return Ok((run_id.to_string(), folder)),
            Err(error) if error.kind != Kind::Transient => return Err(error),
            Ok(Created::AlreadyThere) | Err(_) => {}
        }
    }
    let run_id = new_run_id();
    let folder = stage_folder(job.date, &run_id, stage);
    Ok((run_id, folder))
}

/// Which result of which stage lies where.
pub struct Place<'a> {
    pub stage: Stage,
    pub folder: &'a str,
    pub run_id: &'a str,
    pub digest: &'a str,
}

/// Writes a stage's manifest, which makes it count, if the lease is still held. Samples are written without one.
pub async fn commit<T: Serialize>(
    output: &Store,
    lease: Option<&Lease>,
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
    if let Some(lease) = lease {
        lease.check().await?;
    }
    let manifest = format!("{}/{}", at.folder, keys::MANIFEST);
    output.put(&manifest, seal(&record)).await?;
    let done = Done { folder: at.folder.to_string(), record };
    if at.stage == Stage::Samples && !stands(output, &done).await? {
        output.delete(&manifest).await?;
        return Err(Error::transient(format!(
            "{} was removed by `twotower release gc` while it was written: nothing was added to it for all of `retention.grace`; \
             raise that above the time that one table takes, and run it again",
            output.url_of(at.folder)
        )));
    }
    Ok(done)
}

/// Sorts by time to the millisecond, and differs between processes that start in the same one.
fn new_run_id() -> String {
    let now = Utc::now();
    let salt =
        sha256_hex(format!("{} {}", now.timestamp_nanos_opt().unwrap_or_default(), std::process::id()).as_bytes());
    let salt = u64::from_str_radix(&salt[..12], 16).expect("a digest is hexadecimal");
    let (millisecond, salt) = (base36(now.timestamp_subsec_millis().min(999).into(), 2), base36(salt, 4));
    format!("{}-{millisecond}{salt}", now.format("%Y%m%dT%H%M%SZ"))
}

/// The last digits of a number to the base of 36, which sort as the number does.
fn base36(number: u64, digits: u32) -> String {
    let digit = |at: u32| char::from_digit((number / 36u64.pow(at) % 36) as u32, 36).expect("it is below 36");
    (0..digits).rev().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::error::Kind;
    use crate::storage::open;

    const DIGEST: &str = "0123456789abcdef0123";

    fn date() -> RunDate {
        "2026-11-20".parse().unwrap()
    }

    /// An attempt at samples with two tables, whose manifest is written after `meanwhile`.
    async fn attempt(output: &Store, id: &str, meanwhile: impl AsyncFnOnce(&str)) -> Result<Done<Value>> {
        let folder = format!("{}/{id}", keys::samples(date(), DIGEST));
        let mut files = Vec::new();
        for table in ["holdout", "positives"] {
            files.push(output.put_file(format!("{folder}/{table}/part-00000.parquet"), table, None).await?);
        }
        meanwhile(&folder).await;
        let at = Place { stage: Stage::Samples, folder: &folder, run_id: "", digest: DIGEST };
        commit(output, None, &at, Written { files, facts: Value::Null }, Measured::default()).await
    }

    async fn found(output: &Store) -> Option<String> {
        let found = find::<Value>(output, date(), Stage::Samples, DIGEST).await.unwrap();
        found.map(|done| done.folder.rsplit('/').next().unwrap().to_string())
    }

    #[test]
    fn ids_of_one_second_sort_by_time() {
        let ids: Vec<String> = [0, 7, 35, 36, 500, 999].map(|millisecond| base36(millisecond, 2)).into();
        assert_eq!(ids, ["00", "07", "0z", "10", "dw", "rr"]);
        assert!(ids.is_sorted());
        assert_eq!(new_run_id().len(), "20261120T023716Z-00abcd".len());
    }

    #[tokio::test]
    async fn of_several_attempts_the_newest_whole_one_counts() {
        let output = open("memory://attempts").unwrap();
        for id in ["a", "b"] {
            attempt(&output, id, async |_| ()).await.unwrap();
        }
        assert_eq!(found(&output).await.as_deref(), Some("b"));
        output.delete(&format!("{}/b/positives/part-00000.parquet", keys::samples(date(), DIGEST))).await.unwrap();
        assert_eq!(found(&output).await.as_deref(), Some("a"));
    }

    #[tokio::test]
    async fn an_attempt_that_gc_takes_for_abandoned_is_told_so_and_counts_for_nobody() {
        let output = open("memory://abandoned").unwrap();
        // gc is at work
        let condemn = async |folder: &str| {
            let removal = seal(&json!({ "by": "gc", "units": [folder] }));
            output.put(&keys::removal("1"), removal).await.unwrap();
        };
        let error = attempt(&output, "a", condemn).await.unwrap_err();
        assert_eq!(error.kind, Kind::Transient, "{error}");
        assert!(error.message.contains("retention.grace"), "{error}");
        // gc came and went
        output.delete(&keys::removal("1")).await.unwrap();
        let remove = async |folder: &str| {
            output.delete(&format!("{folder}/holdout/part-00000.parquet")).await.unwrap();
        };
        assert_eq!(attempt(&output, "b", remove).await.unwrap_err().kind, Kind::Transient);
        assert_eq!(found(&output).await, None);
        // what is condemned later is not gone on with either
        attempt(&output, "c", async |_| ()).await.unwrap();
        condemn(&format!("{}/c", keys::samples(date(), DIGEST))).await;
        assert_eq!(found(&output).await, None);
    }

    #[tokio::test]
    async fn a_damaged_manifest_of_a_stage_is_told() {
        let output = open("memory://records-damaged").unwrap();
        let done = attempt(&output, "a", async |_| ()).await.unwrap();
        let key = format!("{}/{}", done.folder, keys::MANIFEST);
        let whole = output.get_existing(&key).await.unwrap();
        crate::storage::damage::each("a stage's manifest", 1000, &whole, async |damaged| {
            output.put(&key, damaged).await.unwrap();
            let error = read::<Value>(&output, &done.folder, DIGEST).await.expect_err("it is damaged");
            assert!(error.message.contains("manifest.json is not a readable manifest"), "{error}");
        })
        .await;
    }
}
