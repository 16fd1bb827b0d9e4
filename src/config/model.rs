//! Shape of the towers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Dimension of the vectors that both towers end in. They are L2-normalised and met by inner product.
    pub dim: usize,
    pub user_tower: Tower,
    pub item_tower: Tower,
    /// Logits are inner products divided by it. Smaller separates harder and forgives fewer wrong labels.
    pub temperature: f64,
    /// Learn the temperature with the rest, from the value above.
    pub learn_temperature: bool,
}

impl Default for Model {
    fn default() -> Self {
        Model {
            dim: 64,
            user_tower: Tower::default(),
            item_tower: Tower::default(),
            temperature: 0.07,
            learn_temperature: false,
        }
    }
}

/// One tower: features, then layers, then a linear map to `model.dim`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tower {
    /// How features meet: `concat` puts them side by side; `sum` adds embeddings, which then all have dimension
    /// `model.dim` and, with no layers, are the vector itself (matrix factorisation).
    pub combine: Combine,
    /// Widths of the hidden layers.
    pub layers: Vec<usize>,
    pub activation: Activation,
    /// Share of hidden values set to zero while training.
    pub dropout: f64,
}

impl Default for Tower {
    fn default() -> Self {
        Tower { combine: Combine::Concat, layers: vec![128], activation: Activation::Relu, dropout: 0.0 }
    }
}

/// How the features of a tower meet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Combine {
    #[default]
    Concat,
    Sum,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    #[default]
    Relu,
    Gelu,
    Tanh,
}
