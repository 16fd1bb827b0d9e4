//! Fail points: every change of an object store, before and after. Not in release builds.
//!
//! What a killed process leaves behind is what it wrote to the store, so these points are all there are: between two of them
//! nothing changes that another process could see. `TWOTOWER_FAIL_LOG=FILE` writes down each point as it is passed;
//! `TWOTOWER_FAIL_AT=POINT` kills the process there, as SIGKILL does. `TWOTOWER_STALL_AT` waits at the first point that begins so, as
//! for a store that does not answer: for ever, or until the file `TWOTOWER_STALL_WHILE` is gone. `TWOTOWER_BLOCK_AT` waits for ever without
//! letting anything else go on in its thread, as a computation does that cannot be interrupted.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path as Key;
use object_store::*;

/// `store`, with fail points for what lies below `prefix`, if the environment asks for them.
pub(super) fn watched(store: Arc<dyn ObjectStore>, prefix: &Key) -> Arc<dyn ObjectStore> {
    let (log, at) = (std::env::var_os("TWOTOWER_FAIL_LOG"), |name| std::env::var(name).ok());
    let (kill, stall, block) = (at("TWOTOWER_FAIL_AT"), at("TWOTOWER_STALL_AT"), at("TWOTOWER_BLOCK_AT"));
    if log.is_none() && kill.is_none() && stall.is_none() && block.is_none() {
        return store;
    }
    let log =
        log.map(|file| std::fs::OpenOptions::new().create(true).append(true).open(file).expect("a writable file"));
    Arc::new(Watched {
        inner: store,
        points: Arc::new(Points {
            prefix: prefix.clone(),
            log: log.map(Mutex::new),
            kill,
            stall,
            stall_while: std::env::var_os("TWOTOWER_STALL_WHILE").map(PathBuf::from),
            block,
            passed: Mutex::default(),
        }),
    })
}

struct Points {
    prefix: Key,
    log: Option<Mutex<std::fs::File>>,
    kill: Option<String>,
    stall: Option<String>,
    /// None: for ever.
    stall_while: Option<PathBuf>,
    block: Option<String>,
    passed: Mutex<HashMap<String, u32>>,
}

impl Points {
    /// `before put releases/N.json #1`: the key without what differs from run to run, and how often that point was passed.
    /// True where one is to wait.
    fn pass(&self, what: &str, key: &Key) -> bool {
        let key = key.as_ref().strip_prefix(self.prefix.as_ref()).unwrap_or(key.as_ref()).trim_start_matches('/');
        let name = format!("{what} {}", shape(key));
        let count = {
            let mut passed = self.passed.lock().expect("no holder of this lock panics");
            let count = passed.entry(name.clone()).or_default();
            *count += 1;
            *count
        };
        let point = format!("{name} #{count}");
        if let Some(log) = &self.log {
            let mut log = log.lock().expect("no holder of this lock panics");
            writeln!(log, "{point}").expect("the log of fail points can be written");
        }
        if self.kill.as_ref() == Some(&point) {
            // SAFETY: a signal to this process, which does not return
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
        let begins = |at: &Option<String>| at.as_ref().is_some_and(|at| point.starts_with(at));
        while begins(&self.block) {
            std::thread::park();
        }
        begins(&self.stall)
    }

    async fn stalled(&self) {
        while self.stall_while.as_ref().is_none_or(|file| file.exists()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The last three parts of a key, with `N` for parts that hold a number, an id or a digest.
fn shape(key: &str) -> String {
    let parts: Vec<&str> = key.split('/').collect();
    let part = |part: &&str| {
        let (name, end) = part.split_once('.').unwrap_or((part, ""));
        let digits = name.bytes().filter(u8::is_ascii_digit).count();
        let plain = name.starts_with("part-") || name.starts_with("dt=") || digits < 5;
        match (plain, end) {
            (true, _) => part.to_string(),
            (false, "") => "N".into(),
            (false, end) => format!("N.{end}"),
        }
    };
    parts[parts.len().saturating_sub(3)..].iter().map(part).collect::<Vec<_>>().join("/")
}

struct Watched {
    inner: Arc<dyn ObjectStore>,
    points: Arc<Points>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.inner)
    }
}

impl std::fmt::Display for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Watched {
    async fn put_opts(&self, key: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if self.points.pass("before put", key) {
            self.points.stalled().await;
        }
        let done = self.inner.put_opts(key, payload, options).await;
        self.points.pass("after put", key);
        done
    }

    async fn put_multipart_opts(&self, key: &Key, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.points.pass("before upload", key);
        let inner = self.inner.put_multipart_opts(key, options).await?;
        Ok(Box::new(WatchedUpload { inner, points: self.points.clone(), key: key.clone() }))
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(key, options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        let (before, after) = (self.points.clone(), self.points.clone());
        let keys = keys.inspect(move |key| {
            if let Ok(key) = key {
                before.pass("before delete", key);
            }
        });
        let deleted = self.inner.delete_stream(keys.boxed());
        deleted
            .inspect(move |key| {
                if let Ok(key) = key {
                    after.pass("after delete", key);
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct WatchedUpload {
    inner: Box<dyn MultipartUpload>,
    points: Arc<Points>,
    key: Key,
}

impl std::fmt::Debug for Points {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Points")
    }
}

#[async_trait]
impl MultipartUpload for WatchedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.points.pass("before part of", &self.key);
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.points.pass("before complete", &self.key);
        let done = self.inner.complete().await;
        self.points.pass("after complete", &self.key);
        done
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::shape;

    #[test]
    fn a_point_has_the_same_name_in_every_run() {
        let run = "runs/dt=2026-11-20/20261124T182245Z-ca3015/model/towers.safetensors";
        assert_eq!(shape(run), "N/model/towers.safetensors");
        assert_eq!(shape("releases/00000012.json"), "releases/N.json");
        let table = "samples/dt=2026-11-20/7a5ccc4a3b170c40/20261124T182245Z-ca3015/positives/part-00000.parquet";
        assert_eq!(shape(table), "N/positives/part-00000.parquet");
    }
}
