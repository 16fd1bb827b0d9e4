//! The earlier model that a training goes on from: what of it is checked, what of the samples it has been taught, its weights.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use burn::tensor::Device;
use chrono::NaiveTime;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::data::Data;
use super::rows::{fill_new_rows, regrow};
use super::trained::Trained;
use crate::artifacts::{Done, Id, Parent, Release, SampleSet, Start, TrainedModel};
use crate::config::Config;
use crate::error::{Context, Error, Kind, Result};
use crate::features::{FeatureSpec, Keys, Learned, id_keys, integers};
use crate::job::Job;
use crate::model::read_spec;
use crate::retrieval::id_pairs;

/// Settings that may differ from the parent's: they say how to learn, not what the weights look like.
const FREE: [&str; 4] = ["min_count", "dropout", "temperature", "learn_temperature"];

/// The parent of a training.
pub struct Origin<'a> {
    job: &'a Job,
    manifest: &'a Release,
    parent: &'a Parent,
    runtime: Handle,
    /// As it was then: it says the shapes of the parent's files.
    spec: FeatureSpec,
    /// Taken by whoever lets it grow.
    learned: Option<Learned>,
    /// The first instant after the parent's date, in microseconds.
    after: i64,
    /// What the parent's day kept from training, by user: it has not been taught.
    held_out: HashMap<Id, HashSet<Id>>,
}

/// The settings that decide the shape of a model, as its manifest keeps them. Of an item's bias it counts that there is one: what it is
/// made of may change from one day to the next.
pub fn shape(config: &Config) -> Value {
    let mut shape = json!({
        "features": config.features,
        "model": config.model,
        "training": { "table_optimizer": config.training.table_optimizer },
    });
    shape["model"]["item_bias"] = config.model.item_bias.as_ref().map_or(Value::Null, |_| "given".into());
    shape
}

impl<'a> Origin<'a> {
    /// Reads what is small of the parent and compares its shape with today's config; none for a start from nothing.
    ///
    /// # Errors
    /// With the key that differs, where the parent has other features or layers.
    pub async fn load(job: &'a Job, start: &'a Start) -> Result<Option<Self>> {
        let Some(parent) = &start.parent else { return Ok(None) };
        let read = Origin::read(job, start, parent).await;
        read.map(Some).while_(|| format!("going on from {}", parent.in_words()))
    }

    async fn read(job: &'a Job, start: &'a Start, parent: &'a Parent) -> Result<Self> {
        let manifest = start.manifest.as_deref().ok_or_else(|| Error::internal("the parent has no manifest"))?;
        let store = &job.output;
        let model: TrainedModel = Done::read(store, &manifest.model).await?;
        if let Some(difference) = difference(&model.record.facts.shape, &shape(&job.config), "") {
            return Err(other_shape(&difference));
        }
        let (spec, vocabularies) = read_spec(store, &manifest.model, &manifest.files).await?;
        let samples: SampleSet = Done::read(store, &manifest.samples).await?;
        let mut held_out: HashMap<Id, HashSet<Id>> = HashMap::new();
        let mut pairs = id_pairs(store, &samples.record.facts, "holdout");
        while let Some(batch) = pairs.next().await {
            let (users, items) = batch?;
            for (user, item) in users.iter().zip(items.iter()) {
                held_out.entry(user).or_default().insert(item);
            }
        }
        drop(pairs);
        let after = parent.date.offset(1).0.and_time(NaiveTime::MIN).and_utc().timestamp_micros();
        let learned = Some(Learned { spec: spec.clone(), vocabularies });
        Ok(Origin { job, manifest, parent, runtime: Handle::current(), spec, learned, after, held_out })
    }

    /// The job with the settings of a training that goes on.
    pub fn job(&self) -> Job {
        Job { config: Arc::new(going_on(&self.job.config)), ..self.job.clone() }
    }

    pub fn parent(&self) -> &Parent {
        self.parent
    }

    /// What the parent had learned of the features.
    pub fn take_learned(&mut self) -> Result<Learned> {
        self.learned.take().ok_or_else(|| Error::internal("the parent's vocabulary was taken before"))
    }

    /// Which rows of `positives` the parent was taught: those up to its date, but for what its day held out.
    pub fn taught(&self, batch: &RecordBatch) -> Result<Vec<bool>> {
        let times = integers(batch, "positives", "event_time")?;
        let users = id_keys(batch, "positives", "user_id")?;
        let items = id_keys(batch, "positives", "item_id")?;
        let held_out = |at: usize| {
            self.held_out.get(&id(&users, at)).is_some_and(|items_of_user| items_of_user.contains(&id(&items, at)))
        };
        let taught = |at: usize| times.value(at) < self.after && (self.held_out.is_empty() || !held_out(at));
        Ok((0..batch.num_rows()).map(taught).collect())
    }

