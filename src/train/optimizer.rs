//! The optimizers: AdamW for the dense layers and the temperature, row-wise Adagrad for the tables.

use std::collections::BTreeMap;

use burn::optim::{AdamW, AdamWConfig, AdamWState, Optimizer as _};
use burn::tensor::{Tensor, TensorData};

use crate::config::Training;
use crate::error::Result;
use crate::kernels::math::dot_f64;
use crate::kernels::tables::RowwiseAdagrad;
use crate::model::{Dense, Files, read};

const BETAS: (f64, f64) = (0.9, 0.999);
const ADAM_EPSILON: f64 = 1e-8;
/// FBGEMM's default.
const ADAGRAD_EPSILON: f32 = 1e-8;

/// AdamW over the dense parameters of one tower, in the order of [`Dense::parameters`].
#[derive(Clone)]
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
        for (at, (parameter, gradient)) in dense.parameters_mut().zip(gradients).enumerate() {
            let adam = if at % 2 == 0 { &self.weights } else { &self.biases };
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

/// All dense state, as the warm start of a later run needs it; that of the tables lies with their rows.
#[derive(Clone)]
pub struct Optimizers {
    pub user: DenseOptimizer,
    pub item: DenseOptimizer,
    pub temperature: ScalarAdam,
    /// Steps made so far.
    pub steps: u64,
}

impl Optimizers {
    pub fn new(training: &Training, user: &Dense, item: &Dense) -> Self {
        Optimizers {
            user: DenseOptimizer::new(training, user.layers.len() * 2),
            item: DenseOptimizer::new(training, item.layers.len() * 2),
            temperature: ScalarAdam::default(),
            steps: 0,
        }
    }

    /// Writes the state as safetensors: `user.0.moment_1` … in the order of weights and biases, and the steps of
    /// each. All counts are f32, exact up to 2^24 steps.
    pub async fn write(&self, name: &str, files: &mut Files<'_>) -> Result<()> {
        let mut tensors = BTreeMap::new();
        let temperature = [f64::from(self.temperature.steps), self.temperature.moments.0, self.temperature.moments.1];
        tensors.insert("temperature".to_string(), (vec![3], temperature.map(|value| value as f32).to_vec()));
        tensors.insert("steps".to_string(), (vec![1], vec![self.steps as f32]));
        for (side, optimizer) in [("user", &self.user), ("item", &self.item)] {
            for (at, state) in optimizer.states.iter().enumerate() {
                let Some(AdamWState { momentum }) = state else { continue };
                let shape = momentum.moment_1.dims().to_vec();
                tensors.insert(format!("{side}.{at}.moment_1"), (shape.clone(), read(momentum.moment_1.clone())?));
                tensors.insert(format!("{side}.{at}.moment_2"), (shape, read(momentum.moment_2.clone())?));
                tensors.insert(format!("{side}.{at}.steps"), (vec![1], vec![momentum.time as f32]));
            }
        }
        files.tensors(name, &tensors).await
    }
}

/// Learning rates of one step.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    pub dense: f64,
    pub tables: f64,
}

impl Rates {
    /// They rise over the first steps, then stay.
    pub fn at(training: &Training, step: u64) -> Rates {
        let rate = &training.learning_rate;
        let warm = if rate.warmup_steps == 0 { 1.0 } else { ((step + 1) as f64 / rate.warmup_steps as f64).min(1.0) };
        Rates { dense: rate.dense * warm, tables: rate.tables * warm }
    }

    pub fn adagrad(&self, training: &Training) -> RowwiseAdagrad {
        RowwiseAdagrad {
            learning_rate: self.tables as f32,
            epsilon: ADAGRAD_EPSILON,
            weight_decay: training.table_decay as f32,
        }
    }
}

/// What all gradients are multiplied by so that their common norm is at most `clip` (0 is no limit).
pub fn clip_scale<'a>(gradients: impl Iterator<Item = &'a Tensor<2>>, clip: f64) -> Result<f64> {
    if clip == 0.0 {
        return Ok(1.0);
    }
    let mut squares = 0.0;
    for gradient in gradients {
        let values = read(gradient.clone())?;
        squares += dot_f64(&values, &values);
    }
    Ok(if squares.sqrt() > clip { clip / squares.sqrt() } else { 1.0 })
}

/// Rows of numbers as a tensor.
pub fn tensor(values: Vec<f32>, rows: usize, cols: usize, device: &burn::tensor::Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, [rows, cols]), device)
}
