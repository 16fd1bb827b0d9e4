//! The config file: settings only, never live objects. One concern a file.

mod duration;
mod evaluation;
mod feature_rules;
mod features;
mod index;
mod learning;
mod load;
mod loss;
mod model;
mod negatives;
pub(crate) mod ordered;
mod publishing;
mod rankers;
mod reference;
mod samples;
mod size;
mod sources;
mod telemetry;
mod training;
mod warm_start;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use duration::Duration;
pub use evaluation::{Evaluation, Gates};
pub use features::{Feature, FeatureKind, Features, NumericTransform, Pooling};
pub use index::{Embedding, Index, IndexDrift, Refresh};
pub use learning::{Checkpoint, LearningRate, Schedule, TableOptimizer};
pub use load::Overrides;
pub use loss::{Loss, LossKind, SelfMined};
pub use model::{Activation, Combine, ItemBias, LEARNED_TEMPERATURES, Model, Normalization, Tower};
pub use negatives::{
    HardFrom, HardNegatives, HardOrder, MissingRelease, PreviousCandidates, RandomNegatives, ShownNegatives,
};
pub use publishing::{Lease, Retention};
pub use rankers::{Ranker, RankerInput, RankerType};
pub use reference::{json_schema, reference_yaml};
pub use samples::{AuditLevel, AuditLimits, Samples};
pub use size::ByteSize;
pub use sources::{ColumnType, Days, Format, Missing, Source};
pub use telemetry::{Lineage, Metrics};
pub use training::{AccidentalHits, EarlyStopping, LogQ, OwnInList, Training, Validation, ValidationSplit};
pub use warm_start::{StartFrom, WarmStart};

/// The version of the config's own format that this program reads.
pub const VERSION: u32 = 1;

/// One job: where its logs are, what a sample is, what is learned, where the release goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of this file's format. Always 1 so far.
    pub version: u32,
    /// Name of the job, in logs, manifests and reports.
    pub name: String,
    /// Folder that takes samples, runs and releases: a path, `s3://bucket/prefix`, or `memory://name` in tests. A
    /// relative path counts from the folder of this file. Credentials come from the environment, never from here.
    pub output: String,
    /// The tables that SQL may read, by name. The built-in SQL reads `impressions` (user_id, item_id, event_time,
    /// clicked), `items` (item_id, features), `users` (user_id, features), and, where configured, `ranker_scores` (user_id,
    /// item_id, score), `candidates` (user_id, item_id: what a ranker of `rankers` scores) and `future_impressions` (for offline
    /// evaluation).
    #[serde(with = "ordered")]
    #[schemars(with = "std::collections::BTreeMap<String, Source>")]
    pub sources: IndexMap<String, Source>,
    /// Ranker models that SQL may call, by the name of the function: `my_ranker(u.age, i.price)` is their score as DOUBLE, NULL where
    /// it is no number.
    #[serde(default, with = "ordered")]
    #[schemars(with = "std::collections::BTreeMap<String, Ranker>")]
    pub rankers: IndexMap<String, Ranker>,
    /// What a sample is: SQL, parameters, audits, limits.
    #[serde(default)]
    pub samples: Samples,
    /// What the two towers see.
    pub features: Features,
    /// Shape of the towers.
    #[serde(default)]
    pub model: Model,
    /// How they learn.
    #[serde(default)]
    pub training: Training,
    /// What they start from each day.
    #[serde(default)]
    pub warm_start: WarmStart,
    /// How item vectors are written.
    #[serde(default)]
    pub embedding: Embedding,
    /// The nearest-neighbour index over them.
    #[serde(default)]
    pub index: Index,
    /// How a release is measured.
    #[serde(default)]
    pub evaluation: Evaluation,
    /// What a candidate must reach before it is published. A refused candidate exits with 65.
    #[serde(default)]
    pub gates: Gates,
    /// Who may write to the output now.
    #[serde(default)]
    pub lease: Lease,
    /// What `release gc` keeps.
    #[serde(default)]
    pub retention: Retention,
    /// Figures for Prometheus at the end of a run: time, memory and rows of each stage, recall, release, exit code, last success.
    /// What cannot be delivered is a warning and never fails a run.
    #[serde(default)]
    pub metrics: Metrics,
    /// OpenLineage events: START, and COMPLETE, FAIL or ABORT, with the job's sources and outputs. What cannot be delivered is a
    /// warning and never fails a run. `OPENLINEAGE_PARENT_ID` (`namespace/job/run id`) names the run that this one is a part of.
    #[serde(default)]
    pub lineage: Lineage,
    /// The folder that relative paths count from: that of the config file.
    #[serde(skip)]
    pub base: std::path::PathBuf,
}
