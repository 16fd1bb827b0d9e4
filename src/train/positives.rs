//! The table `positives`, without its features' raw values.

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use futures::StreamExt;
use tracing::{info, warn};

use super::ids::IdMap;
use super::index::RowIndex;
use super::objectives;
use super::origin::Origin;
use super::tables::read;
use crate::artifacts::SampleSet;
use crate::config::ValidationSplit;
use crate::error::{Error, Result};
use crate::features::{Encoded, Encoder, FeatureSpec, Side, Vocabularies, integers, numbers};
use crate::job::Job;
use crate::spill::{Column, Spill};

/// The positives to learn from. Where a model is gone on from, those that it has been taught are known as pairs only.
#[derive(Default)]
pub struct Positives {
    pub users: Encoded,
    pub sample_ids: Column<i64>,
    pub times: Vec<i64>,
    pub user_of: Column<u32>,
    pub item_of: Column<u32>,
    pub weights: Column<f32>,
    pub objectives: Column<u32>,
    pub user_count: usize,
    pub index: RowIndex,
    /// User and item of those that the parent was taught.
    pub before: Vec<(u32, u32)>,
}

impl Positives {
    pub async fn load(
        job: &Job,
        samples: &SampleSet,
        spec: &FeatureSpec,
        vocabularies: &Vocabularies,
        items: &IdMap,
        origin: Option<&Origin<'_>>,
        spill: &Spill,
    ) -> Result<Self> {
        let encoder = Encoder::new(spec, Side::User, vocabularies);
        let mut users = IdMap::default();
        let mut all = Positives::default();
        let objectives = &job.config.training.objectives;
        let (mut outside, mut weightless) = (0, 0);
        let mut stream = read(job, samples, "positives");
        while let Some(batch) = stream.next().await {
            job.stop.check()?;
            let batch = batch?;
            let known = items.find(&batch, "positives", "item_id")?;
            let held = objectives::held(&batch, objectives)?;
            let given = numbers(&batch, "positives", "weight")?;
            let taught = origin.map(|origin| origin.taught(&batch)).transpose()?;
            let weight = |row: usize| {
                let given = given.as_ref().filter(|given| given.is_valid(row)).map_or(1.0, |given| given.value(row));
                if objectives.is_empty() { given } else { held[row].1 * given }
            };
            let liked = |row: &usize| known[*row].is_some() && (objectives.is_empty() || weight(*row) != 0.0);
            let new = |row: &usize| taught.as_ref().is_none_or(|taught| !taught[*row]);
            let rows: Vec<usize> = (0..batch.num_rows()).filter(liked).collect();
            let unknown = known.iter().filter(|item| item.is_none()).count();
            outside += unknown;
            weightless += batch.num_rows() - rows.len() - unknown;
            let users = users.number(&only(&batch, &rows)?, "positives", "user_id")?;
            let liked_by = rows.iter().copied().zip(users);
            let (kept, before): (Vec<_>, Vec<_>) = liked_by.partition(|(row, _)| new(row));
            all.before.extend(before.into_iter().filter_map(|(row, user)| Some((user, known[row]?))));
            if given.is_some() || !objectives.is_empty() {
                all.weights.append(&collected(kept.iter().map(|(row, _)| weight(*row) as f32)), spill)?;
            }
            if !objectives.is_empty() {
                all.objectives.append(&collected(kept.iter().map(|(row, _)| held[*row].0)), spill)?;
            }
            all.item_of.append(&collected(kept.iter().filter_map(|(row, _)| known[*row])), spill)?;
            all.user_of.append(&collected(kept.iter().map(|(_, user)| *user)), spill)?;
            let batch = only(&batch, &collected(kept.iter().map(|(row, _)| *row)))?;
            all.sample_ids.append(integers(&batch, "positives", "sample_id")?.values(), spill)?;
            if job.config.training.validation.split == ValidationSplit::Latest {
                all.times.extend(integers(&batch, "positives", "event_time")?.values());
            }
            let mut piece = Encoded::default();
            encoder.encode("positives", &batch, &mut piece)?;
            all.users.append(piece, spill)?;
        }
        if outside > 0 {
            warn!(rows = outside, "positives whose item is not in item_features are left out");
        }
        if weightless > 0 {
            info!(rows = weightless, "positives for which no objective holds are left out");
        }
        if !objectives.is_empty() {
            info!(rows = ?objectives::counts(objectives, &all.objectives), "positives of each objective");
        }
        all.user_count = users.len();
        all.check(job, weightless, origin.is_some())?;
        all.users.shrink();
        all.index = RowIndex::new(&all.sample_ids).map_err(|sample| {
            Error::config(format!("positives: sample_id {sample} stands twice; make it unique in the SQL"))
        })?;
        all.sample_ids.release();
        Ok(all)
    }

    /// A model that is gone on from may have nothing to learn; one from nothing may not.
    fn check(&self, job: &Job, weightless: usize, goes_on: bool) -> Result<()> {
        if self.sample_ids.is_empty() && !goes_on {
            let objectives = &job.config.training.objectives;
            return Err(Error::config(match weightless {
                0 => "positives: no rows to learn from; look at the date, the sources' windows and the SQL".to_string(),
                _ => format!(
                    "training.objectives: none of {} holds for any of the {weightless} positives; look at the columns in the SQL",
                    objectives.keys().cloned().collect::<Vec<_>>().join(", ")
                ),
            }));
        }
        if let Some(bad) = self.weights.iter().position(|weight| !weight.is_finite() || *weight < 0.0) {
            return Err(Error::config(format!(
                "positives.weight: found {} at sample_id {}, expected a finite number of at least 0",
                self.weights[bad], self.sample_ids[bad]
            )));
        }
        Ok(())
    }
}

fn collected<T>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.collect()
}

/// The rows of a batch at ascending places.
fn only(batch: &RecordBatch, rows: &[usize]) -> Result<RecordBatch> {
    let mut keep = vec![false; batch.num_rows()];
    rows.iter().for_each(|row| keep[*row] = true);
    filter_record_batch(batch, &BooleanArray::from(keep))
        .map_err(|error| Error::internal("cannot filter positives").caused_by(error))
}
