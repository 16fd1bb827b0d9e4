//! twotower turns a recommender's impression logs into a published two-tower retrieval release.
//!
//! The flow, in the order data takes it:
//!
//! ```text
//! logs -> samples (DataFusion SQL) -> train (burn) -> embed -> index (faiss) -> evaluate -> publish
//! ```
//!
//! Glossary:
//! - **positive**: a user and an item he liked, with what was known of him at that moment.
//! - **random negative**: an item drawn from the whole corpus for a positive; shared by all rows of a batch.
//! - **hard negative**: an item that a ranker puts near the user's taste and that he did not like; only its owner sees it.
//! - **tower**: the function from a user's (an item's) features to a vector, of length one unless the model leaves it its own.
//! - **logit**: inner product of a user's and an item's vector, divided by the temperature.
//! - **logQ**: the correction of a logit for how often its item turns up as a negative.
//! - **run**: one candidate for a date. **release**: a candidate that was published.

pub use twotower_kernels as kernels;

// what everything stands on
pub mod allocator;
pub mod artifacts;
pub mod config;
pub mod error;
pub mod job;
pub mod progress;
pub mod spill;
pub mod storage;

// logs to samples
pub mod rankers;
pub mod samples;
pub mod warehouse;

// samples to vectors
pub mod embed;
pub mod features;
pub mod model;
pub mod train;

// vectors to a release
pub mod evaluate;
pub mod index;
pub mod publish;
pub mod recommend;
pub mod report;
pub mod retrieval;

// the job as people and schedulers see it
pub mod cli;
pub mod cpu;
pub mod generate;
pub mod init;
pub mod logging;
pub mod pipeline;
pub mod schedulers;
pub mod signals;
pub mod telemetry;
