//! Requests that must not hold up a job.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder};
use url::Url;

const CONNECT: Duration = Duration::from_secs(2);
/// For one request with its answer.
const WHOLE: Duration = Duration::from_secs(5);
/// What is shown of an answer.
const SHOWN: usize = 200;

/// Pushes to a Pushgateway. A whole set replaces what the job had there (PUT); another replaces only the metrics that it holds
/// (POST), so that the time of the last success outlives a failure.
pub async fn push(gateway: &str, text: &str, name: &str, command: &str, whole: bool) -> Result<(), String> {
    let mut url = Url::parse(gateway).map_err(|error| format!("it is not a URL ({error})"))?;
    let segment = |text: &str| text.replace('/', "-");
    url.path_segments_mut().map_err(|()| "it is not a URL with a host".to_string())?.pop_if_empty().extend([
        "metrics",
        "job",
        "twotower",
        "name",
        &segment(name),
        "command",
        &segment(command),
    ]);
    let method = if whole { Method::PUT } else { Method::POST };
    let request = client()?.request(method, url).header("content-type", "text/plain; version=0.0.4");
    send(request.body(text.to_string())).await
}

/// Posts one JSON document.
pub async fn post_json(url: &str, key: Option<&str>, text: String) -> Result<(), String> {
    let mut request = client()?.post(url).header("content-type", "application/json").body(text);
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    send(request).await
}

fn client() -> Result<Client, String> {
    let client = Client::builder()
        .connect_timeout(CONNECT)
        .timeout(WHOLE)
        .user_agent(concat!("twotower/", env!("CARGO_PKG_VERSION")))
        .build();
    client.map_err(|error| why(&error))
}

async fn send(request: RequestBuilder) -> Result<(), String> {
    let answer = request.send().await.map_err(|error| why(&error.without_url()))?;
    if answer.status().is_success() {
        return Ok(());
    }
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(format!("it answered {status} {}", words.chars().take(SHOWN).collect::<String>()).trim_end().to_string())
}

/// The innermost cause: the ones around it say the same in more words.
fn why(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", WHOLE.as_secs());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_connect() { format!("cannot connect: {cause}") } else { cause.to_string() }
}

/// A URL without user and password.
pub fn shown(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return url.to_string() };
    let _ = (url.set_password(None), url.set_username(""));
    url.to_string()
}
