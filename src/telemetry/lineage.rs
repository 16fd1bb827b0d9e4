//! OpenLineage: which run of which job read and wrote what.

use std::io::Write;

use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};
use tracing::warn;

use super::{Places, http};
use crate::artifacts::RunDate;
use crate::config::Config;
use crate::error::Error;
use crate::job::Job;
use crate::pipeline::Outcome;
use crate::storage::sha256_hex;

const PRODUCER: &str = concat!("urn:twotower:", env!("CARGO_PKG_VERSION"));
const SPEC: &str = "https://openlineage.io/spec";

/// What all events of one run have in common.
pub struct Lineage {
    run: Value,
    job: Value,
    inputs: Vec<Value>,
    output: Option<String>,
}

/// What happened.
pub enum Event<'a> {
    Start,
    /// With what it published, where it did.
    Complete(Option<&'a Outcome>),
    Fail(&'a Error),
    Abort,
}

impl Lineage {
    pub fn new(job: &Job, command: &str, (from, to): (RunDate, RunDate), places: &Places) -> Lineage {
        let config = &job.config;
        let name = format!("{}.{command}", config.name);
        let midnight = |date: RunDate| format!("{date}T00:00:00Z");
        let mut facets = json!({
            "nominalTime": facet("1-0-1/NominalTimeRunFacet", json!({
                "nominalStartTime": midnight(from),
                "nominalEndTime": midnight(to.offset(1)),
            })),
            "processing_engine": facet("1-1-1/ProcessingEngineRunFacet", json!({
                "name": "twotower",
                "version": env!("CARGO_PKG_VERSION"),
            })),
        });
        if let Some(text) = &places.parent {
            match parent(text, places.root.as_deref()) {
                Some(parent) => facets["parent"] = parent,
                None => {
                    warn!("OPENLINEAGE_PARENT_ID is `{text}`, expected namespace/job/run id: the parent is left out")
                }
            }
        }
        let (inputs, output) = datasets(job, command);
        let run_id = run_id(&name, from);
        Lineage {
            run: json!({ "runId": run_id, "facets": facets }),
            job: json!({
                "namespace": places.lineage_namespace,
                "name": name,
                "facets": { "jobType": facet("2-0-3/JobTypeJobFacet", json!({
                    "processingType": "BATCH",
                    "integration": "TWOTOWER",
                    "jobType": "JOB",
                })) },
            }),
            inputs,
            output,
        }
    }

    /// One event, as it is sent.
    pub fn event(&self, event: &Event<'_>) -> Value {
        let mut run = self.run.clone();
        let mut outputs = Vec::new();
        let kind = match event {
            Event::Start => "START",
            Event::Abort => "ABORT",
            Event::Fail(error) => {
                run["facets"]["errorMessage"] = facet(
                    "1-0-1/ErrorMessageRunFacet",
                    json!({ "message": error.to_string(), "programmingLanguage": "Rust" }),
                );
                "FAIL"
            }
            Event::Complete(outcome) => {
                if let (Some(output), Some(outcome)) = (&self.output, outcome) {
                    outputs.push(written(output, outcome));
                }
                "COMPLETE"
            }
        };
        json!({
            "eventType": kind,
            "eventTime": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            "producer": PRODUCER,
            "schemaURL": format!("{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"),
            "run": run,
            "job": self.job,
            "inputs": self.inputs,
            "outputs": outputs,
        })
    }
}

/// Leaves `event` at every place that takes events.
pub async fn deliver(places: &Places, event: &Value) {
    let text = event.to_string();
    if let Some(file) = &places.lineage_file {
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(file);
        if let Err(error) = opened.and_then(|mut file| file.write_all(format!("{text}\n").as_bytes())) {
            warn!("the lineage event is not written to {}: {error}", file.display());
        }
    }
    if let Some(url) = &places.lineage_url
        && let Err(why) = http::post_json(url, places.lineage_key.as_deref(), text).await
    {
        warn!("the lineage event is not sent to {}: {why}", http::shown(url));
    }
}

fn facet(schema: &str, mut of: Value) -> Value {
    let (version, name) = schema.split_once('/').expect("a version and a name");
    of["_producer"] = PRODUCER.into();
    of["_schemaURL"] = format!("{SPEC}/facets/{version}/{name}.json#/$defs/{name}").into();
    of
}

/// What a command reads, and the folder that it writes.
fn datasets(job: &Job, command: &str) -> (Vec<Value>, Option<String>) {
    let below = |folder: &str| job.output.url_of(folder);
    let made = |folder: &str| vec![dataset(&below(folder), json!({}))];
    match command {
        "samples" => (sources(&job.config), Some(below("samples"))),
        "train" => (made("samples"), Some(below("runs"))),
        "embed" | "index" | "evaluate" => (made("runs"), Some(below("runs"))),
        "publish" => (made("runs"), Some(below("releases"))),
        _ => (sources(&job.config), Some(below("releases"))),
    }
}

fn sources(config: &Config) -> Vec<Value> {
    let one = |source: &crate::config::Source| {
        let fields: Vec<Value> =
            source.columns.iter().map(|(name, column)| json!({ "name": name, "type": column })).collect();
        let facets = match fields.is_empty() {
            true => json!({}),
            false => json!({ "schema": facet("1-1-1/SchemaDatasetFacet", json!({ "fields": fields })) }),
        };
        dataset(&config.resolve(&source.path), facets)
    };
    config.sources.values().map(one).collect()
}

fn written(output: &str, outcome: &Outcome) -> Value {
    let mut dataset = dataset(output, json!({}));
    if let Some(release) = &outcome.release {
        let version = json!({ "datasetVersion": release.release.to_string() });
        dataset["facets"]["version"] = facet("1-0-1/DatasetVersionDatasetFacet", version);
        let bytes: u64 = release.files.iter().map(|file| file.bytes).sum();
        let statistics = json!({ "rowCount": release.items, "size": bytes, "fileCount": release.files.len() });
        dataset["outputFacets"] =
            json!({ "outputStatistics": facet("1-0-2/OutputStatisticsOutputDatasetFacet", statistics) });
    }
    dataset
}

/// A dataset by OpenLineage's naming: bucket and key, or `file` and path.
fn dataset(url: &str, facets: Value) -> Value {
    let (namespace, name) = match url.split_once("://") {
        Some((scheme, rest)) => {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            let scheme = if scheme == "s3a" { "s3" } else { scheme };
            (format!("{scheme}://{bucket}"), if key.is_empty() { "/" } else { key.trim_end_matches('/') })
        }
        None => ("file".to_string(), url),
    };
    json!({ "namespace": namespace, "name": name, "facets": facets })
}

/// The facet that names the run above this one. A namespace may hold slashes itself, so the parts are taken from the end.
fn parent(text: &str, root: Option<&str>) -> Option<Value> {
    let parts = |text: &str| {
        let (rest, run) = text.rsplit_once('/')?;
        let (namespace, job) = rest.rsplit_once('/')?;
        let full = ![namespace, job, run].iter().any(|part| part.is_empty());
        full.then(|| json!({ "run": { "runId": run }, "job": { "namespace": namespace, "name": job } }))
    };
    let mut parent = parts(text)?;
    if let Some(root) = root.and_then(parts) {
        parent["root"] = root;
    }
    Some(facet("1-1-0/ParentRunFacet", parent))
}

/// A UUID of version 8: of one's own making, from a hash of job, date, time and process.
fn run_id(name: &str, date: RunDate) -> String {
    let now = Utc::now().timestamp_nanos_opt().unwrap_or_default();
    let digits = sha256_hex(format!("{name} {date} {now} {}", std::process::id()).as_bytes());
    // the variant is two bits of this digit
    let variant = ["8", "9", "a", "b"][usize::from(digits.as_bytes()[16]) % 4];
    format!("{}-{}-8{}-{variant}{}-{}", &digits[..8], &digits[8..12], &digits[13..16], &digits[17..20], &digits[20..32])
}
