//! What a killed process leaves of a local file that it was writing: `NAME#1`, which no listing shows and no one else removes.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::Store;
use crate::error::{Error, Result};

impl Store {
    /// Half-written files below this folder that were last written to before `before`, with their sizes. On other stores than
    /// local files there are none.
    pub async fn half_written(&self, before: DateTime<Utc>) -> Result<Vec<(PathBuf, u64)>> {
        if self.root().scheme() != "file" {
            return Ok(Vec::new());
        }
        let folder = Path::new("/").join(self.path_of("").as_ref());
        let walked = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            walk(&folder, before, &mut found).map(|()| found)
        });
        let found = walked.await.map_err(|error| Error::internal("cannot look for leftovers").caused_by(error))?;
        let mut found = found.map_err(|error| {
            Error::transient(format!("cannot look for half-written files below {}", self.url())).caused_by(error)
        })?;
        found.sort();
        Ok(found)
    }
}

fn walk(folder: &Path, before: DateTime<Utc>, found: &mut Vec<(PathBuf, u64)>) -> std::io::Result<()> {
    let gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    let entries = match std::fs::read_dir(folder) {
        Err(error) if gone(&error) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        // the writer may come to its end meanwhile
        let meta = match entry.metadata() {
            Err(error) if gone(&error) => continue,
            meta => meta?,
        };
        if meta.is_dir() {
            walk(&entry.path(), before, found)?;
        } else if is_half_written(&entry.file_name().to_string_lossy())
            && DateTime::<Utc>::from(meta.modified()?) < before
        {
            found.push((entry.path(), meta.len()));
        }
    }
    Ok(())
}

/// The names under which object_store's local files grow, before they get their own.
fn is_half_written(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::storage::open;

    #[tokio::test]
    async fn what_a_killed_writer_left_is_found_when_it_is_old_and_listed_by_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path().to_str().unwrap()).unwrap();
        store.put("runs/a/whole", "x").await.unwrap();
        for name in ["runs/a/towers.safetensors#1", "runs/a/towers.safetensors#12"] {
            std::fs::write(folder.path().join(name), "half").unwrap();
        }
        std::fs::write(folder.path().join("runs/a/#notes"), "a person's").unwrap();
        let now = Utc::now();
        assert_eq!(store.half_written(now - TimeDelta::hours(1)).await.unwrap(), []);
        let found = store.half_written(now + TimeDelta::hours(1)).await.unwrap();
        assert_eq!(found.iter().map(|(_, bytes)| *bytes).collect::<Vec<_>>(), [4, 4]);
        let listed: Vec<String> = store.list("runs").await.unwrap().into_iter().map(|object| object.key).collect();
        assert_eq!(listed, ["runs/a/#notes", "runs/a/whole"]);
        assert_eq!(open("memory://staged").unwrap().half_written(now).await.unwrap(), []);
    }
}
