//! What a candidate must reach. A gate that cannot be measured (no holdout, no parent) says so and passes.

use crate::artifacts::{GateResult, Metrics, Release};
use crate::config::Gates;

use super::Candidate;

/// Every gate with its value.
pub(super) fn check(gates: &Gates, candidate: &Candidate<'_>, parent: Option<&Release>) -> Vec<GateResult> {
    let vectors = &candidate.embeddings.record.facts;
    let index = &candidate.index.record.facts;
    let facts = &candidate.evaluated.record.facts;
    let mut results = vec![
        at_most("non_finite_vectors", vectors.non_finite as f64, 0.0),
        at_most("zero_vectors", vectors.zero as f64, 0.0),
        at_most("duplicate_item_ids", vectors.duplicate_ids as f64, 0.0),
        at_most("vectors_missing_from_index", vectors.items.abs_diff(index.items) as f64, 0.0),
        at_least("items", Some(index.items as f64), gates.min_items as f64),
        at_least("index_recall", Some(index.recall), gates.min_index_recall),
    ];
    let recall = largest_recall(&facts.exact);
    if let Some(limit) = gates.min_recall {
        results.push(at_least("recall", recall, limit));
    }
    if let Some(limit) = gates.min_recall_over_popularity {
        let ratio = match (recall, largest_recall(&facts.popularity)) {
            (Some(recall), Some(popularity)) if popularity > 0.0 => Some(recall / popularity),
            _ => None,
        };
        results.push(at_least("recall_over_popularity", ratio, limit));
    }
    if let Some(limit) = gates.max_item_count_change {
        match parent {
            Some(parent) => {
                let change = (index.items as f64 - parent.items as f64).abs() / parent.items.max(1) as f64;
                results.push(at_most("item_count_change", change, limit));
            }
            None => results.push(GateResult {
                name: "item_count_change".into(),
                passed: true,
                value: None,
                expected: format!("at most {limit}; there is no earlier release"),
            }),
        }
    }
    results
}

/// Recall at the largest K, where anyone was measured.
fn largest_recall(metrics: &Metrics) -> Option<f64> {
    metrics.at.last_key_value().filter(|_| metrics.users > 0).map(|(_, at)| at.recall)
}

fn at_least(name: &str, value: Option<f64>, limit: f64) -> GateResult {
    let expected = match value {
        Some(_) => format!("at least {limit}"),
        None => format!("at least {limit}; there is nothing to measure it on"),
    };
    // not `value < limit`: a NaN must not pass
    GateResult { name: name.into(), passed: value.is_none_or(|value| value >= limit), value, expected }
}

fn at_most(name: &str, value: f64, limit: f64) -> GateResult {
    GateResult { name: name.into(), passed: value <= limit, value: Some(value), expected: format!("at most {limit}") }
}

pub(super) fn in_words(gate: &GateResult) -> String {
    match gate.value {
        Some(value) if value.fract() == 0.0 => format!("{} is {value}, expected {}", gate.name, gate.expected),
        Some(value) => format!("{} is {value:.4}, expected {}", gate.name, gate.expected),
        None => format!("{}: expected {}", gate.name, gate.expected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_a_number_never_passes() {
        assert!(!at_least("recall", Some(f64::NAN), 0.1).passed);
        assert!(!at_most("change", f64::NAN, 0.1).passed);
        assert!(at_least("recall", Some(0.2), 0.1).passed);
        assert!(at_least("recall", None, 0.1).passed);
    }
}
