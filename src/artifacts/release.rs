//! A release: the one object whose creation publishes a model, its vectors and its index together.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Digests, IdType, Parent, RunDate};
use crate::storage::FileEntry;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Release {
    pub schema_version: u32,
    pub release: u64,
    pub name: String,
    pub run_id: String,
    pub date: RunDate,
    pub created: DateTime<Utc>,
    /// The release it started from; `None` for a cold start.
    pub parent: Option<u64>,
    /// The same in full, also for a parent that was never made a release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_from: Option<Parent>,
    /// For a rollback: the release whose files it points at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_of: Option<u64>,
    /// First and last day of data in the samples.
    pub data_window: (RunDate, RunDate),
    pub config_digest: String,
    /// The settings that it depends on, as the config has them; null in older manifests.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub settings: Value,
    pub sql_digest: String,
    pub inputs_digest: String,
    #[serde(default)]
    pub digests: Digests,
    pub dim: usize,
    pub metric: String,
    pub items: u64,
    pub user_id_type: IdType,
    pub item_id_type: IdType,
    pub index_factory: String,
    pub search_parameters: String,
    /// Folders below the output, for readers: samples, model, embeddings, index, report.
    pub samples: String,
    pub model: String,
    pub embeddings: String,
    pub index: String,
    pub report: String,
    /// Every file of the release, with size and SHA-256.
    pub files: Vec<FileEntry>,
    /// The numbers to compare releases by.
    pub metrics: Value,
    pub gates: Vec<GateResult>,
    /// How it came to be published.
    #[serde(default)]
    pub publication: Publication,
}

impl Release {
    /// What lies in the store for it: its files, and its report.
    pub fn all_files(&self) -> impl Iterator<Item = &FileEntry> {
        self.files.iter().chain(&self.publication.report)
    }

    /// Where people look at it; the folder of its figures where it has no such page.
    pub fn report_page(&self) -> &str {
        let page = self.publication.report.iter().find(|file| file.key.ends_with(".html"));
        page.map_or(&self.report, |file| &file.key)
    }

    /// Recall at its largest K; `None` where nothing was measured.
    pub fn recall(&self) -> Option<f64> {
        let at = self.metrics["exact"].as_object()?;
        let largest = at.iter().filter_map(|(k, at)| Some((k.parse::<u64>().ok()?, at))).max_by_key(|(k, _)| *k)?;
        largest.1["recall"].as_f64().filter(|_| self.metrics["users"].as_u64() > Some(0))
    }
}

/// How a release came to be published.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Publication {
    /// Number of the lease it was published under. A writer with a lower one has lost its turn.
    pub fence: u64,
    /// `user@host` of the process.
    pub by: String,
    /// The release that the gates compared it with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<u64>,
    /// The report, of this candidate as it was held against the gates: `report.html` and `report.json`. It tells times and the releases
    /// before, so that it differs between two runs of the same, and is not among the release's files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub report: Vec<FileEntry>,
    /// Digest of the gates that it was held against.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gates_digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced: Option<Forced>,
}

/// A step back to an earlier release's files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    /// The release that was published before.
    pub from: u64,
    /// The release whose files are published again.
    pub to: u64,
    pub reason: String,
}

/// A release that gates refused and a person published nevertheless.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forced {
    /// The gates it did not pass.
    pub gates: Vec<String>,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateResult {
    pub name: String,
    pub passed: bool,
    pub value: Option<f64>,
    /// The limit it was held against, in words.
    pub expected: String,
}
