//! The page of a comparison.

use super::{Comparison, sections};
use crate::report::html::{Table, escape, number, percent, signed, text};
use crate::report::page::document;

pub fn page(comparison: &Comparison) -> String {
    let (a, b) = (&comparison.reports.0, &comparison.reports.1);
    let difference = &comparison.difference;
    let title = format!("{}: release {} against {}", b.name, difference.b, difference.a);
    let head = format!(
        "<header><p class=\"kicker\">{}</p><h1>Release {} against {}</h1><p>{} and {}. A difference is what release {} has more.</p>{}</header>",
        escape(&b.name),
        difference.b,
        difference.a,
        a.date,
        b.date,
        difference.b,
        tiles(comparison)
    );
    let foot = format!("runs {} and {} · {}", a.run_id, b.run_id, b.program);
    document(&title, &head, &sections::all(comparison), &foot)
}

fn tiles(comparison: &Comparison) -> String {
    let (a, b) = (comparison.reports.0.as_past(), comparison.reports.1.as_past());
    let (k, d) = (comparison.reports.1.deepest(), &comparison.difference);
    let mut out = String::from("<dl class=\"tiles\">");
    let mut tile = |name: &str, value: String, more: String| {
        out += &format!(
            "<div><dt>{}</dt><dd>{}</dd><dd class=\"more\">{}</dd></div>",
            escape(name),
            escape(&value),
            escape(&more)
        );
    };
    let both = |a: Option<f64>, b: Option<f64>| {
        let difference = a.zip(b).map_or("not in both".into(), |(a, b)| signed(b - a));
        let value = |value: Option<f64>| value.map_or("none".into(), number);
        (difference, format!("{} and then {}", value(a), value(b)))
    };
    let (value, more) = both(a.exact.get(&k).copied(), b.exact.get(&k).copied());
    tile(&format!("Recall@{k}"), value, more);
    let (value, more) = both(a.index_recall, b.index_recall);
    tile("Index recall", value, more);
    let (value, more) = both(Some(a.items as f64), Some(b.items as f64));
    tile("Items", value, format!("{more}; {} added, {} removed", d.items_added, d.items_removed));
    tile(
        "Drift",
        comparison.drift.map_or("not measured".into(), percent),
        "of items' nearest neighbours are others".into(),
    );
    let size = |pick: fn(&(u64, u64)) -> u64| d.bytes.values().map(pick).sum::<u64>() as f64 / f64::from(1 << 20);
    let (value, more) = both(Some(size(|pair| pair.0)), Some(size(|pair| pair.1)));
    tile("Size in MiB", value, more);
    out + "</dl>"
}

/// A table of pairs with their differences. `write` makes a value text.
pub fn table(
    comparison: &Comparison,
    first: &str,
    rows: impl IntoIterator<Item = Row>,
    write: fn(f64) -> String,
) -> Table {
    let (a, b) = (format!("release {}", comparison.difference.a), format!("release {}", comparison.difference.b));
    let mut table = Table::new([first, a.as_str(), b.as_str(), "difference", "in words"]);
    for Row { name, values: (a, b), better } in rows {
        let value = |value: Option<f64>| text(&value.map_or("none".into(), write));
        // what is written alike is no difference
        let difference = a.zip(b).map(|(a, b)| if write(a) == write(b) { 0.0 } else { b - a });
        let written = difference.map(|d| {
            if d == 0.0 { "0".into() } else { format!("{}{}", if d > 0.0 { "+" } else { "−" }, write(d.abs())) }
        });
        table.row([text(&name), value(a), value(b), text(&written.unwrap_or_default()), word(difference, better)]);
    }
    table
}

/// One line of such a table.
pub struct Row {
    pub name: String,
    pub values: (Option<f64>, Option<f64>),
    pub better: Better,
}

/// Which way a number should go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Higher,
    Neither,
}

fn word(difference: Option<f64>, better: Better) -> crate::report::html::Html {
    use crate::report::html::{Mood, badge};
    match (difference, better) {
        (None, _) => text("only in one"),
        (Some(0.0), _) => text("the same"),
        (Some(d), Better::Neither) => text(if d > 0.0 { "more" } else { "less" }),
        (Some(d), Better::Higher) if d > 0.0 => badge(Mood::Good, "better"),
        (Some(_), Better::Higher) => badge(Mood::Warning, "worse"),
    }
}
