//! The index: what it finds and how long it takes.

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
