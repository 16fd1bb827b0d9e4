//! The sample tables in memory, encoded once: u32 rows and f32 numbers.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, RecordBatch};
use futures::StreamExt;
use tracing::{info, warn};

use super::ids::IdMap;
use super::origin::{Origin, other_shape};
use super::positives::Positives;
use super::random;
use super::tables::{check_columns, read};
use crate::artifacts::SampleSet;
use crate::config::{Config, ValidationSplit};
use crate::error::{Context, Error, Result};
use crate::features::{
    Encoded, Encoder, Eviction, FeatureSpec, Grown, Growth, Learned, Learner, Side, Vocabularies, integers, numbers,
};
use crate::job::Job;

/// For each row a list of items.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    /// [rows + 1].
    pub offsets: Vec<u64>,
    /// Places in the catalogue.
    pub items: Vec<u32>,
    /// Sampling probability of each; empty where the table has none.
    pub probabilities: Vec<f32>,
}

impl Lists {
    pub fn bounds(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    pub fn of(&self, row: usize) -> &[u32] {
        &self.items[self.bounds(row)]
    }

    /// Orders entries by row; those of one row stay in their order.
    pub fn new(rows: usize, entries: &[(u32, u32)], probabilities: &[f32]) -> Self {
        let mut offsets = vec![0u64; rows + 1];
        entries.iter().for_each(|(row, _)| offsets[*row as usize + 1] += 1);
        (0..rows).for_each(|row| offsets[row + 1] += offsets[row]);
        let mut next = offsets.clone();
        let mut lists = Lists { offsets, items: vec![0; entries.len()], probabilities: vec![0.0; probabilities.len()] };
        for (at, (row, item)) in entries.iter().enumerate() {
            let place = &mut next[*row as usize];
            lists.items[*place as usize] = *item;
            if let Some(probability) = probabilities.get(at) {
                lists.probabilities[*place as usize] = *probability;
            }
            *place += 1;
        }
        lists
    }
}

/// All that the loop learns from.
pub struct Data {
    pub spec: FeatureSpec,
    pub vocabularies: Vocabularies,
    /// How the vocabularies came to be from those of the parent; empty without one.
    pub growth: BTreeMap<String, Growth>,
    /// Positives of the window that the parent was taught.
    pub taught_before: u64,
    /// Features of the positives, and of the catalogue.
    pub users: Encoded,
    pub catalogue: Encoded,
    pub sample_ids: Vec<i64>,
    /// Number of each positive's user, and place of its item in the catalogue.
    pub user_of: Vec<u32>,
    pub item_of: Vec<u32>,
    /// Sample weights; empty where the table has none and there are no objectives.
    pub weights: Vec<f32>,
    /// Which objectives hold for each positive, a bit each; empty where there are none.
    pub objectives: Vec<u32>,
    pub random: Lists,
    pub hard: Lists,
    /// Shown to the user and not clicked.
    pub shown: Lists,
    /// Rows of the positives to learn from, and those held out.
    pub training: Vec<u32>,
    pub validation: Vec<u32>,
    /// By user: his items among the training rows and what the parent was taught, sorted.
    pub liked: Lists,
    /// ln of each item's share of the training rows; that of half a row for an item without any.
    pub log_share: Vec<f32>,
}

impl Data {
    /// All of the samples, for a start from nothing; or what `origin` has not been taught.
    pub async fn load(job: &Job, samples: &SampleSet, mut origin: Option<&mut Origin<'_>>) -> Result<Data> {
        let config = &job.config;
        check_columns(config, samples)?;
        let Grown { learned: Learned { spec, vocabularies }, growth } =
            learn(job, samples, origin.as_deref_mut()).await?;
        let origin = origin.as_deref();
        let mut items = IdMap::default();
        let mut catalogue = Encoded::default();
        let encoder = Encoder::new(&spec, Side::Item, &vocabularies);
        let mut stream = read(job, samples, "item_features");
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            items.number(&batch, "item_features", "item_id")?;
            encoder.encode("item_features", &batch, &mut catalogue)?;
        }
        if items.len() != catalogue.rows {
            let twice = catalogue.rows - items.len();
            return Err(Error::config(format!(
                "item_features: {twice} rows repeat an item_id; keep one row an item in the SQL"
            )));
        }
        catalogue.shrink();
        let mut positives = Positives::load(job, samples, &spec, &vocabularies, &items, origin).await?;
        let random = negatives(job, samples, "random_negatives", &positives, &items).await?;
        let hard = negatives(job, samples, "hard_negatives", &positives, &items).await?;
        let shown = negatives(job, samples, "shown_negatives", &positives, &items).await?;
        let (training, validation) = split(config, &positives.sample_ids, &positives.times);
        positives.times = Vec::new();
        if origin.is_none() || !positives.sample_ids.is_empty() {
            check_rows(config, &positives, &training)?;
        }
        let mut liked: Vec<(u32, u32)> =
            training.iter().map(|row| (positives.user_of[*row as usize], positives.item_of[*row as usize])).collect();
        let mut counts = vec![0u32; catalogue.rows];
        liked.iter().for_each(|(_, item)| counts[*item as usize] += 1);
        let total = training.len().max(1) as f64;
        let log_share = counts.iter().map(|count| (f64::from(*count).max(0.5) / total).ln() as f32).collect();
        let taught_before = positives.before.len() as u64;
        liked.append(&mut positives.before);
        let mut liked = Lists::new(positives.user_count, &liked, &[]);
        (0..positives.user_count).for_each(|user| {
            let bounds = liked.bounds(user);
            liked.items[bounds].sort_unstable();
        });
        info!(
            positives = positives.sample_ids.len(),
            validation = validation.len(),
            taught_before,
            items = catalogue.rows,
            users = positives.user_count,
            random_negatives = random.items.len(),
            hard_negatives = hard.items.len(),
            shown_negatives = shown.items.len(),
            "read the samples"
        );
        let Positives { users, sample_ids, user_of, item_of, weights, objectives, .. } = positives;
        Ok(Data {
            spec,
            vocabularies,
            growth,
            taught_before,
            users,
            catalogue,
            sample_ids,
            user_of,
            item_of,
            weights,
            objectives,
            random,
            hard,
            shown,
            training,
            validation,
            liked,
            log_share,
        })
    }
}

