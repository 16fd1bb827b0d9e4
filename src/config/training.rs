//! How the towers learn.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::learning::{Checkpoint, LearningRate, TableOptimizer};
use super::{ByteSize, Loss, SelfMined, ordered};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    /// Where the dense layers run: `cpu`, or `cuda:0` in a build with the cargo feature `cuda`.
    pub device: String,
    /// Seed of initial weights, order of rows, and draws.
    pub seed: u64,
    /// Most passes over the positives.
    pub epochs: u32,
    pub loss: Loss,
    /// Columns of `positives` (BOOLEAN, or a number that holds above 0) with weights, like `{clicked: 1, purchased: 5}`. A
    /// positive weighs the sum of what holds for it, times its `weight` where the table has one; a positive that weighs 0
    /// is left out. Empty: all positives, by `weight` alone.
    #[serde(with = "ordered")]
    #[schemars(with = "std::collections::BTreeMap<String, f64>")]
    pub objectives: IndexMap<String, f64>,
    /// Positives in one step, at most 16,777,216. Each is also a negative for the others.
    pub batch_size: usize,
    /// Whether the other positives of a step are negatives: they cost nothing more and come by popularity. Without them
    /// only random and hard negatives are.
    pub in_batch_negatives: bool,
    /// Random negatives in one step, drawn from those of its positives and shared by all of them. Beside the in-batch ones, which
    /// come by popularity, they show the towers the rest of the catalogue: `samples.random_negatives.power` says how evenly. At most
    /// 16,777,216.
    pub random_negatives: usize,
    /// Most hard negatives of one positive in a step. Only their owner sees them.
    pub hard_per_positive: usize,
    /// Most of a positive's rows in `shown_negatives` (samples.shown_negatives) in a step: items that its user was shown and did not
    /// click. They go the way of hard negatives: only their owner sees them, `hard_weight` says what one counts for, and
    /// `hard_from_epoch` when they begin.
    pub shown_per_positive: usize,
    /// How many random negatives one hard negative counts for, in the softmax's sum or another loss's mean.
    pub hard_weight: f64,
    /// First epoch with hard negatives of any kind, at most `epochs`; before it the easy ones give the towers their coarse order. A
    /// training that goes on from a parent (`warm_start`) has that order: there they count from its first epoch.
    pub hard_from_epoch: u32,
    /// Online hardest negatives: of the random negatives and the other positives of a step, this many with the highest inner
    /// product count for more in each row; at most 2. They cost almost nothing; the nearer they are to a positive that was
    /// never shown, the more wrong labels they hold.
    pub online_hard: usize,
    /// How many random negatives each online hardest one counts for, in the softmax's sum or another loss's mean; at least 1.
    pub online_hard_weight: f64,
    pub self_mined: SelfMined,
    /// Correction of the softmax's logits for how often an item turns up as a negative (logQ). No other loss has it.
    pub logq: LogQ,
    pub learning_rate: LearningRate,
    /// How the embedding tables learn.
    pub table_optimizer: TableOptimizer,
    /// Decoupled weight decay of the dense layers (AdamW).
    pub weight_decay: f64,
    /// L2 penalty on the embedding rows that a step touches.
    pub table_decay: f64,
    /// L2 penalty on the vectors that the towers end in, for `model.normalize: false`. The loss of a positive gains `vector_decay / 2` times
    /// `|u|^2 + |v+|^2 + negative_weight * (|u|^2 + mean |v-|^2)`, with its user's vector `u`, its item's `v+`, and the mean over its negatives,
    /// each as often as it counts (those of `online_hard` once): both ends of each pair that the loss compares. `negative_weight` is that of
    /// `loss`, 1 where it has none. Whatever a vector is the sum of shares its penalty, where `table_decay` pulls at each row alone. Losses are
    /// told without it.
    pub vector_decay: f64,
    /// Largest norm of the dense gradient in one step; 0 is no limit. The tables need none: their optimizers divide each row's
    /// gradient by its own size.
    pub clip: f64,
    /// What becomes of a negative that its row's user likes, by another positive of his: `mask` takes it out of the row's loss. `keep` leaves it there
    /// like any other item, as noise contrastive estimation has it: what many of a user's positives share as negative then has a bounded best score,
    /// and not the higher the better. The row's own item is never its negative.
    pub accidental_hits: AccidentalHits,
    /// Share of the values of a history that are left out at random while training: makes it robust to short ones.
    pub history_dropout: f64,
    /// What becomes of the positive's own item in a history of its user while training: `drop` takes it out, for histories
    /// that were made without regard to time.
    pub target_in_history: OwnInList,
    /// What becomes of the positive's own user in a list of users that its item has, one over the table of the feature `user_id`: `drop`
    /// takes him out where the item is his positive; where it is a negative of others its list is whole. Towers that see such lists of
    /// those who liked an item else learn in part to find a user in a list that holds him.
    pub user_in_audience: OwnInList,
    pub validation: Validation,
    pub early_stopping: EarlyStopping,
    pub checkpoint: Checkpoint,
    /// Steps between two lines of the model's `training.jsonl` (loss, rates, norm of the gradient), and between two points of
    /// TensorBoard's curves. 0 leaves only the epochs.
    pub metrics_steps: u64,
    /// Local folder that takes event files for TensorBoard, one run for each training; a relative path counts from the folder
    /// of this file. They are no part of the model.
    pub tensorboard: Option<String>,
    /// Memory that encoded samples may take beside the embedding tables. What is more lies in a file in `samples.spill`, and is read from
    /// there a million rows at a time. The result does not depend on it.
    pub samples_memory: ByteSize,
    /// Cores for training, at most 1,024; 0 takes them all. The result does not depend on it.
    pub threads: usize,
}

