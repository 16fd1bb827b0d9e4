//! What a sample is: SQL files, their parameters, audits, limits.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ByteSize;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Samples {
    /// Folder with SQL files of your own, one SELECT a file: `positives.sql` replaces the built-in one, a new name adds a
    /// table, `audits/` adds audits. Without it the built-in files alone are used.
    pub sql: Option<String>,
    /// Seed of every draw. The same seed and inputs give the same samples.
    pub seed: u64,
    /// Values for `$name` in the SQL, beside the built-in `$date`, `$seed` and the keys below.
    #[serde(with = "super::ordered")]
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    pub params: IndexMap<String, serde_json::Value>,
    /// How many of the newest earlier items make a user's history: `$history_length`.
    pub history_length: u32,
    /// Share of users whose positives of the last day are held out of training to evaluate the model, where no
    /// `future_impressions` source is configured: `$holdout_share`.
    pub holdout_share: f64,
    pub random_negatives: RandomNegatives,
    pub hard_negatives: HardNegatives,
    /// What a failing audit does, by its name: `error` (default) stops before training, `warn` reports, `off` skips it.
    #[serde(with = "super::ordered")]
    #[schemars(with = "std::collections::BTreeMap<String, AuditLevel>")]
    pub audits: IndexMap<String, AuditLevel>,
    /// Memory that the SQL engine may use. Sorts, joins and aggregates that need more spill to disk.
    pub memory: ByteSize,
    /// Cores for the SQL engine; 0 takes them all. The rows do not depend on it.
    pub threads: usize,
    /// Folder for spilled data. The system's temporary folder when not given.
    pub spill: Option<String>,
    /// Rows in one output file. Smaller files can be read by more tasks, larger ones compress better.
    pub rows_per_file: u64,
}

impl Default for Samples {
    fn default() -> Self {
        Samples {
            sql: None,
            seed: 17,
            params: IndexMap::new(),
            history_length: 50,
            holdout_share: 0.1,
            random_negatives: RandomNegatives::default(),
            hard_negatives: HardNegatives::default(),
            audits: IndexMap::new(),
            memory: ByteSize::mib(1024),
            threads: 0,
            spill: None,
            rows_per_file: 4_000_000,
        }
    }
}

/// Easy negatives: drawn from the whole corpus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RandomNegatives {
    /// Random negatives for each positive: `$random_per_positive`. A batch shares those of all its positives, so few are
    /// needed.
    pub per_positive: u32,
    /// Power of the item's count of positives in the drawing weight: `$random_power`. 0 draws all items alike, 1 by popularity.
    pub power: f64,
}

impl Default for RandomNegatives {
    fn default() -> Self {
        RandomNegatives { per_positive: 10, power: 0.5 }
    }
}

/// Hard negatives: close to the user's taste by a ranker's word, and still not liked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HardNegatives {
    /// First rank taken, by the ranker's score: `$hard_rank_from`. Nearer the top are likely items that he would like
    /// (EBR, arXiv 2006.11632, found 101-500 best).
    pub rank_from: u32,
    /// Last rank taken: `$hard_rank_to`.
    pub rank_to: u32,
    /// Random negatives for one hard one: `$random_per_hard`. Reached by giving hard negatives to a share of the positives. EBR
    /// found that more than one in 100 does not help.
    pub random_per_hard: u32,
    /// Hard negatives for each positive that gets any: `$hard_per_positive`.
    pub per_positive: u32,
}

impl Default for HardNegatives {
    fn default() -> Self {
        HardNegatives { rank_from: 101, rank_to: 500, random_per_hard: 100, per_positive: 2 }
    }
}

/// What a failing audit does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditLevel {
    #[default]
    Error,
    Warn,
    Off,
}
