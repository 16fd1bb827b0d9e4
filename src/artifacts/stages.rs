//! The manifest of each stage: what was made, from what, and what was measured on the way. A stage whose inputs' digest is
//! already in a manifest need not run again.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{IdType, Parent, RunDate, Statistics, keys};
use crate::error::{Error, Result};
use crate::storage::{FileEntry, Store, unseal};

/// What a stage returns: the files it wrote and what it found out.
pub struct Written<T> {
    pub files: Vec<FileEntry>,
    pub facts: T,
}

/// A stage's manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StageRecord<T> {
    pub schema_version: u32,
    pub stage: String,
    /// Empty for samples, which belong to a date and not to a run.
    pub run_id: String,
    /// Digest of everything the result depends on: inputs, SQL, config, seed, program version.
    pub inputs_digest: String,
    pub files: Vec<FileEntry>,
    pub measured: Measured,
    pub facts: T,
}

/// What a stage cost.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Measured {
    pub seconds: f64,
    /// Largest resident set of the process up to the stage's end, in bytes.
    pub peak_memory: u64,
}

/// A finished stage: its folder below the output and its manifest.
#[derive(Debug, Clone)]
pub struct Done<T> {
    pub folder: String,
    pub record: StageRecord<T>,
}

impl<T: DeserializeOwned> Done<T> {
    /// The finished stage that a release has in `folder`.
    pub async fn read(output: &Store, folder: &str) -> Result<Done<T>> {
        let key = format!("{folder}/{}", keys::MANIFEST);
        let record = unseal(&output.get_existing(&key).await?).map_err(|why| {
            Error::config(format!(
                "{} is not a readable manifest: {why}; restore it, or roll back",
                output.url_of(&key)
            ))
        })?;
        Ok(Done { folder: folder.to_string(), record })
    }
}

pub type SampleSet = Done<SampleFacts>;
pub type TrainedModel = Done<TrainFacts>;
pub type Embeddings = Done<EmbedFacts>;
pub type ItemIndex = Done<IndexFacts>;
pub type Evaluated = Done<EvaluateFacts>;

/// Sample tables.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SampleFacts {
    pub user_id_type: IdType,
    pub item_id_type: IdType,
    pub tables: BTreeMap<String, TableFacts>,
    pub inputs: Vec<InputFile>,
    /// SHA-256 of each SQL file's text, by table.
    pub sql: BTreeMap<String, String>,
    pub audits: Vec<AuditOutcome>,
    #[serde(default)]
    pub statistics: Statistics,
    #[serde(default)]
    pub origins: Origins,
}

/// What sample tables come from beside sources and SQL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origins {
    /// Whose scores made the ranks of hard negatives, in words; absent without such a table.
    pub hard_negatives: Option<String>,
    /// The release that filled `previous_candidates`; absent where nothing reads it, or where there was none.
    pub previous_release: Option<PreviousRelease>,
    /// SHA-256 of the model behind each ranker that the SQL calls.
    pub rankers: BTreeMap<String, String>,
}

/// Which release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousRelease {
    pub release: u64,
    pub date: RunDate,
    pub run_id: String,
}

/// One sample table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TableFacts {
    pub rows: u64,
    pub columns: Vec<Column>,
    pub files: Vec<FileEntry>,
    pub seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    /// The Arrow type as text.
    pub data_type: String,
}

/// One file that the samples were made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    pub source: String,
    pub url: String,
    pub bytes: u64,
    /// The store's version of it: its ETag, or the time it was written where there is none.
    pub version: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditOutcome {
    pub name: String,
    pub outcome: AuditVerdict,
    pub rows: u64,
    /// The first rows it found, as JSON objects.
    pub examples: Vec<serde_json::Value>,
}

/// What became of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditVerdict {
    Passed,
    Warned,
    /// Ends the job, unless its level is `warn`.
    Failed,
    Off,
    /// The job does not have its tables and columns.
    #[serde(rename = "nothing to look at")]
    NothingToLookAt,
}

impl AuditVerdict {
    /// Whether it looked at anything.
    pub fn ran(self) -> bool {
        !matches!(self, AuditVerdict::Off | AuditVerdict::NothingToLookAt)
    }
}

/// A trained model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrainFacts {
    pub dim: usize,
    pub examples: u64,
    pub validation_examples: u64,
    pub best_epoch: u32,
    /// Recall@`training.validation.k` of the best epoch, absent without a validation part.
    pub best_recall: Option<f64>,
    pub epochs: Vec<EpochFacts>,
    /// Positives for which each of `training.objectives` holds.
    #[serde(default)]
    pub objectives: BTreeMap<String, u64>,
    pub temperature: f64,
    /// Rows of each embedding table.
    pub tables: BTreeMap<String, u64>,
    /// What it started from.
    #[serde(default)]
    pub start: StartFacts,
    /// The settings that decide the shape of the weights: a later day with others cannot go on from them.
    #[serde(default)]
    pub shape: serde_json::Value,
    pub examples_per_second: f64,
}

/// What a training started from, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StartFacts {
    /// None for a start from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// In words.
    pub why: String,
    /// Positives of the window that the parent had been taught, and this training was not.
    pub taught_before: u64,
    /// Partitions of days that the parent was taught, and whose rows changed or came only after that: neither has learned the late ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<String>,
    /// Rows that were added to each table, and taken out of it, where it has a vocabulary.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub added: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evicted: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EpochFacts {
    pub epoch: u32,
    pub loss: f64,
    pub recall: Option<f64>,
    pub seconds: f64,
}