impl Default for Training {
    fn default() -> Self {
        Training {
            device: "cpu".into(),
            seed: 17,
            epochs: 10,
            loss: Loss::default(),
            objectives: IndexMap::new(),
            batch_size: 1024,
            in_batch_negatives: true,
            random_negatives: 512,
            hard_per_positive: 2,
            shown_per_positive: 2,
            hard_weight: 1.0,
            hard_from_epoch: 1,
            online_hard: 0,
            online_hard_weight: 10.0,
            self_mined: SelfMined::default(),
            logq: LogQ::default(),
            learning_rate: LearningRate::default(),
            table_optimizer: TableOptimizer::Adagrad,
            weight_decay: 0.0001,
            table_decay: 0.0,
            vector_decay: 0.0,
            clip: 1.0,
            accidental_hits: AccidentalHits::Mask,
            history_dropout: 0.0,
            target_in_history: OwnInList::Keep,
            user_in_audience: OwnInList::Keep,
            validation: Validation::default(),
            early_stopping: EarlyStopping::default(),
            checkpoint: Checkpoint::default(),
            metrics_steps: 100,
            tensorboard: None,
            samples_memory: ByteSize::mib(512),
            threads: 0,
        }
    }
}

impl Training {
    /// Whether a positive meets those of other rows; a batch of one row has none.
    pub fn has_in_batch_negatives(&self) -> bool {
        self.in_batch_negatives && self.batch_size > 1
    }
}

/// What becomes of an item that the user of a row likes among the row's negatives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccidentalHits {
    #[default]
    Mask,
    Keep,
}

/// What becomes of one end of a positive in a list that the other end has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OwnInList {
    /// It is a value like others: right where lists end before the event.
    #[default]
    Keep,
    Drop,
}

/// Strength of the logQ correction per source of negatives: 1 removes the bias of the draw entirely, 0 leaves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogQ {
    /// For the positives of the other rows, which come by popularity.
    pub in_batch: f64,
    /// For random negatives, from their `sampling_probability`.
    pub random: f64,
}

impl Default for LogQ {
    fn default() -> Self {
        LogQ { in_batch: 1.0, random: 1.0 }
    }
}

/// The part of the positives that is kept out of the steps, to choose the best epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Validation {
    /// Share of the positives. 0 trains on all of them and keeps the last epoch.
    pub share: f64,
    /// Which ones.
    pub split: ValidationSplit,
    /// The epoch with the highest Recall@k over the whole catalogue wins.
    pub k: usize,
    /// Most rows that are measured after an epoch.
    pub rows: usize,
}

impl Default for Validation {
    fn default() -> Self {
        Validation { share: 0.05, split: ValidationSplit::Random, k: 100, rows: 10_000 }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ValidationSplit {
    /// By hash of the sample.
    #[default]
    Random,
    /// The newest by event time: closer to what the release meets, and not representative of earlier days.
    Latest,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EarlyStopping {
    /// Epochs without a better recall before training stops; 0 never stops early.
    pub patience: u32,
}

impl Default for EarlyStopping {
    fn default() -> Self {
        EarlyStopping { patience: 2 }
    }
}
