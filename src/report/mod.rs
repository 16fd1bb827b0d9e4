//! The report of one candidate: `report.json` for programs, `report.html` for people, one self-contained file each.

mod chart;
mod html;

use serde_json::{Value, json};

use crate::artifacts::{Embeddings, EvaluateFacts, ItemIndex, SampleSet, TrainedModel, keys};
use crate::error::Result;
use crate::job::Job;
use crate::storage::FileEntry;

/// What the report is about.
pub struct Subject<'a> {
    pub job: &'a Job,
    pub samples: &'a SampleSet,
    pub model: &'a TrainedModel,
    pub embeddings: &'a Embeddings,
    pub index: &'a ItemIndex,
}

/// Writes both files into `folder`.
pub async fn write(subject: &Subject<'_>, facts: &EvaluateFacts, folder: &str) -> Result<Vec<FileEntry>> {
    let json = serde_json::to_string_pretty(&as_json(subject, facts)).expect("a report is JSON") + "\n";
    let html = html::page(subject, facts);
    let mut files = Vec::new();
    for (name, text) in [(keys::REPORT_JSON, json), (keys::REPORT_HTML, html)] {
        files.push(subject.job.output.put_file(format!("{folder}/{name}"), text, None).await?);
    }
    Ok(files)
}

/// Numbers only; times are left to the stages' manifests, so that the same inputs give the same report.
fn as_json(subject: &Subject<'_>, facts: &EvaluateFacts) -> Value {
    let samples = &subject.samples.record.facts;
    let tables: Value = samples
        .tables
        .iter()
        .map(|(name, table)| (name.clone(), json!({ "rows": table.rows, "columns": table.columns })))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let train = &subject.model.record.facts;
    let epochs: Vec<Value> =
        train.epochs.iter().map(|e| json!({ "epoch": e.epoch, "loss": e.loss, "recall": e.recall })).collect();
    let index = &subject.index.record.facts;
    json!({
        "name": subject.job.config.name,
        "date": subject.job.date,
        "samples": {
            "tables": tables,
            "audits": samples.audits,
            "sql": samples.sql,
            "statistics": samples.statistics,
        },
        "training": {
            "examples": train.examples,
            "validation_examples": train.validation_examples,
            "best_epoch": train.best_epoch,
            "best_recall": train.best_recall,
            "temperature": train.temperature,
            "tables": train.tables,
            "epochs": epochs,
        },
        "embeddings": subject.embeddings.record.facts,
        "index": {
            "factory": index.factory,
            "parameters": index.parameters,
            "k": index.k,
            "recall": index.recall,
            "bytes": index.bytes,
            "trials": index.trials.iter().map(|t| json!({ "parameters": t.parameters, "recall": t.recall })).collect::<Vec<_>>(),
        },
        "evaluation": facts,
    })
}
