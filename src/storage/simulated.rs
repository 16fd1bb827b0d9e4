//! A store in memory for simulations: it pauses around every call, so that a scheduler decides who goes on; it has its own time; and
//! its answers may get lost.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::*;
use url::Url;

use super::Store;
use crate::kernels::random::{GOLDEN, splitmix64};

/// What all processes of one simulation share.
pub struct World {
    inner: InMemory,
    /// Milliseconds, shared with [`super::Clock::Simulated`].
    pub now: Arc<AtomicU64>,
    dates: Mutex<HashMap<Key, u64>>,
    random: AtomicU64,
    /// One answer in so many is lost; 0 for none.
    lossy: u64,
    /// Requests whose sender has given up, and which the store may still carry out.
    ghosts: Mutex<Vec<Ghost>>,
    /// Grows with every change but a lease's, of which there are many.
    pub changes: AtomicU64,
}

enum Ghost {
    Put(Key, PutPayload, PutOptions),
    Delete(Key),
}

impl World {
    pub fn new(seed: u64, lossy: u64) -> Arc<World> {
        Arc::new(World {
            inner: InMemory::new(),
            now: Arc::new(AtomicU64::new(0)),
            dates: Mutex::default(),
            random: AtomicU64::new(splitmix64(seed)),
            lossy,
            ghosts: Mutex::default(),
            changes: AtomicU64::new(0),
        })
    }

    /// The world as a process sees it.
    pub fn store(self: &Arc<World>) -> Store {
        self.open(true)
    }

    /// The world as it is: every call is answered at once.
    pub fn plain(self: &Arc<World>) -> Store {
        self.open(false)
    }

    fn open(self: &Arc<World>, paused: bool) -> Store {
        let root = Url::parse("memory://simulated").expect("it is a URL");
        Store::new(Arc::new(Simulated { world: self.clone(), paused }), root, Key::default(), "simulated".into())
    }

    /// Carries out a request that its sender has given up, if there is one.
    pub fn haunt(&self) {
        let ghost = {
            let mut ghosts = self.ghosts.lock().unwrap();
            let count = ghosts.len() as u64;
            (count > 0).then(|| ghosts.swap_remove(self.draw(count) as usize))
        };
        match ghost {
            Some(Ghost::Put(key, payload, options)) => drop(self.put(&key, payload, options).now_or_never()),
            Some(Ghost::Delete(key)) => drop(self.delete(&key)),
            None => {}
        }
    }

    pub fn draw(&self, below: u64) -> u64 {
        let state = self.random.fetch_add(GOLDEN, Ordering::SeqCst);
        splitmix64(state) % below
    }

    async fn put(&self, key: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let done = self.inner.put_opts(key, payload, options).await?;
        self.dates.lock().unwrap().insert(key.clone(), self.now.load(Ordering::SeqCst));
        self.changed(key);
        Ok(done)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.changed(key);
        ObjectStoreExt::delete(&self.inner, key).now_or_never().expect("memory does not wait")
    }

    fn changed(&self, key: &Key) {
        self.changes.fetch_add(u64::from(!key.as_ref().starts_with("leases/")), Ordering::SeqCst);
    }

    fn dated(&self, mut meta: ObjectMeta) -> ObjectMeta {
        let date = self.dates.lock().unwrap().get(&meta.location).copied().unwrap_or(0);
        meta.last_modified = time(date);
        meta
    }

    fn loses(&self, paused: bool) -> bool {
        paused && self.lossy > 0 && self.draw(self.lossy) == 0
    }
}

/// Simulated time begins in 2100, after every date that real code takes from the real clock.
fn time(milliseconds: u64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(4_102_444_800_000 + milliseconds as i64).expect("it is a date")
}

struct Simulated {
    world: Arc<World>,
    paused: bool,
}

impl Simulated {
    /// Gives the scheduler a chance to let others go first, or to end this process.
    async fn pause(&self) {
        pause(self.paused).await;
    }
}

async fn pause(paused: bool) {
    let mut waited = !paused;
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn lost() -> Error {
    Error::Generic { store: "simulated", source: "the answer got lost".into() }
}

impl std::fmt::Debug for Simulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Simulated")
    }
}

impl std::fmt::Display for Simulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Simulated")
    }
}

#[async_trait]
impl ObjectStore for Simulated {
    async fn put_opts(&self, key: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.pause().await;
        if self.world.loses(self.paused) {
            // done, to be done later, or never
            match self.world.draw(3) {
                0 => drop(self.world.put(key, payload, options).await),
                1 => self.world.ghosts.lock().unwrap().push(Ghost::Put(key.clone(), payload, options)),
                _ => {}
            }
            self.pause().await;
            return Err(lost());
        }
        let done = self.world.put(key, payload, options).await;
        self.pause().await;
        done
    }

    async fn put_multipart_opts(&self, key: &Key, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.world.inner.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        self.pause().await;
        if self.world.loses(self.paused) {
            return Err(lost());
        }
        let found = self.world.inner.get_opts(key, options).await;
        self.pause().await;
        let found = found?;
        Ok(GetResult { meta: self.world.dated(found.meta.clone()), ..found })
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        let (world, paused) = (self.world.clone(), self.paused);
        keys.then(move |key| {
            let world = world.clone();
            async move {
                let key = key?;
                pause(paused).await;
                if world.loses(paused) {
                    world.ghosts.lock().unwrap().push(Ghost::Delete(key));
                    return Err(lost());
                }
                let done = world.delete(&key);
                pause(paused).await;
                done.map(|()| key)
            }
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (world, paused, prefix) = (self.world.clone(), self.paused, prefix.cloned());
        futures::stream::once(async move {
            pause(paused).await;
            if world.loses(paused) {
                return futures::stream::iter(vec![Err(lost())]);
            }
            let found: Vec<Result<ObjectMeta>> =
                world.inner.list(prefix.as_ref()).map_ok(|meta| world.dated(meta)).collect().await;
            pause(paused).await;
            futures::stream::iter(found)
        })
        .flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.pause().await;
        if self.world.loses(self.paused) {
            return Err(lost());
        }
        let mut found = self.world.inner.list_with_delimiter(prefix).await?;
        found.objects = found.objects.into_iter().map(|meta| self.world.dated(meta)).collect();
        self.pause().await;
        Ok(found)
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.world.inner.copy_opts(from, to, options).await
    }
}
