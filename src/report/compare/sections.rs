//! The parts of a comparison.

use std::collections::{BTreeMap, BTreeSet};

use super::Comparison;
use super::page::{Better, Row, table};
use crate::artifacts::{Bucket, Metrics, RunDate};
use crate::report::Report;
use crate::report::charts::{Bars, Chart, Lines, Look, Point, Points, Series};
use crate::report::html::{Table, bytes, count, number, seconds, text};
use crate::report::page::{Section, charts, outcome, paragraph, titled};

pub fn all(comparison: &Comparison) -> Vec<Section> {
    vec![
        section("measures", "Measures", measures(comparison)),
        section("training", "Training", training(comparison)),
        section("samples", "Samples", samples(comparison)),
        section("items", "Items and users", items(comparison)),
        section("index", "Index", index(comparison)),
        section("gates", "Gates", gates(comparison)),
        section("cost", "Time and bytes", cost(comparison)),
    ]
}

fn section(id: &'static str, title: &'static str, body: String) -> Section {
    Section { id, title, body }
}

/// Name, look and report of both.
fn both(comparison: &Comparison) -> [(String, Look, &Report); 2] {
    let (d, reports) = (&comparison.difference, &comparison.reports);
    [(format!("release {}", d.a), Look::Earlier, &reports.0), (format!("release {}", d.b), Look::Ours, &reports.1)]
}

/// Lines of both over the categories that either has.
fn lines<K: Ord + Copy + ToString>(
    comparison: &Comparison,
    chart: Chart,
    names: [&str; 2],
    values: impl Fn(&Report) -> BTreeMap<K, f64>,
) -> String {
    let of: Vec<_> = both(comparison).into_iter().map(|(name, look, report)| (name, look, values(report))).collect();
    let all: BTreeSet<K> = of.iter().flat_map(|(_, _, values)| values.keys().copied()).collect();
    let series = of
        .iter()
        .map(|(name, look, values)| Series::new(name.as_str(), *look, all.iter().map(|k| values.get(k).copied())));
    Lines {
        chart,
        x_name: names[0].into(),
        y_name: names[1].into(),
        labels: all.iter().map(ToString::to_string).collect(),
        series: series.collect(),
        from_zero: false,
        // of the names, those of recall
        shares: names[1].to_lowercase().starts_with("recall"),
    }
    .html()
}

fn measures(comparison: &Comparison) -> String {
    let [a, b] = both(comparison).map(|(_, _, report)| &report.evaluation);
    let value = |metrics: &Metrics, k: usize, of: fn(&crate::artifacts::AtK) -> f64| {
        metrics.at.get(&k).filter(|_| metrics.users > 0).map(of)
    };
    let cuts: BTreeSet<usize> = a.exact.at.keys().chain(b.exact.at.keys()).copied().collect();
    let mut rows = Vec::new();
    for k in cuts {
        let mut row = |name: &str,
                       metrics: fn(&crate::artifacts::EvaluateFacts) -> &Metrics,
                       of: fn(&crate::artifacts::AtK) -> f64,
                       better| {
            rows.push(Row {
                name: format!("{name}@{k}"),
                values: (value(metrics(a), k, of), value(metrics(b), k, of)),
                better,
            });
        };
        row("Recall", |facts| &facts.exact, |at| at.recall, Better::Higher);
        row("Recall through the index", |facts| &facts.indexed, |at| at.recall, Better::Higher);
        row("Recall of popularity", |facts| &facts.popularity, |at| at.recall, Better::Neither);
        row("NDCG", |facts| &facts.exact, |at| at.ndcg, Better::Higher);
        row("hit rate", |facts| &facts.exact, |at| at.hit_rate, Better::Higher);
        row("coverage", |facts| &facts.exact, |at| at.coverage, Better::Higher);
    }
    let mut body = paragraph("Each is measured on its own date's holdout: days differ.");
    body += &charts([
        lines(
            comparison,
            Chart::new("recall", "Recall by length of the list", "Exact search; what users had is left out."),
            ["K", "Recall@K"],
            |report| report.evaluation.exact.at.iter().map(|(k, at)| (*k, at.recall)).collect(),
        ),
        buckets(comparison),
    ]);
    body + &table(comparison, "", rows, |value| format!("{value:.4}")).html()
}

