//! `report.html`: one page without network or scripts, readable on a phone, in light and dark, and on paper.

use std::fmt::Write;

use super::html::{Html, Mood, badge, bytes, count, escape, number, plural, seconds, signed};
use super::{Report, Verdict, sections};
use crate::artifacts::AuditVerdict;

const STYLE: &str = include_str!("style.css");

/// A part of the page, which the navigation leads to.
pub struct Section {
    pub id: &'static str,
    pub title: &'static str,
    pub body: String,
}

pub fn page(report: &Report) -> String {
    let title = format!("{} {}", report.name, report.date);
    let mut head = String::new();
    write!(
        head,
        "<header><p class=\"kicker\">{}</p><h1>{}</h1>{}{}</header>",
        escape(&report.name),
        report.date,
        verdict(report),
        tiles(report)
    )
    .expect("a string takes text");
    let written = report.written.format("%Y-%m-%d %H:%M UTC");
    let foot = format!(
        "run {} · data of {} to {} · written {written} by {} with {}",
        report.run_id, report.data_window.0, report.data_window.1, report.by, report.program
    );
    document(&title, &head, &sections::all(report), &foot)
}

/// The whole document. Its policy lets a browser load nothing, whatever text came from logs.
pub fn document(title: &str, head: &str, sections: &[Section], foot: &str) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{head}\n\
         <nav aria-label=\"Sections\"><ul>",
        escape(title)
    );
    for section in sections {
        write!(out, "<li><a href=\"#{}\">{}</a></li>", section.id, escape(section.title)).expect("a string takes text");
    }
    out += "</ul></nav>\n<main>\n";
    for Section { id, title, body } in sections {
        write!(out, "<section id=\"{id}\"><h2>{}</h2>\n{body}</section>\n", escape(title))
            .expect("a string takes text");
    }
    write!(out, "</main>\n<footer>{}</footer>\n</body>\n</html>\n", escape(foot)).expect("a string takes text");
    out
}

fn verdict(report: &Report) -> String {
    let stays = match &report.published {
        Some(past) => format!("Release {} of {} stays published.", past.release, past.date),
        None => "Nothing is published yet.".into(),
    };
    let (mood, word, mut text) = match &report.verdict {
        Verdict::Published { release, forced: None } => {
            let passed = plural(report.gates.len() as u64, "gate", "gates");
            (Mood::Good, "Published", format!("<p>Release {release}; it passed {passed}.</p>"))
        }
        Verdict::Published { release, forced: Some(forced) } => {
            let text = format!("<p>Release {release}, by force: {}</p>", escape(&forced.reason));
            (Mood::Warning, "Published by force", text + &list(&forced.gates))
        }
        Verdict::Withheld { reason } => {
            (Mood::Warning, "Not published", format!("<p>It passed its gates, and {}.</p>", escape(reason)))
        }
        Verdict::Refused { gates } => (Mood::Bad, "Refused", list(gates) + &format!("<p>{}</p>", escape(&stays))),
    };
    let warned = report.samples.audits.iter().filter(|audit| audit.outcome == AuditVerdict::Warned).count() as u64;
    if warned > 0 {
        let audits = plural(warned, "audit warns", "audits warn");
        text += &format!(
            "<p>{} {audits}; see <a href=\"#checks\">Gates and audits</a>.</p>",
            badge(Mood::Warning, "Look").0
        );
    }
    format!("<div class=\"verdict {}\"><p><strong>{}</strong></p>{text}</div>", mood.class().0, badge(mood, word).0)
}

fn list(lines: &[String]) -> String {
    let items: String = lines.iter().map(|line| format!("<li>{}</li>", escape(line))).collect();
    format!("<ul>{items}</ul>")
}

/// The key numbers: a name, a value, and what to hold it against.
fn tiles(report: &Report) -> String {
    let mut out = String::from("<dl class=\"tiles\">");
    let mut tile = |name: &str, value: String, more: &[String]| {
        let more: String = more.iter().map(|line| format!("<dd class=\"more\">{}</dd>", escape(line))).collect();
        write!(out, "<div><dt>{}</dt><dd>{}</dd>{more}</div>", escape(name), escape(&value))
            .expect("a string takes text");
    };
    let (this, k) = (report.as_past(), report.deepest());
    if report.evaluation.users > 0 {
        let recall = this.exact.get(&k).copied().unwrap_or(0.0);
        let mut more = Vec::new();
        if let Some(popularity) = this.popularity.get(&k).filter(|value| **value > 0.0) {
            more.push(format!("{:.1} × popularity ({})", recall / popularity, number(*popularity)));
        }
        if let Some(past) = &report.published {
            more.extend(
                past.exact.get(&k).map(|was| format!("{} against release {}", signed(recall - was), past.release)),
            );
        }
        tile(&format!("Recall@{k}"), number(recall), &more);
    } else {
        tile("Recall", "not measured".into(), &["there is no holdout".into()]);
    }
    let search = if report.index.parameters.is_empty() { "exact".into() } else { report.index.parameters.clone() };
    let index = format!("{}, {search}", report.index.factory);
    tile("Index recall", number(report.index.recall), &[format!("of the exact top {}", report.index.k), index]);
    let change = report.published.as_ref().map(|past| {
        format!("{} against release {}", signed(report.index.items as f64 - past.items as f64), past.release)
    });
    tile("Items", count(report.index.items), &change.into_iter().collect::<Vec<_>>());
    let window = format!("{} to {}", report.data_window.0, report.data_window.1);
    tile("Positives in training", count(report.training.examples), &[window]);
    let total: f64 = report.stages.iter().map(|stage| stage.seconds).sum();
    let memory = report.stages.iter().map(|stage| stage.peak_memory).max().unwrap_or(0);
    tile("Time", seconds(total), &[format!("{} of memory at most", bytes(memory))]);
    let size: u64 = report.stages.iter().map(|stage| stage.bytes).sum();
    let files: u64 = report.stages.iter().map(|stage| stage.files).sum();
    tile("Size", bytes(size), &[plural(files, "file", "files")]);
    out + "</dl>"
}

/// A paragraph of plain text.
pub fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escape(text))
}

/// Charts side by side, as far as there is room.
pub fn charts(charts: impl IntoIterator<Item = String>) -> String {
    let all: String = charts.into_iter().collect();
    if all.is_empty() { all } else { format!("<div class=\"charts\">{all}</div>\n") }
}

/// A table with a heading.
pub fn titled(title: &str, table: &super::html::Table) -> String {
    if table.is_empty() { String::new() } else { format!("<h3>{}</h3>\n{}", escape(title), table.html()) }
}

/// A table that is long, behind its title.
pub fn folded(title: &str, table: &super::html::Table) -> String {
    if table.is_empty() {
        return String::new();
    }
    format!("<details class=\"folded\"><summary>{}</summary>{}</details>\n", escape(title), table.html())
}

/// What became of a gate, as a word with a colour.
pub fn outcome(word: &str) -> Html {
    let mood = match word {
        "passed" => Mood::Good,
        "forced" => Mood::Warning,
        "refused" => Mood::Bad,
        _ => Mood::Neutral,
    };
    badge(mood, word)
}
