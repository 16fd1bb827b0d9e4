//! twotower turns a recommender's impression logs into a published two-tower retrieval release.

pub mod artifacts;
pub mod config;
pub mod error;
pub mod job;
pub mod progress;
pub mod storage;
