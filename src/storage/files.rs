//! Files of a manifest: written with their entry, and read only as their entry says.

use bytes::Bytes;
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

    /// Holds what was found at `url` against this entry.
    pub fn compare(&self, url: &str, bytes: u64, sha256: &str) -> Result<()> {
        if (bytes, sha256) == (self.bytes, &self.sha256[..]) {
            return Ok(());
        }
        Err(Error::config(format!(
            "{url} is not the file that its manifest lists: found {bytes} bytes with SHA-256 {sha256}, expected {} bytes with {}; \
             restore it, build it again, or roll back",
            self.bytes, self.sha256
        )))
    }
}

impl Store {
    /// Writes an object and returns its manifest entry.
    pub async fn put_file(&self, key: String, bytes: impl Into<Bytes>, rows: Option<u64>) -> Result<FileEntry> {
        let bytes = bytes.into();
        let (size, sha256) = (bytes.len() as u64, sha256_hex(&bytes));
        self.put(&key, bytes).await?;
        Ok(FileEntry { key, bytes: size, sha256, rows })
    }

    /// The whole file of a manifest: a flipped bit would give answers, and wrong ones.
    pub async fn get_file(&self, entry: &FileEntry) -> Result<Bytes> {
        let bytes = self.get_existing(&entry.key).await?;
        entry.compare(&self.url_of(&entry.key), bytes.len() as u64, &sha256_hex(&bytes))?;
        Ok(bytes)
    }

    /// The same piece by piece: `take` sees the bytes before they are known to be the right ones.
    pub async fn get_file_in_pieces(
        &self,
        entry: &FileEntry,
        take: impl AsyncFnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let (bytes, sha256) = self.get_in_pieces(&entry.key, take).await?;
        entry.compare(&self.url_of(&entry.key), bytes, &sha256)
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
