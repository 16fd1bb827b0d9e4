//! The optimizers: AdamW for the dense layers, Adam for the temperature, row-wise Adagrad or lazy Adam for the tables.

use std::collections::BTreeMap;

use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer as _};
use burn::tensor::{Tensor, TensorData};

use super::rows::regrow;
use crate::artifacts::keys;
use crate::config::{TableOptimizer, Training};
use crate::error::Result;
use crate::features::Growth;
use crate::kernels::math::dot_f64;
use crate::kernels::pooling::RowGradients;
use crate::kernels::tables::{EmbeddingTable, LazyAdam, Moments, RowwiseAdagrad};
use crate::model::tensors::{self, Named, Values};
use crate::model::{Dense, Files, Weights, read};
use crate::storage::{FileEntry, Store};

const BETAS: (f64, f64) = (0.9, 0.999);
const ADAM_EPSILON: f64 = 1e-8;
/// FBGEMM's default for Adagrad, and the usual one for Adam.
const TABLE_EPSILON: f32 = 1e-8;

/// AdamW over the dense parameters of one tower, in the order of [`Dense::parameters`].
pub struct DenseOptimizer {
    weights: AdamW,
    /// Biases do not decay.
    biases: AdamW,
    states: Vec<Option<AdamWState<2>>>,
}

impl DenseOptimizer {
    pub fn new(training: &Training, parameters: usize) -> Self {
        let adam = AdamWConfig::new().with_beta_1(BETAS.0 as f32).with_beta_2(BETAS.1 as f32);
        let adam = adam.with_epsilon(ADAM_EPSILON as f32);
        DenseOptimizer {
            weights: adam.clone().with_weight_decay(training.weight_decay as f32).build(),
            biases: adam.with_weight_decay(0.0).build(),
            states: vec![None; parameters],
        }
    }

    /// One step; each gradient is multiplied by `scale` first.
    pub fn step(&mut self, dense: &mut Dense, gradients: Vec<Tensor<2>>, scale: f64, rate: f64) {
        let decays = dense.decays();
        for (at, (parameter, gradient)) in dense.parameters_mut().zip(gradients).enumerate() {
            let adam = if decays[at] { &self.weights } else { &self.biases };
            let gradient = if scale == 1.0 { gradient } else { gradient.mul_scalar(scale) };
            let (next, state) = adam.step(rate, parameter.clone(), gradient, self.states[at].take());
            *parameter = next;
            self.states[at] = state;
        }
    }
}

/// Adam for one number, in f64: ln(1 / temperature).
#[derive(Debug, Clone, Copy, Default)]
pub struct ScalarAdam {
    steps: i32,
    moments: (f64, f64),
}

impl ScalarAdam {
    /// What to add to the number.
    pub fn step(&mut self, gradient: f64, rate: f64) -> f64 {
        self.steps += 1;
        self.moments.0 = BETAS.0 * self.moments.0 + (1.0 - BETAS.0) * gradient;
        self.moments.1 = BETAS.1 * self.moments.1 + (1.0 - BETAS.1) * gradient * gradient;
        let first = self.moments.0 / (1.0 - BETAS.0.powi(self.steps));
        let second = self.moments.1 / (1.0 - BETAS.1.powi(self.steps));
        -rate * first / (second.sqrt() + ADAM_EPSILON)
    }
}

/// The state of all optimizers, but for the accumulators of Adagrad, which lie with their rows.
pub struct Optimizers {
    pub user: DenseOptimizer,
    pub item: DenseOptimizer,
    pub temperature: ScalarAdam,
    /// By table, with `table_optimizer: adam`.
    moments: BTreeMap<String, Moments>,
    /// Steps made so far.
    pub steps: u64,
}

impl Optimizers {
    pub fn new(training: &Training, weights: &Weights) -> Self {
        let moments = |(name, table): (&String, &EmbeddingTable)| (name.clone(), Moments::new(table));
        Optimizers {
            moments: match training.table_optimizer {
                TableOptimizer::Adagrad => BTreeMap::new(),
                TableOptimizer::Adam => weights.tables.iter().map(moments).collect(),
            },
            ..Optimizers::without_tables(training, weights)
        }
    }

    fn without_tables(training: &Training, weights: &Weights) -> Self {
        Optimizers {
            user: DenseOptimizer::new(training, weights.user.parameters().count()),
            item: DenseOptimizer::new(training, weights.item.parameters().count()),
            temperature: ScalarAdam::default(),
            moments: BTreeMap::new(),
            steps: 0,
        }
    }

    /// One step of the rows of a table that `gradients` touch, at the rate `rate`.
    pub fn step_table(
        &mut self,
        name: &str,
        table: &mut EmbeddingTable,
        gradients: &RowGradients,
        training: &Training,
        rate: f64,
    ) {
        let (learning_rate, epsilon, weight_decay) = (rate as f32, TABLE_EPSILON, training.table_decay as f32);
        match self.moments.get_mut(name) {
            None => table.apply(gradients, &RowwiseAdagrad { learning_rate, epsilon, weight_decay }),
            Some(moments) => {
                let adam = LazyAdam { learning_rate, betas: BETAS, epsilon, weight_decay, step: self.steps + 1 };
                table.apply_adam(gradients, moments, &adam);
            }
        }
    }

