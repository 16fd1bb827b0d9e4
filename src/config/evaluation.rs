//! How a release is measured, and what it must reach.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ByteSize;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluation {
    /// The cut-offs K of Recall@K, NDCG@K, hit rate and MRR.
    pub k: Vec<usize>,
    /// Most users of `holdout` that are measured, chosen by hash; 0 measures all.
    pub users: usize,
    /// Seed of that choice.
    pub seed: u64,
    /// Buckets of item popularity in the report.
    pub popularity_buckets: usize,
}

impl Default for Evaluation {
    fn default() -> Self {
        Evaluation { k: vec![20, 50, 100], users: 0, seed: 17, popularity_buckets: 5 }
    }
}

/// What a candidate must reach before it is published. Vectors that are not finite, duplicated item ids, and items that the index lacks
/// are always refused. A gate that there is nothing to measure on (no holdout, no earlier release) passes and says so.
/// Other gates do not make another candidate: a rerun holds the one there is against them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gates {
    /// Fewest items in the index.
    pub min_items: usize,
    /// Most vectors of norm zero: an item with one is found for nobody.
    pub max_zero_vectors: usize,
    /// Most that the length of any vector may differ from 1. Inner products rank as cosines only while all lengths are equal. Not checked
    /// with `model.normalize: false`.
    pub max_norm_error: f64,
    /// Least share of the exact top k that the index finds.
    pub min_index_recall: f64,
    /// Least recall (at the largest K, what users had is masked) as a multiple of the popularity baseline's. Not checked when not given.
    pub min_recall_over_popularity: Option<f64>,
    /// Least recall as a multiple of the published release's, each at the largest K on its own date's holdout: days differ, so
    /// leave room (0.8). Not checked when not given.
    pub min_recall_over_parent: Option<f64>,
    /// Least recall in itself, at the largest K. Not checked when not given.
    pub min_recall: Option<f64>,
    /// Least share of the catalogue that is in anyone's top list, at the largest K. Not checked when not given.
    pub min_coverage: Option<f64>,
    /// Most change of the number of items against the published release, as a share of it. Not checked when not given.
    pub max_item_count_change: Option<f64>,
    /// Most drift of the item vectors against the published release: the share of an item's ten nearest neighbours that are
    /// others than before, over items that both have. Two trainings may turn the whole space without changing
    /// what is near to what, so vectors themselves are not compared. Reads both releases' vectors. Not checked when not given.
    pub max_drift: Option<f64>,
    /// Largest release, all files together: what a service can load. Not checked when not given.
    pub max_size: Option<ByteSize>,
}

impl Default for Gates {
    fn default() -> Self {
        Gates {
            min_items: 1,
            max_zero_vectors: 0,
            max_norm_error: 0.001,
            min_index_recall: 0.8,
            min_recall_over_popularity: None,
            min_recall_over_parent: None,
            min_recall: None,
            min_coverage: None,
            max_item_count_change: None,
            max_drift: None,
            max_size: None,
        }
    }
}