/// Item vectors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EmbedFacts {
    pub items: u64,
    pub dim: usize,
    pub item_id_type: IdType,
    /// Vectors with a value that is not finite.
    pub non_finite: u64,
    /// Vectors of norm zero.
    pub zero: u64,
    pub duplicate_ids: u64,
    /// Most that the length of a vector differs from 1, zero ones and those that are not finite left out; none where the model does not
    /// normalise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_error: Option<f64>,
    #[serde(default)]
    pub refresh: RefreshFacts,
}

/// Which vectors were made anew.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RefreshFacts {
    /// In words: why all were, or from which parent the others are.
    pub why: String,
    pub fresh: u64,
    /// Vectors that are the parent's.
    pub kept: u64,
    /// Recall of the probe users with the mixed vectors, and with all of them fresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<RefreshProbe>,
}

/// The measurement that decides whether vectors may be mixed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RefreshProbe {
    pub users: u64,
    pub items: u64,
    pub k: usize,
    pub mixed_recall: f64,
    pub fresh_recall: f64,
    /// The first over the second, and the least that it must be.
    pub ratio: f64,
    pub threshold: f64,
}

/// The index.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IndexFacts {
    pub items: u64,
    pub dim: usize,
    /// `inner_product`: of vectors that are L2-normalised, unless `model.normalize` is false.
    pub metric: String,
    pub factory: String,
    /// As faiss's ParameterSpace takes them, `nprobe=16`; empty where there are none.
    pub parameters: String,
    pub k: usize,
    /// Share of the exact top k that the index finds with these parameters.
    pub recall: f64,
    pub trials: Vec<SearchTrial>,
    pub bytes: u64,
    #[serde(default)]
    pub build: BuildFacts,
}

/// How an index came to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildFacts {
    /// Whether the parent's index was updated; else all of it was built.
    pub updated: bool,
    /// In words.
    pub why: String,
    /// Vectors taken out of the parent's index, and put in.
    pub removed: u64,
    pub added: u64,
    /// Of an index with inverted lists: how they fit the vectors now, and how they did when they were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lists: Option<ListFacts>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lists_when_built: Option<ListFacts>,
}

/// How well inverted lists fit the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ListFacts {
    /// Mean squared distance of a vector from the centre of its list.
    pub error: f64,
    /// 1 when all lists are as long, more when they are not: the work of a search compared with lists of one length.
    pub imbalance: f64,
    /// Share of the exact top k that is found.
    pub recall: f64,
}

/// One setting of the search parameters that was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SearchTrial {
    pub parameters: String,
    pub recall: f64,
    /// Milliseconds for one query, one at a time on one core.
    pub milliseconds: f64,
}

/// Retrieval metrics, averaged over the users that have something to find.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Metrics {
    pub users: u64,
    /// By cut-off K.
    pub at: BTreeMap<usize, AtK>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct AtK {
    pub recall: f64,
    pub ndcg: f64,
    pub hit_rate: f64,
    pub mrr: f64,
    /// Share of the catalogue that is in anyone's top K.
    pub coverage: f64,
}

/// Targets grouped by how popular they were in training.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bucket {
    pub label: String,
    /// Items of the catalogue in the bucket.
    pub items: u64,
    /// Pairs of `holdout` whose item is in it.
    pub targets: u64,
    /// Share of those pairs found in the top K, by K.
    pub recall: BTreeMap<usize, f64>,
    pub popularity_recall: BTreeMap<usize, f64>,
}

/// The evaluation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EvaluateFacts {
    pub users: u64,
    pub targets: u64,
    /// Users of `holdout` left out because they have no row in `user_features`.
    pub users_without_features: u64,
    /// Pairs of `holdout` whose item is not in the catalogue; they count as not found.
    pub targets_outside_catalogue: u64,
    /// Exact search, what users have had (`seen`) is left out.
    pub exact: Metrics,
    pub exact_unmasked: Metrics,
    /// Through the index with its search parameters.
    pub indexed: Metrics,
    pub indexed_unmasked: Metrics,
    pub popularity: Metrics,
    pub popularity_unmasked: Metrics,
    pub by_popularity: Vec<Bucket>,
    /// Targets whose item has no positive in training.
    pub new_items: Option<Bucket>,
    /// Where the samples have a table `holdout_candidates`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub among_candidates: Option<AmongCandidates>,
}

/// The rank of each held-out item among its user's given candidates, what scores strictly higher counted. Averaged over items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AmongCandidates {
    /// Users that have candidates, and their held-out items.
    pub users: u64,
    pub targets: u64,
    /// Candidates of a user on average, without his held-out items.
    pub candidates: f64,
    /// By cut-off K.
    pub model: BTreeMap<usize, AmongAtK>,
    pub popularity: BTreeMap<usize, AmongAtK>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct AmongAtK {
    pub hit_rate: f64,
    pub ndcg: f64,
}

/// What a stage counts its work in.
pub trait Counted {
    /// How many, and of what.
    fn rows(&self) -> (u64, &'static str);
}

impl Counted for SampleFacts {
    fn rows(&self) -> (u64, &'static str) {
        (self.tables.values().map(|table| table.rows).sum(), "rows")
    }
}

impl Counted for TrainFacts {
    fn rows(&self) -> (u64, &'static str) {
        (self.examples, "positives")
    }
}

impl Counted for EmbedFacts {
    fn rows(&self) -> (u64, &'static str) {
        (self.items, "items")
    }
}

impl Counted for IndexFacts {
    fn rows(&self) -> (u64, &'static str) {
        (self.items, "items")
    }
}

impl Counted for EvaluateFacts {
    fn rows(&self) -> (u64, &'static str) {
        (self.users, "users")
    }
}
