//! What each stage's result depends on, as a digest. Settings that change no result (threads, memory,
//! checkpoints, curves) are left out.

use serde_json::{Value, json};

use crate::artifacts::{Digests, Start};
use crate::config::{Checkpoint, Config, Refresh, Training};
use crate::storage::sha256_hex;

/// Raised by hand when a stage computes something else from the same inputs, so that old results are not taken for new ones.
const ALGORITHM: u32 = 2;

fn digest(stage: &str, of: Value) -> String {
    let text =
        json!({ "stage": stage, "algorithm": ALGORITHM, "version": env!("CARGO_PKG_VERSION"), "of": of }).to_string();
    sha256_hex(text.as_bytes())
}

/// A start from a parent depends on which model that was, and on how it is gone on from; one from nothing on neither.
pub fn train(config: &Config, samples: &str, start: &Start) -> String {
    let training = Training {
        threads: 0,
        samples_memory: Training::default().samples_memory,
        checkpoint: Checkpoint::default(),
        tensorboard: None,
        ..config.training.clone()
    };
    let warm = &config.warm_start;
    let parent = start.parent.as_ref().map(|parent| json!([parent.digests.model, warm.epochs, warm.evict_after_days]));
    digest("train", json!([samples, config.features, config.model, training, parent]))
}

/// Vectors that stay are the parent's.
pub fn embed(config: &Config, train: &str, start: &Start) -> String {
    digest("embed", json!([train, config.embedding, parent_of_kept(config, start).map(|of| &of.embeddings)]))
}

/// So is an index that is updated.
pub fn index(config: &Config, embed: &str, start: &Start) -> String {
    digest("index", json!([embed, config.index, parent_of_kept(config, start).map(|of| &of.index)]))
}

fn parent_of_kept<'a>(config: &Config, start: &'a Start) -> Option<&'a Digests> {
    let parent = start.parent.as_ref().filter(|_| config.embedding.refresh == Refresh::Appeared);
    parent.map(|parent| &parent.digests)
}

pub fn evaluate(config: &Config, index: &str) -> String {
    digest("evaluate", json!([index, config.evaluation]))
}

pub fn publish(config: &Config, evaluate: &str) -> String {
    digest("publish", json!([evaluate, config.name]))
}

/// Digest of the whole config, for the manifest.
pub fn config(config: &Config) -> String {
    sha256_hex(serde_json::to_string(config).expect("a config is JSON").as_bytes())
}

/// What of the config a result depends on, and the program: one looks here for why a result is another than it was.
pub fn settings(config: &Config) -> Value {
    let mut all = serde_json::to_value(config).expect("a config is JSON");
    let without: [(&str, &[&str]); 4] = [
        ("", &["version", "output", "gates", "lease", "retention"]),
        ("/samples", &["sql", "memory", "threads", "spill"]),
        ("/training", &["threads", "samples_memory", "checkpoint", "tensorboard"]),
        ("/warm_start", &["from", "max_parent_age_days"]),
    ];
    for (section, keys) in without {
        if let Some(object) = all.pointer_mut(section).and_then(Value::as_object_mut) {
            object.retain(|key, _| !keys.contains(&key.as_str()));
        }
    }
    all["program"] = json!({ "version": env!("CARGO_PKG_VERSION"), "algorithm": ALGORITHM });
    all
}
