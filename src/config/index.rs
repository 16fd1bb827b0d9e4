//! Item vectors and the index over them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Embedding {
    /// Files that the item vectors are spread over.
    pub shards: usize,
    /// Which items are embedded where a model went on from a parent.
    pub refresh: Refresh,
    /// With `appeared`: least recall of the mixed vectors as a share of that with all of them fresh, both measured by exact search on
    /// the users of `holdout`. Below it all items are embedded after all. Higher is safer and refreshes more often.
    pub min_refresh_recall: f64,
    /// Users of `holdout` that this is measured with, at most. Few, or such as find little, make it a matter of chance.
    pub probe_users: usize,
    /// Items that are embedded anew to measure it, at most; a larger catalogue is thinned out, and what users must find is always in.
    /// `appeared` saves nothing for a catalogue that is not much larger.
    pub probe_items: usize,
}

/// Which item vectors are made anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Refresh {
    /// All: one index holds vectors of one model.
    #[default]
    All,
    /// Those of items that are new, whose features have changed, or that were liked after the parent's date. The others keep the
    /// parent's vectors, which cost nothing and are searched with a user tower that has moved on.
    Appeared,
}

impl Default for Embedding {
    fn default() -> Self {
        Embedding { shards: 4, refresh: Refresh::All, min_refresh_recall: 0.98, probe_users: 1000, probe_items: 20_000 }
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
    /// How far an index may drift that is updated rather than built.
    pub drift: IndexDrift,
}

/// Where most vectors are the parent's (`embedding.refresh: appeared`) and the index has inverted lists (IVF), the parent's index is
/// updated: what is gone or changed is removed, what is new or changed is added. Its lists stay those of the day it was built for.
/// When one of these is passed, it is built anew. Flat and HNSW indexes always are: faiss removes nothing from a graph, and a
/// flat index is copied as fast as it is changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IndexDrift {
    /// Largest mean squared distance of a vector from the centre of its list, as a multiple of that after the last building.
    pub max_error_growth: f64,
    /// Largest imbalance of the lists (1 when all are as long), as a multiple of that after the last building. Long lists are slow.
    pub max_imbalance_growth: f64,
    /// Most recall against exact search that may be lost since the last building, where no search parameters reach
    /// `index.recall_target` any more.
    pub max_recall_loss: f64,
}

impl Default for IndexDrift {
    fn default() -> Self {
        IndexDrift { max_error_growth: 1.2, max_imbalance_growth: 1.5, max_recall_loss: 0.01 }
    }
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
            drift: IndexDrift::default(),
        }
    }
}
