//! Files of a manifest: written with their entry, and read only as their entry says.

use std::collections::HashSet;
use std::sync::Mutex;

use bytes::Bytes;
use object_store::path::Path as Key;
use serde::{Deserialize, Serialize};

use super::{ObjectWriter, Store, sha256_hex};
use crate::error::{Error, Result};

/// One file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the output folder.
    pub key: String,
    pub bytes: u64,
    pub sha256: String,
    /// Rows, for tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

impl FileEntry {
    /// The entry of `key` among a manifest's `files`; `advice` says what to do when there is none.
    pub fn find<'a>(files: &'a [FileEntry], store: &Store, key: &str, advice: &str) -> Result<&'a FileEntry> {
        files
            .iter()
            .find(|file| file.key == key)
            .ok_or_else(|| Error::config(format!("the manifest lists no {}; {advice}", store.url_of(key))))
    }

    pub(super) fn is(&self, bytes: u64, sha256: &str) -> bool {
        (bytes, sha256) == (self.bytes, &self.sha256[..])
    }

    /// Holds what was found at `url` against this entry.
    pub fn compare(&self, url: &str, bytes: u64, sha256: &str) -> Result<()> {
        if self.is(bytes, sha256) {
            return Ok(());
        }
        Err(Error::config(format!(
            "{url} is not the file that its manifest lists: found {bytes} bytes with SHA-256 {sha256}, expected {} bytes with {}; \
             restore it, build it again, or roll back",
            self.bytes, self.sha256
        )))
    }
}

/// Files whose bytes this process has written itself, or has held against their entry: they are not read once more for that.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashSet<(Key, String)>>);

impl Seen {
    pub fn add(&self, store: &Store, entry: &FileEntry) {
        let mut files = self.0.lock().expect("no holder of this lock panics");
        files.insert((store.path_of(&entry.key), entry.sha256.clone()));
    }

    fn has(&self, store: &Store, entry: &FileEntry) -> bool {
        let files = self.0.lock().expect("no holder of this lock panics");
        files.contains(&(store.path_of(&entry.key), entry.sha256.clone()))
    }

    /// What lies under `path` is about to change.
    pub fn forget(&self, path: &Key) {
        self.0.lock().expect("no holder of this lock panics").retain(|(key, _)| key != path);
    }
}

impl Store {
    /// Holds a file that is about to be read in parts against its entry: once in a process, and not at all when this process wrote
    /// it. Returns the bytes where they are at hand and no more than `most`.
    pub(super) async fn vouch_for(&self, entry: &FileEntry, most: u64) -> Result<Option<Bytes>> {
        if self.seen.has(self, entry) {
            return Ok(None);
        }
        if entry.bytes <= most {
            return self.get_file(entry).await.map(Some);
        }
        self.get_file_in_pieces(entry, async |_| Ok(())).await?;
        Ok(None)
    }

    /// Writes an object and returns its manifest entry.
    pub async fn put_file(&self, key: String, bytes: impl Into<Bytes>, rows: Option<u64>) -> Result<FileEntry> {
        let bytes = bytes.into();
        let (size, sha256) = (bytes.len() as u64, sha256_hex(&bytes));
        self.put(&key, bytes).await?;
        let entry = FileEntry { key, bytes: size, sha256, rows };
        self.seen.add(self, &entry);
        Ok(entry)
    }

    /// The whole file of a manifest: a flipped bit would give answers, and wrong ones.
    pub async fn get_file(&self, entry: &FileEntry) -> Result<Bytes> {
        let bytes = self.get_existing(&entry.key).await?;
        entry.compare(&self.url_of(&entry.key), bytes.len() as u64, &sha256_hex(&bytes))?;
        self.seen.add(self, entry);
        Ok(bytes)
    }

    /// The same piece by piece: `take` sees the bytes before they are known to be the right ones.
    pub async fn get_file_in_pieces(
        &self,
        entry: &FileEntry,
        take: impl AsyncFnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let (bytes, sha256) = self.get_in_pieces(&entry.key, take).await?;
        entry.compare(&self.url_of(&entry.key), bytes, &sha256)?;
        self.seen.add(self, entry);
        Ok(())
    }

    /// Copies a file of a manifest, holds it against its entry on the way, and returns the entry of the copy. The bytes pass
    /// through this process: stores copy by themselves only what is small.
    pub async fn copy_file(&self, entry: &FileEntry, to: String) -> Result<FileEntry> {
        let mut copy = ObjectWriter::new(self, to);
        match self.get_file_in_pieces(entry, async |bytes| copy.write(bytes).await).await {
            Ok(()) => copy.finish(entry.rows).await,
            Err(error) => {
                copy.abort().await;
                Err(error)
            }
        }
    }
}
