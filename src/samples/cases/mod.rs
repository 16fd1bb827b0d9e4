//! Cases for SQL: rows that are given, and rows that a table or an audit must make of them. A team's own SQL is tested like the
//! built-in one, in memory, without a source or an output.

mod compare;
mod given;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use serde::Deserialize;
use serde_json::Value;

use self::compare::{Expected, differences};
use self::given::{Given, empty_previous, rows_of_source, rows_of_table};
use super::audits::{can_run, rows_of};
use super::build::build;
use super::files::{Files, load};
use super::measure::MEASURED_TABLES;
use super::order::{order, reads};
use super::parse::{SqlFile, parse};
use super::planner::Planner;
use super::previous;
use super::rows::{Rows, rows};
use super::statistics::statistics;
use crate::artifacts::RunDate;
use crate::config::Config;
use crate::error::{Error, Result, did_you_mean};
use crate::job::Job;
use crate::progress::Progress;
use crate::rankers;
use crate::storage::{open, read_parquet, sorted_parts};

/// The date of a case that names none.
const USUAL_DATE: &str = "2026-11-20";
/// Expectations about an audit are named as its file is.
const AUDIT: &str = "audits/";

/// One case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What must hold, as a sentence.
    pub name: String,
    /// `$date`.
    #[serde(default = "usual_date")]
    pub date: RunDate,
    /// Changes of the config, like `--set`.
    #[serde(default)]
    pub set: Vec<String>,
    /// Rows of sources, or of tables in place of their SQL. A source that is not given is empty.
    #[serde(default)]
    pub given: BTreeMap<String, Given>,
    /// By table, or `audits/NAME`.
    pub expect: BTreeMap<String, Expected>,
}

fn usual_date() -> RunDate {
    USUAL_DATE.parse().expect("this is a date")
}

/// The cases of one file, with its name for errors.
pub struct CaseFile {
    pub shown: String,
    pub cases: Vec<Case>,
}

/// Reads every `*.yaml` in a folder.
pub async fn read_cases(folder: &str) -> Result<Vec<CaseFile>> {
    let store = open(folder)?;
    let (_, objects) = store.list_level("").await?;
    let is_yaml = |key: &str| key.ends_with(".yaml") || key.ends_with(".yml");
    let mut files = Vec::new();
    for object in objects.into_iter().filter(|object| is_yaml(&object.key)) {
        let shown = format!("{}/{}", folder.trim_end_matches('/'), object.key);
        let bytes = store.get_existing(&object.key).await?;
        let cases = serde_yaml::from_slice(&bytes).map_err(|error| {
            let place = error.location().map(|l| format!(":{}:{}", l.line(), l.column())).unwrap_or_default();
            Error::config(format!(
                "{shown}{place}: {error}; a file of cases is a list of `name`, `given` and `expect`: see README.md"
            ))
        })?;
        files.push(CaseFile { shown, cases });
    }
    if files.is_empty() {
        return Err(Error::usage(format!("{}: no file there ends with .yaml", store.url())));
    }
    Ok(files)
}

/// Builds what `case` expects, from what it gives, with the SQL of `config`; returns how the outcome differs. `name` is that of the
/// store in memory that the tables are written to, a new one for each case.
pub async fn hold(config: Config, case: &Case, name: &str) -> Result<Vec<String>> {
    let output = open(&format!("memory://{name}"))?;
    let job = Job {
        config: Arc::new(config),
        output,
        date: case.date,
        progress: Progress::new(true),
        stop: Default::default(),
    };
    let files = load(&job.config).await?;
    let order = order(&job.config, &files)?;
    let needed = needed(&files, &order, case)?;
    let planner = Planner::without_sources(&job, &rankers::load(&job.config).await?)?;
    for (name, source) in job.config.sources.iter().filter(|(name, _)| needed.contains(*name)) {
        let rows = rows_of_source(name, source, case.date, case.given.get(name))?;
        planner.warehouse.add_rows(name, rows)?;
    }
    let mut outcome = Outcome { job: &job, planner, tables: BTreeMap::new() };
    outcome.build(&files, &order, &needed, case).await?;
    let mut found = Vec::new();
    for (what, expected) in &case.expect {
        let rows = match what.strip_prefix(AUDIT) {
            Some(audit) => outcome.audit(&files, audit).await?,
            None => outcome.table(what).await?,
        };
        found.extend(differences(what, expected, &rows)?);
    }
    Ok(found)
}

