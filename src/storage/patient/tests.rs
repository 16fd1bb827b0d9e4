use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use object_store::memory::InMemory;

use super::*;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// An answer that object_store does not repeat.
    Broken,
    /// The body breaks off with an error after so many bytes.
    Breaks(usize),
    /// It ends after so many bytes as if that were all.
    Ends(usize),
    /// It has bytes too many.
    Grows,
    Refused,
}

/// A store in memory whose requests meet faults in turn.
#[derive(Debug)]
struct Faulty {
    inner: InMemory,
    faults: Mutex<Vec<Fault>>,
    asked: AtomicUsize,
}

impl Faulty {
    fn next(&self) -> Fault {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.faults.lock().unwrap().pop().unwrap_or(Fault::None)
    }

    fn before(&self) -> Result<Fault> {
        match self.next() {
            Fault::Broken => Err(Error::Generic { store: "test", source: "the answer broke off".into() }),
            Fault::Refused => {
                let source = "Server returned non-2xx status code: 400 Bad Request".into();
                Err(Error::Generic { store: "test", source })
            }
            other => Ok(other),
        }
    }
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, key: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let done = self.inner.put_opts(key, payload, options).await;
        self.before()?;
        done
    }

    async fn put_multipart_opts(&self, key: &Key, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let fault = self.before()?;
        let found = self.inner.get_opts(key, options).await?;
        let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
        let bytes = found.bytes().await?;
        let lost = || Error::Generic { store: "test", source: "reset".into() };
        let parts = match fault {
            Fault::Breaks(at) => vec![Ok(bytes.slice(..at.min(bytes.len()))), Err(lost())],
            Fault::Ends(at) => vec![Ok(bytes.slice(..at.min(bytes.len())))],
            Fault::Grows => vec![Ok(bytes), Ok("more".into())],
            _ => vec![Ok(bytes)],
        };
        Ok(GetResult {
            payload: GetResultPayload::Stream(futures::stream::iter(parts).boxed()),
            meta,
            range,
            attributes,
        })
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        let deleted = self.inner.delete_stream(keys);
        let fault = self.before();
        deleted.map(move |key| key.and_then(|key| fault.as_ref().map(|_| key).map_err(|_| broken()))).boxed()
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        let all = self.inner.list(prefix);
        match self.before() {
            Ok(_) => all,
            // a part of the listing came
            Err(error) => all.take(1).chain(futures::stream::iter([Err(error)])).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.before()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn broken() -> Error {
    Error::Generic { store: "test", source: "the answer broke off".into() }
}

/// A store with ten bytes under `a` and one under `b`, whose next requests meet these faults, the first first.
async fn store(faults: &[Fault]) -> (Arc<Faulty>, Patient) {
    let inner = InMemory::new();
    inner.put(&Key::from("f/a"), "0123456789".into()).await.unwrap();
    inner.put(&Key::from("f/b"), "x".into()).await.unwrap();
    let faults = faults.iter().rev().copied().collect();
    let faulty = Arc::new(Faulty { inner, faults: Mutex::new(faults), asked: AtomicUsize::new(0) });
    (faulty.clone(), Patient::new(faulty, Duration::from_millis(1500)))
}

#[tokio::test]
async fn a_body_goes_on_where_it_broke_off_or_ended_too_early() {
    let faults = [Fault::Broken, Fault::Breaks(3), Fault::Broken, Fault::Ends(2), Fault::Ends(0)];
    let (faulty, store) = store(&faults).await;
    let found = store.get(&Key::from("f/a")).await.unwrap();
    assert_eq!(found.bytes().await.unwrap(), "0123456789");
    assert_eq!(faulty.asked.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn a_range_and_an_object_of_no_bytes_are_whole_too() {
    let (_, store) = store(&[Fault::Ends(1), Fault::None]).await;
    assert_eq!(store.get_range(&Key::from("f/a"), 2..5).await.unwrap(), "234");
    store.put(&Key::from("f/none"), PutPayload::new()).await.unwrap();
    assert_eq!(store.get(&Key::from("f/none")).await.unwrap().bytes().await.unwrap(), "");
    assert_eq!(store.head(&Key::from("f/a")).await.unwrap().size, 10);
}

#[tokio::test]
async fn an_object_that_changes_while_it_is_read_is_never_two_objects_in_one() {
    let (faulty, store) = store(&[Fault::Breaks(3)]).await;
    let found = store.get(&Key::from("f/a")).await.unwrap();
    faulty.inner.put(&Key::from("f/a"), "abcdefghij".into()).await.unwrap();
    assert!(found.bytes().await.is_err());
}

#[tokio::test]
async fn a_body_with_bytes_too_many_is_refused() {
    let (_, store) = store(&[Fault::Grows]).await;
    assert!(store.get(&Key::from("f/a")).await.unwrap().bytes().await.is_err());
}

#[tokio::test]
async fn listings_deletions_and_writes_whose_answer_broke_off_are_repeated() {
    let (_, store) = store(&[Fault::Broken, Fault::None, Fault::Broken]).await;
    let all: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
    assert_eq!(all.len(), 2, "each object once");
    store.delete(&Key::from("f/b")).await.unwrap();
    assert!(matches!(store.head(&Key::from("f/b")).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_creation_whose_answer_was_lost_is_not_repeated_and_a_refusal_neither() {
    let (faulty, store) = store(&[Fault::Broken, Fault::Refused]).await;
    let create = PutOptions { mode: PutMode::Create, ..Default::default() };
    assert!(store.put_opts(&Key::from("f/c"), "c".into(), create).await.is_err());
    assert!(store.get(&Key::from("f/a")).await.is_err());
    assert_eq!(faulty.asked.load(Ordering::SeqCst), 2);
    assert_eq!(faulty.inner.get(&Key::from("f/c")).await.unwrap().bytes().await.unwrap(), "c");
}

#[tokio::test]
async fn patience_ends() {
    let (faulty, store) = store(&[Fault::Broken; 100]).await;
    assert!(store.list_with_delimiter(None).await.is_err());
    assert!((3..20).contains(&faulty.asked.load(Ordering::SeqCst)));
}
