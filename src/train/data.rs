//! The sample tables, encoded once: u32 rows and f32 numbers, in memory as far as `training.samples_memory` goes.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{Array, RecordBatch};
use futures::StreamExt;
use tracing::{info, warn};

use super::ids::IdMap;
use super::index::RowIndex;
use super::lists::{Entries, Liked, Lists};
use super::origin::{Origin, other_shape};
use super::positives::Positives;
use super::random;
use super::tables::{check_columns, read};
use crate::artifacts::SampleSet;
use crate::config::{Config, Training, ValidationSplit};
use crate::error::{Context, Error, Result};
use crate::features::{
    Encoded, Encoder, Eviction, FeatureSpec, Grown, Growth, Learned, Learner, Side, Vocabularies, integers, numbers,
};
use crate::job::Job;
use crate::spill::{AT_ONCE, Column, Spill, pieces};

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
    pub sample_ids: Column<i64>,
    /// Number of each positive's user, and place of its item in the catalogue.
    pub user_of: Column<u32>,
    pub item_of: Column<u32>,
    /// Sample weights; empty where the table has none and there are no objectives.
    pub weights: Column<f32>,
    /// Which objectives hold for each positive, a bit each; empty where there are none.
    pub objectives: Column<u32>,
    pub random: Lists,
    pub hard: Lists,
    /// Shown to the user and not clicked.
    pub shown: Lists,
    /// Rows of the positives to learn from, and those held out.
    pub training: Column<u32>,
    pub validation: Vec<u32>,
    /// By user: his items among the training rows and what the parent was taught.
    pub liked: Liked,
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
        let folder = config.samples.spill.as_ref().map(|folder| config.resolve(folder));
        let spill = Spill::new(folder, config.training.samples_memory.bytes());
        let mut items = IdMap::default();
        let mut catalogue = Encoded::default();
        let encoder = Encoder::new(&spec, Side::Item, &vocabularies);
        let mut stream = read(job, samples, "item_features");
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            items.number(&batch, "item_features", "item_id")?;
            let mut piece = Encoded::default();
            encoder.encode("item_features", &batch, &mut piece)?;
            catalogue.append(piece, &spill)?;
        }
        if items.len() != catalogue.rows {
            let twice = catalogue.rows - items.len();
            return Err(Error::config(format!(
                "item_features: {twice} rows repeat an item_id; keep one row an item in the SQL"
            )));
        }
        catalogue.shrink();
        let mut positives = Positives::load(job, samples, &spec, &vocabularies, &items, origin, &spill).await?;
        let random = negatives(job, samples, "random_negatives", &positives, &items, &spill).await?;
        let hard = negatives(job, samples, "hard_negatives", &positives, &items, &spill).await?;
        let shown = negatives(job, samples, "shown_negatives", &positives, &items, &spill).await?;
        positives.index = RowIndex::default();
        let (training, validation) = split(config, &positives.sample_ids, &positives.times, &spill)?;
        positives.times = Vec::new();
        if origin.is_none() || !positives.sample_ids.is_empty() {
            check_rows(config, &positives, &training)?;
            check_negatives(&config.training, positives.sample_ids.len(), [&random, &hard, &shown])?;
        }
        let mut counts = vec![0u32; catalogue.rows];
        let pairs = || pairs(&training, &positives.user_of, &positives.item_of);
        pairs().for_each(|(_, item)| counts[item as usize] += 1);
        let total = training.len().max(1) as f64;
        let log_share = counts.iter().map(|count| (f64::from(*count).max(0.5) / total).ln() as f32).collect();
        let taught_before = positives.before.len() as u64;
        let before = std::mem::take(&mut positives.before);
        let liked = Liked::new(positives.user_count, || pairs().chain(before.iter().copied()));
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
        let data = Data {
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
        };
        data.release();
        Ok(data)
    }

    /// Makes the columns of positives ready for a part of an epoch: what was read of those that lie in files is let go, and the rows
    /// of `parts` are fetched.
    pub fn turn_to(&self, parts: &[Range<usize>]) {
        self.release();
        for rows in parts {
            self.users.will_need(rows.clone());
            [&self.user_of, &self.item_of].into_iter().for_each(|column| column.will_need(rows.clone()));
            self.weights.will_need(rows.clone());
            [&self.random, &self.hard, &self.shown].into_iter().for_each(|lists| lists.will_need(rows.clone()));
        }
    }

    fn release(&self) {
        self.users.release();
        self.sample_ids.release();
        [&self.user_of, &self.item_of, &self.objectives, &self.training].into_iter().for_each(Column::release);
        self.weights.release();
        [&self.random, &self.hard, &self.shown].into_iter().for_each(Lists::release);
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
async fn negatives(
    job: &Job,
    samples: &SampleSet,
    table: &str,
    positives: &Positives,
    items: &IdMap,
    spill: &Spill,
) -> Result<Lists> {
    let sample_ids = &positives.sample_ids;
    let mut all = Entries::default();
    let (mut lost, mut looked_up, mut from) = (0, 0, 0);
    if samples.record.facts.tables.contains_key(table) {
        let mut stream = read(job, samples, table);
        while let Some(batch) = stream.next().await {
            job.stop.check()?;
            let batch: RecordBatch = batch?;
            let found = items.find(&batch, table, "item_id")?;
            let given = numbers(&batch, table, "sampling_probability")?;
            let of = integers(&batch, table, "sample_id")?;
            let (mut entries, mut probabilities) = (Vec::new(), Vec::new());
            looked_up += batch.num_rows();
            if looked_up >= AT_ONCE {
                sample_ids.release();
                looked_up = 0;
            }
            for (at, item) in found.into_iter().enumerate() {
                let row = positives.index.find(sample_ids, of.value(at), &mut from);
                let Some((row, item)) = row.zip(item) else {
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
            all.append(&entries, &probabilities, spill)?;
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
    let lists = all.into_lists(sample_ids.len(), spill)?;
    sample_ids.release();
    lists.release();
    Ok(lists)
}

/// User and item of each of the rows `training`, which are in order. What lies in files is let go as it is passed.
fn pairs<'a>(
    training: &'a Column<u32>,
    user_of: &'a Column<u32>,
    item_of: &'a Column<u32>,
) -> impl Iterator<Item = (u32, u32)> + 'a {
    let let_go = move || [training, user_of, item_of].into_iter().for_each(Column::release);
    let rows = pieces(training.len(), let_go).flat_map(move |piece| &training[piece]);
    rows.map(move |row| (user_of[*row as usize], item_of[*row as usize]))
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

/// Without a negative every loss is 0: towers that have learned nothing would be written as if they had.
fn check_negatives(training: &Training, positives: usize, [random, hard, shown]: [&Lists; 3]) -> Result<()> {
    let tables = [
        ("random_negatives", random, "random_negatives", training.random_negatives),
        ("hard_negatives", hard, "hard_per_positive", training.hard_per_positive),
        ("shown_negatives", shown, "shown_per_positive", training.shown_per_positive),
    ];
    let made = training.has_in_batch_negatives() || training.self_mined.per_positive > 0;
    if made || tables.iter().any(|(_, lists, _, taken)| *taken > 0 && !lists.items.is_empty()) {
        return Ok(());
    }
    let found = tables.map(|(table, lists, key, taken)| {
        format!("{} rows in `{table}` beside training.{key} {taken}", lists.items.len())
    });
    Err(Error::config(format!(
        "training: none of the {positives} positives has a negative, so there is nothing to learn: found in_batch_negatives {} with batch_size {}, self_mined.per_positive 0, {}; set training.in_batch_negatives, or look at the SQL of these tables",
        training.in_batch_negatives,
        training.batch_size,
        found.join(", ")
    )))
}

/// Rows to learn from and rows held out, each in the order of the table.
fn split(config: &Config, sample_ids: &Column<i64>, times: &[i64], spill: &Spill) -> Result<(Column<u32>, Vec<u32>)> {
    let validation = &config.training.validation;
    let hash = |row: &u32| random::bits(config.training.seed ^ 0x0076_616c, &[sample_ids[*row as usize] as u64]);
    match validation.split {
        ValidationSplit::Random => {
            let (mut training, mut held_out) = (Column::default(), Vec::new());
            for piece in pieces(sample_ids.len(), || sample_ids.release()) {
                let rows = piece.start as u32..piece.end as u32;
                let (taught, held): (Vec<u32>, Vec<u32>) =
                    rows.partition(|row| random::unit(hash(row)) >= validation.share);
                training.append(&taught, spill)?;
                held_out.extend(held);
            }
            Ok((training, held_out))
        }
        ValidationSplit::Latest => {
            let mut by_time: Vec<u32> = (0..sample_ids.len() as u32).collect();
            by_time.sort_unstable_by_key(|row| (times[*row as usize], hash(row)));
            let held_out = by_time.split_off(sample_ids.len() - (sample_ids.len() as f64 * validation.share) as usize);
            let sorted = |mut rows: Vec<u32>| {
                rows.sort_unstable();
                rows
            };
            Ok((Column::placed(sorted(by_time), spill)?, sorted(held_out)))
        }
    }
}
