//! One object, written as its bytes come.

use object_store::buffered::BufWriter;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::store::hex;
use super::{FileEntry, Store};
use crate::error::Result;

/// Writes an object of any size through buffers of 10 MiB, as a multipart upload where it is larger, and hashes it as it goes
/// by. The object appears whole, with [`ObjectWriter::finish`].
pub struct ObjectWriter {
    store: Store,
    key: String,
    upload: BufWriter,
    hash: Sha256,
    bytes: u64,
}

impl ObjectWriter {
    pub fn new(store: &Store, key: String) -> Self {
        let upload = BufWriter::new(store.object_store(), store.path_of(&key));
        ObjectWriter { store: store.clone(), key, upload, hash: Sha256::new(), bytes: 0 }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.upload.write_all(bytes).await.map_err(|error| self.store.explain_io(error, "write", &self.key))
    }

    /// Ends the object and returns its manifest entry.
    pub async fn finish(mut self, rows: Option<u64>) -> Result<FileEntry> {
        let ended = self.upload.shutdown().await;
        let entry = FileEntry { key: self.key, bytes: self.bytes, sha256: hex(&self.hash.finalize()), rows };
        if let Err(error) = ended {
            // the store may have put the parts together and lost the answer; asked again, it knows of no such upload
            let found = self.store.checksum(&entry.key).await;
            if !found.is_ok_and(|found| found.as_ref().is_some_and(|(bytes, sha256)| entry.is(*bytes, sha256))) {
                return Err(self.store.explain_io(error, "write", &entry.key));
            }
        }
        self.store.seen.add(&self.store, &entry);
        Ok(entry)
    }

    /// Gives the object up; what was sent of it is taken back.
    pub async fn abort(mut self) {
        if let Err(error) = self.upload.abort().await {
            tracing::debug!(key = self.key, "an upload was not taken back: {error}");
        }
    }
}
