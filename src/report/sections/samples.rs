//! What the towers were taught with: tables, days, sources.

use std::collections::{BTreeMap, BTreeSet};

use crate::artifacts::{RunDate, Spread};
use crate::report::Report;
use crate::report::charts::{Bars, Chart, Look, Rows, Series};
use crate::report::html::{Table, bytes, count, plural, seconds, text};
use crate::report::page::{Section, charts, paragraph, titled};

pub fn section(report: &Report) -> Section {
    let samples = &report.samples;
    let mut body = paragraph(&format!(
        "Made from {} of {}, of {} to {}.",
        plural(samples.input_files, "file", "files"),
        bytes(samples.input_bytes),
        report.data_window.0,
        report.data_window.1
    ));
    body += &charts([days(report), sources(report), rows(report)]);
    body += &tables(report);
    body += &source_table(report);
    Section { id: "samples", title: "Samples", body }
}

fn rows(report: &Report) -> String {
    let rows = report.samples.tables.iter().map(|(name, table)| (name.clone(), table.rows as f64, count(table.rows)));
    Rows {
        chart: Chart::new("table-rows", "Rows of each table", "What the SQL made."),
        name: "rows".into(),
        look: Look::Ours,
        rows: rows.collect(),
    }
    .html()
}

/// Rows of the tables that have a time, by day.
fn days(report: &Report) -> String {
    let tables = report.samples.statistics.tables.iter().filter(|(_, table)| !table.days.is_empty());
    let by_name: Vec<(&String, &BTreeMap<RunDate, u64>)> = tables.map(|(name, table)| (name, &table.days)).collect();
    by_day(
        "samples-by-day",
        "Samples by day",
        "Rows by the day of their event. A day that falls off is a day whose logs are thin.",
        "rows",
        &by_name,
    )
}

fn sources(report: &Report) -> String {
    // a snapshot has one day, which is no course
    let sources = report.samples.statistics.sources.iter().filter(|(_, days)| days.len() > 1);
    let sources: Vec<(&String, &BTreeMap<RunDate, u64>)> = sources.collect();
    by_day(
        "sources-by-day",
        "Source rows by day",
        "Rows of each source's partitions, of the sources that are read over several days.",
        "rows",
        &sources,
    )
}

fn by_day(
    id: &'static str,
    title: &str,
    note: &str,
    y_name: &str,
    of: &[(&String, &BTreeMap<RunDate, u64>)],
) -> String {
    let days: BTreeSet<RunDate> = of.iter().flat_map(|(_, days)| days.keys().copied()).collect();
    let series = of.iter().enumerate().map(|(at, (name, rows))| {
        let look = if of.len() == 1 { Look::Ours } else { Look::Group(at) };
        Series::new(name.as_str(), look, days.iter().map(|day| Some(rows.get(day).copied().unwrap_or(0) as f64)))
    });
    Bars {
        chart: Chart::new(id, title, note),
        x_name: "day".into(),
        y_name: y_name.into(),
        // the year is told above
        labels: days.iter().map(|day| day.0.format("%m-%d").to_string()).collect(),
        series: series.collect(),
    }
    .html()
}

fn tables(report: &Report) -> String {
    let header = [
        "table",
        "rows",
        "size",
        "time",
        "users",
        "rows of a user (median, 99 %, most)",
        "items",
        "outside the catalogue",
    ];
    let mut table = Table::new(header);
    for (name, figures) in &report.samples.tables {
        let known = report.samples.statistics.tables.get(name);
        let optional = |value: Option<u64>| text(&value.map(count).unwrap_or_default());
        let spread = known.and_then(|known| known.per_user).map(spread).unwrap_or_default();
        table.row([
            text(name),
            text(&count(figures.rows)),
            text(&bytes(figures.bytes)),
            text(&seconds(figures.seconds)),
            optional(known.and_then(|known| known.users)),
            text(&spread),
            optional(known.and_then(|known| known.items)),
            optional(known.and_then(|known| known.outside_catalogue)),
        ]);
    }
    titled("Tables", &table)
}

pub fn spread(of: Spread) -> String {
    [of.p50, of.p99, of.max].map(count).join(" · ")
}

fn source_table(report: &Report) -> String {
    let mut table = Table::new(["source", "days", "rows", "first day", "last day", "fewest rows of a day", "most"]);
    for (name, days) in &report.samples.statistics.sources {
        let (Some(first), Some(last)) = (days.keys().next(), days.keys().next_back()) else { continue };
        let (least, most) = (days.values().min().unwrap_or(&0), days.values().max().unwrap_or(&0));
        let numbers = [days.len() as u64, days.values().sum()].map(|value| text(&count(value)));
        let [days, rows] = numbers;
        table.row([
            text(name),
            days,
            rows,
            text(&first.to_string()),
            text(&last.to_string()),
            text(&count(*least)),
            text(&count(*most)),
        ]);
    }
    titled("Sources", &table)
}
