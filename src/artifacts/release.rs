//! A release: the one object whose creation publishes a model, its vectors and its index together.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{IdType, RunDate};
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
    /// For a rollback: the release whose files it points at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_of: Option<u64>,
    /// First and last day of data in the samples.
    pub data_window: (RunDate, RunDate),
    pub config_digest: String,
    pub sql_digest: String,
    pub inputs_digest: String,
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
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GateResult {
    pub name: String,
    pub passed: bool,
    pub value: Option<f64>,
    /// The limit it was held against, in words.
    pub expected: String,
}
