//! A store over the network that is asked again.
//!
//! object_store repeats a request that was answered with 5xx or 429, or whose connection broke, and goes on with a body that broke
//! off, all within one time that runs from the request's start. What it leaves out is done here: a body that takes longer to
//! read than that time; one that ends too early without an error; a listing or a deletion whose answer broke off. What is not
//! repeated here is create-if-absent, whose second answer would not tell what the first one did: who creates reads back.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::*;
use tracing::info;

/// The first pause before a repetition; each one after is twice as long, up to the longest.
const PAUSE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// `inner`, asked again for `patience`.
#[derive(Debug, Clone)]
pub(super) struct Patient {
    inner: Arc<dyn ObjectStore>,
    patience: Duration,
}

impl Patient {
    pub fn new(inner: Arc<dyn ObjectStore>, patience: Duration) -> Self {
        Patient { inner, patience }
    }

    /// Repeats `ask` until it succeeds, fails in a way that another try cannot help, or the time is over.
    async fn again<T, F: Future<Output = Result<T>>>(
        &self,
        what: &str,
        key: &Key,
        mut ask: impl FnMut() -> F,
    ) -> Result<T> {
        let mut tries = Tries::new(self.patience);
        loop {
            match ask().await {
                Err(error) => tries.next(what, key, error).await?,
                done => return done,
            }
        }
    }
}

/// How long and how often something was tried.
struct Tries {
    since: Instant,
    patience: Duration,
    pause: Duration,
}

impl Tries {
    fn new(patience: Duration) -> Self {
        Tries { since: Instant::now(), patience, pause: PAUSE[0] }
    }

    /// Waits before the next try, or gives `error` back when there should be none.
    async fn next(&mut self, what: &str, key: &Key, error: Error) -> Result<()> {
        if !may_pass(&error) || self.since.elapsed() + self.pause > self.patience {
            return Err(error);
        }
        info!("cannot {what} {key}, asking again in {:?}: {error}", self.pause);
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE[1]);
        Ok(())
    }
}

/// Whether the same request may succeed later. Answers of the kind 4xx stay what they are.
fn may_pass(error: &Error) -> bool {
    matches!(error, Error::Generic { .. }) && !super::store::full_text(error).contains("non-2xx status code: 4")
}

impl std::fmt::Display for Patient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Patient {
    async fn put_opts(&self, key: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if options.mode != PutMode::Overwrite {
            return self.inner.put_opts(key, payload, options).await;
        }
        self.again("write", key, || self.inner.put_opts(key, payload.clone(), options.clone())).await
    }

    async fn put_multipart_opts(&self, key: &Key, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.again("write", key, || self.inner.put_multipart_opts(key, options.clone())).await
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let found = self.again("read", key, || self.inner.get_opts(key, options.clone())).await?;
        if options.head {
            return Ok(found);
        }
        let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
        let body = Body {
            store: self.clone(),
            options: GetOptions { version: options.version, extensions: options.extensions, ..Default::default() },
            meta: meta.clone(),
            left: range.clone(),
            stream: found.into_stream(),
        };
        let stream =
            futures::stream::try_unfold(
                body,
                |mut body| async move { Ok(body.next().await?.map(|bytes| (bytes, body))) },
            );
        Ok(GetResult { payload: GetResultPayload::Stream(stream.boxed()), meta, range, attributes })
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        let store = self.clone();
        let delete = move |key: Result<Key>| {
            let store = store.clone();
            async move {
                let key = key?;
                let one = || futures::stream::iter([Ok(key.clone())]).boxed();
                store.again("delete", &key, || store.inner.delete_stream(one()).try_collect::<Vec<_>>()).await?;
                Ok(key)
            }
        };
        keys.map(delete).buffered(10).boxed()
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            let key = prefix.clone().unwrap_or_default();
            store.again("list", &key, || store.inner.list(prefix.as_ref()).try_collect::<Vec<_>>()).await
        };
        futures::stream::once(listed).map_ok(|all| futures::stream::iter(all).map(Ok)).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        let key = prefix.cloned().unwrap_or_default();
        self.again("list", &key, || self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A body that is being read, and goes on after a break.
struct Body {
    store: Patient,
    options: GetOptions,
    meta: ObjectMeta,
    /// What is still to come.
    left: Range<u64>,
    stream: BoxStream<'static, Result<Bytes>>,
}

impl Body {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let mut tries = Tries::new(self.store.patience);
        loop {
            let error = match self.stream.next().await {
                Some(Ok(bytes)) => {
                    let found = bytes.len() as u64;
                    if found > self.left.end - self.left.start {
                        return Err(self.wrong("longer"));
                    }
                    self.left.start += found;
                    return Ok(Some(bytes));
                }
                None if self.left.is_empty() => return Ok(None),
                None => self.wrong("shorter"),
                Some(Err(error)) => error,
            };
            tries.next("read on", &self.meta.location, error).await?;
            let (store, options, meta, left) = (&self.store, &self.options, &self.meta, &self.left);
            match reopen(store, options, meta, left).await {
                Ok(stream) => self.stream = stream,
                // the next turn of the loop counts it
                Err(error) => self.stream = futures::stream::iter([Err(error)]).boxed(),
            }
        }
    }

    fn wrong(&self, how: &str) -> Error {
        let text = format!("the body of {} was {how} than its length", self.meta.location);
        Error::Generic { store: "S3", source: text.into() }
    }
}

/// The rest of the same object.
async fn reopen(
    store: &Patient,
    options: &GetOptions,
    meta: &ObjectMeta,
    left: &Range<u64>,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let range = Some(GetRange::Bounded(left.clone()));
    let options = GetOptions { range, if_match: meta.e_tag.clone(), ..options.clone() };
    let found = store.inner.get_opts(&meta.location, options).await?;
    let same = (found.meta.size, &found.meta.e_tag) == (meta.size, &meta.e_tag);
    if !same || meta.e_tag.is_none() && found.meta.last_modified != meta.last_modified {
        let path = meta.location.to_string();
        return Err(Error::Precondition { path, source: "it was changed while it was read".into() });
    }
    Ok(found.into_stream())
}

#[cfg(test)]
mod tests;
