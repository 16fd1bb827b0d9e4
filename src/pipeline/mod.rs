//! The flow: which stages run for a date, which were done before for the same inputs, and where each one writes.

mod backfill;
mod digests;
pub mod parent;
mod plan;
pub(crate) mod records;
mod run;

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::error::did_you_mean;

pub use backfill::{Backfill, Became, Told, Which, backfill};
pub use plan::{Day, Plan, Question, State, plan};
pub use run::{Outcome, StageOutcome, run};

/// The stages, in the order data flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
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

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        Stage::ALL.into_iter().find(|stage| stage.name() == text).ok_or_else(|| {
            let names = Stage::ALL.map(Stage::name);
            format!("there is no stage `{text}`{}; there are {}", did_you_mean(text, names), names.join(", "))
        })
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
    /// Some; the others before the last must have been done.
    These(Stages),
    /// The same, and those done before are done again.
    Again(Stages),
}

/// A set of stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stages([bool; 6]);

impl Stages {
    pub const ALL: Stages = Stages([true; 6]);
    const SAMPLES: Stages = Stages([true, false, false, false, false, false]);

    /// At least one.
    pub fn of(stages: &[Stage]) -> Option<Stages> {
        let mut set = [false; 6];
        stages.iter().for_each(|stage| set[*stage as usize] = true);
        (!stages.is_empty()).then_some(Stages(set))
    }

    fn contains(self, stage: Stage) -> bool {
        self.0[stage as usize]
    }

    /// The others, if there are any.
    fn without(mut self, stage: Stage) -> Option<Stages> {
        self.0[stage as usize] = false;
        self.0.contains(&true).then_some(self)
    }
}

impl Scope {
    fn last(self) -> Stage {
        match self {
            Scope::UpTo(stage) | Scope::Only(stage) => stage,
            Scope::These(_) | Scope::Again(_) => self.stages().next_back().expect("a set has a stage"),
        }
    }

    /// Those that may run, in their order.
    fn stages(self) -> impl DoubleEndedIterator<Item = Stage> {
        Stage::ALL.into_iter().filter(move |stage| self.may_run(*stage))
    }

    /// How many stages that are.
    fn count(self) -> usize {
        self.stages().count()
    }

    fn may_run(self, stage: Stage) -> bool {
        match self {
            Scope::UpTo(last) => stage <= last,
            Scope::Only(only) => stage == only,
            Scope::These(stages) | Scope::Again(stages) => stages.contains(stage),
        }
    }

    /// Whether a stage is to be run although it was done before.
    fn is_again(self, stage: Stage) -> bool {
        matches!(self, Scope::Again(stages) if stages.contains(stage))
    }
}
