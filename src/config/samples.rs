//! What a sample is: SQL files, their parameters, audits, limits.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, HardNegatives, PreviousCandidates, RandomNegatives, ShownNegatives};

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
    pub shown_negatives: ShownNegatives,
    pub previous_candidates: PreviousCandidates,
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
            shown_negatives: ShownNegatives::default(),
            previous_candidates: PreviousCandidates::default(),
            audits: IndexMap::new(),
            memory: ByteSize::mib(1024),
            threads: 0,
            spill: None,
            rows_per_file: 4_000_000,
        }
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