/// Buckets of both by their place: their bounds move with the data.
fn buckets(comparison: &Comparison) -> String {
    let k = comparison.reports.1.deepest();
    let of = |report: &Report| -> Vec<Bucket> { report.evaluation.by_popularity.clone() };
    let [a, b] = both(comparison).map(|(name, look, report)| (name, look, of(report)));
    let places = a.2.len().max(b.2.len());
    let label = |at: usize| match (a.2.get(at), b.2.get(at)) {
        (Some(a), Some(b)) if a.label != b.label => format!("{} / {}", a.label, b.label),
        (Some(one), _) | (None, Some(one)) => one.label.clone(),
        (None, None) => String::new(),
    };
    let series = |(name, look, buckets): &(String, Look, Vec<Bucket>)| {
        let found = |at: usize| buckets.get(at).filter(|b| b.targets > 0)?.recall.get(&k).copied();
        Series::new(name.as_str(), *look, (0..places).map(found))
    };
    Bars {
        chart: Chart::new(
            "buckets",
            "Recall by popularity of the item to find",
            format!("Share found in the top {k}. Bounds that differ are told as those of both."),
        ),
        x_name: "positives of the item in training".into(),
        y_name: format!("found in the top {k}"),
        labels: (0..places).map(label).collect(),
        series: vec![series(&a), series(&b)],
    }
    .html()
}

fn training(comparison: &Comparison) -> String {
    let starts = both(comparison).map(|(name, _, report)| {
        format!(
            "{} started {}",
            name.replacen('r', "R", 1),
            if report.training.start.parent.is_some() { report.training.start.why.as_str() } else { "from nothing" }
        )
    });
    let curves = [
        lines(comparison, Chart::new("loss", "Loss", "Average of each epoch."), ["epoch", "loss"], |report| {
            report.training.epochs.iter().map(|epoch| (epoch.epoch, epoch.loss)).collect()
        }),
        lines(
            comparison,
            Chart::new("validation", "Recall on the validation part", "Over the whole catalogue."),
            ["epoch", "recall"],
            |report| report.training.epochs.iter().filter_map(|epoch| Some((epoch.epoch, epoch.recall?))).collect(),
        ),
    ];
    let numbers = |pick: fn(&Report) -> Option<f64>| (pick(&comparison.reports.0), pick(&comparison.reports.1));
    let row =
        |name: &str, pick: fn(&Report) -> Option<f64>, better| Row { name: name.into(), values: numbers(pick), better };
    let rows = [
        row("positives", |r| Some(r.training.examples as f64), Better::Neither),
        row("epochs", |r| Some(r.training.epochs.len() as f64), Better::Neither),
        row("epoch taken", |r| Some(f64::from(r.training.best_epoch)), Better::Neither),
        row("its recall on the validation part", |r| r.training.best_recall, Better::Higher),
        row("positives a second", |r| Some(r.training.examples_per_second.round()), Better::Higher),
    ];
    paragraph(&format!("{}.", starts.join("; "))) + &charts(curves) + &table(comparison, "", rows, number).html()
}

fn samples(comparison: &Comparison) -> String {
    let d = &comparison.difference;
    let window = |of: (RunDate, RunDate)| format!("{} to {}", of.0, of.1);
    let mut body = paragraph(&format!(
        "Release {} has the data of {}, release {} that of {}.",
        d.a,
        window(d.data_window.0),
        d.b,
        window(d.data_window.1)
    ));
    let digests = if d.digests.is_empty() { "none".into() } else { d.digests.join(", ") };
    let sql = if d.sql_tables.is_empty() { "none".into() } else { d.sql_tables.join(", ") };
    body += &paragraph(&format!("Other digests: {digests}. Tables with other SQL: {sql}."));
    let days = |report: &Report| -> BTreeMap<RunDate, f64> {
        let positives = report.samples.statistics.tables.get("positives");
        positives.into_iter().flat_map(|table| &table.days).map(|(day, rows)| (*day, *rows as f64)).collect()
    };
    body += &charts([lines(
        comparison,
        Chart::new("positives", "Positives by day", "Days of both windows lie on each other."),
        ["day", "rows"],
        days,
    )]);
    let rows = comparison.rows.iter().map(|(name, values)| Row {
        name: name.clone(),
        values: *values,
        better: Better::Neither,
    });
    body + &titled("Rows", &table(comparison, "table", rows, number))
}

