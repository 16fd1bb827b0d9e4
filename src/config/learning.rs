//! How weights are changed, step by step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LearningRate {
    /// Of the dense layers (AdamW).
    pub dense: f64,
    /// Of the embedding tables: about 0.05 suits `adagrad`, 0.001 suits `adam`.
    pub tables: f64,
    /// Steps over which both rise from zero.
    pub warmup_steps: u64,
    /// What becomes of both after that, over all steps of `training.epochs`. A training that early stopping ends has not
    /// come to the lowest rates.
    pub schedule: Schedule,
    /// Share of the rates that is left at the last step, for `linear` and `cosine`.
    #[serde(rename = "final")]
    pub final_share: f64,
}

impl Default for LearningRate {
    fn default() -> Self {
        LearningRate { dense: 0.001, tables: 0.05, warmup_steps: 100, schedule: Schedule::Constant, final_share: 0.0 }
    }
}

/// How learning rates go on after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// They stay.
    #[default]
    Constant,
    /// They fall by the same amount each step.
    Linear,
    /// They fall along half a cosine: slowly at first and at the end.
    Cosine,
}

/// How a touched row of an embedding table takes its step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TableOptimizer {
    /// Row-wise Adagrad: one number more for each row. Rows that turn up often take ever smaller steps.
    #[default]
    Adagrad,
    /// Lazy Adam: two numbers more for each value, three times the memory of the tables. Rows go on moving, also late.
    Adam,
}

/// What a training that is killed goes on from, to the same result. Kept below `checkpoints/` in the output until the model is
/// written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoint {
    /// Minutes between two, at most 10,080 (a week); 0 writes none by time. Each writes the tables once, and steps wait meanwhile: at 200 MB/s a
    /// table of 2 GB takes 10 seconds.
    pub minutes: f64,
    /// Write one after each epoch. An epoch that is the best so far is written in any case while others may follow, because
    /// its weights are not kept in memory beside those in training.
    pub per_epoch: bool,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Checkpoint { minutes: 30.0, per_epoch: true }
    }
}
