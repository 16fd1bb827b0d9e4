//! Rankers: ONNX models that SQL calls as functions.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::{is_identifier, require};
use crate::error::Result;

/// An ONNX model as an SQL function of its name, which returns DOUBLE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ranker {
    /// The ONNX file: a path or `s3://bucket/key`; a relative path counts from the folder of this file. Its content is a part of
    /// the samples' digest: another model makes other samples.
    pub path: String,
    /// The model's input tensors by their names in the file. The function takes the columns of all of them, in this order.
    #[serde(with = "super::ordered")]
    #[schemars(with = "std::collections::BTreeMap<String, RankerInput>")]
    pub inputs: IndexMap<String, RankerInput>,
    /// The output tensor that holds the score. Not needed where the model has one output of floating point numbers; labels
    /// of classifiers are no such output.
    #[serde(default)]
    pub output: Option<String>,
    /// The column of that output, from 0. When not given: 1 (the probability of class 1) where it has two, 0 where it has one.
    #[serde(default)]
    pub column: Option<usize>,
    /// Rows that the model sees at a time. A score does not depend on which rows stand beside it; larger batches cost memory.
    #[serde(default = "batch_size")]
    pub batch_size: usize,
}

fn batch_size() -> usize {
    1024
}

/// One input tensor of a ranker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RankerInput {
    /// Its type in the model. Arguments are cast to it. NULL is NaN, which gradient-boosted trees take for a missing value; a model
    /// that does not know missing values has no score (NULL) for such a row. For other types than `float` and `double`,
    /// NULL is an error.
    #[serde(rename = "type")]
    pub data_type: RankerType,
    /// The columns that make a row of the tensor, one argument of the function each. Empty: the tensor is one column of its own
    /// name. The built-in `ranked_candidates.sql` passes columns of these names (`age`, or `u.age` for `user_features`,
    /// `i.price` for `item_features`, `c.score` for the candidates).
    pub columns: Vec<String>,
}

/// Type of the numbers in an input tensor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RankerType {
    /// 32-bit floating point.
    #[default]
    Float,
    /// 64-bit floating point.
    Double,
    /// 32-bit integers.
    Int,
    /// 64-bit integers.
    Bigint,
    Boolean,
}

impl RankerType {
    pub fn name(self) -> &'static str {
        match self {
            RankerType::Float => "float",
            RankerType::Double => "double",
            RankerType::Int => "int",
            RankerType::Bigint => "bigint",
            RankerType::Boolean => "boolean",
        }
    }
}

impl Ranker {
    /// The names of the function's arguments, in order.
    pub fn arguments(&self) -> Vec<&str> {
        self.inputs
            .iter()
            .flat_map(|(name, input)| {
                if input.columns.is_empty() {
                    vec![name.as_str()]
                } else {
                    input.columns.iter().map(String::as_str).collect()
                }
            })
            .collect()
    }

    pub(super) fn validate(&self, name: &str) -> Result<()> {
        let key = format!("rankers.{name}");
        require(is_identifier(name), &key, "not a function name", "lower-case letters, digits and _")?;
        require(!self.path.is_empty(), &format!("{key}.path"), "empty", "an ONNX file")?;
        require(!self.inputs.is_empty(), &format!("{key}.inputs"), "empty", "the model's input tensors by name")?;
        require(self.batch_size > 0, &format!("{key}.batch_size"), "0", "at least 1")
    }
}
