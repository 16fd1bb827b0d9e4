//! The figures of one run in Prometheus' text format.

use std::fmt::Write;

use chrono::{DateTime, Utc};

use crate::artifacts::RunDate;
use crate::pipeline::Outcome;
use crate::progress;

/// One run that ended.
pub struct Ended<'a> {
    pub name: &'a str,
    pub command: &'a str,
    pub exit_code: u8,
    pub seconds: f64,
    pub at: DateTime<Utc>,
    pub outcome: Option<&'a Outcome>,
}

/// One metric with all its series, a gauge as all of them are.
pub struct Family {
    pub name: &'static str,
    help: &'static str,
    /// Labels as they stand between the braces, and the value.
    pub series: Vec<(String, f64)>,
}

/// What is known of a run; a family without a series is left out.
pub fn families(ended: &Ended<'_>) -> Vec<Family> {
    let whose = [("name", ended.name), ("command", ended.command)];
    let one = |name, help, value: Option<f64>| {
        let series = value.map(|value| (labels(&whose, &[]), value)).into_iter().collect();
        Family { name, help, series }
    };
    let (outcome, at) = (ended.outcome, ended.at.timestamp_millis() as f64 / 1e3);
    let stages = outcome.map_or(&[][..], |outcome| &outcome.stages);
    let of_stages = |name, help, value: &dyn Fn(&crate::pipeline::StageOutcome) -> f64| {
        let ran = stages.iter().filter(|stage| !stage.skipped);
        let series = ran.map(|stage| (labels(&whose, &[("stage", stage.stage.name())]), value(stage))).collect();
        Family { name, help, series }
    };
    let release = outcome.and_then(|outcome| outcome.release.as_ref());
    let midnight = |date: RunDate| date.0.and_time(Default::default()).and_utc().timestamp() as f64;
    let mut recall = Vec::new();
    if let Some(facts) = outcome.and_then(|outcome| outcome.evaluation.as_ref()) {
        for (by, metrics) in [("exact", &facts.exact), ("index", &facts.indexed), ("popularity", &facts.popularity)] {
            for (k, at) in &metrics.at {
                recall.push((labels(&whose, &[("by", by), ("k", &k.to_string())]), at.recall));
            }
        }
    }
    let families = vec![
        one("twotower_last_run_timestamp_seconds", "When the last run ended.", Some(at)),
        one(
            "twotower_last_success_timestamp_seconds",
            "When the last run ended that left with 0.",
            (ended.exit_code == 0).then_some(at),
        ),
        one("twotower_last_run_exit_code", "What the last run left with; 0 is success.", Some(ended.exit_code.into())),
        one("twotower_last_run_duration_seconds", "Time the last run took.", Some(ended.seconds)),
        one(
            "twotower_last_run_peak_memory_bytes",
            "Largest resident set of the last run.",
            Some(progress::peak() as f64),
        ),
        of_stages("twotower_stage_duration_seconds", "Time of each stage that was run.", &|stage| stage.seconds),
        of_stages("twotower_stage_rows", "Rows, positives, items or users that a stage made.", &|stage| {
            stage.rows.0 as f64
        }),
        of_stages("twotower_stage_peak_memory_bytes", "Largest resident set up to a stage's end.", &|stage| {
            stage.peak_memory as f64
        }),
        Family {
            name: "twotower_recall",
            help: "Recall of the holdout: of exact search, through the index, and of popularity alone.",
            series: recall,
        },
        one("twotower_release_number", "The published release.", release.map(|release| release.release as f64)),
        one("twotower_release_items", "Items in it.", release.map(|release| release.items as f64)),
        one(
            "twotower_release_date_timestamp_seconds",
            "Midnight (UTC) of the day whose data it ends with.",
            release.map(|release| midnight(release.date)),
        ),
        Family {
            name: "twotower_build_info",
            help: "The program's version.",
            series: vec![(labels(&whose, &[("version", env!("CARGO_PKG_VERSION"))]), 1.0)],
        },
    ];
    families.into_iter().filter(|family| !family.series.is_empty()).collect()
}

/// Whose series it is, as it stands at the begin of the braces.
pub fn whose(name: &str, command: &str) -> String {
    labels(&[("name", name), ("command", command)], &[])
}

fn labels(whose: &[(&str, &str)], more: &[(&str, &str)]) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let all = whose.iter().chain(more).map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    all.collect::<Vec<_>>().join(",")
}

/// All of them as Prometheus reads them.
pub fn text(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families {
        head(&mut text, family);
        for line in lines(family) {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

pub fn head(text: &mut String, family: &Family) {
    let _ = writeln!(text, "# HELP {} {}\n# TYPE {} gauge", family.name, family.help, family.name);
}

pub fn lines(family: &Family) -> impl Iterator<Item = String> + '_ {
    family.series.iter().map(|(labels, value)| format!("{}{{{labels}}} {value}", family.name))
}
