//! The commit: one number, created once, for files that are there and stay there.
//!
//! A publisher and `release gc` may both be alive where a lease was lost. Each first writes what it is about to do and then reads what
//! the other wrote: the publisher a pin, then the removals; gc a removal, then the pins and the releases. So at least
//! one of them sees the other, and files that a release names are never removed, whoever stalled and for how long.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::releases::Numbers;
use crate::artifacts::{Release, keys};
use crate::error::{Error, Result};
use crate::storage::{Created, Lease, Store, seal, unseal};

/// What a publisher is about to refer to.
#[derive(Serialize, Deserialize)]
pub(super) struct Pin {
    pub by: String,
    /// The number it is about to ask for.
    pub release: u64,
    pub units: BTreeSet<String>,
}

/// What gc is about to remove.
#[derive(Serialize, Deserialize)]
pub(super) struct Removal {
    pub by: String,
    pub units: BTreeSet<String>,
}

/// The candidates and sample tables whose files a release names.
pub(super) fn units(release: &Release) -> BTreeSet<String> {
    release.all_files().filter_map(|file| keys::unit(&file.key)).collect()
}

/// Creates `release`, whose number must be the one after the newest.
///
/// # Errors
/// [`crate::error::Kind::Transient`] when the lease was lost, another release took the number, or its files are being removed;
/// [`crate::error::Kind::Config`] when a file is not there.
pub(super) async fn commit(output: &Store, lease: &Lease, release: Release) -> Result<Release> {
    let pin = keys::pin(&format!("{:08}-{}-{}", lease.number(), lease.nonce(), release.release));
    let text = seal(&Pin { by: release.publication.by.clone(), release: release.release, units: units(&release) });
    output.put(&pin, text).await?;
    let outcome = match prepare(output, lease, &release).await {
        Ok(()) => create(output, &release).await,
        Err(error) => Outcome::Failed(error),
    };
    // a creation that may still arrive stays pinned, until gc has closed its number
    if !matches!(outcome, Outcome::Unknown(_))
        && let Err(error) = output.delete(&pin).await
    {
        warn!("{} stays until `twotower release gc` removes it: {error}", output.url_of(&pin));
    }
    match outcome {
        Outcome::Created => {}
        Outcome::Failed(error) | Outcome::Unknown(error) => return Err(error),
    }
    // a convenience for people; readers go by the numbers, so that a failure here loses nothing
    if let Err(error) = output.put(keys::LATEST, seal(&release)).await {
        warn!("the release is published, only {} could not be written: {error}", keys::LATEST);
    }
    info!(release = release.release, items = release.items, "published");
    Ok(release)
}

async fn prepare(output: &Store, lease: &Lease, release: &Release) -> Result<()> {
    let units = units(release);
    for (key, removal) in all::<Removal>(output, keys::REMOVALS).await? {
        if let Some(unit) = removal.units.intersection(&units).next() {
            return Err(Error::transient(format!(
                "{} is being removed ({}, by {}), so release {} cannot refer to it; run it again",
                output.url_of(unit),
                output.url_of(&key.0),
                removal.by,
                release.release
            )));
        }
    }
    all_there(output, release).await?;
    lease.check().await?;
    let newest = Numbers::list(output).await?.newest().unwrap_or(0);
    if newest + 1 != release.release {
        return Err(overtaken(release.release, newest));
    }
    Ok(())
}

/// Compares what lies in the folders with the manifest, by name and size. `release verify` reads the bytes too.
async fn all_there(output: &Store, release: &Release) -> Result<()> {
    let mut sizes = HashMap::new();
    for unit in units(release) {
        sizes.extend(output.list(&unit).await?.into_iter().map(|object| (object.key, object.size)));
    }
    for file in release.all_files() {
        let found = sizes.get(&file.key);
        if found != Some(&file.bytes) {
            return Err(Error::config(format!(
                "{} is in the manifest of release {} with {} bytes, and {}: nothing was published; remove its folder and run the date again",
                output.url_of(&file.key),
                release.release,
                file.bytes,
                found.map_or("is not there".into(), |bytes| format!("has {bytes}"))
            )));
        }
    }
    Ok(())
}

enum Outcome {
    Created,
    Failed(Error),
    /// The store did not say, and may still do it.
    Unknown(Error),
}

async fn create(output: &Store, release: &Release) -> Outcome {
    let key = keys::release(release.release);
    let text = seal(release);
    let created = output.put_new(&key, text.clone()).await;
    // read back whatever the answer was: the store may have repeated our own write, or ignore the condition
    let found = match output.get(&key).await {
        Ok(found) => found,
        Err(error) => return Outcome::Unknown(error),
    };
    match (created, found) {
        (_, Some(found)) if found == text => after(output, release).await,
        (_, Some(_)) | (Ok(Created::AlreadyThere), None) => {
            Outcome::Failed(overtaken(release.release, release.release))
        }
        (Ok(Created::Yes), None) => Outcome::Failed(voided(release.release)),
        (Err(error), None) => Outcome::Unknown(error),
    }
}

/// A number that was published and deleted while this process stalled can be created again, and is below the floor: no reader takes it.
async fn after(output: &Store, release: &Release) -> Outcome {
    let numbers = match Numbers::list(output).await {
        Ok(numbers) => numbers,
        Err(error) => return Outcome::Unknown(error),
    };
    if release.release >= numbers.floor {
        return Outcome::Created;
    }
    match output.delete(&keys::release(release.release)).await {
        Ok(()) => Outcome::Failed(voided(release.release)),
        Err(error) => Outcome::Failed(error),
    }
}

fn overtaken(wanted: u64, newest: u64) -> Error {
    Error::transient(format!(
        "release {wanted} was to be published, and {newest} is the newest now: another writer came first; run it again"
    ))
}

fn voided(number: u64) -> Error {
    Error::transient(format!(
        "release {number} was published and deleted by others while this run stalled: nothing was published; run it again"
    ))
}

/// Every object of a folder that holds JSON, with its key and date. One that goes meanwhile is left out.
pub(super) async fn all<T: serde::de::DeserializeOwned>(
    output: &Store,
    folder: &str,
) -> Result<Vec<((String, DateTime<Utc>), T)>> {
    let mut found = Vec::new();
    for object in output.list_level(folder).await?.1 {
        let Some(bytes) = output.get(&object.key).await? else { continue };
        let parsed = unseal(&bytes).map_err(|why| {
            Error::config(format!(
                "{} is not readable: {why}; remove it when no job is running",
                output.url_of(&object.key)
            ))
        })?;
        found.push(((object.key, object.modified), parsed));
    }
    Ok(found)
}
