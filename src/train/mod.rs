//! Training: batches, the loop, the choice of the best epoch, and the files of a model.

mod batches;
mod data;
mod ids;
mod mining;
mod objectives;
mod optimizer;
mod random;
mod step;
mod tables;
#[cfg(test)]
mod tests;
mod validation;

use std::sync::mpsc::sync_channel;
use std::time::Instant;

use tracing::{debug, info};

use self::batches::{Batch, Batches};
use self::data::Data;
use self::mining::Mined;
use self::optimizer::Optimizers;
use self::step::Trainer;
use self::validation::Validation;
use crate::artifacts::{EpochFacts, SampleSet, TrainFacts, Written, keys};
use crate::error::{Error, Result};
use crate::job::{Job, thread_pool};
use crate::model::{Files, Weights, device};

/// Batches that wait for their step, at most.
const BATCHES_AHEAD: usize = 2;

/// Learns both towers from the samples, and writes the model to `folder`.
pub async fn run(job: &Job, samples: &SampleSet, folder: &str) -> Result<Written<TrainFacts>> {
    let data = Data::load(job, samples).await?;
    let pool = thread_pool(job.config.training.threads)?;
    let Fitted { weights, optimizers, facts } = pool.install(|| fit(job, &data))?;
    let mut files = Files::new(&job.output, folder);
    files.model(&data.spec, &data.vocabularies, &weights).await?;
    optimizers.write(keys::OPTIMIZER, &mut files).await?;
    Ok(Written { files: files.finish(), facts })
}

/// The best epoch.
struct Fitted {
    weights: Weights,
    optimizers: Optimizers,
    facts: TrainFacts,
}

/// The loop: epochs of steps, a measurement after each, an end when it no longer gets better.
fn fit(job: &Job, data: &Data) -> Result<Fitted> {
    let training = &job.config.training;
    let device = device(&training.device)?;
    let validation = Validation::new(data, training);
    let mut trainer = Trainer::new(&job.config, &data.spec, device.clone());
    Mined::check(data, training)?;
    let steps = Batches::steps(data, training);
    let bar = job.progress.bar("train", training.epochs as u64 * data.training.len() as u64);
    let mut epochs: Vec<EpochFacts> = Vec::new();
    let mut best: Option<(u32, f64, Weights, Optimizers)> = None;
    let mut stepping = 0.0;
    for epoch in 1..=training.epochs {
        let started = Instant::now();
        let mut loss = 0.0;
        let mined = Mined::new(data, training, &trainer.weights, epoch, &device, &job.stop)?;
        for_each_batch(data, training, &mined, epoch, steps, |step, batch| {
            job.stop.check()?;
            let batch_loss = trainer.step(&batch)?;
            check_loss(batch_loss, trainer.row_losses(), data, &batch, epoch, step)?;
            loss += batch_loss * batch.rows.len() as f64 / data.training.len() as f64;
            bar.advance(batch.rows.len() as u64);
            bar.message(format!("epoch {epoch} loss {batch_loss:.4}"));
            Ok(())
        })?;
        let seconds = started.elapsed().as_secs_f64();
        stepping += seconds;
        let recall = if validation.is_empty() {
            None
        } else {
            Some(validation.recall(data, &trainer.weights, training, &device)?)
        };
        let rate = data.training.len() as f64 / seconds;
        info!(
            epoch,
            loss,
            recall,
            k = training.validation.k,
            seconds,
            examples_per_second = rate as u64,
            "trained an epoch"
        );
        debug!(profile = ?trainer.profile, "time of all steps so far");
        epochs.push(EpochFacts { epoch, loss, recall, seconds });
        let Some(recall) = recall else { continue };
        if best.as_ref().is_none_or(|(_, so_far, ..)| recall > *so_far) {
            best = Some((epoch, recall, trainer.weights.clone(), trainer.optimizers.clone()));
        }
        let best_epoch = best.as_ref().map_or(epoch, |best| best.0);
        if training.early_stopping.patience > 0 && epoch - best_epoch >= training.early_stopping.patience {
            info!(best_epoch, "recall no longer rises: training ends here");
            break;
        }
    }
    let (best_epoch, best_recall, weights, optimizers) = match best {
        Some((epoch, recall, weights, optimizers)) => (epoch, Some(recall), weights, optimizers),
        // without a measurement the last epoch is taken
        None => (training.epochs, None, trainer.weights, trainer.optimizers),
    };
    let facts = TrainFacts {
        dim: data.spec.dim,
        examples: data.training.len() as u64,
        validation_examples: data.validation.len() as u64,
        best_epoch,
        best_recall,
        objectives: objectives::counts(&training.objectives, &data.objectives),
        temperature: 1.0 / weights.inv_temperature,
        tables: data.spec.tables.iter().map(|(name, table)| (name.clone(), table.rows as u64)).collect(),
        examples_per_second: data.training.len() as f64 * epochs.len() as f64 / stepping,
        epochs,
    };
    Ok(Fitted { weights, optimizers, facts })
}

/// Makes the batches of an epoch on another thread and hands them to `step` in their order.
fn for_each_batch(
    data: &Data,
    training: &crate::config::Training,
    mined: &Mined,
    epoch: u32,
    steps: usize,
    mut step: impl FnMut(usize, Batch) -> Result<()>,
) -> Result<()> {
    let (sender, receiver) = sync_channel(BATCHES_AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut batches = Batches::new(data, training).with_mined(mined);
            batches.start_epoch(epoch);
            for at in 0..steps {
                // the receiver goes away when a step fails: then nobody waits for more
                if sender.send(batches.batch(at)).is_err() {
                    return;
                }
            }
        });
        // moved in, so that an error drops it and lets the other thread end
        let receiver = receiver;
        receiver.iter().enumerate().try_for_each(|(at, batch)| step(at, batch))
    })
}

/// A loss that is not a number ends the job, with where and why.
fn check_loss(loss: f64, row_losses: &[f32], data: &Data, batch: &Batch, epoch: u32, step: usize) -> Result<()> {
    if loss.is_finite() {
        return Ok(());
    }
    let odd = batch.rows.iter().zip(row_losses).filter(|(_, loss)| !loss.is_finite());
    let samples: Vec<String> = odd.take(5).map(|(row, _)| data.sample_ids[*row as usize].to_string()).collect();
    Err(Error::config(format!(
        "training: the loss is {loss} in epoch {epoch}, step {step}, first at sample_ids {}; the weights have grown without bound: lower training.learning_rate.dense or .tables, raise model.temperature, or set training.clip",
        samples.join(", ")
    )))
}
