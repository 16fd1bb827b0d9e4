//! What a run of the samples would read and build: listings and SQL only, no data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;

use super::files::{Files, load};
use super::names::{Names, hard_from};
use super::order::{after_date, draws, is_previous, order, reads};
use super::params::{bind, params};
use super::parse::SqlFile;
use super::placeholders::histories;
use super::previous::{self, Releases};
use super::timeless::timeless_joins;
use crate::artifacts::{InputFile, Origins, PreviousRelease, RunDate};
use crate::config::Config;
use crate::error::Result;
use crate::job::Job;
use crate::rankers::{self, Ranker};
use crate::storage::{Store, sha256_hex};
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
    /// What the rows come from beside sources and SQL.
    pub origins: Origins,
    /// Where SQL reads `previous_candidates`.
    pub(super) previous: Option<previous::Source>,
    pub(super) rankers: Vec<Arc<Ranker>>,
    pub(super) sources: Vec<Listing>,
    pub(super) files: Arc<BTreeMap<String, SqlFile>>,
    pub(super) audits: Arc<Vec<SqlFile>>,
}

/// Reads SQL and lists the sources that it reads.
pub async fn plan(job: &Job, releases: &Releases) -> Result<SamplePlan> {
    Ok(Recipe::open(job, releases, job.date, job.date).await?.plan(job.date).await?)
}

/// What the samples of a range of dates are made by: the SQL, read once, and its sources, listed once.
pub struct Recipe {
    config: Arc<Config>,
    output: Store,
    /// Where the SQL reads `previous_candidates`.
    releases: Option<Releases>,
    origins: Origins,
    /// Sources that the SQL reads.
    read: BTreeSet<String>,
    catalog: Catalog,
    sql: BTreeMap<String, String>,
    sql_digest: String,
    order: Vec<String>,
    remarks: Vec<String>,
    rankers: Vec<Arc<Ranker>>,
    /// Those that the SQL calls: the rows depend on them.
    called: Vec<Arc<Ranker>>,
    files: Arc<BTreeMap<String, SqlFile>>,
    audits: Arc<Vec<SqlFile>>,
}

