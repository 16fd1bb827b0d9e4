//! Gates and audits.

use crate::artifacts::AuditVerdict;
use crate::report::html::{Html, Mood, Table, badge, count, number, text};
use crate::report::page::{Section, outcome, paragraph, titled};
use crate::report::{Report, Verdict};

pub fn section(report: &Report) -> Section {
    let mut body = match &report.published {
        Some(past) => paragraph(&format!("Held against release {} of {}.", past.release, past.date)),
        None => paragraph("There was no earlier release to hold it against."),
    };
    let forced = matches!(&report.verdict, Verdict::Published { forced: Some(_), .. });
    let mut gates = Table::new(["gate", "outcome", "value", "expected"]);
    for gate in &report.gates {
        let word = match (gate.passed, gate.value) {
            (true, Some(_)) => "passed",
            (true, None) => "not measured",
            (false, _) if forced => "forced",
            (false, _) => "refused",
        };
        let value = gate.value.map(number).unwrap_or_default();
        gates.marked(!gate.passed, [text(&gate.name), outcome(word), text(&value), text(&gate.expected)]);
    }
    body += &titled("Gates", &gates);
    let mut audits = Table::new(["audit", "outcome", "rows", "an example"]);
    for audit in &report.samples.audits {
        let example = audit.examples.first().map(ToString::to_string).unwrap_or_default();
        let cells: [Html; 4] = [text(&audit.name), verdict(audit.outcome), text(&count(audit.rows)), text(&example)];
        audits.marked(matches!(audit.outcome, AuditVerdict::Warned | AuditVerdict::Failed), cells);
    }
    body += &titled("Audits of the samples", &audits);
    Section { id: "checks", title: "Gates and audits", body }
}

/// What became of an audit, as a word with a colour.
fn verdict(outcome: AuditVerdict) -> Html {
    let (mood, word) = match outcome {
        AuditVerdict::Passed => (Mood::Good, "passed"),
        AuditVerdict::Warned => (Mood::Warning, "warned"),
        AuditVerdict::Failed => (Mood::Bad, "failed"),
        AuditVerdict::Off => (Mood::Neutral, "off"),
        AuditVerdict::NothingToLookAt => (Mood::Neutral, "nothing to look at"),
    };
    badge(mood, word)
}
