//! Removes what no kept release refers to: old releases, candidates, sample tables.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use tracing::{info, warn};

use super::commit::{Pin, Removal, all, commit, units};
use super::releases::{Numbers, list};
use crate::artifacts::{Release, Rollback, keys};
use crate::config::Retention;
use crate::error::{Error, Result};
use crate::storage::{Lease, Store, seal, unseal, user_and_host};

/// What gc removed, or would remove.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Garbage {
    pub releases: Vec<u64>,
    /// Candidates and sample tables.
    pub folders: Vec<Folder>,
    /// Marks of refused candidates.
    pub rejected: Vec<String>,
    /// What killed processes left of files that they were writing, on local files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub half_written: Vec<HalfWritten>,
    /// The lowest number that is kept.
    #[serde(skip)]
    floor: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct HalfWritten {
    pub file: std::path::PathBuf,
    pub bytes: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Folder {
    pub key: String,
    pub bytes: u64,
    pub objects: u64,
}

/// What `keep` leaves no room for at the time `now`; changes nothing.
pub async fn garbage(output: &Store, keep: &Retention, now: DateTime<Utc>) -> Result<Garbage> {
    let releases = list(output).await?;
    let young = now - TimeDelta::days(i64::from(keep.keep_days));
    // a suffix, so that one number says what is deleted
    let first = releases.iter().position(|release| release.created >= young).unwrap_or(releases.len());
    let first = first.min(releases.len().saturating_sub(keep.keep.max(1)));
    let (gone, kept) = releases.split_at(first);
    let (rejected, refused) = rejected(output, young).await?;
    let referred: BTreeSet<String> = kept.iter().chain(&refused).flat_map(units).collect();
    let mut folders = folders(output).await?;
    let grace = grace(keep);
    folders.retain(|unit, (_, written)| !referred.contains(unit) && now - *written > grace);
    let half_written = output.half_written(now - grace).await?.into_iter();
    Ok(Garbage {
        releases: gone.iter().map(|release| release.release).collect(),
        folders: folders.into_values().map(|(folder, _)| folder).collect(),
        rejected,
        half_written: half_written.map(|(file, bytes)| HalfWritten { file, bytes }).collect(),
        floor: kept.first().map_or(0, |release| release.release),
    })
}

/// Removes garbage.
pub async fn gc(output: &Store, lease: &Lease, keep: &Retention) -> Result<Garbage> {
    finish_removals(output, lease, keep).await?;
    let pinned = pinned(output, lease, keep).await?;
    let mut found = garbage(output, keep, lease.now().await?).await?;
    found.folders.retain(|folder| !pinned.contains(&folder.key));
    lease.check().await?;
    if !found.releases.is_empty() {
        // from here on those numbers are no releases, whatever turns up under them
        let floor = keys::floor(found.floor);
        let created = output.put_new(&floor, "every number below this one was deleted\n").await;
        // whoever created it, and whatever the answer was: what counts is that it is there
        if output.head(&floor).await?.is_none() {
            created?;
        }
    }
    let mut removed = BTreeSet::new();
    if !found.folders.is_empty() {
        let key = keys::removal(&format!("{:08}-{}", lease.number(), lease.nonce()));
        let units = found.folders.iter().map(|folder| folder.key.clone()).collect();
        let removal = Removal { by: user_and_host(), units };
        output.put(&key, seal(&removal)).await?;
        removed = remove(output, lease, keep, &key, &removal.units).await?;
    }
    found.folders.retain(|folder| removed.contains(&folder.key));
    for key in Numbers::list(output).await?.leftovers.iter().chain(&found.rejected) {
        lease.check().await?;
        output.delete(key).await?;
    }
    for HalfWritten { file, .. } in &found.half_written {
        if let Err(error) = std::fs::remove_file(file) {
            warn!("{} is left behind: {error}", file.display());
        }
    }
    info!(releases = found.releases.len(), folders = found.folders.len(), "removed");
    Ok(found)
}

/// The folders that are being removed: nobody goes on with what lies there.
pub async fn condemned(output: &Store) -> Result<BTreeSet<String>> {
    let removals = all::<Removal>(output, keys::REMOVALS).await?;
    Ok(removals.into_iter().flat_map(|(_, removal)| removal.units).collect())
}

/// Goes on with removals that were begun by someone who did not come to their end.
pub async fn finish_removals(output: &Store, lease: &Lease, keep: &Retention) -> Result<()> {
    for ((key, _), removal) in all::<Removal>(output, keys::REMOVALS).await? {
        warn!("going on with {}, which {} did not finish", output.url_of(&key), removal.by);
        remove(output, lease, keep, &key, &removal.units).await?;
    }
    Ok(())
}

/// Removes those of the units, written down under `key`, that nobody has come to need; returns them.
async fn remove(
    output: &Store,
    lease: &Lease,
    keep: &Retention,
    key: &str,
    condemned: &BTreeSet<String>,
) -> Result<BTreeSet<String>> {
    // pins before releases: a pin that is gone has become a release, or nothing
    let pinned = pinned(output, lease, keep).await?;
    let young = lease.now().await? - TimeDelta::days(i64::from(keep.keep_days));
    let (_, refused) = rejected(output, young).await?;
    let referred: BTreeSet<String> = list(output).await?.iter().chain(&refused).flat_map(units).collect();
    let (spared, victims): (BTreeSet<_>, BTreeSet<_>) =
        condemned.difference(&referred).cloned().partition(|unit| pinned.contains(unit));
    for unit in &victims {
        lease.check().await?;
        let mut objects = output.list(unit).await?;
        // manifests first: from then on no run takes the rest for finished
        objects.sort_by_key(|object| !object.key.ends_with(keys::MANIFEST));
        for object in objects {
            output.delete(&object.key).await?;
        }
    }
    // a deletion of an earlier attempt may still be under way, so what is only pinned stays condemned
    if spared.is_empty() {
        output.delete(key).await?;
    }
    Ok(victims)
}

/// The units that publishers hold fast. A pin older than the grace time was left by one that was killed: it goes, once the number it
/// was about to ask for is taken, so that the request cannot succeed any more should it still be on its way.
async fn pinned(output: &Store, lease: &Lease, keep: &Retention) -> Result<BTreeSet<String>> {
    let mut pinned = BTreeSet::new();
    for ((key, written), pin) in all::<Pin>(output, keys::PINS).await? {
        if lease.now().await? - written > grace(keep) && close(output, lease, pin.release).await? {
            output.delete(&key).await?;
        } else {
            pinned.extend(pin.units);
        }
    }
    Ok(pinned)
}

/// Makes sure that nobody else can create `number`: whether it is taken or deleted now.
async fn close(output: &Store, lease: &Lease, number: u64) -> Result<bool> {
    let Some(newest) = super::newest(output).await? else { return Ok(false) };
    if newest.release >= number {
        return Ok(true);
    }
    let why = format!("number {number} was left open by a writer that did not come back");
    let again = again(&newest, &newest, lease, why);
    Ok(commit(output, lease, again).await?.release >= number)
}

/// `target`'s files as the release after `current`.
pub(super) fn again(target: &Release, current: &Release, lease: &Lease, reason: String) -> Release {
    let mut release = Release {
        release: current.release + 1,
        created: Utc::now(),
        rollback_of: Some(target.release),
        ..target.clone()
    };
    release.publication.fence = lease.number();
    release.publication.by = user_and_host();
    release.publication.rollback = Some(Rollback { from: current.release, to: target.release, reason });
    release
}

/// Publishes the files of release `to` again, as the newest release.
///
/// # Errors
/// [`crate::error::Kind::Usage`] when there is no such release or it is the published one.
pub async fn rollback(output: &Store, lease: &Lease, to: u64, reason: &str) -> Result<Release> {
    let none = || Error::usage(format!("there is no release {to}; `twotower release list` shows those there are"));
    let target = super::find(output, to).await?.ok_or_else(none)?;
    let current = super::newest(output).await?.ok_or_else(none)?;
    if current.release == to {
        return Err(Error::usage(format!("release {to} is the published one; give an earlier number")));
    }
    commit(output, lease, again(&target, &current, lease, reason.into())).await
}

/// Marks of refused candidates: the keys of those older than `young`, and the manifests of the others.
async fn rejected(output: &Store, young: DateTime<Utc>) -> Result<(Vec<String>, Vec<Release>)> {
    let (mut old, mut kept) = (Vec::new(), Vec::new());
    for object in output.list(keys::REJECTED).await? {
        if object.modified < young {
            old.push(object.key);
        } else if let Some(bytes) = output.get(&object.key).await? {
            kept.extend(unseal::<Release>(&bytes).ok());
        }
    }
    Ok((old, kept))
}

/// Every candidate, attempt at sample tables and training that nobody went on with, with the time it was last written to.
async fn folders(output: &Store) -> Result<BTreeMap<String, (Folder, DateTime<Utc>)>> {
    let mut folders = BTreeMap::new();
    for top in [keys::RUNS, keys::SAMPLES, keys::CHECKPOINTS] {
        for object in output.list(top).await? {
            let Some(unit) = keys::unit(&object.key) else { continue };
            let new = || (Folder { key: unit.clone(), bytes: 0, objects: 0 }, object.modified);
            let (folder, written) = folders.entry(unit.clone()).or_insert_with(new);
            folder.bytes += object.size;
            folder.objects += 1;
            *written = object.modified.max(*written);
        }
    }
    Ok(folders)
}

fn grace(keep: &Retention) -> TimeDelta {
    TimeDelta::milliseconds(keep.grace.0.as_millis() as i64)
}
