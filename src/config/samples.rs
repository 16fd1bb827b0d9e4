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
    /// What a failing audit does, by its name: `error` stops before training, `warn` reports, `off` skips it. `error` when not given,
    /// but `warn` for `class_ratio`, `hard_negatives_ratio`, `day_far_from_the_last_seven`, `null_features`,
    /// `positives_after_the_date` and `positives_outside_the_corpus`, which may have good reasons.
    #[serde(with = "super::ordered")]
    #[schemars(with = "std::collections::BTreeMap<String, AuditLevel>")]
    pub audits: IndexMap<String, AuditLevel>,
    pub audit_limits: AuditLimits,
    /// Memory that the SQL engine may use. Sorts, joins and aggregates that need more spill to disk.
    pub memory: ByteSize,
    /// Cores for the SQL engine; 0 takes them all. The rows do not depend on it.
    pub threads: usize,
    /// Folder for spilled data, of the SQL engine and of training (training.samples_memory). The system's temporary folder when not given.
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
            audit_limits: AuditLimits::default(),
            memory: ByteSize::mib(1024),
            threads: 0,
            spill: None,
            rows_per_file: 4_000_000,
        }
    }
}

/// From where on a built-in audit reports. The limits are parameters of all SQL, so audits of your own may use them too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditLimits {
    /// Share of nulls in one column of features (`null_features`): `$null_share`.
    pub null_share: f64,
    /// How far the negatives for one positive may be from the configured number, as a share of it (`class_ratio`,
    /// `hard_negatives_ratio`): `$ratio_change`.
    pub ratio_change: f64,
    /// How far the rows of a day may be from the mean of up to seven days before it, as a share of that mean
    /// (`day_far_from_the_last_seven`): `$day_change`.
    pub day_change: f64,
}

impl Default for AuditLimits {
    fn default() -> Self {
        AuditLimits { null_share: 0.5, ratio_change: 0.5, day_change: 0.5 }
    }
}

/// Built-in audits that warn when nothing else is configured: what they find may have good reasons.
const WARNING: [&str; 6] = [
    "class_ratio",
    "hard_negatives_ratio",
    "day_far_from_the_last_seven",
    "null_features",
    "positives_after_the_date",
    "positives_outside_the_corpus",
];

impl Samples {
    /// What the audit of this name does when it finds something. An audit that is made for a column, `audit:column`, goes by the part
    /// before the colon.
    pub fn audit_level(&self, name: &str) -> AuditLevel {
        let name = name.split(':').next().unwrap_or(name);
        let default = if WARNING.contains(&name) { AuditLevel::Warn } else { AuditLevel::Error };
        self.audits.get(name).copied().unwrap_or(default)
    }
}

/// What a failing audit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditLevel {
    Error,
    Warn,
    Off,
}
