//! Recall: against popularity, the published release, the model it went on from, and the releases before.

use crate::artifacts::{AmongCandidates, Metrics};
use crate::report::charts::{Bars, Chart, Lines, Look, Series};
use crate::report::html::{Html, Table, count, number, plural, signed, text};
use crate::report::page::{Section, charts, folded, paragraph, titled};
use crate::report::{Past, Report};

pub fn section(report: &Report) -> Section {
    let facts = &report.evaluation;
    let mut body = String::new();
    if facts.users == 0 {
        body += &paragraph("There was nothing to measure: the table holdout is empty.");
    } else {
        body += &paragraph(&format!(
            "{} with {} to find; all items are candidates.",
            plural(facts.users, "user", "users"),
            plural(facts.targets, "item", "items")
        ));
        if facts.users_without_features > 0 {
            let users = plural(facts.users_without_features, "user was", "users were");
            body += &paragraph(&format!("{users} left out: they have no row in user_features."));
        }
        if facts.targets_outside_catalogue > 0 {
            let items = plural(facts.targets_outside_catalogue, "item to find is", "items to find are");
            body += &paragraph(&format!("{items} not in the catalogue and count as missed."));
        }
        body += &against(report);
        body += &charts([by_k(report), buckets(report)]);
    }
    body += &charts(trend(report));
    if facts.users > 0 {
        body += &bucket_table(report);
        body += &all_metrics(report);
    }
    if let Some(among) = &facts.among_candidates {
        body += &candidates(among);
    }
    Section { id: "recall", title: "Recall", body }
}

/// What this candidate is held against, and by how much it is better.
fn against(report: &Report) -> String {
    let (this, k) = (report.as_past(), report.deepest());
    let recall = this.exact.get(&k).copied();
    let mut table = Table::new(["", &format!("Recall@{k}"), "this candidate against it"]);
    let mut row = |name: String, value: Option<f64>, ours: bool| {
        let difference = match (recall, value) {
            (Some(recall), Some(value)) if !ours => signed(recall - value),
            _ => String::new(),
        };
        table.marked(ours, [text(&name), text(&value.map(number).unwrap_or_default()), text(&difference)]);
    };
    row("this candidate, exact search".into(), recall, true);
    row("the same through the index".into(), this.indexed.get(&k).copied(), false);
    row("popularity".into(), this.popularity.get(&k).copied(), false);
    let named = |what: &str, past: &Past| format!("{what}, release {} of {}", past.release, past.date);
    if let Some(past) = &report.published {
        row(named("published before", past), past.exact.get(&k).copied(), false);
    }
    if let Some(past) = &report.parent {
        row(named("went on from", past), past.exact.get(&k).copied(), false);
    }
    let mut best: Vec<&Past> = report.history.iter().filter(|past| past.exact.contains_key(&k)).collect();
    best.sort_by(|a, b| b.exact[&k].total_cmp(&a.exact[&k]));
    if let Some(past) = best.first().filter(|_| best.len() > 1) {
        row(named("best of the last releases", past), past.exact.get(&k).copied(), false);
    }
    table.html() + &paragraph("Each is measured on its own date's holdout: days differ.")
}

fn by_k(report: &Report) -> String {
    let facts = &report.evaluation;
    let of = |metrics: &Metrics| -> Vec<Option<f64>> { metrics.at.values().map(|at| Some(at.recall)).collect() };
    Lines {
        chart: Chart::new("recall-by-k", "Recall by length of the list", "What users had before is left out."),
        x_name: "K".into(),
        y_name: "Recall@K".into(),
        labels: facts.exact.at.keys().map(|k| k.to_string()).collect(),
        series: vec![
            Series::new("two towers, exact", Look::Ours, of(&facts.exact)),
            Series::new("two towers, index", Look::Index, of(&facts.indexed)),
            Series::new("popularity", Look::Popularity, of(&facts.popularity)),
        ],
        from_zero: true,
        shares: true,
    }
    .html()
}

fn buckets(report: &Report) -> String {
    let (facts, k) = (&report.evaluation, report.deepest());
    let all: Vec<_> = facts.new_items.iter().chain(&facts.by_popularity).collect();
    let measured =
        |bucket: &crate::artifacts::Bucket, value: Option<&f64>| value.copied().filter(|_| bucket.targets > 0);
    Bars {
        chart: Chart::new(
            "recall-by-popularity",
            "Recall by popularity of the item to find",
            format!("Share of the items to find that are in the top {k}. A model that only knows what is popular finds nothing on the left."),
        ),
        x_name: "positives of the item in training".into(),
        y_name: format!("found in the top {k}"),
        labels: all.iter().map(|bucket| bucket.label.clone()).collect(),
        series: vec![
            Series::new("two towers", Look::Ours, all.iter().map(|b| measured(b, b.recall.get(&k)))),
            Series::new("popularity", Look::Popularity, all.iter().map(|b| measured(b, b.popularity_recall.get(&k)))),
        ],
    }
    .html()
}