    /// Moments of a table in the places that its rows have now; those of new rows are zero.
    pub fn regrow(&mut self, table: &str, growth: &Growth, weights: &Weights) {
        if let (Some(moments), Some(table)) = (self.moments.get_mut(table), weights.tables.get(table)) {
            regrow(&mut moments.first, table.dim, growth);
            regrow(&mut moments.second, table.dim, growth);
        }
    }

    /// Writes the state to the bit, as a later run's start needs it: `user.0.moment_1` F32 … in the order of weights and
    /// biases, with the steps of each as U64; `table.NAME.moment_1` F32 … of tables under Adam; of the temperature moments and
    /// `temperature.inverse` as F64.
    pub async fn write(&self, weights: &Weights, files: &mut Files<'_>) -> Result<()> {
        let (mut moments, mut steps) = (Vec::new(), Vec::new());
        for (side, optimizer) in [("user", &self.user), ("item", &self.item)] {
            for (at, state) in optimizer.states.iter().enumerate() {
                let Some(AdamWState { momentum }) = state else { continue };
                for (name, moment) in [("moment_1", &momentum.moment_1), ("moment_2", &momentum.moment_2)] {
                    moments.push((format!("{side}.{at}.{name}"), moment.dims(), read(moment.clone())?));
                }
                steps.push((format!("{side}.{at}.steps"), [momentum.time as u64]));
            }
        }
        steps.push(("steps".into(), [self.steps]));
        steps.push(("temperature.steps".into(), [self.temperature.steps as u64]));
        let of_temperature = [self.temperature.moments.0, self.temperature.moments.1];
        let inverse = [weights.inv_temperature];
        let mut tensors = vec![
            Named::new("temperature.moments", &[2], Values::F64(&of_temperature)),
            Named::new("temperature.inverse", &[1], Values::F64(&inverse)),
        ];
        tensors.extend(steps.iter().map(|(name, steps)| Named::new(name, &[1], Values::U64(steps))));
        tensors.extend(moments.iter().map(|(name, shape, values)| Named::f32(name, shape, values)));
        for (name, moments) in &self.moments {
            let table = &weights.tables[name];
            let shape = [table.len(), table.dim];
            tensors.push(Named::f32(format!("table.{name}.moment_1"), &shape, &moments.first));
            tensors.push(Named::f32(format!("table.{name}.moment_2"), &shape, &moments.second));
        }
        files.tensors(keys::OPTIMIZER, tensors).await
    }

    /// Reads what [`Optimizers::write`] wrote for `weights`, whose temperature becomes exact.
    pub async fn read(store: &Store, entry: &FileEntry, training: &Training, weights: &mut Weights) -> Result<Self> {
        let mut file = tensors::read(store, entry, "train the model anew", |_| true).await?;
        let mut all = Optimizers::without_tables(training, weights);
        if training.table_optimizer == TableOptimizer::Adam {
            for (name, table) in &weights.tables {
                let mut moment = |of: &str| file.f32(&format!("table.{name}.{of}"), &[table.len(), table.dim]);
                let moments = Moments { first: moment("moment_1")?, second: moment("moment_2")? };
                all.moments.insert(name.clone(), moments);
            }
        }
        for (side, optimizer, dense) in [("user", &mut all.user, &weights.user), ("item", &mut all.item, &weights.item)]
        {
            for (at, (state, parameter)) in optimizer.states.iter_mut().zip(dense.parameters()).enumerate() {
                if !file.has(&format!("{side}.{at}.steps")) {
                    continue;
                }
                let [rows, cols] = parameter.dims();
                let mut moment = |name: &str| -> Result<Tensor<2>> {
                    let values = file.f32(&format!("{side}.{at}.{name}"), &[rows, cols])?;
                    Ok(tensor(values, cols, &parameter.device()))
                };
                let (moment_1, moment_2) = (moment("moment_1")?, moment("moment_2")?);
                let time = file.u64(&format!("{side}.{at}.steps"), &[1])?[0] as usize;
                *state = Some(AdamWState::new(AdaptiveMomentumState::new(time, moment_1, moment_2)));
            }
        }
        let moments = file.f64("temperature.moments", &[2])?;
        all.temperature =
            ScalarAdam { steps: file.u64("temperature.steps", &[1])?[0] as i32, moments: (moments[0], moments[1]) };
        all.steps = file.u64("steps", &[1])?[0];
        weights.inv_temperature = file.f64("temperature.inverse", &[1])?[0];
        Ok(all)
    }
}

/// The common norm of gradients.
pub fn norm<'a>(gradients: impl Iterator<Item = &'a Tensor<2>>) -> Result<f64> {
    let mut squares = 0.0;
    for gradient in gradients {
        let values = read(gradient.clone())?;
        squares += dot_f64(&values, &values);
    }
    Ok(squares.sqrt())
}

/// Rows of `cols` numbers as a tensor.
pub fn tensor(values: Vec<f32>, cols: usize, device: &burn::tensor::Device) -> Tensor<2> {
    let shape = [values.len() / cols, cols];
    Tensor::from_data(TensorData::new(values, shape), device)
}
