//! Everything that the page shows: the content of `report.json`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::artifacts::{
    AuditOutcome, Column, Done, EmbedFacts, EvaluateFacts, Forced, GateResult, Id, IndexFacts, Origins, Portrait,
    Release, RunDate, Statistics, TrainFacts,
};
use crate::job::Job;
use crate::publish::{Candidate, Judged, Ruling};

/// Raised when a reader of older reports must know.
const VERSION: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub version: u32,
    pub program: String,
    pub name: String,
    pub date: RunDate,
    pub run_id: String,
    pub written: DateTime<Utc>,
    pub by: String,
    pub data_window: (RunDate, RunDate),
    pub verdict: Verdict,
    pub gates: Vec<GateResult>,
    /// The release that was published when this one was judged, and that the gates compared it with.
    pub published: Option<Past>,
    /// The release whose model the training went on from.
    pub parent: Option<Past>,
    /// The last releases, the oldest first.
    pub history: Vec<Past>,
    pub stages: Vec<StageCost>,
    pub samples: Samples,
    /// The cut-off of the recalls in `training`.
    pub validation_k: usize,
    pub training: TrainFacts,
    pub embeddings: EmbedFacts,
    pub index: IndexFacts,
    pub evaluation: EvaluateFacts,
    pub portrait: Portrait,
    /// What users of the portrait got from the published release.
    pub before: Vec<Before>,
}

/// What became of the candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Verdict {
    Published { release: u64, forced: Option<Forced> },
    Withheld { reason: String },
    Refused { gates: Vec<String> },
}

/// A release among others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Past {
    pub release: u64,
    pub date: RunDate,
    pub rollback_of: Option<u64>,
    pub items: u64,
    /// Recall by cut-off: exact, through the index, and of the popularity baseline.
    pub exact: BTreeMap<usize, f64>,
    pub indexed: BTreeMap<usize, f64>,
    pub popularity: BTreeMap<usize, f64>,
    pub index_recall: Option<f64>,
}

/// What one stage cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageCost {
    pub stage: String,
    pub seconds: f64,
    /// Largest resident set of the process up to the stage's end, in bytes.
    pub peak_memory: u64,
    pub files: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Samples {
    pub tables: BTreeMap<String, TableFigures>,
    pub input_files: u64,
    pub input_bytes: u64,
    pub audits: Vec<AuditOutcome>,
    /// SHA-256 of each SQL file's text, by table.
    pub sql: BTreeMap<String, String>,
    pub statistics: Statistics,
    #[serde(default)]
    pub origins: Origins,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TableFigures {
    pub rows: u64,
    pub bytes: u64,
    pub seconds: f64,
    pub columns: Vec<Column>,
}

/// What a user got from the published release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Before {
    pub user: Id,
    pub gets: Vec<Id>,
}

impl Report {
    pub(super) fn new(
        job: &Job,
        candidate: &Candidate<'_>,
        judged: &Judged,
        portrait: Portrait,
        history: &[Release],
        before: Vec<Before>,
    ) -> Report {
        let Judged { release, current, ruling } = judged;
        let parent = release.parent.and_then(|number| history.iter().find(|past| past.release == number));
        Report {
            version: VERSION,
            program: format!("twotower {}", env!("CARGO_PKG_VERSION")),
            name: release.name.clone(),
            date: release.date,
            run_id: release.run_id.clone(),
            written: release.created,
            by: release.publication.by.clone(),
            data_window: release.data_window,
            verdict: match ruling {
                Ruling::Publish => {
                    Verdict::Published { release: release.release, forced: release.publication.forced.clone() }
                }
                Ruling::Withhold(reason) => Verdict::Withheld { reason: reason.clone() },
                Ruling::Refuse(gates) => Verdict::Refused { gates: gates.clone() },
            },
            gates: release.gates.clone(),
            published: current.as_ref().map(Past::of),
            parent: parent.map(Past::of),
            history: history.iter().map(Past::of).collect(),
            stages: stages(candidate),
            samples: Samples::of(candidate),
            validation_k: job.config.training.validation.k,
            training: candidate.model.record.facts.clone(),
            embeddings: candidate.embeddings.record.facts.clone(),
            index: candidate.index.record.facts.clone(),
            evaluation: candidate.evaluated.record.facts.clone(),
            portrait,
            before,
        }
    }

    /// The cut-off that the page's headlines are about: the largest.
    pub fn deepest(&self) -> usize {
        self.evaluation.exact.at.last_key_value().map_or(0, |(k, _)| *k)
    }

    /// This candidate as one among the releases.
    pub fn as_past(&self) -> Past {
        let recall = |metrics: &crate::artifacts::Metrics| metrics.at.iter().map(|(k, at)| (*k, at.recall)).collect();
        Past {
            release: match self.verdict {
                Verdict::Published { release, .. } => release,
                _ => 0,
            },
            date: self.date,
            rollback_of: None,
            items: self.index.items,
            exact: recall(&self.evaluation.exact),
            indexed: recall(&self.evaluation.indexed),
            popularity: recall(&self.evaluation.popularity),
            index_recall: Some(self.index.recall),
        }
    }
}

impl Past {
    fn of(release: &Release) -> Past {
        let measured = release.metrics["users"].as_u64() > Some(0);
        let recall = |of: &str| -> BTreeMap<usize, f64> {
            let by_k = release.metrics[of].as_object().filter(|_| measured);
            let values = by_k.into_iter().flatten();
            values.filter_map(|(k, at)| Some((k.parse().ok()?, at["recall"].as_f64()?))).collect()
        };
        Past {
            release: release.release,
            date: release.date,
            rollback_of: release.rollback_of,
            items: release.items,
            exact: recall("exact"),
            indexed: recall("indexed"),
            popularity: recall("popularity"),
            index_recall: release.metrics["index_recall"].as_f64(),
        }
    }
}

impl Samples {
    fn of(candidate: &Candidate<'_>) -> Samples {
        let facts = &candidate.samples.record.facts;
        let table = |table: &crate::artifacts::TableFacts| TableFigures {
            rows: table.rows,
            bytes: table.files.iter().map(|file| file.bytes).sum(),
            seconds: table.seconds,
            columns: table.columns.clone(),
        };
        Samples {
            tables: facts.tables.iter().map(|(name, found)| (name.clone(), table(found))).collect(),
            input_files: facts.inputs.len() as u64,
            input_bytes: facts.inputs.iter().map(|file| file.bytes).sum(),
            audits: facts.audits.clone(),
            sql: facts.sql.clone(),
            statistics: facts.statistics.clone(),
            origins: facts.origins.clone(),
        }
    }
}

fn stages(candidate: &Candidate<'_>) -> Vec<StageCost> {
    fn cost<T>(done: &Done<T>) -> StageCost {
        let record = &done.record;
        StageCost {
            stage: record.stage.clone(),
            seconds: record.measured.seconds,
            peak_memory: record.measured.peak_memory,
            files: record.files.len() as u64,
            bytes: record.files.iter().map(|file| file.bytes).sum(),
        }
    }
    let Candidate { samples, model, embeddings, index, evaluated, .. } = candidate;
    vec![cost(samples), cost(model), cost(embeddings), cost(index), cost(evaluated)]
}
