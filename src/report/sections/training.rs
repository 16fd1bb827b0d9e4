//! Curves of the training.

use std::collections::{BTreeMap, BTreeSet};

use crate::artifacts::StartFacts;
use crate::report::Report;
use crate::report::charts::{Chart, Lines, Look, Rows, Series};
use crate::report::html::{Table, count, number, plural, seconds, text};
use crate::report::page::{Section, charts, paragraph, titled};

pub fn section(report: &Report) -> Section {
    let facts = &report.training;
    let mut body = paragraph(&format!(
        "{} taught towers of {} dimensions in {}; epoch {} was taken. {} a second.",
        plural(facts.examples, "positive", "positives"),
        facts.dim,
        plural(facts.epochs.len() as u64, "epoch", "epochs"),
        facts.best_epoch,
        plural(facts.examples_per_second.max(0.0) as u64, "positive", "positives"),
    ));
    body += &started(&facts.start);
    if facts.validation_examples > 0 {
        let kept = plural(facts.validation_examples, "positive was", "positives were");
        body += &paragraph(&format!("{kept} kept out of the steps, to choose the epoch by."));
    }
    let labels: Vec<String> = facts.epochs.iter().map(|epoch| epoch.epoch.to_string()).collect();
    let curve = |id, title: String, note: &str, y_name: String, series, shares| {
        Lines {
            chart: Chart::new(id, title, note),
            x_name: "epoch".into(),
            y_name,
            labels: labels.clone(),
            series: vec![series],
            from_zero: false,
            shares,
        }
        .html()
    };
    let loss = Series::new("loss", Look::Ours, facts.epochs.iter().map(|epoch| Some(epoch.loss)));
    let recall = Series::new("recall", Look::Ours, facts.epochs.iter().map(|epoch| epoch.recall));
    let name = format!("Recall@{}", report.validation_k);
    let tables = Rows {
        chart: Chart::new("tables", "Embedding tables", "Rows of each: where the model's size comes from."),
        name: "rows".into(),
        look: Look::Ours,
        rows: facts.tables.iter().map(|(name, rows)| (name.clone(), *rows as f64, count(*rows))).collect(),
    };
    body += &charts([
        curve("loss", "Loss".into(), "Average of each epoch.", "loss".into(), loss, false),
        curve(
            "validation",
            format!("{name} on the validation part"),
            "Over the whole catalogue. The best epoch is the one taken.",
            name.clone(),
            recall,
            true,
        ),
        tables.html(),
    ]);
    let mut epochs = Table::new(["epoch", "loss", name.as_str(), "time"]);
    for epoch in &facts.epochs {
        let cells = [
            text(&epoch.epoch.to_string()),
            text(&number(epoch.loss)),
            text(&epoch.recall.map(number).unwrap_or_default()),
            text(&seconds(epoch.seconds)),
        ];
        epochs.marked(epoch.epoch == facts.best_epoch, cells);
    }
    body += &titled("Epochs", &epochs);
    let mut objectives = Table::new(["objective", "positives for which it holds"]);
    for (name, positives) in &facts.objectives {
        objectives.row([text(name), text(&count(*positives))]);
    }
    body += &titled("Objectives", &objectives);
    Section { id: "training", title: "Training", body }
}

/// What the training went on from, and which values came and went.
fn started(start: &StartFacts) -> String {
    if start.parent.is_none() {
        return paragraph(&format!("A cold start: {}.", start.why));
    }
    let mut said = format!("A warm start, {}.", start.why);
    if start.taught_before > 0 {
        let positives = plural(start.taught_before, "positive", "positives");
        said += &format!(" {positives} of the window had been taught then, and were not again.");
    }
    if !start.late.is_empty() {
        let partitions = plural(start.late.len() as u64, "partition", "partitions");
        said += &format!(" Late rows of {partitions} were not learned: {}.", start.late.join(", "));
    }
    let mut table = Table::new(["embedding table", "rows added", "rows taken out"]);
    let names: BTreeSet<&String> = start.added.keys().chain(start.evicted.keys()).collect();
    for name in names {
        let rows = |of: &BTreeMap<String, u64>| text(&count(of.get(name).copied().unwrap_or(0)));
        table.row([text(name), rows(&start.added), rows(&start.evicted)]);
    }
    paragraph(&said) + &if table.is_empty() { String::new() } else { table.html() }
}
