//! Where word is left: from the command line, the environment, the config, in this order.

use std::path::PathBuf;

use crate::config::Config;

/// What the command line, or its variables, name.
#[derive(Debug, Clone, Default)]
pub struct Given {
    pub textfile: Option<PathBuf>,
    pub pushgateway: Option<String>,
}

/// Every place that is told; none of them need be there.
#[derive(Debug, Clone, Default)]
pub struct Places {
    pub textfile: Option<PathBuf>,
    pub pushgateway: Option<String>,
    pub lineage_file: Option<PathBuf>,
    /// Full URL that events go to.
    pub lineage_url: Option<String>,
    pub lineage_key: Option<String>,
    pub lineage_namespace: String,
    /// `namespace/job/run id` of the run that this one is a part of, and of that one's root.
    pub parent: Option<String>,
    pub root: Option<String>,
}

impl Places {
    pub fn new(config: &Config, given: Given, variable: impl Fn(&str) -> Option<String>) -> Places {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let local = |path: &String| PathBuf::from(config.resolve(path));
        let off = variable("OPENLINEAGE_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let url = variable("OPENLINEAGE_URL").or(config.lineage.url.clone()).map(|url| {
            let endpoint = variable("OPENLINEAGE_ENDPOINT").unwrap_or("api/v1/lineage".into());
            format!("{}/{}", url.trim_end_matches('/'), endpoint.trim_start_matches('/'))
        });
        Places {
            textfile: given.textfile.or_else(|| config.metrics.textfile.as_ref().map(local)),
            pushgateway: given.pushgateway.or_else(|| config.metrics.pushgateway.clone()),
            lineage_file: config.lineage.file.as_ref().map(local).filter(|_| !off),
            lineage_url: url.filter(|_| !off),
            lineage_key: variable("OPENLINEAGE_API_KEY"),
            lineage_namespace: variable("OPENLINEAGE_NAMESPACE").unwrap_or(config.lineage.namespace.clone()),
            parent: variable("OPENLINEAGE_PARENT_ID"),
            root: variable("OPENLINEAGE_ROOT_PARENT_ID"),
        }
    }

    pub fn has_lineage(&self) -> bool {
        self.lineage_file.is_some() || self.lineage_url.is_some()
    }

    pub fn is_empty(&self) -> bool {
        !self.has_lineage() && self.textfile.is_none() && self.pushgateway.is_none()
    }
}
