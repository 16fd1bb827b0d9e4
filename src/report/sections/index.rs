//! The index: what it finds and how long it takes.

use crate::artifacts::BuildFacts;
use crate::report::Report;
use crate::report::charts::{Chart, Look, Point, Points};
use crate::report::html::{Table, bytes, number, plural, text};
use crate::report::page::{Section, charts, paragraph, titled};

pub fn section(report: &Report) -> Section {
    let facts = &report.index;
    let with = if facts.parameters.is_empty() { String::new() } else { format!(" with {}", facts.parameters) };
    let mut body = paragraph(&format!(
        "faiss {} over {}, {}. It finds {} of the exact top {}{with}.",
        facts.factory,
        plural(facts.items, "item", "items"),
        bytes(facts.bytes),
        number(facts.recall),
        facts.k
    ));
    body += &built(&facts.build);
    let name =
        |parameters: &str| if parameters.is_empty() { "no parameters".to_string() } else { parameters.to_string() };
    let mut table = Table::new(["search parameters", "recall", "milliseconds for a query"]);
    for trial in &facts.trials {
        let cells = [text(&name(&trial.parameters)), text(&number(trial.recall)), text(&number(trial.milliseconds))];
        table.marked(trial.parameters == facts.parameters, cells);
    }
    let points = facts.trials.iter().map(|trial| Point {
        name: name(&trial.parameters),
        x: trial.milliseconds,
        y: trial.recall,
        chosen: trial.parameters == facts.parameters,
    });
    body += &charts([Points {
        chart: Chart::new(
            "search",
            "Index recall against latency",
            "Each setting of the search parameters that was tried, one query at a time on one core. The one taken is named.",
        ),
        x_name: "milliseconds for a query".into(),
        y_name: format!("share of the exact top {}", facts.k),
        series: vec![("index".into(), Look::Index, points.collect())],
    }
    .html()]);
    body += &titled("Settings tried", &table);
    Section { id: "index", title: "Index", body }
}

/// Whether it was updated or built, and how its lists fit.
fn built(build: &BuildFacts) -> String {
    if build.why.is_empty() {
        return String::new();
    }
    let mut body = match build.updated {
        true => paragraph(&format!(
            "The parent's index was updated, {}: {} taken out, {} put in.",
            build.why,
            plural(build.removed, "vector", "vectors"),
            plural(build.added, "vector", "vectors")
        )),
        false => paragraph(&format!("All of it was built: {}.", build.why)),
    };
    let mut table = Table::new(["inverted lists", "mean squared distance", "imbalance", "share of the exact top"]);
    for (name, lists) in [("now", &build.lists), ("when they were made", &build.lists_when_built)] {
        if let Some(lists) = lists {
            let values = [lists.error, lists.imbalance, lists.recall].map(|value| text(&number(value)));
            table.row(std::iter::once(text(name)).chain(values));
        }
    }
    if !table.is_empty() {
        body += &table.html();
    }
    body
}
