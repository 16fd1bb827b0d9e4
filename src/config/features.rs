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
    /// Column it is read from; the feature's own name when not given. A crossed feature names its columns in `of`.
    #[serde(default)]
    pub column: Option<String>,
    /// Embedding table it uses; a table of its own when not given. A user's `history` usually names the item's id feature here.
    /// The feature with the table's own name sets the table's dimension and vocabulary.
    #[serde(default)]
    pub table: Option<String>,
    /// Dimension of the embedding (`id`, `ids`, `categorical`, `bucketized`, `text`, `crossed`). Larger tables learn more and cost memory
    /// in proportion. At most 65,536.
    #[serde(default)]
    pub dim: Option<usize>,
    /// Values seen in fewer positives than this share the unknown rows (`id`, `ids`, `categorical`). 0 gives every item of the catalogue
    /// its row: where a day goes on from a parent (`warm_start`), a new one starts at the mean of its kind and is found before anyone
    /// has liked it; in a start from nothing it stays where chance puts it.
    #[serde(default)]
    pub min_count: Option<u64>,
    /// Rows for values outside the vocabulary, chosen by hash. 1 is one unknown row.
    #[serde(default)]
    pub unknown_rows: Option<usize>,
    /// In place of a vocabulary: the row of a value is a hash of it modulo this number (`id`, `ids`, `categorical`; `text`, where it is
    /// 30,000 when not given; `crossed`, which must have it). The table's
    /// memory is then known beforehand, nothing is kept of the values themselves, and a value never seen before has a
    /// row too; but values that meet in a row share it for good. With n values in N rows
    /// a value shares its row with n / N others on average: take N at least as large as n where it matters.
    #[serde(default)]
    pub hash_rows: Option<usize>,
    /// How the rows of a several-valued feature become one vector (`ids`; `text`: mean, sum or sqrtn).
    #[serde(default)]
    pub pooling: Option<Pooling>,
    /// The first values kept of a several-valued feature (`ids`), or the first trigrams of a text (`text`).
    #[serde(default)]
    pub max_length: Option<usize>,
    /// Column with a list of numbers of at least 0, one for each id: how much each counts in the mean, sum or sqrtn (`ids`).
    #[serde(default)]
    pub weights: Option<String>,
    /// The columns whose values together are one value, BIGINT or VARCHAR each (`crossed`).
    #[serde(default)]
    pub of: Option<Vec<String>>,
    /// Divide each vector by its L2 norm (`vector`): for vectors whose length says nothing, or varies too much.
    #[serde(default)]
    pub normalize: Option<bool>,
    /// What is done to a number before it is normalised (`numeric`): none or log1p.
    #[serde(default)]
    pub transform: Option<NumericTransform>,
    /// Number of quantile buckets, learned from the data (`bucketized`).
    #[serde(default)]
    pub buckets: Option<usize>,
    /// Boundaries of the buckets, in place of quantiles and of `buckets` (`bucketized`).
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
    /// Text as the letter trigrams of its words: `#cat#` is #ca, cat and at#, each hashed to a row, pooled (word hashing of
    /// DSSM, Huang et al. 2013). Words never seen before still share trigrams with known ones; their order is lost.
    Text,
    /// A vector made elsewhere, of a text or an image, as it is: a list of floats, as long in every row; null becomes zeros, with
    /// a flag of its own. It stays as it is: only the layers above it learn.
    Vector,
    /// Values of several columns as one: an embedding for each pair met of country and device, say, which neither alone has.
    /// Null counts as a value.
    Crossed,
}

/// Rows of a text's table when `hash_rows` is not given: about as many as English has letter trigrams (Huang et al. 2013
/// count 30,621 in half a million words).
const TEXT_ROWS: usize = 30_000;

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
    /// Sum with learned shares: the softmax, over the values of the list, of a learned product with each value's row plus a learned
    /// bias of its position. With the latest value first it learns both what matters and how fast it ages.
    Attention,
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
            weights: None,
            of: None,
            normalize: None,
            transform: None,
            buckets: None,
            boundaries: None,
        }
    }

    /// The column it is read from: the first, where there are several.
    pub fn column<'a>(&'a self, name: &'a str) -> &'a str {
        let first = self.of.as_ref().and_then(|of| of.first());
        first.or(self.column.as_ref()).map_or(name, String::as_str)
    }

    /// All columns it reads.
    pub fn columns<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        match &self.of {
            Some(of) => of.iter().map(String::as_str).collect(),
            None => [self.column(name)].into_iter().chain(self.weights.as_deref()).collect(),
        }
    }

    /// Rows of its table, where values find theirs by hash.
    pub fn hashed_rows(&self) -> Option<usize> {
        if self.kind == FeatureKind::Text { self.hash_rows.or(Some(TEXT_ROWS)) } else { self.hash_rows }
    }

    /// Name of the embedding table it uses, for the kinds that have one.
    pub fn table<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        match self.kind {
            FeatureKind::Numeric | FeatureKind::Boolean | FeatureKind::Vector => None,
            _ => Some(self.table.as_deref().unwrap_or(name)),
        }
    }
}
