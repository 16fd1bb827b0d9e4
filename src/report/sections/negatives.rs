//! Negatives: how hard, how popular, how many.

use std::collections::BTreeSet;

use super::samples::spread;
use crate::artifacts::Origins;
use crate::report::Report;
use crate::report::charts::{Bars, Chart, Look, Rows, Series};
use crate::report::html::{Table, count, number, percent, text};
use crate::report::page::{Section, charts, paragraph, titled};

pub fn section(report: &Report) -> Section {
    let statistics = &report.samples.statistics;
    let mut body = String::new();
    let per: Vec<String> =
        statistics.negatives_per_positive.iter().map(|(table, rate)| format!("{} of {table}", number(*rate))).collect();
    if !per.is_empty() {
        body += &paragraph(&format!("For one positive: {}.", per.join(", ")));
    }
    if let Some(origin) = origin(&report.samples.origins) {
        body += &paragraph(&origin);
    }
    let mut drawn = vec![popularity(report), ranks(report)];
    if !statistics.dropped.is_empty() {
        let rows = statistics.dropped.iter().map(|(rule, rows)| (rule.clone(), *rows as f64, count(*rows)));
        drawn.push(
            Rows {
                chart: Chart::new(
                    "dropped",
                    "Hard negatives left out",
                    "Candidates that each rule of the SQL dropped.",
                ),
                name: "candidates".into(),
                look: Look::Popularity,
                rows: rows.collect(),
            }
            .html(),
        );
    }
    body += &charts(drawn);
    let mut spreads = Table::new(["table", "positives that have any", "negatives of one (median, 99 %, most)"]);
    for (name, table) in &statistics.tables {
        if let (Some(samples), Some(per)) = (table.samples, table.per_sample) {
            spreads.row([text(name), text(&count(samples)), text(&spread(per))]);
        }
    }
    body += &titled("Negatives of a positive", &spreads);
    if let Some(hits) = &statistics.accidental_hits {
        let mut table = Table::new(["batch size", "random negatives that are a positive of the batch"]);
        for (size, share) in &hits.by_batch_size {
            table.row([text(&count(*size)), text(&percent(*share))]);
        }
        body += &titled("Accidental hits", &table);
        body += &paragraph(&format!(
            "{} of the pairs of a positive and a random negative are the same item; the loss masks them.",
            percent(hits.pairs)
        ));
    }
    Section { id: "negatives", title: "Negatives", body }
}

/// Whose word makes a negative a hard one.
fn origin(origins: &Origins) -> Option<String> {
    let from = origins.hard_negatives.as_ref()?;
    let release = origins.previous_release.as_ref();
    let release = release.map(|release| format!(", filled by release {} of {}", release.release, release.date));
    Some(format!("Hard negatives by the scores of {from}{}.", release.unwrap_or_default()))
}

fn popularity(report: &Report) -> String {
    let bands = &report.samples.statistics.popularity;
    let names: BTreeSet<&String> = bands.iter().flat_map(|band| band.shares.keys()).collect();
    let order = ["positives", "random_negatives", "hard_negatives"];
    let looks = [Look::Ours, Look::Popularity, Look::Earlier];
    let series = order.iter().zip(looks).filter(|(name, _)| names.iter().any(|found| found == *name));
    Bars {
        chart: Chart::new(
            "popularity",
            "Popularity of positives and negatives",
            "Share of the rows whose item is in a part of the catalogue, the most popular part first. Negatives much less popular than positives teach the model popularity alone.",
        ),
        x_name: "part of the catalogue, by positives".into(),
        y_name: "% of the rows".into(),
        labels: bands.iter().map(|band| band.label.clone()).collect(),
        series: series
            .map(|(name, look)| {
                Series::new(name.replace('_', " "), look, bands.iter().map(|band| band.shares.get(*name).map(|share| share * 100.0)))
            })
            .collect(),
    }
    .html()
}

fn ranks(report: &Report) -> String {
    let bands = &report.samples.statistics.hard_negative_ranks;
    Bars {
        chart: Chart::new(
            "ranks",
            "Ranks of hard negatives",
            "Where the ranker put them. Near the top are items that the user would like.",
        ),
        x_name: "rank".into(),
        y_name: "rows".into(),
        labels: bands
            .iter()
            .map(|b| if b.from == b.to { b.from.to_string() } else { format!("{}–{}", b.from, b.to) })
            .collect(),
        series: vec![Series::new("hard negatives", Look::Earlier, bands.iter().map(|band| Some(band.rows as f64)))],
    }
    .html()
}
