//! Training: batches, the loop, the choice of the best epoch, and the files of a model.

mod batches;
mod checkpoint;
mod data;
mod decay;
mod diagnosis;
mod ids;
mod index;
mod lists;
mod metrics;
mod mining;
mod objectives;
mod optimizer;
mod order;
mod origin;
mod positives;
mod random;
mod rows;
mod schedule;
mod state;
mod step;
mod tables;
mod tensorboard;
#[cfg(test)]
mod tests;
mod trained;
mod validation;

use std::ops::Range;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use tokio::runtime::Handle;
use tracing::{Span, debug, info, warn};

use self::batches::{Batch, Batches};
pub use self::checkpoint::remove as remove_checkpoints;
use self::checkpoint::{Checkpoints, Resumed};
use self::data::Data;
use self::diagnosis::{check_loss, of_write};
use self::metrics::{LogFile, Metrics};
use self::mining::Mined;
use self::origin::Origin;
use self::state::State;
use self::step::Trainer;
use self::trained::Trained;
use self::validation::Validation;
use crate::artifacts::{SampleSet, Start, StartFacts, TrainFacts, Written, keys};
use crate::config::{Config, Training};
use crate::error::{Context, Kind, Result};
use crate::job::{Job, thread_pool};
use crate::model::{Files, device};

/// Batches that wait for their step, at most.
const BATCHES_AHEAD: usize = 2;

/// Learns both towers from the samples, from nothing or going on from a parent, and writes the model to `folder`. `checkpoints` is where a training of the same inputs
/// leaves off and goes on, see [`crate::artifacts::keys::checkpoints`].
pub async fn run(
    job: &Job,
    samples: &SampleSet,
    start: &Start,
    checkpoints: &str,
    folder: &str,
) -> Result<Written<TrainFacts>> {
    info!(start = start.why, "starts");
    let mut origin = Origin::load(job, start).await?;
    let job = &origin.as_ref().map_or_else(|| job.clone(), Origin::job);
    let mut data = Data::load(job, samples, origin.as_mut()).await?;
    if data.training.is_empty() {
        warn!(start = start.why, "no positives after the parent's date: its weights stay as they are");
    }
    let mut files = Files::new(&job.output, folder);
    // written ahead of the training, which does without: memory has better use for what a list of all ids takes
    files.spec(&data.spec, &std::mem::take(&mut data.vocabularies)).await?;
    let pool = thread_pool(job.config.training.threads)?;
    let attempt = folder.rsplit('/').nth(1).unwrap_or(folder);
    let mut checkpoints = Checkpoints::new(job, &data, checkpoints, attempt, Handle::current());
    let log = LogFile::new(&job.output, folder);
    let (state, trainer) = pool.install(|| fit(job, &data, origin.as_ref(), &mut checkpoints, &log))?;
    let inv_temperature = match state.earlier_best() {
        None => {
            let written = async {
                files.weights(&trainer.weights).await?;
                trainer.optimizers.write(&trainer.weights, &mut files).await
            };
            let written = written.await.map_err(|error| of_write(error, &trainer.weights, &job.config));
            written.while_(|| format!("writing the model after epoch {}; {}", state.epoch - 1, checkpoints.kept()))?;
            trainer.weights.inv_temperature
        }
        Some(best) => {
            drop(trainer);
            for entry in &best.files {
                files.copy(entry).await?;
            }
            best.inv_temperature.0
        }
    };
    files.put(keys::TRAINING_LOG, state.metrics.text.clone().into_bytes(), None).await?;
    Ok(Written { files: files.finish(), facts: facts(&job.config, &data, start, &state, inv_temperature) })
}

