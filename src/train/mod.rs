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
mod pass;
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

use burn::tensor::Device;
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
use crate::progress::Bar;

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

/// Trains to the end, from where the newest checkpoint left off; returns how it came there, and the last weights.
/// `training.jsonl` is written before an error leaves, too.
fn fit<'a>(
    job: &'a Job,
    data: &'a Data,
    origin: Option<&Origin<'_>>,
    checkpoints: &mut Checkpoints<'a>,
    log: &LogFile,
) -> Result<(State, Trainer<'a>)> {
    let training = &job.config.training;
    let device = device(&training.device)?;
    let validation = Validation::new(data, training);
    Mined::check(data, training)?;
    let total = Batches::steps(data, training) as u64 * u64::from(training.epochs);
    let bar = job.progress.bar("train", training.epochs as u64 * data.training.len() as u64);
    let goes_on = |state: &State, trained: Trained| {
        let span = state.first_step..state.first_step + total;
        Trainer::with(&job.config, &data.spec, device.clone(), span, trained)
    };
    let (state, trainer, mined) = match checkpoints.resume(&device)? {
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
    let metrics = Metrics::new(job, checkpoints.digest(), trainer.optimizers.steps)?;
    let before = (state.epoch as usize - 1) * data.training.len() + state.step * training.batch_size;
    bar.advance(before as u64);
    let mut learning =
        Learning { job, data, device, validation, bar, log, state, trainer, mined, metrics, checkpoints };
    if let Err(error) = learning.epochs() {
        learning.metrics.rest(&mut learning.state, &learning.trainer);
        log.write(&learning.state.metrics);
        return Err(error);
    }
    let Learning { state, trainer, .. } = learning;
    if let (true, Some(best)) = (state.has_stalled(training), &state.best) {
        info!(best_epoch = best.epoch, "recall no longer rises: training ends here");
    }
    Ok((state, trainer))
}

/// The loop: epochs of steps, a measurement after each, an end when it no longer gets better.
struct Learning<'a, 'l> {
    job: &'a Job,
    data: &'a Data,
    device: Device,
    validation: Validation,
    bar: Bar,
    log: &'l LogFile<'l>,
    // what the loop changes
    state: State,
    trainer: Trainer<'a>,
    /// Of the epoch at hand, where a checkpoint in the middle of it had them.
    mined: Option<Mined>,
    metrics: Metrics,
    checkpoints: &'l mut Checkpoints<'a>,
}

impl Learning<'_, '_> {
    fn epochs(&mut self) -> Result<()> {
        while !self.state.is_over(&self.job.config.training) && !self.data.training.is_empty() {
            self.epoch()?;
        }
        Ok(())
    }

    /// The steps that are left of the epoch at hand, and what comes after its last.
    fn epoch(&mut self) -> Result<()> {
        let (job, data, training) = (self.job, self.data, &self.job.config.training);
        let (epoch, steps) = (self.state.epoch, self.state.step..Batches::steps(data, training));
        let started = Instant::now();
        let mine = || Mined::new(data, training, &self.trainer.weights, epoch, &self.device, &job.stop);
        let mined = self.mined.take().map_or_else(mine, Ok);
        let mined = self.or_leave(mined, &Mined::default())?;
        self.state.seconds += started.elapsed().as_secs_f64();
        let mut since = Instant::now();
        for_each_batch(data, training, &mined, epoch, steps, |batch| self.step(&batch, &mined, &mut since))?;
        let measured = || self.validation.recall(data, &self.trainer.weights, training, &self.device, &job.stop);
        let recall = (!self.validation.is_empty()).then(measured).transpose();
        let recall = self.or_leave(recall, &mined)?;
        let (loss, seconds) = (self.state.loss.0, self.state.seconds);
        let examples_per_second = (data.training.len() as f64 / seconds) as u64;
        info!(epoch, loss, recall, k = training.validation.k, seconds, examples_per_second, "trained an epoch");
        debug!(profile = ?self.trainer.profile, "time of all steps so far");
        self.metrics.epoch(&mut self.state, self.trainer.optimizers.steps, recall);
        self.state.end_epoch(recall, self.trainer.weights.inv_temperature);
        self.log.write(&self.state.metrics);
        if self.state.best.is_some() && self.state.earlier_best().is_none() && !self.state.is_over(training) {
            self.checkpoints.save(&mut self.state, &self.trainer, &mined)
        } else if training.checkpoint.per_epoch {
            self.checkpoints.try_save(&mut self.state, &self.trainer, &mined)
        } else {
            Ok(())
        }
    }

    /// One step, with a checkpoint before it where one is due. Its time goes from `since`, the end of the step before, to
    /// its own end: waiting for a batch counts, a checkpoint does not.
    fn step(&mut self, batch: &Batch, mined: &Mined, since: &mut Instant) -> Result<()> {
        let (data, config) = (self.data, &self.job.config);
        self.or_leave(self.job.stop.check(), mined)?;
        if self.checkpoints.due() {
            let began = Instant::now();
            self.checkpoints.try_save(&mut self.state, &self.trainer, mined)?;
            *since += began.elapsed();
        }
        let rates = self.trainer.rates();
        let loss = self.trainer.step(batch)?;
        check_loss(loss, &self.trainer, data, batch, &self.state, self.checkpoints, config)?;
        self.state.loss.0 += loss * batch.rows.len() as f64 / data.training.len() as f64;
        self.state.step += 1;
        self.metrics.step(&mut self.state, &self.trainer, rates, loss, batch.rows.len());
        self.state.seconds += since.elapsed().as_secs_f64();
        *since = Instant::now();
        self.bar.advance(batch.rows.len() as u64);
        let State { epoch, best, .. } = &self.state;
        let best = best.as_ref().map_or(String::new(), |best| format!(", best recall {:.4}", best.recall.0));
        self.bar.message(format!("epoch {epoch} of {}, loss {loss:.4}{best}", config.training.epochs));
        Ok(())
    }

    /// What came of a part of an epoch. Where the job was told to stop in it, a last checkpoint is written, with the
    /// items `mined`.
    fn or_leave<T>(&mut self, done: Result<T>, mined: &Mined) -> Result<T> {
        done.map_err(|error| match error.kind {
            Kind::Terminated => self.checkpoints.leave(&mut self.state, &self.trainer, mined),
            _ => error,
        })
    }
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
