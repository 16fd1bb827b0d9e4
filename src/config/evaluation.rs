//! How a release is measured, and what it must reach.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// What a candidate must reach before it is published. Vectors that are not finite or are zero, and duplicated item ids are always refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gates {
    /// Fewest items in the index.
    pub min_items: usize,
    /// Least share of the exact top k that the index finds.
    pub min_index_recall: f64,
    /// Least recall (at the largest K, what users had is masked) as a multiple of the popularity baseline's. Not checked when not given.
    pub min_recall_over_popularity: Option<f64>,
    /// Least recall in itself, at the largest K. Not checked when not given.
    pub min_recall: Option<f64>,
    /// Most change of the number of items against the parent release, as a share of it. Not checked when not given.
    pub max_item_count_change: Option<f64>,
}

impl Default for Gates {
    fn default() -> Self {
        Gates {
            min_items: 1,
            min_index_recall: 0.8,
            min_recall_over_popularity: None,
            min_recall: None,
            max_item_count_change: None,
        }
    }
}