/// The loop: epochs of steps, a measurement after each, an end when it no longer gets better. Returns the last weights.
fn fit<'a>(
    job: &'a Job,
    data: &'a Data,
    origin: Option<&Origin<'_>>,
    checkpoints: &mut Checkpoints,
    log: &LogFile,
) -> Result<(State, Trainer<'a>)> {
    let training = &job.config.training;
    let device = device(&training.device)?;
    let validation = Validation::new(data, training);
    Mined::check(data, training)?;
    let steps = Batches::steps(data, training);
    let total = steps as u64 * u64::from(training.epochs);
    let bar = job.progress.bar("train", training.epochs as u64 * data.training.len() as u64);
    let goes_on = |state: &State, trained: Trained| {
        let span = state.first_step..state.first_step + total;
        Trainer::with(&job.config, &data.spec, device.clone(), span, trained)
    };
    let (mut state, mut trainer, mut kept) = match checkpoints.resume(&device)? {
        None => match origin {
            None => (State::new(), Trainer::new(&job.config, &data.spec, device.clone(), total), None),
            Some(origin) => {
                let trained = origin.weights(&job.config, data, &device)?;
                let state = State { first_step: trained.optimizers.steps, ..State::new() };
                (state.clone(), goes_on(&state, trained), None)
            }
        },
        Some(Resumed { state, trained, mined }) => (state.clone(), goes_on(&state, trained), mined),
    };
    let mut metrics = Metrics::new(job, checkpoints.digest(), trainer.optimizers.steps)?;
    let before = (state.epoch as usize - 1) * data.training.len() + state.step * training.batch_size;
    bar.advance(before as u64);
    let mut learn = || -> Result<()> {
        while !state.is_over(training) && !data.training.is_empty() {
            let (epoch, first) = (state.epoch, state.step);
            let started = Instant::now();
            let mine = || Mined::new(data, training, &trainer.weights, epoch, &device, &job.stop);
            let mined = match kept.take().map_or_else(mine, Ok) {
                Err(error) if error.kind == Kind::Terminated => {
                    return Err(checkpoints.leave(&mut state, &trainer, &Mined::default()));
                }
                mined => mined?,
            };
            state.seconds += started.elapsed().as_secs_f64();
            // from the end of one step to that of the next: waiting for a batch counts, a checkpoint does not
            let mut since = Instant::now();
            for_each_batch(data, training, &mined, epoch, first..steps, |batch| {
                if job.stop.requested() {
                    return Err(checkpoints.leave(&mut state, &trainer, &mined));
                }
                if checkpoints.due() {
                    let began = Instant::now();
                    checkpoints.try_save(&mut state, &trainer, &mined)?;
                    since += began.elapsed();
                }
                let rates = trainer.rates();
                let loss = trainer.step(&batch)?;
                check_loss(loss, &trainer, data, &batch, &state, checkpoints, &job.config)?;
                state.loss.0 += loss * batch.rows.len() as f64 / data.training.len() as f64;
                state.step += 1;
                metrics.step(&mut state, &trainer, rates, loss, batch.rows.len());
                state.seconds += since.elapsed().as_secs_f64();
                since = Instant::now();
                bar.advance(batch.rows.len() as u64);
                let best =
                    state.best.as_ref().map_or(String::new(), |best| format!(", best recall {:.4}", best.recall.0));
                bar.message(format!("epoch {epoch} of {}, loss {loss:.4}{best}", training.epochs));
                Ok(())
            })?;
            let measured = || validation.recall(data, &trainer.weights, training, &device, &job.stop);
            let recall = match (!validation.is_empty()).then(measured).transpose() {
                Err(error) if error.kind == Kind::Terminated => {
                    return Err(checkpoints.leave(&mut state, &trainer, &mined));
                }
                other => other?,
            };
            let (loss, seconds) = (state.loss.0, state.seconds);
            let examples_per_second = (data.training.len() as f64 / seconds) as u64;
            info!(epoch, loss, recall, k = training.validation.k, seconds, examples_per_second, "trained an epoch");
            debug!(profile = ?trainer.profile, "time of all steps so far");
            metrics.epoch(&mut state, trainer.optimizers.steps, recall);
            state.end_epoch(recall, trainer.weights.inv_temperature);
            log.write(&state.metrics);
            if state.best.is_some() && state.earlier_best().is_none() && !state.is_over(training) {
                checkpoints.save(&mut state, &trainer, &mined)?;
            } else if training.checkpoint.per_epoch {
                checkpoints.try_save(&mut state, &trainer, &mined)?;
            }
        }
        Ok(())
    };
    if let Err(error) = learn() {
        metrics.rest(&mut state, &trainer);
        log.write(&state.metrics);
        return Err(error);
    }
    if let (true, Some(best)) = (state.has_stalled(training), &state.best) {
        info!(best_epoch = best.epoch, "recall no longer rises: training ends here");
    }
    Ok((state, trainer))
}

fn facts(config: &Config, data: &Data, start: &Start, state: &State, inv_temperature: f64) -> TrainFacts {
    let training = &config.training;
    let epochs = state.facts();
    let seconds: f64 = epochs.iter().map(|epoch| epoch.seconds).sum();
    TrainFacts {
        dim: data.spec.dim,
        examples: data.training.len() as u64,
        validation_examples: data.validation.len() as u64,
        // without a measurement the last epoch is taken
        best_epoch: state.best.as_ref().map_or(epochs.len() as u32, |best| best.epoch),
        best_recall: state.best.as_ref().map(|best| best.recall.0),
        objectives: objectives::counts(&training.objectives, &data.objectives),
        temperature: 1.0 / inv_temperature,
        tables: data.spec.tables.iter().map(|(name, table)| (name.clone(), table.rows as u64)).collect(),
        start: StartFacts {
            parent: start.parent.clone(),
            why: start.why.clone(),
            taught_before: data.taught_before,
            late: start.late.clone(),
            added: data.growth.iter().map(|(name, growth)| (name.clone(), growth.added as u64)).collect(),
            evicted: data.growth.iter().map(|(name, growth)| (name.clone(), growth.evicted.len() as u64)).collect(),
        },
        shape: origin::shape(config),
        examples_per_second: if seconds > 0.0 {
            data.training.len() as f64 * epochs.len() as f64 / seconds
        } else {
            0.0
        },
        epochs,
    }
}

/// Makes the batches of an epoch on another thread and hands them to `step` in their order.
fn for_each_batch(
    data: &Data,
    training: &Training,
    mined: &Mined,
    epoch: u32,
    steps: Range<usize>,
    step: impl FnMut(Batch) -> Result<()>,
) -> Result<()> {
    let (sender, receiver) = sync_channel(BATCHES_AHEAD);
    let span = Span::current();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _stage = span.enter();
            let mut batches = Batches::new(data, training).with_mined(mined);
            batches.start_epoch(epoch);
            for at in steps {
                // the receiver goes away when a step fails: then nobody waits for more
                if sender.send(batches.batch(at)).is_err() {
                    return;
                }
            }
        });
        // moved in, so that an error drops it and lets the other thread end
        let receiver = receiver;
        receiver.iter().try_for_each(step)
    })
}
