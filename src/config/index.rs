//! Item vectors and the index over them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Embedding {
    /// Files that the item vectors are spread over.
    pub shards: usize,
}

impl Default for Embedding {
    fn default() -> Self {
        Embedding { shards: 4 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Index {
    /// What faiss's `index_factory` takes: `Flat`, `HNSW32`, `IVF1024,Flat`, `OPQ32,IVF4096,PQ32x8` … Chosen by the number of
    /// items when not given: exact below 20,000, then HNSW, then IVF with scalar quantisation.
    pub factory: Option<String>,
    /// Search parameters, as in `nprobe=16` or `efSearch=64`. Measured against exact search when not given.
    pub parameters: Option<String>,
    /// The cheapest search parameters that find this share of the exact top k are taken.
    pub recall_target: f64,
    /// The k of that measurement.
    pub k: usize,
    /// Users whose vectors it is measured with.
    pub queries: usize,
    /// Vectors that a trained index (IVF, PQ …) learns from, at most.
    pub training_vectors: usize,
    /// Seed of the draw of those users.
    pub seed: u64,
}

impl Default for Index {
    fn default() -> Self {
        Index {
            factory: None,
            parameters: None,
            recall_target: 0.98,
            k: 100,
            queries: 1000,
            training_vectors: 500_000,
            seed: 17,
        }
    }
}
