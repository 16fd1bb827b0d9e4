//! From a URL to a store.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::Store;
use super::credentials::from_profile;
use super::patient::Patient;
use crate::error::{Error, Result};

/// How long one request may take; `AWS_TIMEOUT` overrides it. A request that hangs is repeated after that time, and a longer body is
/// read in several.
const REQUEST: Duration = Duration::from_secs(30);
/// How long a request is repeated before the job leaves with "try again". Several times [`REQUEST`], so that one that hangs is
/// asked again.
const PATIENCE: Duration = Duration::from_secs(120);

/// One `memory://name` is one store for the whole process.
static MEMORY: LazyLock<Mutex<HashMap<String, Arc<InMemory>>>> = LazyLock::new(Default::default);

/// Opens `url`: a local path, `file://`, `s3://bucket/prefix` or `memory://name/prefix`. Nothing is contacted yet.
pub fn open(url: &str) -> Result<Store> {
    match url.split_once("://") {
        None => local(Path::new(url)),
        Some(("file", path)) => local(Path::new(path)),
        Some(("s3" | "s3a", rest)) => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            s3(bucket, prefix)
        }
        Some(("memory", rest)) => {
            let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let mut all = MEMORY.lock().expect("no holder of this lock panics");
            let store: Arc<dyn ObjectStore> = all.entry(name.to_string()).or_default().clone();
            Ok(Store::new(store, parse_url(&format!("memory://{name}"))?, parse_key(prefix)?, url.to_string()))
        }
        Some((scheme, _)) => Err(Error::config(format!(
            "`{url}`: storage `{scheme}://` is not known; use a local path, s3:// or memory://"
        ))),
    }
}

fn local(path: &Path) -> Result<Store> {
    let path = std::path::absolute(path)
        .map_err(|error| Error::config(format!("`{}` is not a usable path", path.display())).caused_by(error))?;
    let path = without_dots(&path);
    let key = Key::from_absolute_path(&path)
        .map_err(|error| Error::config(format!("`{}` is not a usable path", path.display())).caused_by(error))?;
    let store = LocalFileSystem::new().with_automatic_cleanup(false);
    Ok(Store::new(Arc::new(store), parse_url("file://")?, key, path.to_string_lossy().into_owned()))
}

/// `/a/../b` as `/b`, which the store's keys cannot say.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

fn s3(bucket: &str, prefix: &str) -> Result<Store> {
    if bucket.is_empty() {
        return Err(Error::config("`s3://` without a bucket; write it like s3://my-bucket/prefix"));
    }
    // soon at first, since one request in a hundred that is refused should not be felt; then ever more seldom
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(5), max_backoff: Duration::from_secs(5), base: 3.0 };
    // the time decides, not the number
    let retry = RetryConfig { backoff, max_retries: 1000, retry_timeout: patience() };
    let client = ClientOptions::new().with_timeout(REQUEST).with_connect_timeout(Duration::from_secs(5));
    // from_env would take the client's own AWS_ALLOW_HTTP too, so the options come first
    let mut builder = AmazonS3Builder::new().with_client_options(client);
    for (name, value) in std::env::vars() {
        if let Some(key) = name.strip_prefix("AWS_").and_then(|_| name.to_ascii_lowercase().parse().ok()) {
            builder = builder.with_config(key, value);
        }
    }
    if let Ok(endpoint) = std::env::var("AWS_ENDPOINT_URL_S3").or_else(|_| std::env::var("AWS_ENDPOINT_URL")) {
        let plain = endpoint.starts_with("http://");
        builder = builder.with_endpoint(endpoint).with_allow_http(plain);
    }
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_none()
        && let Some(profile) = from_profile()?
    {
        builder = builder.with_access_key_id(profile.access_key_id).with_secret_access_key(profile.secret_access_key);
        if let Some(token) = profile.session_token {
            builder = builder.with_token(token);
        }
        if let (Some(region), None) = (profile.region, std::env::var_os("AWS_REGION")) {
            builder = builder.with_region(region);
        }
    }
    let store = builder
        .with_bucket_name(bucket)
        .with_retry(retry)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .build()
        .map_err(|error| {
            Error::config(format!("s3://{bucket}: the store cannot be set up; look at AWS_REGION, AWS_ENDPOINT_URL and the credentials in the environment"))
                .caused_by(error)
        })?;
    let url = format!("s3://{bucket}");
    let full = if prefix.is_empty() { url.clone() } else { format!("{url}/{prefix}") };
    let store = Patient::new(Arc::new(store), patience());
    Ok(Store::new(Arc::new(store), parse_url(&url)?, parse_key(prefix)?, full))
}

/// `TWOTOWER_RETRY_SECONDS`, or [`PATIENCE`].
fn patience() -> Duration {
    let seconds = std::env::var("TWOTOWER_RETRY_SECONDS").ok().and_then(|text| text.parse().ok());
    seconds.map_or(PATIENCE, Duration::from_secs)
}

fn parse_key(prefix: &str) -> Result<Key> {
    Key::parse(prefix.trim_matches('/'))
        .map_err(|error| Error::config(format!("`{prefix}` is not a usable prefix")).caused_by(error))
}

fn parse_url(url: &str) -> Result<Url> {
    let url = if url.ends_with("://") { format!("{url}/") } else { url.to_string() };
    Url::parse(&url).map_err(|error| Error::config(format!("`{url}` is not a URL")).caused_by(error))
}
