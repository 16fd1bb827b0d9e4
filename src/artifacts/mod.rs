//! What stages leave for one another: object keys (spelled nowhere else), manifests, ids, and the contract of every table.

mod date;
mod ids;
pub mod keys;
mod lineage;
mod portrait;
mod release;
mod stages;
mod statistics;
mod tables;

pub use date::RunDate;
pub use ids::{Id, IdType, Ids};
pub use lineage::{Digests, Parent, Start};
pub use portrait::{Histogram, ItemNote, Portrait, Projection, UserExample};
pub use release::{Forced, GateResult, Publication, Release, Rollback};
pub use stages::{
    AmongAtK, AmongCandidates, AtK, AuditOutcome, AuditVerdict, Bucket, BuildFacts, Column, Counted, Done, EmbedFacts,
    Embeddings, EpochFacts, EvaluateFacts, Evaluated, IndexFacts, InputFile, ItemIndex, ListFacts, Measured, Metrics,
    Origins, PreviousRelease, RefreshFacts, RefreshProbe, SampleFacts, SampleSet, SearchTrial, StageRecord, StartFacts,
    TableFacts, TrainFacts, TrainedModel, Written,
};
pub use statistics::{AccidentalHits, PopularityBand, RankBand, Spread, Statistics, TableStatistics};
pub use tables::{ColumnContract, Contract, Need, contracts};

/// Version of the layout of everything below the output folder. A reader refuses a newer one.
pub const SCHEMA_VERSION: u32 = 1;