fn bucket_table(report: &Report) -> String {
    let facts = &report.evaluation;
    let cuts: Vec<usize> = facts.exact.at.keys().copied().collect();
    let mut header = vec!["positives of the item".to_string(), "items".into(), "to find".into()];
    header.extend(cuts.iter().map(|k| format!("found @{k}")));
    header.extend(cuts.iter().map(|k| format!("popularity @{k}")));
    let mut table = Table::new(header.iter().map(String::as_str));
    for bucket in facts.new_items.iter().chain(&facts.by_popularity) {
        let label = if bucket.label == "0" { "0 (new items)" } else { bucket.label.as_str() };
        let mut row = vec![text(label), text(&count(bucket.items)), text(&count(bucket.targets))];
        row.extend(bucket.recall.values().chain(bucket.popularity_recall.values()).map(|value| text(&number(*value))));
        table.row(row);
    }
    folded("By popularity of the item, in numbers", &table)
}

fn all_metrics(report: &Report) -> String {
    let facts = &report.evaluation;
    let mut table = Table::new(["", "K", "Recall", "NDCG", "hit rate", "MRR", "coverage"]);
    let rows: [(&str, &Metrics, bool); 6] = [
        ("two towers, exact search", &facts.exact, true),
        ("two towers, through the index", &facts.indexed, true),
        ("popularity", &facts.popularity, false),
        ("two towers, exact, with what users had", &facts.exact_unmasked, false),
        ("two towers, index, with what users had", &facts.indexed_unmasked, false),
        ("popularity, with what users had", &facts.popularity_unmasked, false),
    ];
    for (name, metrics, ours) in rows {
        for (k, at) in &metrics.at {
            let values = [at.recall, at.ndcg, at.hit_rate, at.mrr, at.coverage].map(|value| text(&number(value)));
            let cells: Vec<Html> = [text(name), text(&k.to_string())].into_iter().chain(values).collect();
            table.marked(ours, cells);
        }
    }
    folded("All measures, with and without what users had", &table)
}

fn candidates(among: &AmongCandidates) -> String {
    let mut table = Table::new(["", "K", "hit rate", "NDCG"]);
    for (name, by_k, ours) in [("two towers", &among.model, true), ("popularity", &among.popularity, false)] {
        for (k, at) in by_k {
            table.marked(ours, [text(name), text(&k.to_string()), text(&number(at.hit_rate)), text(&number(at.ndcg))]);
        }
    }
    let note = format!(
        "{} with {} to find, each ranked among the {:.0} candidates (on average) of holdout_candidates. Good for comparing with published figures, and no measure of retrieval.",
        plural(among.users, "user", "users"),
        plural(among.targets, "item", "items"),
        among.candidates
    );
    titled("Among given candidates", &table) + &paragraph(&note)
}

/// The last releases, and this candidate as the last point.
fn trend(report: &Report) -> Vec<String> {
    let (this, k) = (report.as_past(), report.deepest());
    let all: Vec<&Past> = report.history.iter().chain([&this]).collect();
    let label = |past: &&Past| if past.release == 0 { "this".to_string() } else { past.release.to_string() };
    let labels: Vec<String> = all.iter().map(label).collect();
    let of = |pick: fn(&Past) -> &std::collections::BTreeMap<usize, f64>| -> Vec<Option<f64>> {
        all.iter().map(|past| pick(past).get(&k).copied()).collect()
    };
    let lines = |id, title: &str, note: &str, y_name: &str, series, shares| {
        Lines {
            chart: Chart::new(id, title, note),
            x_name: "release".into(),
            y_name: y_name.into(),
            labels: labels.clone(),
            series,
            // a share of nearly all would lie on the upper edge
            from_zero: y_name != "index recall",
            shares,
        }
        .html()
    };
    let recall = vec![
        Series::new("two towers, exact", Look::Ours, of(|past| &past.exact)),
        Series::new("popularity", Look::Popularity, of(|past| &past.popularity)),
    ];
    let index = vec![Series::new("index recall", Look::Index, all.iter().map(|past| past.index_recall))];
    let items = vec![Series::new("items", Look::Ours, all.iter().map(|past| Some(past.items as f64)))];
    let name = format!("Recall@{k}");
    vec![
        lines(
            "trend",
            "Recall of the last releases",
            "This candidate is the last point. Each release was measured on its own date.",
            &name,
            recall,
            true,
        ),
        lines(
            "trend-index",
            "Index recall of the last releases",
            "Share of the exact top that the index finds.",
            "index recall",
            index,
            true,
        ),
        lines("trend-items", "Items of the last releases", "Size of the catalogue.", "items", items, false),
    ]
}
