//! Shape of the towers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Dimension of the vectors that both towers end in, which meet by inner product; at most 65,536.
    pub dim: usize,
    /// Divide the vectors by their L2 norm, so that inner products are cosines. `false` leaves them the lengths that training gives them, as
    /// matrix factorisation does: an item's says how much is liked at all, a user's how sure his taste is. Then take a `temperature` of about 1,
    /// and hold the lengths down by `training.vector_decay`.
    pub normalize: bool,
    pub user_tower: Tower,
    pub item_tower: Tower,
    /// Logits are inner products divided by it. Smaller separates harder and forgives fewer wrong labels.
    pub temperature: f64,
    /// Learn the temperature with the rest, from the value above. It stays between 0.005 and 1, and has to start there.
    pub learn_temperature: bool,
    /// A number of each item that is added to its scores, whoever asks: `{column: log_likes, weight: 0.03}` adds 0.03 times that
    /// column of `item_features` (null adds nothing). The towers are trained without it; afterwards an item's vector has the addition
    /// as one number more at its end, and a user's vector a 1. The usual column is the logarithm of how often an item was liked,
    /// `ln(1 + count(*))`: towers say too little of how popular an item is where they see its own likers (`examples/gowalla`).
    /// The other scores lie between -1 and 1, unless `normalize` is false, so a weight of 0.03 is much. Choose it on days that you
    /// hold out.
    pub item_bias: Option<ItemBias>,
}

/// Where a temperature that is learned stays: below it the softmax sees only the nearest negative, above it hardly any difference.
pub const LEARNED_TEMPERATURES: std::ops::RangeInclusive<f64> = 0.005..=1.0;

/// Which addition to an item's scores: the post-hoc logit adjustment of Menon et al. 2021, with the other sign where it speaks for
/// what is popular.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ItemBias {
    /// Column of `item_features`: a number.
    pub column: String,
    /// What the column is multiplied by; below 0 it speaks against an item.
    pub weight: f64,
}

impl Default for Model {
    fn default() -> Self {
        Model {
            dim: 64,
            normalize: true,
            user_tower: Tower::default(),
            item_tower: Tower::default(),
            temperature: 0.07,
            learn_temperature: false,
            item_bias: None,
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
    /// Widths of the hidden layers, at most 65,536 each.
    pub layers: Vec<usize>,
    pub activation: Activation,
    /// What hidden values go through before the activation. Either lets deeper towers learn at higher rates; `layer` costs little
    /// and treats each row by itself.
    pub normalization: Normalization,
    /// Add what a hidden layer gets to what it gives, where the layer before it has the same width: deeper towers then
    /// learn as easily as shallow ones.
    pub residual: bool,
    /// Scale each feature's block of the input by a factor between 0 and 2 that depends on all features of the row (SENet, as in
    /// FiBiNET): the tower can then turn down features that say nothing for this user or item. Needs `combine: concat`.
    pub gating: bool,
    /// Share of hidden values set to zero while training.
    pub dropout: f64,
}

impl Default for Tower {
    fn default() -> Self {
        Tower {
            combine: Combine::Concat,
            layers: vec![128],
            activation: Activation::Relu,
            normalization: Normalization::None,
            residual: false,
            gating: false,
            dropout: 0.0,
        }
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
#[serde(rename_all = "snake_case")]
pub enum Activation {
    #[default]
    Relu,
    Gelu,
    Tanh,
    /// x, or x / 100 below 0: no unit can die.
    LeakyRelu,
    /// x * sigmoid(x), also called swish.
    Silu,
}

/// What hidden values go through before the activation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Normalization {
    #[default]
    None,
    /// Mean 0 and variance 1 over the values of one row.
    Layer,
    /// Mean 0 and variance 1 of each value over the batch; after training with the running mean and variance of the batches. Small
    /// batches make it noisy, and one of a single row says nothing.
    Batch,
}
