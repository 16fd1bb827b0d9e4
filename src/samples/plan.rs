//! What a run of the samples would read and build: listings and SQL only, no data.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::files::{Files, load};
use super::order::{after_date, order, reads};
use super::params::{bind, params};
use super::parse::SqlFile;
use crate::artifacts::{InputFile, RunDate};
use crate::config::Config;
use crate::error::Result;
use crate::job::Job;
use crate::storage::sha256_hex;
use crate::warehouse::{Listing, list_source};

/// What the samples of one date will be made from.
pub struct SamplePlan {
    /// Digest of everything the rows depend on: SQL, parameters, sources, input files, program version.
    pub digest: String,
    pub inputs: Vec<InputFile>,
    /// SHA-256 of each SQL file's text, by table; audits as `audits/NAME`.
    pub sql: BTreeMap<String, String>,
    /// Digest of all of them.
    pub sql_digest: String,
    /// First and last day of data that training may see.
    pub window: (RunDate, RunDate),
    /// Tables, each after those it reads.
    pub order: Vec<String>,
    pub warnings: Vec<String>,
    pub(super) sources: Vec<Listing>,
    pub(super) files: BTreeMap<String, SqlFile>,
    pub(super) audits: Vec<SqlFile>,
}

/// Reads SQL and lists the sources that it reads.
pub async fn plan(job: &Job) -> Result<SamplePlan> {
    let config = &job.config;
    let Files { tables, wanted, audits } = load(config).await?;
    let files = Files { tables, wanted, audits };
    let order = order(config, &files)?;
    let params = params(config, job.date)?;
    let mut read: BTreeSet<String> = BTreeSet::new();
    for file in order.iter().map(|name| &files.tables[name]).chain(&files.audits) {
        bind(file, &params)?;
        if !file.built_in || order.contains(&file.name) {
            read.extend(reads(file));
        }
    }
    let mut sources = Vec::new();
    for (name, source) in config.sources.iter().filter(|(name, _)| read.contains(*name)) {
        sources.push(list_source(config, name, source, job.date).await?);
    }
    let mut sql: BTreeMap<String, String> = BTreeMap::new();
    for name in &order {
        sql.insert(name.clone(), sha256_hex(files.tables[name].text.as_bytes()));
    }
    for audit in &files.audits {
        sql.insert(format!("audits/{}", audit.name), sha256_hex(audit.text.as_bytes()));
    }
    let sql_digest = sha256_hex(json!(sql).to_string().as_bytes());
    let inputs: Vec<InputFile> = sources.iter().flat_map(Listing::inputs).collect();
    let settings: BTreeMap<&String, _> = config.sources.iter().filter(|(name, _)| read.contains(*name)).collect();
    let audit_levels: BTreeMap<&String, _> = config.samples.audits.iter().collect();
    let digest = json!({
        "twotower": env!("CARGO_PKG_VERSION"),
        "date": job.date,
        "sql": sql_digest,
        "params": params,
        "audits": audit_levels,
        "rows_per_file": config.samples.rows_per_file,
        "sources": settings,
        "inputs": inputs,
    });
    let mut warnings: Vec<String> = sources.iter().flat_map(|listing| listing.warnings.clone()).collect();
    warnings.extend(remarks(config, &files, &order, &read));
    Ok(SamplePlan {
        digest: sha256_hex(digest.to_string().as_bytes()),
        inputs,
        sql,
        sql_digest,
        window: window(job.date, &sources),
        warnings,
        sources,
        files: files.tables.into_iter().filter(|(name, _)| order.contains(name)).collect(),
        audits: files.audits,
        order,
    })
}

/// The days of the windows that training sees; the date alone where no source has one.
fn window(date: RunDate, sources: &[Listing]) -> (RunDate, RunDate) {
    let windowed = sources.iter().filter(|listing| !listing.settings.snapshot && !after_date(&listing.settings));
    let dates: Vec<RunDate> =
        windowed.flat_map(|listing| listing.partitions.iter().filter_map(|partition| partition.date)).collect();
    (dates.iter().min().copied().unwrap_or(date), dates.iter().max().copied().unwrap_or(date))
}

/// What is allowed and rarely meant.
fn remarks(config: &Config, files: &Files, order: &[String], read: &BTreeSet<String>) -> Vec<String> {
    let mut remarks = Vec::new();
    for source in config.sources.keys().filter(|source| !read.contains(*source)) {
        remarks.push(format!("source `{source}` is read by no table"));
    }
    for name in order {
        let file = &files.tables[name];
        let in_contract = crate::artifacts::contracts().iter().any(|contract| contract.table == name);
        if !file.built_in && !in_contract && !read.contains(name) {
            remarks.push(format!("{}: table `{name}` is read by nothing", file.shown));
        }
    }
    let has = |name: &str| order.iter().any(|table| table == name);
    let random = has("random_negatives") && config.samples.random_negatives.per_positive > 0;
    if !random {
        let only = if has("hard_negatives") { "hard negatives alone" } else { "no negatives but those of the batch" };
        remarks.push(format!(
            "training gets {only}: random negatives from the whole corpus are what lets a model see the world (EBR, arXiv 2006.11632)"
        ));
    }
    if let Some(file) = files.tables.get("random_negatives").filter(|file| random && !file.built_in) {
        let draws = file.references.functions.contains_key(super::order::DRAWING_FUNCTION);
        let corpus = ["items", "item_features", "item_frequency"];
        if !draws && !reads(file).iter().any(|name| corpus.contains(&name.as_str())) {
            remarks.push(format!(
                "{}: `random_negatives` reads no catalogue, so it looks like shown and not clicked, which is never a good only source of negatives",
                file.shown
            ));
        }
    }
    remarks
}
