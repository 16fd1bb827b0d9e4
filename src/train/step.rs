//! One training step, from a batch to changed weights.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use rayon::prelude::*;

use super::batches::Batch;
use super::decay;
use super::optimizer::{Optimizers, norm, tensor};
use super::pass::Pass;
use super::schedule::Rates;
use super::trained::Trained;
use crate::config::{Config, LEARNED_TEMPERATURES, LossKind, Training};
use crate::error::Result;
use crate::features::{FeatureSpec, Side};
use crate::kernels::layers::LayersKernel;
use crate::kernels::math::normalize_rows_backward;
use crate::kernels::pooling::Scatter;
use crate::kernels::softmax::{Loss, SoftmaxInputs, SoftmaxKernel, SoftmaxOutputs};
use crate::kernels::tables::EmbeddingTable;
use crate::model::{Dropout, Input, Weights};

/// Where the time of the steps went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Profile {
    pub gather: Duration,
    pub forward: Duration,
    pub softmax: Duration,
    pub backward: Duration,
    pub dense_update: Duration,
    pub table_update: Duration,
}

/// The weights with all that changes them.
pub struct Trainer<'a> {
    config: &'a Config,
    spec: &'a FeatureSpec,
    device: Device,
    /// First and last step of this training, for the schedule of the rates.
    span: Range<u64>,
    pub weights: Weights,
    pub optimizers: Optimizers,
    pub profile: Profile,
    /// Norm of the last step's dense gradient before it was clipped; none without `training.clip`.
    pub gradient_norm: Option<f64>,
    kernel: SoftmaxKernel,
    outputs: SoftmaxOutputs,
    inputs: [Input; 2],
    layers: [LayersKernel; 2],
    /// By table, in the order of [`Weights::tables`].
    scatters: BTreeMap<String, Scatter>,
}

impl<'a> Trainer<'a> {
    /// Fresh weights, for a training of `total` steps.
    pub fn new(config: &'a Config, spec: &'a FeatureSpec, device: Device, total: u64) -> Self {
        let weights = Weights::new(spec, config.training.seed, config.model.temperature, &device);
        let optimizers = Optimizers::new(&config.training, &weights);
        Trainer::with(config, spec, device, 0..total, Trained { weights, optimizers })
    }

    /// Goes on from weights and the state of their optimizers, for the steps `span` of all that they have made and are to make.
    pub fn with(
        config: &'a Config,
        spec: &'a FeatureSpec,
        device: Device,
        span: Range<u64>,
        Trained { weights, optimizers }: Trained,
    ) -> Self {
        weights.tables.values().for_each(EmbeddingTable::settle);
        let scatters = weights.tables.keys().map(|name| (name.clone(), Scatter::new())).collect();
        Trainer {
            config,
            spec,
            device,
            span,
            weights,
            optimizers,
            profile: Profile::default(),
            gradient_norm: None,
            kernel: SoftmaxKernel::new(),
            outputs: SoftmaxOutputs::default(),
            inputs: Default::default(),
            layers: Default::default(),
            scatters,
        }
    }

    /// Learns from one batch; returns its loss in nats.
    pub fn step(&mut self, batch: &Batch) -> Result<f64> {
        let training = &self.config.training;
        let rates = self.rates();
        let (user, item) = self.forward(batch)?;
        timed(&mut self.profile.softmax, || {
            self.kernel
                .run(&softmax_inputs(batch, &self.weights, self.spec.dim, training, &user, &item), &mut self.outputs);
        });
        if !self.outputs.loss.is_finite() {
            return Ok(self.outputs.loss);
        }
        let (user_input, item_input) = self.backward(user, item, batch, training)?;
        self.update_tables(batch, &user_input, &item_input, rates.tables);
        if self.config.model.learn_temperature {
            let inverse = self.weights.inv_temperature;
            let change = self.optimizers.temperature.step(self.outputs.d_inv_temperature * inverse, rates.dense);
            let (least, most) = (1.0 / LEARNED_TEMPERATURES.end(), 1.0 / LEARNED_TEMPERATURES.start());
            self.weights.inv_temperature = (inverse * change.exp()).clamp(least, most);
        }
        self.optimizers.steps += 1;
        Ok(self.outputs.loss)
    }

    /// Learning rates of the next step.
    pub fn rates(&self) -> Rates {
        Rates::at(&self.config.training, self.optimizers.steps - self.span.start, self.span.end - self.span.start)
    }

    /// Losses of the rows of the last batch.
    pub fn row_losses(&self) -> &[f32] {
        &self.outputs.row_losses
    }

    /// Both towers at once, as much of what a layer does goes on one thread; and beside them what the way back to the tables needs.
    fn forward(&mut self, batch: &Batch) -> Result<(Pass, Pass)> {
        let Trainer { weights, inputs, layers: [of_user, of_item], scatters, .. } = self;
        let [user_rows, item_rows] = timed(&mut self.profile.gather, || -> Result<_> {
            let [user, item] = &mut *inputs;
            let user = user.rows(&self.spec.user, &weights.user, &weights.tables, &batch.users)?;
            Ok([user, item.rows(&self.spec.item, &weights.item, &weights.tables, &batch.items)?])
        })?;
        let started = Instant::now();
        let pass = |side, dense, kernel, rows, count| {
            let shape = match side {
                Side::User => &self.config.model.user_tower,
                Side::Item => &self.config.model.item_tower,
            };
            let seed = super::random::bits(self.config.training.seed, &[5, self.optimizers.steps, side as u64]);
            let dropout = Dropout { share: shape.dropout, seed };
            Pass::forward(dense, kernel, rows, count, dropout, self.spec, &self.device)
        };
        let towers = || {
            rayon::join(
                || pass(Side::User, &weights.user, of_user, user_rows, batch.users.rows),
                || pass(Side::Item, &weights.item, of_item, item_rows, batch.items.rows),
            )
        };
        let ((user, item), ()) = rayon::join(towers, || plan(batch, self.spec, inputs, &weights.tables, scatters));
        let ((user, of_user), (item, of_item)) = (user?, item?);
        weights.user.take_in(of_user, batch.users.rows)?;
        weights.item.take_in(of_item, batch.items.rows)?;
        self.profile.forward += started.elapsed();
        Ok((user, item))
    }

