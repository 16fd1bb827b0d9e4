//! `report.html`: one page without network, readable on a phone, in light and dark.

use std::fmt::Write;

use super::{Subject, chart};
use crate::artifacts::{AmongCandidates, EvaluateFacts, Metrics};

const STYLE: &str = "
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--ink:#1668c5}
@media(prefers-color-scheme:dark){:root{--ink:#6db3ff}}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1.5rem 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.3rem 0}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th{white-space:normal;vertical-align:bottom}
th:first-child,td:first-child{text-align:left;padding-left:0}thead th{font-weight:600}
tr.ours td{background:var(--soft)}figure{margin:1rem 0}figcaption{font-weight:600}
svg{width:100%;max-width:560px;height:auto}svg text{font-size:11px;fill:currentColor}
svg polyline{fill:none;stroke:var(--ink);stroke-width:2}svg .grid{stroke:var(--line)}
@media(max-width:40rem){th,td{padding:.2rem .35rem}td:first-child{white-space:normal;overflow-wrap:anywhere;min-width:6.5rem}}
.failed{color:#c22}.warned{color:#b60}.passed{color:#282}
@media print{body{max-width:none}}";

pub(super) fn page(subject: &Subject<'_>, facts: &EvaluateFacts) -> String {
    let title = escape(&format!("{} {}", subject.job.config.name, subject.job.date));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    let index = &subject.index.record.facts;
    let train = &subject.model.record.facts;
    paragraph(
        &mut out,
        &format!(
            "{} items in {} dimensions; {} positives taught the towers in {}, epoch {} was taken.",
            index.items,
            index.dim,
            train.examples,
            if train.epochs.len() == 1 { "1 epoch".into() } else { format!("{} epochs", train.epochs.len()) },
            train.best_epoch
        ),
    );
    recall(&mut out, facts);
    buckets(&mut out, facts);
    training(&mut out, subject);
    search(&mut out, subject);
    samples(&mut out, subject);
    out.push_str("</body></html>\n");
    out
}

fn recall(out: &mut String, facts: &EvaluateFacts) {
    heading(out, "Recall on the holdout");
    if facts.users == 0 {
        paragraph(out, "There was nothing to measure: the table holdout is empty.");
        return;
    }
    paragraph(out, &format!("{} users with {} items to find, all items as candidates.", facts.users, facts.targets));
    if facts.users_without_features > 0 {
        paragraph(
            out,
            &format!("{} users were left out: they have no row in user_features.", facts.users_without_features),
        );
    }
    if facts.targets_outside_catalogue > 0 {
        paragraph(
            out,
            &format!("{} items to find are not in the catalogue and count as missed.", facts.targets_outside_catalogue),
        );
    }
    let rows: [(&str, &Metrics, bool); 6] = [
        ("two towers, exact search", &facts.exact, true),
        ("two towers, through the index", &facts.indexed, true),
        ("popularity", &facts.popularity, false),
        ("two towers, exact, with what users had", &facts.exact_unmasked, false),
        ("two towers, index, with what users had", &facts.indexed_unmasked, false),
        ("popularity, with what users had", &facts.popularity_unmasked, false),
    ];
    let mut cells = Vec::new();
    for (name, metrics, ours) in rows {
        for (k, at) in &metrics.at {
            let values = [at.recall, at.ndcg, at.hit_rate, at.mrr, at.coverage].map(|value| format!("{value:.4}"));
            cells.push((ours, [vec![escape(name), k.to_string()], values.to_vec()].concat()));
        }
    }
    table(out, &["", "K", "Recall", "NDCG", "hit rate", "MRR", "coverage"], &cells);
    if let Some(among) = &facts.among_candidates {
        candidates(out, among);
    }
}

fn candidates(out: &mut String, among: &AmongCandidates) {
    heading(out, "Among given candidates");
    paragraph(
        out,
        &format!(
            "{} users with {} items to find, each ranked among the {:.0} candidates (on average) of holdout_candidates. Good for comparing with published figures, and no measure of retrieval.",
            among.users, among.targets, among.candidates
        ),
    );
    let mut cells = Vec::new();
    for (name, by_k, ours) in [("two towers", &among.model, true), ("popularity", &among.popularity, false)] {
        for (k, at) in by_k {
            let values = [at.hit_rate, at.ndcg].map(|value| format!("{value:.4}"));
            cells.push((ours, [vec![name.to_string(), k.to_string()], values.to_vec()].concat()));
        }
    }
    table(out, &["", "K", "hit rate", "NDCG"], &cells);
}

fn buckets(out: &mut String, facts: &EvaluateFacts) {
    if facts.by_popularity.is_empty() {
        return;
    }
    heading(out, "Recall by popularity of the item to find");
    let cuts: Vec<usize> = facts.by_popularity[0].recall.keys().copied().collect();
    let mut header = vec!["positives of the item".to_string(), "items".into(), "to find".into()];
    header.extend(cuts.iter().map(|k| format!("found @{k}")));
    header.extend(cuts.iter().map(|k| format!("popularity @{k}")));
    let all = facts.by_popularity.iter().chain(&facts.new_items);
    let cells: Vec<_> = all
        .map(|bucket| {
            let mut row = vec![escape(&bucket.label), bucket.items.to_string(), bucket.targets.to_string()];
            row.extend(
                bucket.recall.values().chain(bucket.popularity_recall.values()).map(|value| format!("{value:.4}")),
            );
            (false, row)
        })
        .collect();
    table(out, &header.iter().map(String::as_str).collect::<Vec<_>>(), &cells);
}

fn training(out: &mut String, subject: &Subject<'_>) {
    let facts = &subject.model.record.facts;
    heading(out, "Training");
    let loss: Vec<f64> = facts.epochs.iter().map(|epoch| epoch.loss).collect();
    let recall: Vec<f64> = facts.epochs.iter().filter_map(|epoch| epoch.recall).collect();
    out.push_str(&chart::line("Loss", "epoch", &loss));
    out.push_str(&chart::line(
        &format!("Recall@{} on the validation part", subject.job.config.training.validation.k),
        "epoch",
        &recall,
    ));
    let cells: Vec<_> = facts
        .epochs
        .iter()
        .map(|epoch| {
            let recall = epoch.recall.map(|r| format!("{r:.4}")).unwrap_or_default();
            (epoch.epoch == facts.best_epoch, vec![epoch.epoch.to_string(), format!("{:.4}", epoch.loss), recall])
        })
        .collect();
    table(out, &["epoch", "loss", "recall"], &cells);
}

fn search(out: &mut String, subject: &Subject<'_>) {
    let facts = &subject.index.record.facts;
    heading(out, "Index");
    paragraph(
        out,
        &format!(
            "faiss {}, {} bytes. It finds {:.4} of the exact top {}{}.",
            escape(&facts.factory),
            facts.bytes,
            facts.recall,
            facts.k,
            if facts.parameters.is_empty() { String::new() } else { format!(" with {}", escape(&facts.parameters)) }
        ),
    );
    let cells: Vec<_> = facts
        .trials
        .iter()
        .map(|trial| {
            (trial.parameters == facts.parameters, vec![escape(&trial.parameters), format!("{:.4}", trial.recall)])
        })
        .collect();
    if cells.len() > 1 {
        table(out, &["search parameters", "recall"], &cells);
    }
}

fn samples(out: &mut String, subject: &Subject<'_>) {
    let facts = &subject.samples.record.facts;
    heading(out, "Samples");
    let cells: Vec<_> = facts
        .tables
        .iter()
        .map(|(name, table)| (false, vec![escape(name), table.rows.to_string(), table.columns.len().to_string()]))
        .collect();
    table(out, &["table", "rows", "columns"], &cells);
    heading(out, "Audits");
    let cells: Vec<_> = facts
        .audits
        .iter()
        .map(|audit| {
            let outcome = format!("<span class=\"{0}\">{0}</span>", escape(&audit.outcome));
            let example = audit.examples.first().map(|e| escape(&e.to_string())).unwrap_or_default();
            (false, vec![escape(&audit.name), outcome, audit.rows.to_string(), example])
        })
        .collect();
    table(out, &["audit", "outcome", "rows", "an example"], &cells);
}

fn heading(out: &mut String, text: &str) {
    writeln!(out, "<h2>{}</h2>", escape(text)).expect("a string takes text");
}

fn paragraph(out: &mut String, text: &str) {
    writeln!(out, "<p>{text}</p>").expect("a string takes text");
}

/// Rows of cells that are HTML already; a marked row stands out.
fn table(out: &mut String, header: &[&str], rows: &[(bool, Vec<String>)]) {
    out.push_str("<div class=\"scroll\"><table><thead><tr>");
    for name in header {
        write!(out, "<th>{}</th>", escape(name)).expect("a string takes text");
    }
    out.push_str("</tr></thead><tbody>");
    for (marked, cells) in rows {
        out.push_str(if *marked { "<tr class=\"ours\">" } else { "<tr>" });
        for cell in cells {
            write!(out, "<td>{cell}</td>").expect("a string takes text");
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_from_logs_cannot_become_markup() {
        assert_eq!(super::escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }
}
