//! What a candidate looks like, for the eye: lengths and likeness of item vectors, a picture of them, and what some users get.
//! Written beside the evaluation's figures; depends on what they depend on.

use serde::{Deserialize, Serialize};

use super::Id;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Portrait {
    /// Lengths of all item vectors.
    pub norms: Histogram,
    /// Inner products of pairs of items that were drawn by hash.
    pub similarity: Histogram,
    pub projection: Projection,
    /// Columns of `item_features` that say what an item is: a text, and the group it belongs to.
    pub title: Option<String>,
    pub group: Option<String>,
    /// The items that `users` name.
    pub items: Vec<ItemNote>,
    pub users: Vec<UserExample>,
}

/// Counts between edges; there is one edge more than counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    pub edges: Vec<f64>,
    pub counts: Vec<u64>,
}

/// Item vectors on the two axes along which they differ most. All lists are as long as `items`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Projection {
    /// Share of the vectors' variance on each axis.
    pub explained: [f64; 2],
    pub items: Vec<Id>,
    pub x: Vec<f32>,
    pub y: Vec<f32>,
    /// In the training data.
    pub positives: Vec<u64>,
    /// Names of the groups, the largest first, and each item's place among them. Empty without such a column.
    pub groups: Vec<String>,
    pub group: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemNote {
    pub item: Id,
    pub title: Option<String>,
    pub group: Option<String>,
    /// In the training data.
    pub positives: u64,
}

/// One user, chosen by hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserExample {
    pub user: Id,
    /// Some items of `seen`, the most popular first, and how many there are in the catalogue.
    pub had: Vec<Id>,
    pub had_total: u64,
    /// Some of his items in `holdout`, and how many there are in the catalogue.
    pub wanted: Vec<Id>,
    pub wanted_total: u64,
    /// What the index finds for him, best first, without what he had.
    pub gets: Vec<Id>,
    /// The places in `gets`, from 0, of items in `holdout`.
    pub hits: Vec<u32>,
}