    /// Changes the dense layers; returns the gradients of both towers' input rows.
    fn backward(&mut self, user: Pass, item: Pass, batch: &Batch, training: &Training) -> Result<(Vec<f32>, Vec<f32>)> {
        let started = Instant::now();
        let dim = self.spec.dim;
        let (mut d_user, mut d_item) =
            (std::mem::take(&mut self.outputs.d_users), std::mem::take(&mut self.outputs.d_items));
        if training.vector_decay > 0.0 {
            let (users, items) = ((&user.vectors[..], &mut d_user[..]), (&item.vectors[..], &mut d_item[..]));
            decay::add(training, batch, dim, users, items);
        }
        if self.spec.normalize {
            normalize_rows_backward(&mut d_user, &user.vectors, dim, &user.norms);
            normalize_rows_backward(&mut d_item, &item.vectors, dim, &item.norms);
        }
        let (device, [of_user, of_item]) = (&self.device, &mut self.layers);
        // two graphs that share no node, so that neither waits for the lock that burn holds on the other
        let (of_user, of_item) =
            rayon::join(|| user.backward(of_user, d_user, dim, device), || item.backward(of_item, d_item, dim, device));
        let ((d_user, mut of_user), (d_item, mut of_item)) = (of_user?, of_item?);
        let [user_input, item_input] = &mut self.inputs;
        for (input, tower, features, d_input, of_layers) in [
            (user_input, &self.spec.user, &batch.users, &d_user, &mut of_user),
            (item_input, &self.spec.item, &batch.items, &d_item, &mut of_item),
        ] {
            let of_attention = input.attention_gradients(tower, &self.weights.tables, features, d_input);
            of_layers.extend(of_attention.into_iter().map(|gradient| {
                let cols = gradient.len();
                tensor(gradient, cols, device)
            }));
        }
        self.profile.backward += started.elapsed();
        let started = Instant::now();
        let rate = self.rates().dense;
        self.gradient_norm = (training.clip > 0.0).then(|| norm(of_user.iter().chain(&of_item))).transpose()?;
        let scale = self.gradient_norm.filter(|norm| *norm > training.clip).map_or(1.0, |norm| training.clip / norm);
        self.optimizers.user.step(&mut self.weights.user, of_user, scale, rate);
        self.optimizers.item.step(&mut self.weights.item, of_item, scale, rate);
        self.profile.dense_update += started.elapsed();
        Ok((d_user, d_item))
    }

    fn update_tables(&mut self, batch: &Batch, d_user: &[f32], d_item: &[f32], rate: f64) {
        let started = Instant::now();
        for ((name, table), scatter) in self.weights.tables.iter_mut().zip(self.scatters.values_mut()) {
            let mut sources = self.inputs[0].table_gradients(&self.spec.user, &batch.users, name, d_user);
            sources.extend(self.inputs[1].table_gradients(&self.spec.item, &batch.items, name, d_item));
            let gradients = scatter.gradients(table, &sources);
            self.optimizers.step_table(name, table, &gradients, &self.config.training, rate);
        }
        self.profile.table_update += started.elapsed();
    }
}

/// Finds the rows of each table that the batch has read.
fn plan(
    batch: &Batch,
    spec: &FeatureSpec,
    [user, item]: &[Input; 2],
    tables: &BTreeMap<String, EmbeddingTable>,
    scatters: &mut BTreeMap<String, Scatter>,
) {
    scatters.par_iter_mut().for_each(|(name, scatter)| {
        let mut bags = user.table_bags(&spec.user, &batch.users, name);
        bags.extend(item.table_bags(&spec.item, &batch.items, name));
        scatter.plan(tables[name].len(), &bags);
    });
}

fn softmax_inputs<'b>(
    batch: &'b Batch,
    weights: &Weights,
    dim: usize,
    training: &Training,
    user: &'b Pass,
    item: &'b Pass,
) -> SoftmaxInputs<'b> {
    SoftmaxInputs {
        loss: loss(&training.loss),
        dim,
        users: &user.vectors,
        items: &item.vectors,
        log_q: &batch.log_q,
        positives: &batch.positives,
        positive_log_q: &batch.positive_log_q,
        hard: (&batch.hard).into(),
        hard_weight: training.hard_weight,
        in_batch: batch.in_batch,
        hardest: batch.hardest,
        hardest_weight: training.online_hard_weight,
        masked: (&batch.masked).into(),
        inv_temperature: weights.inv_temperature as f32,
        weights: batch.weights.as_deref(),
    }
}

fn loss(loss: &crate::config::Loss) -> Loss {
    let (margin, negative_weight) = (loss.margin() as f32, loss.negative_weight() as f32);
    match loss.kind {
        LossKind::Softmax => Loss::Softmax,
        LossKind::CosineContrastive => Loss::CosineContrastive { margin, negative_weight },
        LossKind::Bpr => Loss::Bpr,
        LossKind::Triplet => Loss::Triplet { margin },
        LossKind::BinaryCrossEntropy => Loss::BinaryCrossEntropy { negative_weight },
    }
}

fn timed<T>(total: &mut Duration, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    *total += started.elapsed();
    result
}
