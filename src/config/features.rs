//! What the towers see: columns of `positives` and `user_features` for the user, of `item_features` for the item.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Features {
    /// Features of the user tower by name: columns of both `positives` and `user_features`.
    #[serde(with = "super::ordered")]
    #[schemars(with = "std::collections::BTreeMap<String, Feature>")]
    pub user: IndexMap<String, Feature>,
    /// Features of the item tower by name: columns of `item_features`.
    #[serde(with = "super::ordered")]
    #[schemars(with = "std::collections::BTreeMap<String, Feature>")]
    pub item: IndexMap<String, Feature>,
}

/// One feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    pub kind: FeatureKind,
    /// Column it is read from; the feature's own name when not given.
    #[serde(default)]
    pub column: Option<String>,
    /// Embedding table it uses; a table of its own when not given. A user's `history` usually names the item's id feature here.
    /// The feature with the table's own name sets the table's dimension and vocabulary.
    #[serde(default)]
    pub table: Option<String>,
    /// Dimension of the embedding (`id`, `ids`, `categorical`, `bucketized`). Larger tables learn more and cost memory
    /// in proportion.
    #[serde(default)]
    pub dim: Option<usize>,
    /// Values seen in fewer positives than this share the unknown rows (`id`, `ids`, `categorical`).
    #[serde(default)]
    pub min_count: Option<u64>,
    /// Rows for values outside the vocabulary, chosen by hash. 1 is one unknown row.
    #[serde(default)]
    pub unknown_rows: Option<usize>,
    /// In place of a vocabulary: the row of a value is a hash of it modulo this number (`id`, `ids`, `categorical`). The table's
    /// memory is then known beforehand, nothing is kept of the values themselves, and a value never seen before has a
    /// row too; but values that meet in a row share it for good. With n values in N rows
    /// a value shares its row with n / N others on average: take N at least as large as n where it matters.
    #[serde(default)]
    pub hash_rows: Option<usize>,
    /// How the rows of a several-valued feature become one vector (`ids`): mean, sum, max or sqrtn.
    #[serde(default)]
    pub pooling: Option<Pooling>,
    /// The first values kept of a several-valued feature (`ids`).
    #[serde(default)]
    pub max_length: Option<usize>,
    /// What is done to a number before it is normalised (`numeric`): none or log1p.
    #[serde(default)]
    pub transform: Option<NumericTransform>,
    /// Number of quantile buckets, learned from the data (`bucketized`).
    #[serde(default)]
    pub buckets: Option<usize>,
    /// Boundaries of the buckets, in place of quantiles (`bucketized`).
    #[serde(default)]
    pub boundaries: Option<Vec<f64>>,
}

/// What a feature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FeatureKind {
    /// One id with an embedding: BIGINT or VARCHAR.
    Id,
    /// A list of ids, pooled: a history, tags.
    Ids,
    /// One of few values with an embedding: text, number or boolean.
    Categorical,
    /// A number, normalised to mean 0 and deviation 1; null becomes the mean, with a flag of its own.
    Numeric,
    /// A number cut into buckets, each with an embedding; null is a bucket of its own.
    Bucketized,
    /// True, false or null.
    Boolean,
}

/// How the rows of a several-valued feature become one vector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    #[default]
    Mean,
    Sum,
    Max,
    /// Sum divided by the square root of the count.
    Sqrtn,
}

/// What is done to a number before it is normalised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NumericTransform {
    #[default]
    None,
    /// ln(1 + max(x, 0)): for counts.
    Log1p,
}

impl Feature {
    pub fn new(kind: FeatureKind) -> Self {
        Feature {
            kind,
            column: None,
            table: None,
            dim: None,
            min_count: None,
            unknown_rows: None,
            hash_rows: None,
            pooling: None,
            max_length: None,
            transform: None,
            buckets: None,
            boundaries: None,
        }
    }

    pub fn column<'a>(&'a self, name: &'a str) -> &'a str {
        self.column.as_deref().unwrap_or(name)
    }

    /// Name of the embedding table it uses, for the kinds that have one.
    pub fn table<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        match self.kind {
            FeatureKind::Numeric | FeatureKind::Boolean => None,
            _ => Some(self.table.as_deref().unwrap_or(name)),
        }
    }
}
