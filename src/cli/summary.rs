//! What a job prints at its end: tables for people, then one line of JSON for schedulers.

use std::path::Path;

use serde_json::{Value, json};

use crate::artifacts::{EvaluateFacts, Metrics, RunDate};
use crate::error::{Error, Kind, Result};
use crate::job::Job;
use crate::pipeline::{Became, Outcome, Told};
use crate::schedulers;

use super::tables::table;

/// The summary must fit where schedulers keep small results.
const MOST_BYTES: usize = 4096;

/// Prints the outcome of one date, or writes the failure where a scheduler looks for it and passes it on. With `no_data_ok`, a
/// date without data is no failure.
pub fn finish(job: &Job, outcome: Result<Outcome>, result_file: Option<&Path>, no_data_ok: bool) -> Result<()> {
    match outcome {
        Ok(outcome) => {
            if !job.progress.is_quiet() {
                print_tables(&outcome);
            }
            write(&outcome.summary(), result_file)
        }
        Err(error) => {
            let no_data = error.kind == Kind::NoData;
            let status = if no_data { "no_data" } else { "failed" };
            let failure = json!({ "status": status, "date": job.date, "kind": error.kind.name(), "error": shorten(&error.to_string()) });
            write(&failure, result_file)?;
            if no_data && no_data_ok {
                tracing::warn!(date = %job.date, "no data, passed over: {error}");
                return Ok(());
            }
            Err(error)
        }
    }
}

/// What became of the dates of a range.
#[derive(Default)]
pub struct Counted {
    days: usize,
    published: usize,
    pub not_published: usize,
    done_before: usize,
    pub stale: usize,
    kept: usize,
    no_data: usize,
    /// Those of which only some stages were asked for.
    other: usize,
    last: Option<RunDate>,
}

impl Counted {
    pub fn add(&mut self, told: &Told) {
        let count = match &told.became {
            Became::Ran(outcome) => match outcome.status.split(':').next() {
                Some("published") => &mut self.published,
                Some("not published") => &mut self.not_published,
                Some("done before") => &mut self.done_before,
                _ => &mut self.other,
            },
            Became::Done(_) => &mut self.done_before,
            Became::Stale(_) => &mut self.stale,
            Became::Kept(_) => &mut self.kept,
            Became::NoData(_) => &mut self.no_data,
        };
        *count += 1;
        self.days += 1;
        self.last = Some(told.date);
    }

    /// With why it ended before its end, if it did.
    pub fn summary(&self, from: RunDate, to: RunDate, failure: Option<&Error>) -> Value {
        let mut summary = json!({
            "status": if failure.is_some() { "failed" } else { "done" },
            "from": from,
            "to": to,
            "days": self.days,
            "published": self.published,
            "not_published": self.not_published,
            "done_before": self.done_before,
            "stale": self.stale,
            "kept": self.kept,
            "no_data": self.no_data,
            "other": self.other,
            "last": self.last,
        });
        if let Some(error) = failure {
            summary["kind"] = error.kind.name().into();
            summary["error"] = shorten(&error.to_string()).into();
        }
        summary
    }
}

/// Prints the summary as the last line of standard output, and writes it into `result_file` and to where Airflow looks for it.
pub fn write(summary: &Value, result_file: Option<&Path>) -> Result<()> {
    let line = summary.to_string();
    debug_assert!(line.len() <= MOST_BYTES, "the summary holds only short values");
    println!("{line}");
    schedulers::xcom(&line);
    if let Some(file) = result_file {
        std::fs::write(file, format!("{line}\n")).map_err(|error| {
            Error::config(format!(
                "cannot write --result-file {}; give a file in a folder that exists and may be written",
                file.display()
            ))
            .caused_by(error)
        })?;
    }
    Ok(())
}

fn shorten(text: &str) -> String {
    text.chars().take(1500).collect()
}

fn print_tables(outcome: &Outcome) {
    let stages = outcome.stages.iter().map(|stage| {
        let seconds = if stage.skipped { "done before".to_string() } else { format!("{:.1}", stage.seconds) };
        let (rows, of) = stage.rows;
        vec![stage.stage.to_string(), seconds, (stage.peak_memory >> 20).to_string(), rows.to_string(), of.to_string()]
    });
    let seconds: f64 = outcome.stages.iter().map(|stage| stage.seconds).sum();
    let peak = outcome.stages.iter().map(|stage| stage.peak_memory >> 20).max().unwrap_or(0);
    let total = vec!["all".into(), format!("{seconds:.1}"), peak.to_string(), String::new(), String::new()];
    println!("\n{} {}\n", outcome.date, outcome.status);
    print!("{}", table(&["stage", "seconds", "peak MiB", "rows", ""], stages.chain([total])));
    let Some(facts) = &outcome.evaluation else {
        println!();
        return;
    };
    println!("\n{} users, {} items to find; what users had before is left out", facts.users, facts.targets);
    let mut rows = Vec::new();
    for (name, metrics) in
        [("two towers, exact", &facts.exact), ("two towers, index", &facts.indexed), ("popularity", &facts.popularity)]
    {
        rows.extend(metric_rows(name, metrics));
    }
    print!("{}", table(&["", "K", "recall", "NDCG", "hit rate", "MRR", "coverage"], rows));
    if let Some((k, ours, theirs)) = deepest(facts).filter(|(_, _, theirs)| *theirs > 0.0) {
        println!("recall@{k} is {:.2} times that of popularity", ours / theirs);
    }
    if let Some(among) = &facts.among_candidates {
        println!(
            "\namong {:.0} given candidates: {} users, {} items to find",
            among.candidates, among.users, among.targets
        );
        let ways = [("two towers", &among.model), ("popularity", &among.popularity)];
        let rows = ways.into_iter().flat_map(|(name, by_k)| {
            by_k.iter().map(move |(k, at)| {
                let values = [at.hit_rate, at.ndcg].map(|value| format!("{value:.4}"));
                [vec![name.to_string(), k.to_string()], values.to_vec()].concat()
            })
        });
        print!("{}", table(&["", "K", "hit rate", "NDCG"], rows));
    }
    if let Some(report) = &outcome.report {
        println!("\nreport: {report}");
    }
    if let Some(release) = &outcome.release {
        println!(
            "release: {} ({} items, index {})",
            release.release,
            release.items,
            format!("{} {}", release.index_factory, release.search_parameters).trim_end()
        );
    }
    println!();
}

/// The largest K, with the recall of the two towers and of popularity there.
fn deepest(facts: &EvaluateFacts) -> Option<(usize, f64, f64)> {
    let (k, ours) = facts.exact.at.iter().next_back()?;
    Some((*k, ours.recall, facts.popularity.at.get(k)?.recall))
}

fn metric_rows<'a>(name: &'a str, metrics: &'a Metrics) -> impl Iterator<Item = Vec<String>> + 'a {
    metrics.at.iter().map(move |(k, at)| {
        let values = [at.recall, at.ndcg, at.hit_rate, at.mrr, at.coverage].map(|value| format!("{value:.4}"));
        [vec![name.to_string(), k.to_string()], values.to_vec()].concat()
    })
}
