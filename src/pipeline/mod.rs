//! The flow: which stages run for a date, which were done before for the same inputs, and where each one writes.

mod digests;
pub mod parent;
mod plan;
pub(crate) mod records;
mod run;

use std::fmt;

pub use plan::{DayPlan, plan};
pub use run::{Outcome, StageOutcome, run};

/// The stages, in the order data flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Samples,
    Train,
    Embed,
    Index,
    Evaluate,
    Publish,
}

impl Stage {
    pub const ALL: [Stage; 6] =
        [Stage::Samples, Stage::Train, Stage::Embed, Stage::Index, Stage::Evaluate, Stage::Publish];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Samples => "samples",
            Stage::Train => "train",
            Stage::Embed => "embed",
            Stage::Index => "index",
            Stage::Evaluate => "evaluate",
            Stage::Publish => "publish",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which stages a command may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of them up to one; those done before are skipped.
    UpTo(Stage),
    /// One; those before it must have been done.
    Only(Stage),
}

impl Scope {
    fn last(self) -> Stage {
        match self {
            Scope::UpTo(stage) | Scope::Only(stage) => stage,
        }
    }

    /// How many stages that are.
    fn count(self) -> usize {
        Stage::ALL.into_iter().filter(|stage| self.may_run(*stage)).count()
    }

    fn may_run(self, stage: Stage) -> bool {
        match self {
            Scope::UpTo(last) => stage <= last,
            Scope::Only(only) => stage == only,
        }
    }
}
