//! What a candidate must reach. A gate that cannot be measured (no holdout, no earlier release) says so and passes.

use tracing::warn;

use crate::artifacts::{GateResult, Metrics, Release};
use crate::config::Gates;
use crate::error::Result;
use crate::storage::{Store, sha256_hex};

use super::Candidate;
use super::drift::{drift, embeddings_of};

/// Every gate with its value, against the release `parent`.
pub(super) async fn check(
    output: &Store,
    gates: &Gates,
    candidate: &Candidate<'_>,
    parent: Option<&Release>,
) -> Result<Vec<GateResult>> {
    let vectors = &candidate.embeddings.record.facts;
    let index = &candidate.index.record.facts;
    let facts = &candidate.evaluated.record.facts;
    let missing = vectors.items.abs_diff(index.items);
    let mut results = vec![
        at_most("non_finite_vectors", Some(vectors.non_finite as f64), 0.0),
        at_most("zero_vectors", Some(vectors.zero as f64), gates.max_zero_vectors as f64),
        at_most("norm_error", vectors.norm_error, gates.max_norm_error),
        at_most("duplicate_item_ids", Some(vectors.duplicate_ids as f64), 0.0),
        at_most("vectors_missing_from_index", Some(missing as f64), 0.0),
        at_least("items", Some(index.items as f64), gates.min_items as f64),
        at_least("index_recall", Some(index.recall), gates.min_index_recall),
    ];
    if let Some(probe) = vectors.refresh.probe.filter(|_| vectors.refresh.kept > 0) {
        results.push(at_least("refresh_recall", Some(probe.ratio), probe.threshold));
    }
    let deepest = |metrics: &Metrics| metrics.at.last_key_value().filter(|_| metrics.users > 0).map(|(_, at)| *at);
    let recall = deepest(&facts.exact).map(|at| at.recall);
    let ratio = |of: Option<f64>| Some(recall? / of.filter(|of| *of > 0.0)?);
    if let Some(limit) = gates.min_recall {
        results.push(at_least("recall", recall, limit));
    }
    if let Some(limit) = gates.min_recall_over_popularity {
        let popularity = deepest(&facts.popularity).map(|at| at.recall);
        results.push(at_least("recall_over_popularity", ratio(popularity), limit));
    }
    if let Some(limit) = gates.min_recall_over_parent {
        results.push(at_least("recall_over_parent", ratio(parent.and_then(Release::recall)), limit));
    }
    if let Some(limit) = gates.min_coverage {
        results.push(at_least("coverage", deepest(&facts.exact).map(|at| at.coverage), limit));
    }
    if let Some(limit) = gates.max_item_count_change {
        let change = |parent: &Release| (index.items as f64 - parent.items as f64).abs() / parent.items.max(1) as f64;
        results.push(at_most("item_count_change", parent.map(change), limit));
    }
    if let Some(limit) = gates.max_drift {
        let value = match parent {
            Some(parent) => drift(output, &embeddings_of(output, parent).await?, candidate.embeddings).await?,
            None => None,
        };
        results.push(at_most("drift", value, limit));
    }
    if let Some(limit) = gates.max_size {
        let bytes: u64 = candidate.files().map(|file| file.bytes).sum();
        results.push(at_most("size", Some(bytes as f64), limit.0 as f64));
    }
    let unmeasured = |gate: &&GateResult| OF_RECALL.contains(&gate.name.as_str()) && gate.value.is_none();
    for gate in results.iter().filter(unmeasured) {
        warn!(gate = %gate.name, "{}, so it passes; look why this date has nothing held out", in_words(gate));
    }
    Ok(results)
}

/// Gates that someone relies on and that a date without held-out clicks switches off.
const OF_RECALL: [&str; 3] = ["recall", "recall_over_popularity", "coverage"];

/// Tells other gates from these.
pub(super) fn digest(gates: &Gates) -> String {
    sha256_hex(serde_json::to_string(gates).expect("gates are JSON").as_bytes())
}

fn at_least(name: &str, value: Option<f64>, limit: f64) -> GateResult {
    // not `value < limit`: a NaN must not pass
    gate(name, value, value.is_none_or(|value| value >= limit), format!("at least {limit}"))
}

fn at_most(name: &str, value: Option<f64>, limit: f64) -> GateResult {
    gate(name, value, value.is_none_or(|value| value <= limit), format!("at most {limit}"))
}

fn gate(name: &str, value: Option<f64>, passed: bool, limit: String) -> GateResult {
    let expected = if value.is_some() { limit } else { format!("{limit}; there is nothing to measure it on") };
    GateResult { name: name.into(), passed, value, expected }
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
        assert!(!at_most("change", Some(f64::NAN), 0.1).passed);
        assert!(at_least("recall", Some(0.2), 0.1).passed);
        assert!(at_least("recall", None, 0.1).passed);
        assert!(at_most("drift", None, 0.1).passed);
    }
}