    /// The parent's weights and the state of their optimizers, each file held against its checksum, with the rows that `data` has more
    /// or fewer. Called from a thread that may wait.
    pub fn weights(&self, config: &Config, data: &Data, device: &Device) -> Result<Trained> {
        let (store, of) = (&self.job.output, self.manifest);
        let read = Trained::read(store, &of.model, &of.files, &self.spec, &config.training, device);
        let mut trained = self.runtime.block_on(read).map_err(|error| match error.kind {
            Kind::Transient => error,
            _ => Error { message: format!("{}; or give --cold to start without it", error.message), ..error },
        });
        if let Ok(trained) = &mut trained {
            for (name, growth) in &data.growth {
                if let Some(table) = trained.weights.tables.get_mut(name) {
                    regrow(&mut table.rows, table.dim, growth);
                    regrow(&mut table.accumulator, 1, growth);
                }
                trained.optimizers.regrow(name, growth, &trained.weights);
            }
            fill_new_rows(&mut trained.weights, data, config.training.seed);
            if !config.model.learn_temperature {
                trained.weights.inv_temperature = 1.0 / config.model.temperature;
            }
        }
        trained.while_(|| format!("going on from {}", self.parent.in_words()))
    }
}

/// The settings of a training that goes on: fewer epochs, and no rise of the rates at the start, because the optimizers' moments are
/// known. The schedule begins anew with each day. The curriculum does not: the parent has passed it, and the day has fewer epochs
/// than it may take, so that hard negatives would never come. A first search needs no epoch before it, since the towers are the
/// parent's.
pub fn going_on(config: &Config) -> Config {
    let mut config = config.clone();
    let training = &mut config.training;
    training.epochs = config.warm_start.epochs;
    training.learning_rate.warmup_steps = 0;
    (training.hard_from_epoch, training.self_mined.from_epoch) = (1, 0);
    config
}

/// The error of a model that cannot go on in today's shape.
pub fn other_shape(difference: &str) -> Error {
    Error::config(format!(
        "{difference}: a model cannot go on in another shape; give --cold to start from nothing, or set it back"
    ))
}

fn id(keys: &Keys, at: usize) -> Id {
    match keys {
        Keys::Int(keys) => Id::Int(keys.value(at)),
        Keys::Text(keys) => Id::Str(keys.value(at).into()),
    }
}

/// The first key that differs, with both values. A key that is not there counts as null.
fn difference(before: &Value, now: &Value, at: &str) -> Option<String> {
    match (before, now) {
        (Value::Object(old), Value::Object(new)) => {
            let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
            let of = |map: &serde_json::Map<String, Value>, name: &str| map.get(name).cloned().unwrap_or(Value::Null);
            names.filter(|name| !FREE.contains(&name.as_str())).find_map(|name| {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                difference(&of(old, name), &of(new, name), &at)
            })
        }
        _ if before == now => None,
        (Value::Null, _) => Some(format!("{at}: not there before, {now} now")),
        (_, Value::Null) => Some(format!("{at}: {before} before, not there now")),
        _ => Some(format!("{at}: {before} before, {now} now")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_differs_is_named_with_both_values() {
        let before =
            json!({ "features": { "user": { "age": { "buckets": 8, "min_count": 1 } } }, "model": { "dim": 32 } });
        let cases = [
            (
                json!({ "features": { "user": { "age": { "buckets": 8, "min_count": 5 } } }, "model": { "dim": 32 } }),
                None,
            ),
            (
                json!({ "features": { "user": { "age": { "buckets": 10 } } }, "model": { "dim": 32 } }),
                Some("features.user.age.buckets: 8 before, 10 now"),
            ),
            (
                json!({ "features": { "user": {} }, "model": { "dim": 32 } }),
                Some("features.user.age: {\"buckets\":8,\"min_count\":1} before, not there now"),
            ),
            (
                json!({ "features": { "user": { "age": { "buckets": 8 } } }, "model": { "dim": 32, "new": true } }),
                Some("model.new: not there before, true now"),
            ),
        ];
        for (now, expected) in cases {
            assert_eq!(difference(&before, &now, "").as_deref(), expected);
        }
    }
}