fn items(comparison: &Comparison) -> String {
    let d = &comparison.difference;
    let mut body = match comparison.drift {
        Some(drift) => paragraph(&format!(
            "{:.1} % of the ten nearest neighbours of an item are others than before, over items of both.",
            drift * 100.0
        )),
        None => paragraph("Both have too few items in common to tell how far neighbours drifted."),
    };
    let named = |ids: &[crate::artifacts::Id]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut changed = Table::new(["items", "how many", "the first of them"]);
    changed.row([text("added"), text(&count(d.items_added)), text(&named(&d.added))]);
    changed.row([text("removed"), text(&count(d.items_removed)), text(&named(&d.removed))]);
    body += &changed.html();
    let mut users = Table::new(["user", "items in both lists", "of"]);
    for user in &comparison.users {
        users.row([text(&user.user.to_string()), text(&user.same.to_string()), text(&user.of.to_string())]);
    }
    body += &titled("What users get", &users);
    if users.is_empty() {
        body += &paragraph("Both reports show different users, so that their lists cannot be compared.");
    }
    body
}

fn index(comparison: &Comparison) -> String {
    let d = &comparison.difference;
    let trials = |report: &Report| -> Vec<Point> {
        let facts = &report.index;
        let point = |trial: &crate::artifacts::SearchTrial| Point {
            name: if trial.parameters.is_empty() { "no parameters".into() } else { trial.parameters.clone() },
            x: trial.milliseconds,
            y: trial.recall,
            chosen: trial.parameters == facts.parameters,
        };
        facts.trials.iter().map(point).collect()
    };
    let chart = Points {
        chart: Chart::new(
            "search",
            "Index recall against latency",
            "Settings that were tried; the one taken is named.",
        ),
        x_name: "milliseconds for a query".into(),
        y_name: "share of the exact top".into(),
        series: both(comparison).into_iter().map(|(name, look, report)| (name, look, trials(report))).collect(),
    };
    paragraph(&format!("Release {}: {}. Release {}: {}.", d.a, d.index.0, d.b, d.index.1)) + &charts([chart.html()])
}

fn gates(comparison: &Comparison) -> String {
    let (d, reports) = (&comparison.difference, &comparison.reports);
    let (a, b) = (format!("release {}", d.a), format!("release {}", d.b));
    let mut table = Table::new(["gate", a.as_str(), "its value", b.as_str(), "its value"]);
    let names: BTreeSet<&String> = reports.0.gates.iter().chain(&reports.1.gates).map(|gate| &gate.name).collect();
    for name in names {
        let mut cells = vec![text(name)];
        for report in [&reports.0, &reports.1] {
            let gate = report.gates.iter().find(|gate| gate.name == *name);
            cells.push(match gate {
                None => outcome("not asked"),
                Some(gate) if gate.value.is_none() => outcome("not measured"),
                Some(gate) => outcome(if gate.passed { "passed" } else { "refused" }),
            });
            cells.push(text(&gate.and_then(|gate| gate.value).map(number).unwrap_or_default()));
        }
        table.row(cells);
    }
    table.html()
}

fn cost(comparison: &Comparison) -> String {
    let times = comparison.seconds.iter().map(|(name, values)| Row {
        name: name.clone(),
        values: *values,
        better: Better::Neither,
    });
    let sizes = comparison.difference.bytes.iter().map(|(name, (a, b))| Row {
        name: name.clone(),
        values: (Some(*a as f64), Some(*b as f64)),
        better: Better::Neither,
    });
    titled("Time", &table(comparison, "stage", times, seconds))
        + &titled("Bytes", &table(comparison, "part", sizes, |value| bytes(value as u64)))
}
