//! What the sample tables hold, in numbers: measured from their rows once all of them are built, and so the same wherever the
//! tables are the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::RunDate;

/// The figures of one set of sample tables. Every part is empty where the tables or columns for it are missing, and in manifests
/// that are older than the part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Statistics {
    pub tables: BTreeMap<String, TableStatistics>,
    /// Rows of each source by the date of its partition, where the files' footers tell (Parquet).
    pub sources: BTreeMap<String, BTreeMap<RunDate, u64>>,
    /// The catalogue cut by popularity, the most popular first, with the share that each part has of a table's rows.
    pub popularity: Vec<PopularityBand>,
    /// Hard negatives by their rank, ascending.
    pub hard_negative_ranks: Vec<RankBand>,
    pub accidental_hits: Option<AccidentalHits>,
    /// Rows of each table of negatives for one of `positives`, by table.
    pub negatives_per_positive: BTreeMap<String, f64>,
    /// Candidates for hard negatives that each rule of the SQL left out, by the rule's name.
    pub dropped: BTreeMap<String, u64>,
}

/// One table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableStatistics {
    pub rows: u64,
    /// Different users, for a table with a `user_id`, and how many rows each of them has.
    pub users: Option<u64>,
    pub per_user: Option<Spread>,
    /// Different items, for a table with an `item_id`.
    pub items: Option<u64>,
    /// Rows whose item is not in `item_frequency`.
    pub outside_catalogue: Option<u64>,
    /// For a table of negatives: positives that have any, and how many each of these has.
    pub samples: Option<u64>,
    pub per_sample: Option<Spread>,
    /// Rows by the UTC day of `event_time`, for a table with one.
    pub days: BTreeMap<RunDate, u64>,
    /// Nulls in each column that has any.
    pub nulls: BTreeMap<String, u64>,
}

/// How a count is spread over those that have one. A quantile is the smallest count that at least its share of them does not
/// exceed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spread {
    pub min: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub max: u64,
    pub mean: f64,
}

/// A part of the catalogue: all items by their positives in `item_frequency`, descending, ties by id, cut at shares of its length.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PopularityBand {
    /// `top 1 %`, `1 to 5 %` …
    pub label: String,
    /// Items in it.
    pub items: u64,
    /// Share of the rows of `positives` and of each table of negatives whose item is in it, by table. Rows outside of the
    /// catalogue count for the whole and are in no part.
    pub shares: BTreeMap<String, f64>,
}

/// Hard negatives with a rank from `from` to `to`, both included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RankBand {
    pub from: i64,
    pub to: i64,
    pub rows: u64,
}

/// How often a random negative is a positive of the batch that shares it. A batch gives the random negatives of each of its positives to
/// all of them, so that one of them may be the very item that another liked; the loss masks such pairs, and many of them mean
/// that negatives are too few or too popular. Both figures are expectations for positives and negatives drawn from the tables
/// independently of each other, from the shares that items have of their rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccidentalHits {
    /// Share of the pairs of a positive and a random negative that are the same item: the share of a batch's random logits that are
    /// masked.
    pub pairs: f64,
    /// Share of the random negatives that are the item of at least one positive of their batch, by the batch's size.
    pub by_batch_size: BTreeMap<u64, f64>,
}
