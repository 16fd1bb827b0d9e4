//! `feature_spec.json`: how a row of features becomes the input of a tower, and which layers follow. With
//! `vocabulary.parquet` and the two safetensors files it is all that a service in another language needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::artifacts::IdType;
use crate::config::{Activation, Combine, NumericTransform, Pooling};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureSpec {
    pub format: u32,
    /// Dimension of the vectors both towers end in. They are divided by their L2 norm.
    pub dim: usize,
    pub user_id_type: IdType,
    pub item_id_type: IdType,
    /// Embedding tables by name: tensor `NAME.rows` of tables.safetensors.
    pub tables: BTreeMap<String, TableSpec>,
    pub user: TowerSpec,
    pub item: TowerSpec,
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

/// One tower: its features side by side (or summed), then its layers, then division by the L2 norm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TowerSpec {
    pub combine: Combine,
    /// Width of the input row.
    pub width: usize,
    pub features: Vec<FeatureSpecEntry>,
    /// `y = activation(x W + b)`, in order; no layers means that the input row is the output.
    pub layers: Vec<LayerSpec>,
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
    pub activation: Option<Activation>,
}

/// One feature of a tower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureSpecEntry {
    pub name: String,
    /// Column of `positives` and `user_features`, or of `item_features`.
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
    Ids { table: String, pooling: Pooling, max_length: Option<usize> },
    /// The row of one value; true is 1, false is 0.
    Categorical { table: String },
    /// `[(transform(x) - mean) / deviation, 0]`, and `[0, 1]` for null.
    Numeric { transform: NumericTransform, mean: f64, deviation: f64 },
    /// The row of the bucket: 1 + how many boundaries are <= x; 0 for null.
    Bucketized { table: String, boundaries: Vec<f64> },
    /// `[1, 0]` for true, `[0, 0]` for false, `[0, 1]` for null.
    Boolean,
}

impl Encoding {
    pub fn table(&self) -> Option<&str> {
        match self {
            Encoding::Id { table } | Encoding::Ids { table, .. } | Encoding::Categorical { table } => Some(table),
            Encoding::Bucketized { table, .. } => Some(table),
            Encoding::Numeric { .. } | Encoding::Boolean => None,
        }
    }

    pub fn pooling(&self) -> Pooling {
        match self {
            Encoding::Ids { pooling, .. } => *pooling,
            _ => Pooling::Sum,
        }
    }
}

impl TowerSpec {
    /// Columns it reads, each once, in the order of the features.
    pub fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = Vec::new();
        for feature in &self.features {
            if !columns.contains(&feature.column) {
                columns.push(feature.column.clone());
            }
        }
        columns
    }
}
