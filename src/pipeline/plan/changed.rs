//! Why a result is not the one that would be made now.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::day::first_of;
use super::left::Left;
use crate::artifacts::{Origins, Parent, Start};
use crate::job::Job;
use crate::pipeline::digests;
use crate::publish::Made;
use crate::samples::{Change, PartitionChange, SamplePlan, changes};

/// Characters of a setting's value that are shown.
const SHOWN: usize = 24;

/// What changed since a candidate, or the samples of a date, were made.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Changed {
    pub partitions: Vec<PartitionChange>,
    /// Tables, and audits as `audits/NAME`.
    pub sql: Vec<String>,
    pub settings: Vec<SettingChange>,
    /// The date would go on from another model.
    pub parent: Option<ParentChange>,
}

/// A key of the config, or `program.version`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SettingChange {
    pub key: String,
    pub was: Value,
    pub now: Value,
}

/// In words; none for a start from nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParentChange {
    pub was: Option<String>,
    pub now: Option<String>,
}

/// Compares what was `left` with what would be made from.
pub(super) fn changed(job: &Job, now: &SamplePlan, candidate: Option<&Made>, left: &Left, start: &Start) -> Changed {
    let mut changed = Changed::default();
    if let Some(samples) = &left.samples {
        changed.partitions = changes(&samples.inputs, &now.inputs);
        changed.sql = other_keys(&samples.sql, &now.sql);
        // rankers, and the release that `previous_candidates` came from
        let as_json = |origins: &Origins| serde_json::to_value(origins).unwrap_or_default();
        compare(&as_json(&samples.origins), &as_json(&now.origins), "origins".into(), &mut changed.settings);
    }
    let Some(manifest) = candidate.and_then(|made| made.manifest.as_ref()) else { return changed };
    if !manifest.settings.is_null() {
        compare(&manifest.settings, &digests::settings(&job.config), String::new(), &mut changed.settings);
    } else if manifest.config_digest != digests::config(&job.config) {
        // made by a program that did not note its settings
        changed.settings.push(SettingChange { key: "config".into(), was: Value::Null, now: Value::Null });
    }
    let model = |parent: &Option<Parent>| parent.as_ref().map(|parent| parent.digests.model.clone());
    if model(&manifest.started_from) != model(&start.parent) {
        let in_words = |parent: &Option<Parent>| parent.as_ref().map(Parent::in_words);
        changed.parent = Some(ParentChange { was: in_words(&manifest.started_from), now: in_words(&start.parent) });
    }
    changed
}

/// The keys that only one has, or that have another value.
fn other_keys(was: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let all: BTreeSet<&String> = was.keys().chain(now.keys()).collect();
    all.into_iter().filter(|key| was.get(*key) != now.get(*key)).cloned().collect()
}

/// The leaves that differ, by their path with dots.
fn compare(was: &Value, now: &Value, path: String, found: &mut Vec<SettingChange>) {
    if was == now {
        return;
    }
    let (Value::Object(before), Value::Object(after)) = (was, now) else {
        return found.push(SettingChange { key: path, was: was.clone(), now: now.clone() });
    };
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        compare(before.get(key).unwrap_or(&Value::Null), after.get(key).unwrap_or(&Value::Null), path, found);
    }
}

impl fmt::Display for Changed {
    /// All kinds of reasons, the first few of each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds = Vec::new();
        if !self.partitions.is_empty() {
            let partitions: Vec<String> = self.partitions.iter().map(partition).collect();
            kinds.push(first_of(&partitions, "more partitions"));
        }
        if !self.sql.is_empty() {
            kinds.push(format!("SQL of {}", first_of(&self.sql, "more")));
        }
        if !self.settings.is_empty() {
            let settings: Vec<String> = self.settings.iter().map(SettingChange::in_words).collect();
            kinds.push(first_of(&settings, "more settings"));
        }
        if let Some(parent) = &self.parent {
            let nothing = || "nothing".to_string();
            let (was, now) = (parent.was.clone().unwrap_or_else(nothing), parent.now.clone().unwrap_or_else(nothing));
            kinds.push(format!("goes on from {now}, was from {was}"));
        }
        if kinds.is_empty() {
            // what the manifests do not tell apart: samples alone do not note their settings
            kinds.push("config or program".into());
        }
        f.write_str(&kinds.join("; "))
    }
}

/// `impressions dt=2026-11-18 changed`.
fn partition(change: &PartitionChange) -> String {
    let folder = change.partition.rsplit('/').next().unwrap_or_default();
    let what = match change.change {
        Change::Added => "was added",
        Change::Removed => "is gone",
        Change::Changed => "changed",
        Change::Moved => {
            let was = change.was.as_deref().unwrap_or_default();
            return format!("{} is read from {}, was {was}", change.source, change.partition);
        }
    };
    format!("{} {folder} {what}", change.source)
}

impl SettingChange {
    fn in_words(&self) -> String {
        if self.was.is_null() && self.now.is_null() {
            return self.key.clone();
        }
        let short = |value: &Value| {
            let text = match value {
                Value::Null => "not set".into(),
                value => value.to_string(),
            };
            if text.chars().count() > SHOWN { text.chars().take(SHOWN).chain("…".chars()).collect() } else { text }
        };
        format!("{} is {}, was {}", self.key, short(&self.now), short(&self.was))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_change_is_named() {
        let mut settings = Vec::new();
        let was = json!({ "training": { "epochs": 5, "loss": { "kind": "softmax" } }, "index": { "k": 10 } });
        let now = json!({ "training": { "epochs": 6, "loss": { "kind": "bpr" } }, "index": { "k": 10 } });
        compare(&was, &now, String::new(), &mut settings);
        let partition = |day: &str| PartitionChange {
            source: "impressions".into(),
            partition: format!("s3://logs/impressions/dt={day}"),
            change: Change::Changed,
            files: vec!["late.parquet".into()],
            was: None,
        };
        let changed = Changed {
            partitions: ["2026-11-17", "2026-11-18", "2026-11-19", "2026-11-20"].map(partition).to_vec(),
            sql: vec!["positives".into()],
            settings,
            parent: Some(ParentChange { was: None, now: Some("release 3 of 2026-11-19".into()) }),
        };
        assert_eq!(
            changed.to_string(),
            "impressions dt=2026-11-17 changed, impressions dt=2026-11-18 changed, impressions dt=2026-11-19 changed \
             and 1 more partitions; SQL of positives; training.epochs is 6, was 5, training.loss.kind is \"bpr\", was \
             \"softmax\"; goes on from release 3 of 2026-11-19, was from nothing"
        );
        assert_eq!(Changed::default().to_string(), "config or program");
    }
}