async fn learn(job: &Job, samples: &SampleSet, origin: Option<&mut Origin<'_>>) -> Result<Grown> {
    let facts = &samples.record.facts;
    let mut learner = Learner::new(&job.config);
    for (table, side) in [("positives", Side::User), ("item_features", Side::Item)] {
        let mut stream = read(job, samples, table);
        while let Some(batch) = stream.next().await {
            job.stop.check()?;
            match side {
                Side::User => learner.positives(&batch?)?,
                Side::Item => learner.items(&batch?)?,
            }
        }
    }
    let day = job.date.0.signed_duration_since(chrono::NaiveDate::default()).num_days() as i32;
    let Some(origin) = origin else {
        let learned = learner.finish(facts.user_id_type, facts.item_id_type, day)?;
        return Ok(Grown { learned, growth: BTreeMap::new() });
    };
    let eviction = Eviction { day, after: job.config.warm_start.evict_after_days };
    learner
        .finish_from(origin.take_learned()?, facts.user_id_type, facts.item_id_type, eviction)
        .map_err(|error| other_shape(&error.message))
        .while_(|| format!("going on from {}", origin.parent().in_words()))
}

/// A table of negatives, by row of its positive. Without the table nothing is a negative there.
async fn negatives(job: &Job, samples: &SampleSet, table: &str, positives: &Positives, items: &IdMap) -> Result<Lists> {
    let rows: &HashMap<i64, u32> = &positives.rows;
    let (mut entries, mut probabilities) = (Vec::new(), Vec::new());
    let mut lost = 0;
    if samples.record.facts.tables.contains_key(table) {
        let mut stream = read(job, samples, table);
        while let Some(batch) = stream.next().await {
            job.stop.check()?;
            let batch: RecordBatch = batch?;
            let found = items.find(&batch, table, "item_id")?;
            let given = numbers(&batch, table, "sampling_probability")?;
            let of = integers(&batch, table, "sample_id")?;
            for (at, item) in found.into_iter().enumerate() {
                let Some((row, item)) = rows.get(&of.value(at)).copied().zip(item) else {
                    lost += 1;
                    continue;
                };
                entries.push((row, item));
                if let Some(given) = &given {
                    let probability = if given.is_valid(at) { given.value(at) } else { 0.0 };
                    if !(probability > 0.0 && probability <= 1.0) {
                        return Err(Error::config(format!(
                            "{table}.sampling_probability: found {probability} at sample_id {}, expected above 0 and at most 1",
                            of.value(at)
                        )));
                    }
                    probabilities.push(probability as f32);
                }
            }
        }
    }
    // those of positives that the parent was taught have nothing to be learned with
    if lost > 0 && positives.before.is_empty() {
        warn!(
            table,
            rows = lost,
            "negatives without a positive to learn from, or whose item is not in item_features, are left out"
        );
    }
    Ok(Lists::new(rows.len(), &entries, &probabilities))
}

/// Nothing to learn from is no model, however well the rest would go.
fn check_rows(config: &Config, positives: &Positives, training: &[u32]) -> Result<()> {
    if training.is_empty() {
        return Err(Error::config(format!(
            "training.validation.share: {} holds out all {} positives, so none is left to learn from; lower it, or set it to 0",
            config.training.validation.share,
            positives.sample_ids.len()
        )));
    }
    let weighs = |row: &u32| positives.weights.get(*row as usize).is_none_or(|weight| *weight > 0.0);
    if !training.iter().any(weighs) {
        return Err(Error::config(format!(
            "positives.weight: all {} rows to learn from have weight 0, expected some above; look at the SQL",
            training.len()
        )));
    }
    Ok(())
}

/// Rows to learn from and rows held out, each in the order of the table.
fn split(config: &Config, sample_ids: &[i64], times: &[i64]) -> (Vec<u32>, Vec<u32>) {
    let validation = &config.training.validation;
    let hash = |row: &u32| random::bits(config.training.seed ^ 0x0076_616c, &[sample_ids[*row as usize] as u64]);
    let all = 0..sample_ids.len() as u32;
    match validation.split {
        ValidationSplit::Random => all.partition(|row| random::unit(hash(row)) >= validation.share),
        ValidationSplit::Latest => {
            let mut by_time: Vec<u32> = all.collect();
            by_time.sort_unstable_by_key(|row| (times[*row as usize], hash(row)));
            let held_out = by_time.split_off(sample_ids.len() - (sample_ids.len() as f64 * validation.share) as usize);
            let sorted = |mut rows: Vec<u32>| {
                rows.sort_unstable();
                rows
            };
            (sorted(by_time), sorted(held_out))
        }
    }
}