/// What has to be there for the expectations: sources and tables, given ones without what they are made from.
fn needed(files: &Files, order: &[String], case: &Case) -> Result<BTreeSet<String>> {
    let mut needed = BTreeSet::new();
    let known =
        || files.tables.keys().map(String::clone).chain(files.audits.iter().map(|a| format!("{AUDIT}{}", a.name)));
    for what in case.expect.keys() {
        let audits = files.audits.iter().filter(|audit| what.strip_prefix(AUDIT) == Some(audit.name.as_str()));
        let read: Vec<String> = audits.flat_map(reads).collect();
        if order.contains(what) {
            needed.insert(what.clone());
        } else if !read.is_empty() {
            // figures are those of all tables
            if read.iter().any(|name| MEASURED_TABLES.contains(&name.as_str())) {
                needed.extend(case.given.keys().filter(|name| files.tables.contains_key(*name)).cloned());
            }
            needed.extend(read);
        } else {
            let known: Vec<String> = known().collect();
            return Err(Error::config(format!(
                "expect: no table or audit `{what}`{}; there are {}",
                did_you_mean(what, known.iter().map(String::as_str)),
                known.join(", ")
            )));
        }
    }
    // the order has each table after those it reads
    for name in order.iter().rev() {
        if needed.contains(name) && !case.given.contains_key(name) {
            match files.tables.get(name) {
                Some(file) => needed.extend(reads(file)),
                None => needed.extend(previous::READS.map(String::from)),
            }
        }
    }
    Ok(needed)
}

/// The tables of one case.
struct Outcome<'a> {
    job: &'a Job,
    planner: Planner,
    tables: BTreeMap<String, crate::artifacts::TableFacts>,
}

impl Outcome<'_> {
    async fn build(&mut self, files: &Files, order: &[String], needed: &BTreeSet<String>, case: &Case) -> Result<()> {
        let mut measured = BTreeMap::new();
        // tables that no file makes come first: others read them
        let mut given: Vec<&String> = case.given.keys().filter(|name| !order.contains(name)).collect();
        given.retain(|name| !self.job.config.sources.contains_key(*name) && !MEASURED_TABLES.contains(&name.as_str()));
        if let Some(unknown) = given.iter().find(|name| !needed.contains(**name)) {
            let sources = self.job.config.sources.keys().map(String::as_str);
            let known: Vec<&str> = sources.chain(order.iter().map(String::as_str)).collect();
            return Err(Error::config(format!(
                "given: no source or table `{unknown}`{}; there are {}",
                did_you_mean(unknown, known.iter().copied()),
                known.join(", ")
            )));
        }
        for name in given.into_iter().chain(order.iter().filter(|name| needed.contains(*name))) {
            let file = match (case.given.get(name), files.tables.get(name)) {
                (Some(given), _) => self.as_file(name, given)?,
                (None, Some(file)) => file.clone(),
                // the one table that no SQL makes
                (None, None) => self.given_as_file(name, empty_previous(&self.planner)?)?,
            };
            let (facts, counted) = build(self.job, &mut self.planner, &file, "samples").await?;
            self.tables.insert(name.clone(), facts);
            measured.insert(name.clone(), counted);
        }
        if case.expect.keys().any(|what| what.starts_with(AUDIT)) {
            let figures = statistics(self.job, &self.planner, &[], &self.tables, measured).await?;
            self.planner.add_measured(&figures, self.job.date)?;
            for name in MEASURED_TABLES {
                if let Some(given) = case.given.get(name) {
                    self.planner.warehouse.add_rows(name, rows_of_table(name, given)?)?;
                }
            }
        }
        Ok(())
    }

    /// Given rows of a table go the way of any table, so they are held to its contract.
    fn as_file(&self, name: &str, given: &Given) -> Result<SqlFile> {
        self.given_as_file(name, rows_of_table(name, given)?)
    }

    fn given_as_file(&self, name: &str, rows: RecordBatch) -> Result<SqlFile> {
        let place = format!("given_{name}");
        self.planner.warehouse.add_rows(&place, rows)?;
        parse(name, &format!("given `{name}`"), format!("select * from {place}"), false)
    }

    async fn table(&self, name: &str) -> Result<Rows> {
        let facts = &self.tables[name];
        let batches = read_parquet(&self.job.output, sorted_parts(&facts.files), None).await?;
        let columns = facts.columns.iter().map(|column| column.name.clone()).collect();
        Ok(Rows { columns, rows: rows(&batches)? })
    }

    /// What the audits of this name return: those that are made for several columns have one name each.
    async fn audit(&self, files: &Files, name: &str) -> Result<Rows> {
        let audit = files.audits.iter().find(|audit| audit.name == name).expect("its name was looked up before");
        if !can_run(self.job, &self.planner, audit) {
            return Err(Error::config(format!(
                "expect: {AUDIT}{name} does not run here: {} must have the tables and columns that it looks at",
                reads(audit).into_iter().collect::<Vec<_>>().join(", ")
            )));
        }
        rows_of(self.job, &self.planner, audit).await
    }
}

/// A value as cases write it: times with a space or a T, whole numbers with or without a point.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => (float as i64).into(),
            Some(float) if number.is_f64() => format!("{float:.12e}").parse::<f64>().unwrap_or(float).into(),
            _ => value.clone(),
        },
        Value::String(text) if text.as_bytes().get(10) == Some(&b' ') && text[..10].parse::<RunDate>().is_ok() => {
            text.replacen(' ', "T", 1).into()
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        other => other.clone(),
    }
}
