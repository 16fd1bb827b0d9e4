//! The order of tables, from what their SQL reads.

use std::collections::{BTreeMap, BTreeSet};

use super::files::Files;
use super::measure::MEASURED_TABLES;
use super::names::PREVIOUS_TABLE;
use super::parse::SqlFile;
use super::place::error_at;
use super::previous;
use crate::config::{Config, Source};
use crate::error::{Result, did_you_mean};
use crate::warehouse::DRAWING_FUNCTIONS;

/// What [`DRAWING_FUNCTIONS`] draw from, and so read.
pub const DRAWN_TABLE: &str = "item_frequency";
/// What only evaluation reads.
const EVALUATED: [&str; 2] = ["holdout", "holdout_candidates"];

/// Whether a file draws from the corpus.
pub fn draws(file: &SqlFile) -> bool {
    DRAWING_FUNCTIONS.iter().any(|function| file.references.functions.contains_key(*function))
}

/// What a file reads, with tables that its functions read.
pub fn reads(file: &SqlFile) -> BTreeSet<String> {
    let mut tables: BTreeSet<String> = file.references.tables.keys().cloned().collect();
    if draws(file) {
        tables.insert(DRAWN_TABLE.into());
    }
    tables
}

/// Whether `name` is the table that is filled from the last release: where no source and no file is called so.
pub fn is_previous(config: &Config, files: &Files, name: &str) -> bool {
    name == PREVIOUS_TABLE && !config.sources.contains_key(name) && !files.tables.contains_key(name)
}

/// The tables to build, each after those it reads.
pub fn order(config: &Config, files: &Files) -> Result<Vec<String>> {
    let mut walk = Walk { config, files, done: Vec::new(), path: Vec::new() };
    for name in &files.wanted {
        walk.visit(name)?;
    }
    // names that nothing defines are reported for audits too
    for audit in &files.audits {
        if !audit.built_in {
            walk.check_names(audit, &MEASURED_TABLES)?;
            for name in &reads(audit) {
                walk.visit_table(name)?;
            }
        }
    }
    check_future(config, files, &walk.done)?;
    Ok(walk.done)
}

struct Walk<'a> {
    config: &'a Config,
    files: &'a Files,
    done: Vec<String>,
    path: Vec<String>,
}

impl Walk<'_> {
    fn visit(&mut self, name: &str) -> Result<()> {
        if self.done.iter().any(|done| done == name) {
            return Ok(());
        }
        if is_previous(self.config, self.files, name) {
            return self.visit_previous();
        }
        let file = &self.files.tables[name];
        if let Some(start) = self.path.iter().position(|open| open == name) {
            let circle: Vec<&str> = self.path[start..].iter().map(String::as_str).chain([name]).collect();
            let reader = &self.files.tables[&self.path[self.path.len() - 1]];
            let place = reader.references.tables.get(name).copied();
            return Err(error_at(
                &reader.shown,
                place,
                format!("the tables read each other in a circle: {}", circle.join(" -> ")),
            ));
        }
        self.check_names(file, &[])?;
        self.path.push(name.to_string());
        for read in &reads(file) {
            self.visit_table(read)?;
        }
        self.path.pop();
        self.done.push(name.to_string());
        Ok(())
    }

    /// Nothing to do for a source.
    fn visit_table(&mut self, name: &str) -> Result<()> {
        if self.is_table(name) { self.visit(name) } else { Ok(()) }
    }

    fn is_table(&self, name: &str) -> bool {
        self.files.tables.contains_key(name) || is_previous(self.config, self.files, name)
    }

    /// The table from the last release comes after those that its rows are made for.
    fn visit_previous(&mut self) -> Result<()> {
        for read in previous::READS {
            self.visit_table(read)?;
        }
        self.done.push(PREVIOUS_TABLE.to_string());
        Ok(())
    }

    /// Whether everything that `file` reads is a source, a table, or one of `further`.
    fn check_names(&self, file: &SqlFile, further: &[&str]) -> Result<()> {
        for (name, place) in &file.references.tables {
            if further.contains(&name.as_str()) || self.config.sources.contains_key(name) || self.is_table(name) {
                continue;
            }
            let sources: Vec<&str> = self.config.sources.keys().map(String::as_str).collect();
            let tables: Vec<&str> = self.files.tables.keys().map(String::as_str).chain([PREVIOUS_TABLE]).collect();
            let known = sources.iter().chain(&tables).copied();
            let own = if file.built_in {
                format!("; configure `sources.{name}`, or put a {}.sql of your own into `samples.sql`", file.name)
            } else {
                String::new()
            };
            return Err(error_at(
                &file.shown,
                Some(*place),
                format!(
                    "unknown table `{name}`{}{own}; sources: {}; tables: {}",
                    did_you_mean(name, known),
                    sources.join(", "),
                    tables.join(", ")
                ),
            ));
        }
        Ok(())
    }
}

/// What happened after the date may reach what only evaluation reads.
fn check_future(config: &Config, files: &Files, order: &[String]) -> Result<()> {
    let is_future = |name: &str| config.sources.get(name).is_some_and(after_date);
    // per table, the way by which it reads such a source
    let mut ways: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for name in order {
        // what it is made from comes before it and was looked at
        let Some(file) = files.tables.get(name) else { continue };
        let direct = reads(file).into_iter().find(|read| is_future(read)).map(|source| vec![name.clone(), source]);
        let way = direct.or_else(|| {
            reads(file).iter().find_map(|read| {
                let rest = ways.get(read.as_str())?;
                Some([vec![name.clone()], rest.clone()].concat())
            })
        });
        let Some(way) = way else { continue };
        if !EVALUATED.contains(&name.as_str()) {
            let source = &way[way.len() - 1];
            let place = file.references.tables.get(&way[1]).copied();
            return Err(error_at(
                &file.shown,
                place,
                format!(
                    "table `{name}` reads source `{source}` ({}), whose window `{}` lies after the date: only `holdout` and `holdout_candidates` may, or training would see what it is tested on",
                    way.join(" -> "),
                    config.sources[source.as_str()].days
                ),
            ));
        }
        ways.insert(name, way);
    }
    Ok(())
}

pub fn after_date(source: &Source) -> bool {
    crate::warehouse::is_after_date(source)
}