impl Recipe {
    /// For the dates from `first` to `last`.
    pub async fn open(job: &Job, releases: &Releases, first: RunDate, last: RunDate) -> Result<Recipe> {
        let config = &job.config;
        let files = load(config).await?;
        let order = order(config, &files)?;
        let params = params(config, first)?;
        let mut read: BTreeSet<String> = BTreeSet::new();
        for file in order.iter().filter_map(|name| files.tables.get(name)).chain(&files.audits) {
            bind(file, &params)?;
            if !file.built_in || order.contains(&file.name) {
                read.extend(reads(file));
            }
        }
        let mut sql: BTreeMap<String, String> = BTreeMap::new();
        for file in order.iter().filter_map(|name| files.tables.get(name)) {
            sql.insert(file.name.clone(), sha256_hex(file.text.as_bytes()));
        }
        for audit in &files.audits {
            sql.insert(format!("audits/{}", audit.name), sha256_hex(audit.text.as_bytes()));
        }
        let rankers = rankers::load(config).await?;
        let called = called(&rankers, order.iter().filter_map(|name| files.tables.get(name)).chain(&files.audits));
        Ok(Recipe {
            config: config.clone(),
            output: job.output.clone(),
            releases: order.iter().any(|name| is_previous(config, &files, name)).then(|| releases.clone()),
            origins: origins(config, &order, &called)?,
            called,
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

    /// Whether the samples of a date hold what an earlier release would have retrieved.
    pub fn reads_previous(&self) -> bool {
        self.releases.is_some()
    }

    /// What the samples of one of the dates will be made from.
    pub async fn plan(&self, date: RunDate) -> Result<SamplePlan, Unlisted> {
        let config = &self.config;
        let sources = self.catalog.list(date).await?;
        let inputs: Vec<InputFile> = sources.iter().flat_map(Listing::inputs).collect();
        let settings: BTreeMap<&String, _> =
            config.sources.iter().filter(|(name, _)| self.read.contains(*name)).collect();
        let audit_levels: BTreeMap<&String, _> = config.samples.audits.iter().collect();
        let previous = match &self.releases {
            Some(releases) => Some(previous::Source::choose(releases, &self.output, config, date).await?),
            None => None,
        };
        let release = previous.as_ref().and_then(|previous| previous.release.as_ref());
        let previous_release = release.map(|release| PreviousRelease {
            release: release.release,
            date: release.date,
            run_id: release.run_id.clone(),
        });
        let called: Vec<_> =
            self.called.iter().map(|ranker| (&ranker.name, &ranker.settings, &ranker.sha256)).collect();
        let digest = json!({
            "twotower": env!("CARGO_PKG_VERSION"),
            "date": date,
            "sql": self.sql_digest,
            "params": params(config, date)?,
            "audits": audit_levels,
            "histories": histories(config),
            "rows_per_file": config.samples.rows_per_file,
            "sources": settings,
            "inputs": inputs,
            "hard_negatives": self.origins.hard_negatives,
            "rankers": called,
            "previous": previous.as_ref().map(|_| (&config.samples.previous_candidates, &previous_release)),
        });
        let mut warnings: Vec<String> = sources.iter().flat_map(|listing| listing.warnings.clone()).collect();
        warnings.extend(self.remarks.iter().cloned());
        warnings.extend(previous.as_ref().and_then(|previous| previous.warning(date)));
        Ok(SamplePlan {
            digest: sha256_hex(digest.to_string().as_bytes()),
            inputs,
            sql: self.sql.clone(),
            sql_digest: self.sql_digest.clone(),
            window: window(date, &sources),
            warnings,
            origins: Origins { previous_release, ..self.origins.clone() },
            previous,
            rankers: self.rankers.clone(),
            sources,
            files: self.files.clone(),
            audits: self.audits.clone(),
            order: self.order.clone(),
        })
    }
}

/// The rankers that a file calls.
fn called<'a>(rankers: &[Arc<Ranker>], files: impl Iterator<Item = &'a SqlFile> + Clone) -> Vec<Arc<Ranker>> {
    let called = |ranker: &&Arc<Ranker>| files.clone().any(|file| file.references.functions.contains_key(&ranker.name));
    rankers.iter().filter(called).cloned().collect()
}

fn origins(config: &Config, order: &[String], called: &[Arc<Ranker>]) -> Result<Origins> {
    let has_hard = order.iter().any(|table| table == "hard_negatives") && hard_from(config).is_some();
    Ok(Origins {
        hard_negatives: has_hard.then(|| Names::new(config).map(|names| names.in_words())).transpose()?,
        previous_release: None,
        rankers: called.iter().map(|ranker| (ranker.name.clone(), ranker.sha256.clone())).collect(),
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
    for file in order.iter().filter_map(|name| files.tables.get(name)) {
        let name = &file.name;
        let in_contract = crate::artifacts::contracts().iter().any(|contract| contract.table == name);
        if !file.built_in && !in_contract && !read.contains(name) {
            remarks.push(format!("{}: table `{name}` is read by nothing", file.shown));
        }
    }
    remarks.extend(timeless_joins(config, files, order));
    let has = |name: &str| order.iter().any(|table| table == name);
    let random = has("random_negatives") && config.samples.random_negatives.per_positive > 0;
    if !random {
        let only = match (has("hard_negatives"), has("shown_negatives")) {
            (true, true) => "hard negatives and what was shown and not clicked alone",
            (true, false) => "hard negatives alone",
            (false, true) => "what was shown and not clicked alone, which is never a good only source of negatives",
            (false, false) => "no negatives but those of the batch",
        };
        remarks.push(format!(
            "training gets {only}: random negatives from the whole corpus are what lets a model see the world (EBR, arXiv 2006.11632)"
        ));
    }
    if let Some(file) = files.tables.get("random_negatives").filter(|file| random && !file.built_in) {
        let corpus = ["items", "item_features", "item_frequency"];
        if !draws(file) && !reads(file).iter().any(|name| corpus.contains(&name.as_str())) {
            remarks.push(format!(
                "{}: `random_negatives` reads no catalogue, so it looks like shown and not clicked, which is never a good only source of negatives",
                file.shown
            ));
        }
    }
    remarks
}
