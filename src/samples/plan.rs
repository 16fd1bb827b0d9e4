//! What a run of the samples would read and build: listings and SQL only, no data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;

use super::files::{Files, load};
use super::order::{after_date, order, reads};
use super::params::{bind, params};
use super::parse::SqlFile;
use crate::artifacts::{InputFile, RunDate};
use crate::config::Config;
use crate::error::Result;
use crate::job::Job;
use crate::rankers::{self, Ranker};
use crate::storage::sha256_hex;
use crate::warehouse::{Catalog, Listing, Unlisted};

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
    pub(super) rankers: Vec<Arc<Ranker>>,
    pub(super) sources: Vec<Listing>,
    pub(super) files: Arc<BTreeMap<String, SqlFile>>,
    pub(super) audits: Arc<Vec<SqlFile>>,
}

/// Reads SQL and lists the sources that it reads.
pub async fn plan(job: &Job) -> Result<SamplePlan> {
    Ok(Recipe::open(job, job.date, job.date).await?.plan(job.date).await?)
}

/// What the samples of a range of dates are made by: the SQL, read once, and its sources, listed once.
pub struct Recipe {
    config: Arc<Config>,
    /// Sources that the SQL reads.
    read: BTreeSet<String>,
    catalog: Catalog,
    sql: BTreeMap<String, String>,
    sql_digest: String,
    order: Vec<String>,
    remarks: Vec<String>,
    rankers: Vec<Arc<Ranker>>,
    /// Of those that the SQL calls, what the rows depend on.
    called: BTreeMap<String, serde_json::Value>,
    files: Arc<BTreeMap<String, SqlFile>>,
    audits: Arc<Vec<SqlFile>>,
}

impl Recipe {
    /// For the dates from `first` to `last`.
    pub async fn open(job: &Job, first: RunDate, last: RunDate) -> Result<Recipe> {
        let config = &job.config;
        let files = load(config).await?;
        let order = order(config, &files)?;
        let params = params(config, first)?;
        let mut read: BTreeSet<String> = BTreeSet::new();
        for file in order.iter().map(|name| &files.tables[name]).chain(&files.audits) {
            bind(file, &params)?;
            if !file.built_in || order.contains(&file.name) {
                read.extend(reads(file));
            }
        }
        let mut sql: BTreeMap<String, String> = BTreeMap::new();
        for name in &order {
            sql.insert(name.clone(), sha256_hex(files.tables[name].text.as_bytes()));
        }
        for audit in &files.audits {
            sql.insert(format!("audits/{}", audit.name), sha256_hex(audit.text.as_bytes()));
        }
        let rankers = rankers::load(config).await?;
        Ok(Recipe {
            config: config.clone(),
            called: called(&rankers, order.iter().map(|name| &files.tables[name]).chain(&files.audits)),
            rankers,
            catalog: Catalog::new(config, |name| read.contains(name), first, last)?,
            sql_digest: sha256_hex(json!(sql).to_string().as_bytes()),
            sql,
            remarks: remarks(config, &files, &order, &read),
            read,
            files: Arc::new(files.tables.into_iter().filter(|(name, _)| order.contains(name)).collect()),
            audits: Arc::new(files.audits),
            order,
        })
    }

    /// What the samples of one of the dates will be made from.
    pub async fn plan(&self, date: RunDate) -> Result<SamplePlan, Unlisted> {
        let config = &self.config;
        let sources = self.catalog.list(date).await?;
        let inputs: Vec<InputFile> = sources.iter().flat_map(Listing::inputs).collect();
        let settings: BTreeMap<&String, _> =
            config.sources.iter().filter(|(name, _)| self.read.contains(*name)).collect();
        let audit_levels: BTreeMap<&String, _> = config.samples.audits.iter().collect();
        let digest = json!({
            "twotower": env!("CARGO_PKG_VERSION"),
            "date": date,
            "sql": self.sql_digest,
            "params": params(config, date)?,
            "audits": audit_levels,
            "rows_per_file": config.samples.rows_per_file,
            "sources": settings,
            "inputs": inputs,
            "rankers": self.called,
        });
        let mut warnings: Vec<String> = sources.iter().flat_map(|listing| listing.warnings.clone()).collect();
        warnings.extend(self.remarks.iter().cloned());
        Ok(SamplePlan {
            digest: sha256_hex(digest.to_string().as_bytes()),
            inputs,
            sql: self.sql.clone(),
            sql_digest: self.sql_digest.clone(),
            window: window(date, &sources),
            warnings,
            rankers: self.rankers.clone(),
            sources,
            files: self.files.clone(),
            audits: self.audits.clone(),
            order: self.order.clone(),
        })
    }
}

/// Settings and file of each ranker that a file calls, by name.
fn called<'a>(
    rankers: &[Arc<Ranker>],
    files: impl Iterator<Item = &'a SqlFile> + Clone,
) -> BTreeMap<String, serde_json::Value> {
    let called = |ranker: &&Arc<Ranker>| files.clone().any(|file| file.references.functions.contains_key(&ranker.name));
    let called = rankers.iter().filter(called);
    called.map(|ranker| (ranker.name.clone(), json!([ranker.settings, ranker.sha256]))).collect()
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
