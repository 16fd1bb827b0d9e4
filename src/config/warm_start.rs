//! What a training starts from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Going on from the model of an earlier day. Cheaper than a start from nothing, because only the days since then are taught, and it
/// remembers what has left the samples' window. A changed feature or tower cannot go on: the run then ends with 78 and asks for
/// `--cold`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WarmStart {
    /// What a day starts from. `--cold` sets `nothing` for one command.
    pub from: StartFrom,
    /// The oldest parent, in days before the date; none younger means a start from nothing. Should not exceed the samples' window:
    /// what happened between the parent's date and the window is never taught.
    pub max_parent_age_days: u32,
    /// A value of a vocabulary loses its row when no samples had it for this many days: neither a positive of the window nor,
    /// for items, the catalogue. Shorter keeps the tables small, longer remembers what comes back, as with seasons.
    /// 0 keeps all for ever.
    pub evict_after_days: u32,
    /// Most passes over the positives of the new days, in place of `training.epochs`. More learn the day better and forget
    /// the days before. Hard negatives count from the first one: the parent has passed `training.hard_from_epoch` and
    /// `training.self_mined.from_epoch`.
    pub epochs: u32,
}

impl Default for WarmStart {
    fn default() -> Self {
        WarmStart { from: StartFrom::Parent, max_parent_age_days: 14, evict_after_days: 30, epochs: 3 }
    }
}

/// What a day's training starts from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StartFrom {
    /// The newest good release of an earlier date; or, where a later date is published already, the newest candidate of an
    /// earlier date that passed its gates. Nothing, where there is none.
    #[default]
    Parent,
    /// Fresh weights, taught on the whole window.
    Nothing,
}
