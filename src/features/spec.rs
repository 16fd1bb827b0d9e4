//! `feature_spec.json`: how a row of features becomes the input of a tower, and which layers follow. With
//! `vocabulary.parquet` and the two safetensors files it is all that a service in another language needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::learn::Side;
use crate::artifacts::IdType;
use crate::config::{Activation, Combine, ItemBias, NumericTransform, Pooling};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureSpec {
    pub format: u32,
    /// Dimension of the vectors both towers end in.
    pub dim: usize,
    /// Whether they are divided by their L2 norm; they are where it is not given.
    #[serde(skip_serializing_if = "is_true", default = "yes")]
    pub normalize: bool,
    /// Where given, vectors have one number more after that: an item its bias, a user 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub item_bias: Option<ItemBias>,
    pub user_id_type: IdType,
    pub item_id_type: IdType,
    /// Embedding tables by name: tensor `NAME.rows` of tables.safetensors.
    pub tables: BTreeMap<String, TableSpec>,
    pub user: TowerSpec,
    pub item: TowerSpec,
}

fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

/// One embedding table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableSpec {
    pub dim: usize,
    pub rows: usize,
    /// Rows 0 up to this one take the values outside the vocabulary, and null. 0: such a value has no row and is left
    /// out.
    pub unknown_rows: usize,
    pub min_count: u64,
    pub value_type: ValueType,
    /// Which of the unknown rows a value takes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unknown_hash: Option<IdHash>,
    /// Given for a table without a vocabulary: which row a value takes. Null has none and is left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub row_hash: Option<RowHash>,
}

/// What the values of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    Bigint,
    Varchar,
    /// Row 0 is null, row 1 + n is bucket n: see the feature's boundaries.
    Bucket,
    /// Three letters of a text: see [`Encoding::Text`].
    Trigram,
    /// Values of several columns: see [`Encoding::Crossed`].
    Crossed,
}

/// How a value outside the vocabulary chooses its unknown row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdHash {
    /// FNV-1a of 64 bits over the value's bytes (an integer as 8 bytes, little endian; a text as UTF-8), modulo
    /// `unknown_rows`. Null takes row 0.
    #[serde(rename = "fnv1a64_mod_unknown_rows")]
    Fnv1a64,
}

/// How a value finds its row in a table without a vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowHash {
    /// FNV-1a of 64 bits over the value's bytes (an integer as 8 bytes, little endian; a text as UTF-8), then the finaliser
    /// of SplitMix64 (`x ^= x >> 30; x *= 0xbf58476d1ce4e5b9; x ^= x >> 27; x *= 0x94d049bb133111eb; x ^= x >> 31`),
    /// modulo `rows`. The finaliser mixes all bits into the low ones, which FNV-1a alone does not.
    #[serde(rename = "splitmix64_fnv1a64_mod_rows")]
    MixedFnv1a64,
}

/// One tower: its features side by side (or summed), then its layers, then division by the L2 norm unless `normalize` is false.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TowerSpec {
    pub combine: Combine,
    /// Width of the input row.
    pub width: usize,
    pub features: Vec<FeatureSpecEntry>,
    /// Before the layers, each feature's columns are multiplied by a factor of their own, where given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gating: Option<GatingSpec>,
    /// `y = activation(x W + b)`, in order; no layers means that the input row is the output. See [`LayerSpec`] for what a layer
    /// may have besides.
    pub layers: Vec<LayerSpec>,
}

/// Factors of the features: `2 sigmoid(excite(squeeze(m)))`, where `m` is the mean of each feature's columns, in the order of the
/// features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatingSpec {
    pub squeeze: LayerSpec,
    pub excite: LayerSpec,
}

/// What the values `x W + b` of a layer go through before its activation: tensors of towers.safetensors, `[outputs]` each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum NormalizationSpec {
    /// `(z - mean) / sqrt(variance + epsilon) * scale + shift`, with mean and variance (divided by the count) over the values of a
    /// row.
    Layer { scale: String, shift: String, epsilon: f64 },
    /// The same with a mean and variance for each value, those of training. `batches` `[1]` is how many batches they were
    /// taken from: of use to go on with training alone.
    Batch { scale: String, shift: String, mean: String, variance: String, batches: String, epsilon: f64 },
}

/// One layer: tensors of towers.safetensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerSpec {
    /// [inputs, outputs], row-major.
    pub weight: String,
    /// `[outputs]`.
    pub bias: String,
    pub inputs: usize,
    pub outputs: usize,
    /// None for the last layer. `gelu` is the exact one, by the error function.
    /// `leaky_relu` has the slope 0.01 below 0.
    pub activation: Option<Activation>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub normalization: Option<NormalizationSpec>,
    /// Add the layer's input to its output.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub residual: bool,
}

/// One feature of a tower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureSpecEntry {
    pub name: String,
    /// Column of `positives` and `user_features`, or of `item_features`; the first of `of` for a crossed feature.
    pub column: String,
    /// First of the input columns it fills. With `combine: sum` all stand at 0 and are added.
    pub offset: usize,
    /// How many it fills.
    pub width: usize,
    #[serde(flatten)]
    pub encoding: Encoding,
}

