//! Where a run leaves word for the machines that watch it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::load::require;
use crate::error::Result;

/// Figures for Prometheus.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// File for the node exporter's textfile collector, `/var/lib/node_exporter/twotower.prom` for example; a relative path counts
    /// from the folder of this file. Jobs of other names keep their lines in it. `--metrics-file` or `TWOTOWER_METRICS_FILE`
    /// name another.
    pub textfile: Option<String>,
    /// Pushgateway to push to, like `http://pushgateway:9091`; `--pushgateway` or `TWOTOWER_PUSHGATEWAY` name another, and the
    /// variable alone may hold a user and password. A failed run leaves what it did not measure as it was, so the time of the
    /// last success stays.
    pub pushgateway: Option<String>,
}

/// Events for OpenLineage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lineage {
    /// Server that takes the events; `OPENLINEAGE_URL` names another. `OPENLINEAGE_ENDPOINT` is `api/v1/lineage` when not given,
    /// and `OPENLINEAGE_API_KEY` goes along as a bearer token.
    pub url: Option<String>,
    /// Local file that takes them, one a line; a relative path counts from the folder of this file.
    pub file: Option<String>,
    /// Namespace of the job; `OPENLINEAGE_NAMESPACE` names another.
    pub namespace: String,
}

impl Default for Lineage {
    fn default() -> Self {
        Lineage { url: None, file: None, namespace: "twotower".into() }
    }
}

impl Metrics {
    pub(super) fn validate(&self) -> Result<()> {
        local("metrics.textfile", self.textfile.as_deref())?;
        server("metrics.pushgateway", self.pushgateway.as_deref(), "TWOTOWER_PUSHGATEWAY")
    }
}

impl Lineage {
    pub(super) fn validate(&self) -> Result<()> {
        local("lineage.file", self.file.as_deref())?;
        server("lineage.url", self.url.as_deref(), "OPENLINEAGE_API_KEY")
    }
}

fn local(key: &str, path: Option<&str>) -> Result<()> {
    let fits = path.is_none_or(|path| !path.is_empty() && !path.contains("://"));
    require(fits, key, &format!("`{}`", path.unwrap_or_default()), "a local file, because lines are added to it")
}

fn server(key: &str, url: Option<&str>, variable: &str) -> Result<()> {
    let Some(text) = url else { return Ok(()) };
    let url = Url::parse(text).ok().filter(|url| url.has_host() && ["http", "https"].contains(&url.scheme()));
    let expected = "a URL like http://host:9091";
    require(url.is_some(), key, &format!("`{text}`"), expected)?;
    let plain = url.is_some_and(|url| url.password().is_none() && url.username().is_empty());
    require(plain, key, "a URL with a user or password", &format!("secrets in the environment alone: {variable}"))
}
