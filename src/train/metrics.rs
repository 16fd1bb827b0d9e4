//! What a training tells about itself on the way: `training.jsonl`, which is part of the model and so knows no clock, and
//! TensorBoard's curves, which also have rates by the clock.

use std::path::PathBuf;
use std::time::Instant;

use chrono::Utc;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::schedule::Rates;
use super::state::{Exact, State};
use super::step::Trainer;
use super::tensorboard::Board;
use crate::artifacts::keys;
use crate::error::Result;
use crate::job::Job;
use crate::storage::Store;

/// What is known so far; a checkpoint carries it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Lines {
    /// `training.jsonl` so far.
    pub text: String,
    /// Losses of the rows since its last line, and their number.
    loss: Exact,
    rows: u64,
}

/// One line of `training.jsonl`.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line {
    /// After every few steps.
    Step {
        /// Of the whole training, from 1.
        step: u64,
        epoch: u32,
        /// Mean over the rows since the line before.
        loss: f64,
        dense_rate: f64,
        table_rate: f64,
        /// Before it is clipped; null without `training.clip` or dense layers.
        gradient_norm: Option<f64>,
        temperature: f64,
    },
    Epoch {
        step: u64,
        epoch: u32,
        loss: f64,
        recall: Option<f64>,
    },
}

/// Where `training.jsonl` is written while a training goes on, for whoever watches it and for one that ends early.
pub struct LogFile<'a> {
    store: &'a Store,
    key: String,
    runtime: Handle,
}

impl<'a> LogFile<'a> {
    /// `folder` is that of the model. Called within a runtime, and used on threads that may wait.
    pub fn new(store: &'a Store, folder: &str) -> Self {
        LogFile { store, key: format!("{folder}/{}", keys::TRAINING_LOG), runtime: Handle::current() }
    }

    /// Writes the file anew, since a store cannot append and the lines are few. A store that fails is only told: the model is what
    /// counts, and with it the file is written again.
    pub fn write(&self, lines: &Lines) {
        let written = self.runtime.block_on(self.store.put(&self.key, lines.text.clone().into_bytes()));
        if let Err(error) = written {
            warn!("{} could not be written for now: {error}", keys::TRAINING_LOG);
        }
    }
}

/// Writes the lines and the curves of one training.
pub struct Metrics {
    every: u64,
    /// Of the last step.
    rates: Option<Rates>,
    board: Option<Board>,
    /// Since the last point.
    since: Instant,
}

impl Metrics {
    /// `digest` tells trainings of a date apart, and `steps` are made already.
    pub fn new(job: &Job, digest: &str, steps: u64) -> Result<Self> {
        let training = &job.config.training;
        let folder = training.tensorboard.as_ref().map(|path| {
            let name = format!("{}-dt={}-{}", job.config.name, job.date, &digest[..digest.len().min(8)]);
            PathBuf::from(job.config.resolve(path)).join(name.replace('/', "_"))
        });
        let board = folder.map(|folder| Board::create(&folder, steps, Utc::now())).transpose()?;
        if let Some(board) = &board {
            info!(file = %board.path().display(), "writes curves for TensorBoard");
        }
        Ok(Metrics { every: training.metrics_steps, rates: None, board, since: Instant::now() })
    }

    /// After a step with the mean loss `loss` of `rows` rows, at the rates `rates`.
    pub fn step(&mut self, state: &mut State, trainer: &Trainer, rates: Rates, loss: f64, rows: usize) {
        state.metrics.loss.0 += loss * rows as f64;
        state.metrics.rows += rows as u64;
        self.rates = Some(rates);
        if self.every > 0 && trainer.optimizers.steps.is_multiple_of(self.every) {
            self.point(state, trainer, rates);
        }
    }

    /// The steps since the last line, where a training ends among them: the way to its end is what is asked for then.
    pub fn rest(&mut self, state: &mut State, trainer: &Trainer) {
        if let Some(rates) = self.rates.filter(|_| self.every > 0 && state.metrics.rows > 0) {
            self.point(state, trainer, rates);
        }
    }

    /// A line, and points of the curves, of the steps since the ones before.
    fn point(&mut self, state: &mut State, trainer: &Trainer, rates: Rates) {
        let step = trainer.optimizers.steps;
        let Lines { loss, rows, .. } = state.metrics;
        let mean = loss.0 / rows as f64;
        let temperature = 1.0 / trainer.weights.inv_temperature;
        let gradient_norm = trainer.gradient_norm;
        state.metrics.add(&Line::Step {
            step,
            epoch: state.epoch,
            loss: mean,
            dense_rate: rates.dense,
            table_rate: rates.tables,
            gradient_norm,
            temperature,
        });
        let mut points = vec![
            ("loss", mean),
            ("learning_rate/dense", rates.dense),
            ("learning_rate/tables", rates.tables),
            ("temperature", temperature),
            ("examples_per_second", rows as f64 / self.since.elapsed().as_secs_f64()),
        ];
        points.extend(gradient_norm.map(|norm| ("gradient_norm", norm)));
        (state.metrics.loss, state.metrics.rows, self.since) = (Exact(0.0), 0, Instant::now());
        self.draw(step, &points);
    }

    /// After an epoch's measurement, while the state still stands in it.
    pub fn epoch(&mut self, state: &mut State, steps: u64, recall: Option<f64>) {
        let loss = state.loss.0;
        state.metrics.add(&Line::Epoch { step: steps, epoch: state.epoch, loss, recall });
        let mut points = vec![("epoch/loss", loss)];
        points.extend(recall.map(|recall| ("epoch/recall", recall)));
        self.draw(steps, &points);
    }

    /// A disk that is full must not end a training.
    fn draw(&mut self, step: u64, points: &[(&str, f64)]) {
        if let Some(board) = &mut self.board
            && let Err(error) = board.scalars(step, points, Utc::now())
        {
            warn!(file = %board.path().display(), "TensorBoard's file ends here: {error}");
            self.board = None;
        }
    }
}

impl Lines {
    fn add(&mut self, line: &Line) {
        self.text.push_str(&serde_json::to_string(line).expect("a line is JSON"));
        self.text.push('\n');
    }
}