/// How a value becomes input columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Encoding {
    /// The row of one id.
    Id { table: String },
    /// The rows of the first `max_length` ids (all when absent), pooled; no ids, or null, give zeros.
    ///
    /// `weights` names the column with the weight of each: sum w v / sum w, sum w v, or sum w v / sqrt(sum w^2).
    Ids {
        table: String,
        pooling: Pooling,
        max_length: Option<usize>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        weights: Option<String>,
        /// Given for `pooling: attention`.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        attention: Option<AttentionSpec>,
    },
    /// The row of one value; true is 1, false is 0.
    Categorical { table: String },
    /// `[(transform(x) - mean) / deviation, 0]`, and `[0, 1]` for null.
    Numeric { transform: NumericTransform, mean: f64, deviation: f64 },
    /// The row of the bucket: 1 + how many boundaries are <= x; 0 for null.
    Bucketized { table: String, boundaries: Vec<f64> },
    /// `[1, 0]` for true, `[0, 0]` for false, `[0, 1]` for null.
    Boolean,
    /// The rows of the text's first `max_length` trigrams (all when absent), pooled; none give zeros. The text in lower case,
    /// cut into words of letters and digits (Unicode); of each word with `#` before and behind it every three characters
    /// in a row, hashed as UTF-8.
    Text { table: String, pooling: Pooling, max_length: Option<usize> },
    /// The numbers, then 0; for null zeros, then 1. With `normalize` the numbers are divided by their L2 norm (zeros stay).
    Vector { length: usize, normalize: bool },
    /// The row of the values of all columns together. Hashed are, column after column: the byte 0 for null; the byte 1 and 8
    /// bytes, little endian, for an integer; the byte 2, the UTF-8 bytes and the byte 255 for a text.
    Crossed { table: String, of: Vec<CrossedColumn> },
}

/// What attention pooling has learned: tensors of towers.safetensors. With e_j the row of the value at place j of the bag, the pooled
/// vector is sum a_j e_j, where a = softmax_j(weight . e_j + bias_j); the last bias is that of all later places.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttentionSpec {
    /// `[dim]` of the table.
    pub weight: String,
    /// `[positions]`.
    pub bias: String,
    pub positions: usize,
}

/// One column of a crossed feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrossedColumn {
    pub column: String,
    pub value_type: ValueType,
}

impl Encoding {
    pub fn attention(&self) -> Option<&AttentionSpec> {
        match self {
            Encoding::Ids { attention, .. } => attention.as_ref(),
            _ => None,
        }
    }

    pub fn table(&self) -> Option<&str> {
        match self {
            Encoding::Id { table } | Encoding::Ids { table, .. } | Encoding::Categorical { table } => Some(table),
            Encoding::Bucketized { table, .. } | Encoding::Text { table, .. } => Some(table),
            Encoding::Crossed { table, .. } => Some(table),
            Encoding::Numeric { .. } | Encoding::Boolean | Encoding::Vector { .. } => None,
        }
    }

    pub fn pooling(&self) -> Pooling {
        match self {
            Encoding::Ids { pooling, .. } | Encoding::Text { pooling, .. } => *pooling,
            _ => Pooling::Sum,
        }
    }
}

impl LayerSpec {
    /// A layer whose tensors are `NAME.weight` and `NAME.bias`, and nothing besides.
    pub fn new(name: &str, inputs: usize, outputs: usize) -> Self {
        LayerSpec {
            weight: format!("{name}.weight"),
            bias: format!("{name}.bias"),
            inputs,
            outputs,
            activation: None,
            normalization: None,
            residual: false,
        }
    }
}

impl FeatureSpecEntry {
    /// All columns it reads.
    pub fn columns(&self) -> Vec<&str> {
        match &self.encoding {
            Encoding::Crossed { of, .. } => of.iter().map(|one| one.column.as_str()).collect(),
            Encoding::Ids { weights: Some(weights), .. } => vec![&self.column, weights],
            _ => vec![&self.column],
        }
    }
}

impl FeatureSpec {
    /// Length of the vectors that are searched.
    pub fn vector_dim(&self) -> usize {
        self.dim + usize::from(self.item_bias.is_some())
    }

    /// Columns that a side's vectors are made of, each once.
    pub fn columns(&self, side: Side) -> Vec<String> {
        let mut columns = match side {
            Side::User => self.user.columns(),
            Side::Item => self.item.columns(),
        };
        let bias = self.item_bias.as_ref().filter(|_| side == Side::Item).map(|bias| &bias.column);
        if let Some(column) = bias.filter(|column| !columns.contains(column)) {
            columns.push(column.clone());
        }
        columns
    }
}

impl TowerSpec {
    /// Columns it reads, each once, in the order of the features.
    pub fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = Vec::new();
        for column in self.features.iter().flat_map(FeatureSpecEntry::columns) {
            if !columns.iter().any(|known| known == column) {
                columns.push(column.to_string());
            }
        }
        columns
    }
}
