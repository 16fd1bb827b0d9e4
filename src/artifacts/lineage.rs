//! From which earlier model a day went on.

use serde::{Deserialize, Serialize};

use super::{Release, RunDate};

/// What the stages of one candidate were made from, as digests: they tell which model, vectors and index these are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    pub model: String,
    pub embeddings: String,
    pub index: String,
}

/// The candidate that a day's training went on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its number; absent for a candidate that passed its gates and was not made a release, because a later date was published.
    pub release: Option<u64>,
    pub date: RunDate,
    pub run_id: String,
    pub digests: Digests,
}

impl Parent {
    /// For people: `release 7 of 2026-11-19`.
    pub fn in_words(&self) -> String {
        match self.release {
            Some(number) => format!("release {number} of {}", self.date),
            None => format!("the candidate {} of {}", self.run_id, self.date),
        }
    }
}

/// What a day starts from.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// None for a start from nothing.
    pub parent: Option<Parent>,
    /// The parent's manifest. None also for a parent that was removed after the day was done.
    pub manifest: Option<Box<Release>>,
    /// In words.
    pub why: String,
    /// Partitions whose late rows the parent has not seen, though it was taught their days.
    pub late: Vec<String>,
}

impl Start {
    /// A start from nothing.
    pub fn cold(why: impl Into<String>) -> Start {
        Start { why: why.into(), ..Start::default() }
    }
}
