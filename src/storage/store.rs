//! A folder in an object store.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{GetResult, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use sha2::{Digest, Sha256};
use url::Url;

use super::ObjectWriter;
use super::blame::{Blame, blame};
use super::files::Seen;
use crate::error::{Error, Result};

/// Listings that many neighbouring folders are cut into, where they share them.
const RANGES: usize = 4;
/// Listings under way at once.
const LISTED_AT_ONCE: usize = 8;

/// A folder in an object store. Keys are relative to it, with `/` between parts.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    /// Scheme and bucket, as an SQL engine registers the store.
    root: Url,
    prefix: Key,
    shown: String,
    pub(super) seen: Arc<Seen>,
}

/// One object below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Relative to the folder that was listed from.
    pub key: String,
    pub size: u64,
    pub modified: DateTime<Utc>,
    /// Changes whenever the content does, where the store gives one.
    pub e_tag: Option<String>,
}

impl Object {
    /// Tells this content from another: its ETag, or the time it was written where there is none.
    pub fn version(&self) -> String {
        self.e_tag.clone().unwrap_or_else(|| self.modified.to_rfc3339())
    }
}

/// What a create-if-absent did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    Yes,
    AlreadyThere,
}

impl Store {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, root: Url, prefix: Key, shown: String) -> Self {
        #[cfg(fail_points)]
        let inner = super::fail::watched(inner, &prefix);
        Store { inner, root, prefix, shown: shown.trim_end_matches('/').to_string(), seen: Arc::default() }
    }

    /// The folder as people write it.
    pub fn url(&self) -> &str {
        &self.shown
    }

    /// `key` below this folder, as people write it.
    pub fn url_of(&self, key: &str) -> String {
        if key.is_empty() { self.shown.clone() } else { format!("{}/{key}", self.shown) }
    }

    /// The store under the folder, for engines that read by themselves; with [`Store::root`] and [`Store::path_of`].
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        self.inner.clone()
    }

    /// Scheme and bucket: `s3://bucket/`, `file:///`.
    pub fn root(&self) -> &Url {
        &self.root
    }

    /// `key`'s full path in the store under this folder.
    pub fn path_of(&self, key: &str) -> Key {
        key.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// A folder below this one.
    pub fn folder(&self, key: &str) -> Store {
        Store { prefix: self.path_of(key), shown: self.url_of(key), ..self.clone() }
    }

    /// The whole object, or `None` when there is none.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        match self.inner.get(&self.path_of(key)).await {
            Ok(found) => found.bytes().await.map(Some).map_err(|error| self.explain(error, "read", key)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.explain(error, "read", key)),
        }
    }

    /// The whole object; an error when there is none.
    pub async fn get_existing(&self, key: &str) -> Result<Bytes> {
        self.get(key).await?.ok_or_else(|| Error::config(format!("{} does not exist", self.url_of(key))))
    }

    /// Reads an object into a local file, and returns its size and SHA-256.
    pub async fn get_to_file(&self, key: &str, file: &std::path::Path) -> Result<(u64, String)> {
        use tokio::io::AsyncWriteExt;
        let local =
            |error: std::io::Error| Error::transient(format!("cannot write {}", file.display())).caused_by(error);
        let mut out = tokio::fs::File::create(file).await.map_err(local)?;
        let read = self.get_in_pieces(key, async |chunk| out.write_all(chunk).await.map_err(local)).await?;
        out.flush().await.map_err(local)?;
        Ok(read)
    }

    /// Size and SHA-256 of an object as it lies in the store, or `None` when there is none.
    pub async fn checksum(&self, key: &str) -> Result<Option<(u64, String)>> {
        let found = match self.inner.get(&self.path_of(key)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.explain(error, "read", key)),
        };
        self.hashed(key, found, async |_| Ok(())).await.map(Some)
    }

    /// Hands an object's bytes to `take` as they come, and returns its size and SHA-256.
    async fn hashed(
        &self,
        key: &str,
        found: GetResult,
        mut take: impl AsyncFnMut(&[u8]) -> Result<()>,
    ) -> Result<(u64, String)> {
        let mut stream = found.into_stream();
        let (mut size, mut hash) = (0, Sha256::new());
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| self.explain(error, "read", key))?;
            size += chunk.len() as u64;
            hash.update(&chunk);
            take(&chunk).await?;
        }
        Ok((size, hex(&hash.finalize())))
    }

    /// Hands an object's bytes to `take` as they come, and returns its size and SHA-256.
    pub async fn get_in_pieces(&self, key: &str, take: impl AsyncFnMut(&[u8]) -> Result<()>) -> Result<(u64, String)> {
        let found = self.inner.get(&self.path_of(key)).await.map_err(|error| self.explain(error, "read", key))?;
        self.hashed(key, found, take).await
    }

    /// Writes a local file as an object, streaming, over any that is there; returns its size and SHA-256.
    pub async fn put_from_file(&self, key: &str, file: &std::path::Path) -> Result<(u64, String)> {
        use tokio::io::AsyncReadExt;
        let local =
            |error: std::io::Error| Error::transient(format!("cannot read {}", file.display())).caused_by(error);
        let mut source = tokio::fs::File::open(file).await.map_err(local)?;
        let mut object = ObjectWriter::new(self, key.to_string());
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = source.read(&mut buffer).await.map_err(local)?;
            if read == 0 {
                break;
            }
            object.write(&buffer[..read]).await?;
        }
        let written = object.finish(None).await?;
        Ok((written.bytes, written.sha256))
    }

    /// Writes an object, over any that is there.
    pub async fn put(&self, key: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let payload = PutPayload::from_bytes(bytes.into());
        self.seen.forget(&self.path_of(key));
        self.inner.put(&self.path_of(key), payload).await.map(drop).map_err(|error| self.explain(error, "write", key))
    }

    /// Writes an object unless there is one: the commit of everything that happens once.
    ///
    /// The store may repeat a request that had succeeded, so [`Created::AlreadyThere`] can mean one's own write: read it
    /// back and compare before calling it lost.
    pub async fn put_new(&self, key: &str, bytes: impl Into<Bytes>) -> Result<Created> {
        let payload = PutPayload::from_bytes(bytes.into());
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        match self.inner.put_opts(&self.path_of(key), payload, options).await {
            Ok(_) => Ok(Created::Yes),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Created::AlreadyThere)
            }
            Err(error) => Err(self.explain(error, "create", key)),
        }
    }

    /// Removes an object; none there is fine.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.seen.forget(&self.path_of(key));
        match self.inner.delete(&self.path_of(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.explain(error, "delete", key)),
        }
    }

    /// Every object below `folder`, sorted by key. Keys are relative to this store, not to `folder`.
    pub async fn list(&self, folder: &str) -> Result<Vec<Object>> {
        let prefix = self.path_of(folder);
        let found: Result<Vec<_>, _> = self.inner.list(Some(&prefix)).try_collect().await;
        let mut objects: Vec<Object> = match found {
            Ok(found) => found.into_iter().map(|meta| self.object(meta)).collect(),
            Err(error) if self.is_no_folder(&error) => Vec::new(),
            Err(error) => return Err(self.explain(error, "list", folder)),
        };
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// Every object below each of the folders `names`, which lie in this one and ascend; sorted by key, as [`Store::list`] does. Where
    /// listings come in the order of keys, neighbours share one, so that few requests do for many folders.
    pub async fn list_folders(&self, names: &[String]) -> Result<BTreeMap<String, Vec<Object>>> {
        let together = if self.lists_in_order() { names.len().div_ceil(RANGES).max(1) } else { 1 };
        let chunks: Vec<BTreeMap<String, Vec<Object>>> = futures::stream::iter(names.chunks(together))
            .map(|names| self.list_neighbours(names))
            .buffered(LISTED_AT_ONCE)
            .try_collect()
            .await?;
        Ok(chunks.into_iter().flatten().collect())
    }

    async fn list_neighbours(&self, names: &[String]) -> Result<BTreeMap<String, Vec<Object>>> {
        let (Some(first), Some(last)) = (names.first(), names.last()) else { return Ok(BTreeMap::new()) };
        if names.len() == 1 {
            return Ok(BTreeMap::from([(first.clone(), self.list(first).await?)]));
        }
        let mut found: BTreeMap<String, Vec<Object>> = names.iter().map(|name| (name.clone(), Vec::new())).collect();
        // `0` follows `/`: what is not below it comes after all that lies in the last folder
        let end = format!("{last}0");
        let mut all = self.inner.list_with_offset(Some(&self.prefix), &self.path_of(first));
        while let Some(meta) = all.next().await {
            let object = match meta {
                Ok(meta) => self.object(meta),
                Err(object_store::Error::NotFound { .. }) => break,
                Err(error) => return Err(self.explain(error, "list", first)),
            };
            if object.key >= end {
                break;
            }
            let folder = object.key.split('/').next().unwrap_or_default();
            if let Some(objects) = found.get_mut(folder) {
                objects.push(object);
            }
        }
        for objects in found.values_mut() {
            objects.sort_by(|a, b| a.key.cmp(&b.key));
        }
        Ok(found)
    }

    /// S3 and the store in memory do; a disk does not, and neither do directory buckets, whose names end so.
    fn lists_in_order(&self) -> bool {
        let directory_bucket = self.root.host_str().is_some_and(|bucket| bucket.ends_with("--x-s3"));
        matches!(self.root.scheme(), "s3" | "memory") && !directory_bucket
    }

    /// The names directly below `folder`: (folders, objects), each sorted.
    pub async fn list_level(&self, folder: &str) -> Result<(Vec<String>, Vec<Object>)> {
        let prefix = self.path_of(folder);
        match self.inner.list_with_delimiter(Some(&prefix)).await {
            Ok(found) => {
                let mut folders: Vec<String> =
                    found.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_string)).collect();
                folders.sort();
                let mut objects: Vec<Object> = found.objects.into_iter().map(|meta| self.object(meta)).collect();
                objects.sort_by(|a, b| a.key.cmp(&b.key));
                Ok((folders, objects))
            }
            Err(error) if self.is_no_folder(&error) => Ok((Vec::new(), Vec::new())),
            Err(error) => Err(self.explain(error, "list", folder)),
        }
    }

    /// One object's size and date, or `None`.
    pub async fn head(&self, key: &str) -> Result<Option<Object>> {
        match self.inner.head(&self.path_of(key)).await {
            Ok(meta) => Ok(Some(self.object(meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.explain(error, "look at", key)),
        }
    }

    fn object(&self, meta: object_store::ObjectMeta) -> Object {
        let full = meta.location.as_ref();
        let key = full.strip_prefix(self.prefix.as_ref()).unwrap_or(full).trim_start_matches('/').to_string();
        Object { key, size: meta.size, modified: meta.last_modified, e_tag: meta.e_tag }
    }

    /// What [`Store::explain`] says of an error that came through a writer.
    pub(super) fn explain_io(&self, error: std::io::Error, doing: &str, key: &str) -> Error {
        match error.downcast::<object_store::Error>() {
            Ok(inner) => self.explain(inner, doing, key),
            Err(error) => {
                self.explain(object_store::Error::Generic { store: "store", source: Box::new(error) }, doing, key)
            }
        }
    }

    /// An object_store error in the operator's words.
    pub fn explain(&self, error: object_store::Error, doing: &str, key: &str) -> Error {
        let Blame { kind, advice, said } = blame(&error, doing);
        tracing::debug!(key, doing, "the store's error in full: {}", full_text(&error));
        Error::new(kind, format!("cannot {doing} {}: {advice}", self.url_of(key))).caused_by(said)
    }

    /// Whether a list that is "not found" is that of a folder without objects: S3 lists those, and finds no bucket with others.
    fn is_no_folder(&self, error: &object_store::Error) -> bool {
        matches!(error, object_store::Error::NotFound { .. }) && !self.root.scheme().starts_with("s3")
    }
}

/// Whether credentials were good once and are no longer: S3 says so with 400 or 403.
pub fn expired(text: &str) -> bool {
    ["ExpiredToken", "TokenRefreshRequired", "RequestExpired"].iter().any(|code| text.contains(code))
}

/// Whether a store was asked for bytes that an object does not have: whoever asked went by what a damaged file says of itself.
pub(super) fn beyond(text: &str) -> bool {
    let words = [
        "non-2xx status code: 416",
        "Wanted range starting at",
        "Range started at",
        "is larger than system memory limit",
        "Out of range of file",
        "Requested range was invalid",
    ];
    words.iter().any(|words| text.contains(words))
}

/// Whether an error's text is the operating system's about a disk, a quota, or a limit on the size of files.
pub fn full(text: &str) -> bool {
    ["No space left on device", "Disk quota exceeded", "File too large"].iter().any(|words| text.contains(words))
}

/// An error with all its causes, in one line.
pub fn full_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(inner) = at {
        text.push(' ');
        text.push_str(&inner.to_string());
        at = inner.source();
    }
    text
}

/// SHA-256 in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use crate::storage::open;

    #[tokio::test]
    async fn neighbouring_folders_are_listed_together_and_nothing_else_is() {
        let store = open("memory://neighbours/logs").unwrap();
        let names: Vec<String> = (10..30).map(|day| format!("dt=2026-11-{day}")).collect();
        let others = ["dt=2026-11-09", "dt=2026-11-12.bak", "dt=2026-11-30", "ds=2026-11-12", "dt=2026-11-290"];
        for folder in names.iter().map(String::as_str).filter(|name| !name.ends_with("13")).chain(others) {
            for file in ["b/x", "a"] {
                store.put(&format!("{folder}/{file}"), "x").await.unwrap();
            }
        }
        let found = store.list_folders(&names).await.unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
        for (name, objects) in &found {
            assert_eq!(*objects, store.list(name).await.unwrap(), "{name}");
            assert_eq!(objects.is_empty(), name.ends_with("13"), "{name}");
        }
        assert!(store.list_folders(&[]).await.unwrap().is_empty());
    }
}
