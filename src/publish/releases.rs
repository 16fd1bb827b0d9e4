//! Reading what is published.

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;

use crate::artifacts::{Release, RunDate, SCHEMA_VERSION, keys};
use crate::error::{Error, Result};
use crate::storage::{Store, unseal};

/// Requests under way at once while many small objects are read.
pub(super) const AT_ONCE: usize = 16;

/// Every release, oldest first.
pub async fn list(output: &Store) -> Result<Vec<Release>> {
    newest_ones(output, usize::MAX).await
}

/// The `most` newest releases, oldest of them first. Only their manifests are read.
pub async fn newest_ones(output: &Store, most: usize) -> Result<Vec<Release>> {
    let numbers = Numbers::list(output).await?.taken;
    let from = numbers.len().saturating_sub(most);
    futures::stream::iter(numbers[from..].to_vec())
        .map(|number| async move { read(output, number).await })
        .buffered(AT_ONCE)
        .try_filter_map(async |release| Ok(release))
        .try_collect()
        .await
}

/// The highest-numbered release: the one readers take.
pub async fn newest(output: &Store) -> Result<Option<Release>> {
    loop {
        let Some(number) = Numbers::list(output).await?.newest() else { return Ok(None) };
        // when it is gone between the two calls, there is a newer one
        if let Some(release) = read(output, number).await? {
            return Ok(Some(release));
        }
    }
}

/// The numbers of `releases/`, from one listing.
pub(super) struct Numbers {
    /// Ascending, without those below the floor.
    pub taken: Vec<u64>,
    /// Every number below it was deleted. An object that turns up there later was written by someone who had stalled: it is
    /// no release.
    pub floor: u64,
    /// The keys of what lies below the floor, and of older floors.
    pub leftovers: Vec<String>,
}

impl Numbers {
    pub async fn list(output: &Store) -> Result<Numbers> {
        let (_, objects) = output.list_level(keys::RELEASES).await?;
        let floor = objects.iter().filter_map(|object| keys::floor_number(&object.key)).max().unwrap_or(0);
        let mut all = Numbers { taken: Vec::new(), floor, leftovers: Vec::new() };
        for object in objects {
            match keys::release_number(&object.key) {
                Some(number) if number >= floor => all.taken.push(number),
                None if keys::floor_number(&object.key).is_none_or(|number| number == floor) => {}
                _ => all.leftovers.push(object.key),
            }
        }
        all.taken.sort_unstable();
        Ok(all)
    }

    pub fn newest(&self) -> Option<u64> {
        self.taken.last().copied()
    }
}

/// The release with this number, or `None` when there is none or it was deleted.
pub async fn find(output: &Store, number: u64) -> Result<Option<Release>> {
    if !Numbers::list(output).await?.taken.contains(&number) {
        return Ok(None);
    }
    read(output, number).await
}

/// The candidate's own manifest: what it would be as a release, with the last number it asked for.
pub(super) async fn note(output: &Store, date: RunDate, run_id: &str) -> Result<Option<Release>> {
    let key = format!("{}/{}", keys::run(date, run_id), keys::MANIFEST);
    let Some(bytes) = output.get(&key).await? else { return Ok(None) };
    // one that cannot be read is written again
    Ok(unseal(&bytes).ok())
}

/// One release's manifest, or `None` when there is no such object.
pub(super) async fn read(output: &Store, number: u64) -> Result<Option<Release>> {
    let key = keys::release(number);
    let Some(bytes) = output.get(&key).await? else { return Ok(None) };
    let release: Release = unseal(&bytes).map_err(|why| {
        Error::config(format!(
            "{} is not a readable release: {why}; restore it from its copy (LATEST.json of the newest one, or the manifest of its candidate below runs/)",
            output.url_of(&key)
        ))
    })?;
    if release.release != number {
        return Err(Error::config(format!(
            "{} says that it is release {}; restore it, or roll back to an earlier one",
            output.url_of(&key),
            release.release
        )));
    }
    if release.schema_version > SCHEMA_VERSION {
        return Err(Error::config(format!(
            "{} has schema version {}, this program knows {SCHEMA_VERSION}; update the program",
            output.url_of(&key),
            release.schema_version
        )));
    }
    Ok(Some(release))
}

/// What is wrong with one file of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    pub key: String,
    pub found: String,
    pub expected: String,
}

/// Reads every file of a release and compares size and SHA-256 with its manifest.
pub async fn verify(output: &Store, release: &Release) -> Result<Vec<Fault>> {
    let checked = futures::stream::iter(release.all_files()).map(|file| async move {
        let expected = format!("{} bytes with SHA-256 {}", file.bytes, file.sha256);
        let found = output.checksum(&file.key).await?;
        Ok::<_, Error>(match found {
            None => Some(Fault { key: file.key.clone(), found: "no such file".into(), expected }),
            Some((bytes, sha256)) if bytes != file.bytes || sha256 != file.sha256 => {
                Some(Fault { key: file.key.clone(), found: format!("{bytes} bytes with SHA-256 {sha256}"), expected })
            }
            Some(_) => None,
        })
    });
    checked.buffered(AT_ONCE).try_filter_map(async |fault| Ok(fault)).try_collect().await
}
