//! Reading what is published.

use futures::{StreamExt, TryStreamExt};

use crate::artifacts::{Release, SCHEMA_VERSION, keys};
use crate::error::{Error, Result};
use crate::storage::Store;

/// Requests under way at once while many small objects are read.
const AT_ONCE: usize = 16;

/// Every release, oldest first.
pub async fn list(output: &Store) -> Result<Vec<Release>> {
    futures::stream::iter(numbers(output).await?)
        .map(|number| async move { read(output, number).await })
        .buffered(AT_ONCE)
        .try_filter_map(async |release| Ok(release))
        .try_collect()
        .await
}

/// The highest-numbered release: the one readers take.
pub async fn newest(output: &Store) -> Result<Option<Release>> {
    match numbers(output).await?.last() {
        Some(number) => read(output, *number).await,
        None => Ok(None),
    }
}

/// One release, or `None` when there is no such number.
pub async fn read(output: &Store, number: u64) -> Result<Option<Release>> {
    let key = keys::release(number);
    let Some(bytes) = output.get(&key).await? else { return Ok(None) };
    let release: Release = serde_json::from_slice(&bytes).map_err(|error| {
        Error::config(format!(
            "{} is not a readable release; restore it, or roll back to an earlier one",
            output.url_of(&key)
        ))
        .caused_by(error)
    })?;
    if release.schema_version > SCHEMA_VERSION {
        return Err(Error::config(format!(
            "{} has schema version {}, this program knows {SCHEMA_VERSION}; update the program",
            output.url_of(&key),
            release.schema_version
        )));
    }
    Ok(Some(release))
}

/// The numbers that are taken, in order.
async fn numbers(output: &Store) -> Result<Vec<u64>> {
    let (_, objects) = output.list_level(keys::RELEASES).await?;
    let mut numbers: Vec<u64> = objects.iter().filter_map(|object| keys::release_number(&object.key)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// What is wrong with one file of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub key: String,
    pub found: String,
    pub expected: String,
}

/// Reads every file of a release and compares size and SHA-256 with its manifest.
pub async fn verify(output: &Store, release: &Release) -> Result<Vec<Fault>> {
    let checked = futures::stream::iter(&release.files).map(|file| async move {
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
