//! The dense part of one tower.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData, activation};

use super::dropout::Dropout;
use super::parameters::{Described, Plan};
use super::towers::read;
use crate::config::Activation;
use crate::error::Result;
use crate::features::{LayerSpec, NormalizationSpec, TowerSpec};
use crate::kernels::layers::Layer;

/// Slope of `leaky_relu` below 0.
const LEAK: f64 = 0.01;
/// Share that a batch has in the running statistics (PyTorch's default), once there were as many batches as that makes.
const RUNNING_SHARE: f32 = 0.1;

/// Gating, then layers `y = activation(normalization(x W + b))`, to which `x` is added where the layer says so; no layers are
/// the identity. With it stands what attention pooling has learned, which is used before, where the input is made.
#[derive(Clone, Debug)]
pub struct Dense {
    tower: Arc<TowerSpec>,
    plan: Arc<Plan>,
    /// In the order of the plan: [inputs, outputs] or [1, n].
    learned: Vec<Tensor<2>>,
    statistics: Vec<Tensor<2>>,
}

/// What attention pooling of one feature has learned.
#[derive(Debug, Clone)]
pub struct LearnedAttention {
    /// `[dim]`.
    pub weight: Vec<f32>,
    /// `[positions]`.
    pub bias: Vec<f32>,
}

/// Mean and variance of the layers with batch normalisation in one batch, [1, outputs] each.
pub type BatchStatistics = Vec<(Tensor<2>, Tensor<2>)>;

/// A tensor's name in towers.safetensors, its shape, and its values.
type NamedValues<'a> = (&'a str, &'a [usize], Vec<f32>);

impl Dense {
    pub fn new(tower: &TowerSpec, seed: u64, device: &Device) -> Self {
        let fresh = |described: &Described| described.start.values(&described.shape, seed);
        let plan = Plan::new(tower);
        let learned = plan.learned.iter().map(fresh).collect();
        let statistics = plan.statistics.iter().map(fresh).collect();
        Dense::with(tower, plan, [learned, statistics], device)
    }

    /// With the values that `values` has for each name and shape.
    pub fn from_values(
        tower: &TowerSpec,
        device: &Device,
        mut values: impl FnMut(&str, &[usize]) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let plan = Plan::new(tower);
        let all = plan.collect(&mut |described| values(&described.name, &described.shape))?;
        Ok(Dense::with(tower, plan, all, device))
    }

    fn with(tower: &TowerSpec, plan: Plan, [learned, statistics]: [Vec<Vec<f32>>; 2], device: &Device) -> Self {
        let tensors = |described: &[Described], values: Vec<Vec<f32>>| {
            let one = |(described, values): (&Described, Vec<f32>)| {
                let shape = match described.shape[..] {
                    [rows, cols] => [rows, cols],
                    _ => [1, values.len()],
                };
                Tensor::from_data(TensorData::new(values, shape), device)
            };
            described.iter().zip(values).map(one).collect()
        };
        let (learned, statistics) = (tensors(&plan.learned, learned), tensors(&plan.statistics, statistics));
        Dense { tower: Arc::new(tower.clone()), plan: Arc::new(plan), learned, statistics }
    }

    /// Whether the input is the output.
    pub fn is_empty(&self) -> bool {
        self.tower.layers.is_empty()
    }

    /// Name, shape and values of all that a model's file has of it.
    pub fn tensors(&self) -> Result<Vec<NamedValues<'_>>> {
        let described = self.plan.learned.iter().zip(&self.learned);
        let all = described.chain(self.plan.statistics.iter().zip(&self.statistics));
        all.map(|(described, value)| Ok((&described.name[..], &described.shape[..], read(value.clone())?))).collect()
    }

    /// The layers as the kernel has them that runs them on the CPU, where all are `y = activation(x W + b)` with an activation that bends
    /// at 0 or none; burn has all others, and those on other devices.
    pub fn plain_layers(&self) -> Result<Option<Vec<Layer>>> {
        let slope = |layer: &LayerSpec| match layer.activation {
            _ if layer.normalization.is_some() || layer.residual => None,
            None => Some(1.0),
            Some(Activation::Relu) => Some(0.0),
            Some(Activation::LeakyRelu) => Some(LEAK as f32),
            Some(Activation::Gelu | Activation::Tanh | Activation::Silu) => None,
        };
        let slopes: Option<Vec<f32>> = self.tower.layers.iter().map(slope).collect();
        let Some(slopes) = slopes.filter(|slopes| !slopes.is_empty() && self.tower.gating.is_none()) else {
            return Ok(None);
        };
        if self.learned[0].device() != Device::flex() {
            return Ok(None);
        }
        let layer = |(slope, parameters): (f32, &[Tensor<2>])| -> Result<Layer> {
            Ok(Layer::new(read(parameters[0].clone())?, read(parameters[1].clone())?, slope))
        };
        slopes.into_iter().zip(self.learned.chunks_exact(2)).map(layer).collect::<Result<_>>().map(Some)
    }

    /// [batch, width] -> [batch, dim], not normalised.
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        self.run(input, None, None)
    }

    /// The same while training: with dropout, and with the batch's own statistics, which are returned.
    pub fn forward_training(&self, input: Tensor<2>, dropout: Dropout) -> (Tensor<2>, BatchStatistics) {
        let mut statistics = Vec::new();
        let end = self.run(input, Some(dropout), Some(&mut statistics));
        (end, statistics)
    }

    fn run(&self, input: Tensor<2>, dropout: Option<Dropout>, mut training: Option<&mut BatchStatistics>) -> Tensor<2> {
        let mut x = self.gated(input);
        for (at, layer) in self.tower.layers.iter().enumerate() {
            let before = layer.residual.then(|| x.clone());
            x = self.linear(x, 2 * at);
            if let Some(spec) = &layer.normalization {
                x = self.normalized(x, spec, at, training.as_deref_mut());
            }
            x = activated(x, layer.activation);
            if let (Some(dropout), Some(_)) = (dropout.filter(|dropout| dropout.share > 0.0), layer.activation) {
                let [rows, cols] = x.dims();
                x = x.clone() * dropout.mask(at, rows, cols, &x.device());
            }
            if let Some(before) = before {
                x = x + before;
            }
        }
        x
    }

    /// `x W + b`, with the two parameters at `at`.
    fn linear(&self, x: Tensor<2>, at: usize) -> Tensor<2> {
        x.matmul(self.learned[at].clone()) + self.learned[at + 1].clone()
    }

    fn gated(&self, x: Tensor<2>) -> Tensor<2> {
        let (Some(at), Some(spec)) = (self.plan.gating, &self.tower.gating) else { return x };
        let (mean, spread) = self.blocks(&x.device());
        let squeezed = activated(self.linear(x.clone().matmul(mean), at), spec.squeeze.activation);
        let factors = activation::sigmoid(self.linear(squeezed, at + 2)).mul_scalar(2.0);
        x * factors.matmul(spread)
    }

    /// The mean over each feature's columns as a matrix [width, features], and its spread over them [features, width].
    fn blocks(&self, device: &Device) -> (Tensor<2>, Tensor<2>) {
        let (width, features) = (self.tower.width, &self.tower.features);
        let (mut mean, mut spread) = (vec![0.0f32; width * features.len()], vec![0.0f32; width * features.len()]);
        for (at, feature) in features.iter().enumerate() {
            for column in feature.offset..feature.offset + feature.width {
                mean[column * features.len() + at] = 1.0 / feature.width as f32;
                spread[at * width + column] = 1.0;
            }
        }
        let tensor = |values, shape: [usize; 2]| Tensor::from_data(TensorData::new(values, shape), device);
        (tensor(mean, [width, features.len()]), tensor(spread, [features.len(), width]))
    }

    fn normalized(
        &self,
        x: Tensor<2>,
        spec: &NormalizationSpec,
        layer: usize,
        training: Option<&mut BatchStatistics>,
    ) -> Tensor<2> {
        let moments = |x: &Tensor<2>, along: usize| {
            let mean = x.clone().mean_dim(along);
            let away = x.clone() - mean.clone();
            let variance = (away.clone() * away.clone()).mean_dim(along);
            (mean, away, variance)
        };
        let (away, variance, epsilon) = match (spec, self.plan.running[layer], training) {
            (NormalizationSpec::Batch { epsilon, .. }, Some(at), None) => {
                (x - self.statistics[at].clone(), self.statistics[at + 1].clone(), *epsilon)
            }
            (NormalizationSpec::Batch { epsilon, .. }, _, training) => {
                let (mean, away, variance) = moments(&x, 0);
                training.into_iter().for_each(|found| found.push((mean.clone(), variance.clone())));
                (away, variance, *epsilon)
            }
            (NormalizationSpec::Layer { epsilon, .. }, ..) => {
                let (_, away, variance) = moments(&x, 1);
                (away, variance, *epsilon)
            }
        };
        let x = away / variance.add_scalar(epsilon).sqrt();
        match self.plan.norms[layer] {
            Some(at) => x * self.learned[at].clone() + self.learned[at + 1].clone(),
            None => x,
        }
    }

    /// Takes the statistics of a training batch of `rows` rows into the running ones: each of the first batches has the same
    /// share, later ones a tenth. The variance of a single row says nothing and is left out.
    pub fn take_in(&mut self, found: BatchStatistics, rows: usize) -> Result<()> {
        if rows < 2 {
            return Ok(());
        }
        let unbiased = rows as f64 / (rows - 1) as f64;
        for (at, (mean, variance)) in self.plan.running.iter().flatten().zip(found) {
            let batches = read(self.statistics[at + 2].clone())?[0];
            let share = (1.0 / (batches + 1.0)).max(RUNNING_SHARE);
            let variance = variance.without_autodiff().mul_scalar(unbiased);
            for (place, new) in [(*at, mean.without_autodiff()), (at + 1, variance)] {
                let old = self.statistics[place].clone();
                self.statistics[place] = old.clone() + (new - old).mul_scalar(share);
            }
            self.statistics[at + 2] = self.statistics[at + 2].clone().add_scalar(1.0);
        }
        Ok(())
    }

    /// The same values as leaves of an autodiff graph.
    pub fn leaves(&self) -> Dense {
        let leaf = |tensor: &Tensor<2>| tensor.clone().autodiff().require_grad();
        let statistics = self.statistics.iter().map(|tensor| tensor.clone().autodiff()).collect();
        Dense { learned: self.learned.iter().map(leaf).collect(), statistics, ..self.clone() }
    }

    /// All that is learned: weights and biases in the order of the layers first, then scales and shifts, gating, attention.
    pub fn parameters(&self) -> impl Iterator<Item = &Tensor<2>> {
        self.learned.iter()
    }

    /// Those of them that [`Dense::forward`] uses: all but attention, which comes last.
    pub fn graph_parameters(&self) -> impl Iterator<Item = &Tensor<2>> {
        self.learned[self.plan.in_graph.clone()].iter()
    }

    /// All that is learned, to be changed.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Tensor<2>> {
        self.learned.iter_mut()
    }

    /// Whether weight decay takes hold of each: of weights, not of biases, scales and shifts.
    pub fn decays(&self) -> Vec<bool> {
        self.plan.learned.iter().map(|described| described.decays).collect()
    }

    /// By feature of the tower: what its attention pooling has learned.
    pub fn attention(&self) -> Result<Vec<Option<LearnedAttention>>> {
        let of = |at: &Option<usize>| {
            let values = |at: usize| read(self.learned[at].clone());
            at.map(|at| Ok(LearnedAttention { weight: values(at)?, bias: values(at + 1)? })).transpose()
        };
        self.plan.attention.iter().map(of).collect()
    }
}

fn activated(x: Tensor<2>, by: Option<Activation>) -> Tensor<2> {
    match by {
        Some(Activation::Relu) => activation::relu(x),
        Some(Activation::Gelu) => activation::gelu(x),
        Some(Activation::Tanh) => activation::tanh(x),
        Some(Activation::LeakyRelu) => activation::leaky_relu(x, LEAK),
        Some(Activation::Silu) => activation::silu(x),
        None => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Combine;
    use crate::kernels::layers::LayersKernel;

    fn tower(normalization: NormalizationSpec) -> TowerSpec {
        let mut layer = LayerSpec::new("user.0", 2, 2);
        layer.normalization = Some(normalization);
        TowerSpec { combine: Combine::Concat, width: 2, features: Vec::new(), gating: None, layers: vec![layer] }
    }

    #[test]
    fn batch_normalisation_uses_the_statistics_of_training_afterwards() {
        let name = |what: &str| what.to_string();
        let (scale, shift, epsilon) = (name("scale"), name("shift"), 0.0);
        let batch = NormalizationSpec::Batch {
            scale,
            shift,
            mean: name("m"),
            variance: name("v"),
            batches: name("n"),
            epsilon,
        };
        let device = Device::flex();
        let identity = |name: &str, shape: &[usize]| match name {
            "user.0.weight" => Ok(vec![1.0, 0.0, 0.0, 1.0]),
            "scale" | "v" => Ok(vec![1.0; 2]),
            _ => Ok(vec![0.0; shape.iter().product()]),
        };
        let mut dense = Dense::from_values(&tower(batch), &device, identity).unwrap();
        let tensor =
            |values: &[f32]| Tensor::<2>::from_data(TensorData::new(values.to_vec(), [values.len() / 2, 2]), &device);
        let none = Dropout { share: 0.0, seed: 0 };
        for values in [[1.0, 10.0, 3.0, 30.0], [2.0, 20.0, 6.0, 60.0]] {
            let (end, statistics) = dense.leaves().forward_training(tensor(&values).autodiff(), none);
            let end = read(end.without_autodiff()).unwrap();
            assert!(end.iter().zip([-1.0, -1.0, 1.0, 1.0]).all(|(a, b)| (a - b).abs() < 1e-5), "{end:?}");
            dense.take_in(statistics, 2).unwrap();
        }
        let (_, of_one) = dense.forward_training(tensor(&[9.0, 9.0]), none);
        dense.take_in(of_one, 1).unwrap();
        // the two batches have means 2 and 4, variances (of the sample) 2 and 8
        let found = read(dense.forward(tensor(&[3.0, 30.0, 4.0, 30.0]))).unwrap();
        let expected = [0.0, 0.0, 1.0 / 5f32.sqrt(), 0.0];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}");
        let names: Vec<String> = dense.tensors().unwrap().into_iter().map(|(name, ..)| name.to_string()).collect();
        assert_eq!(names, ["user.0.weight", "user.0.bias", "scale", "shift", "m", "v", "n"]);
        assert_eq!(dense.tensors().unwrap()[6].2, [2.0]);
    }

    #[test]
    fn hidden_values_are_dropped_while_training_and_all_stay_afterwards() {
        let mut hidden = LayerSpec::new("user.0", 2, 2);
        hidden.activation = Some(Activation::Relu);
        let layers = vec![hidden, LayerSpec::new("user.1", 2, 2)];
        let tower = TowerSpec { combine: Combine::Concat, width: 2, features: Vec::new(), gating: None, layers };
        let identity = |name: &str, _: &[usize]| match name.ends_with("weight") {
            true => Ok(vec![1.0, 0.0, 0.0, 1.0]),
            false => Ok(vec![0.0; 2]),
        };
        let device = Device::flex();
        let dense = Dense::from_values(&tower, &device, identity).unwrap();
        let values: Vec<f32> = (1..=400).map(|at| at as f32).collect();
        let input = || Tensor::<2>::from_data(TensorData::new(values.clone(), [200, 2]), &device);
        let trained = |share: f64, seed: u64| read(dense.forward_training(input(), Dropout { share, seed }).0).unwrap();
        let found = trained(0.25, 3);
        let dropped = found.iter().filter(|value| **value == 0.0).count();
        assert!((70..130).contains(&dropped), "{dropped} of 400 values");
        // what stays makes up for what does not; the last layer drops nothing more
        let kept = found.iter().zip(&values).filter(|(found, _)| **found != 0.0);
        kept.for_each(|(found, value)| assert!((found - value / 0.75).abs() < 1e-3, "{found} of {value}"));
        assert_eq!(trained(0.25, 3), found);
        assert_ne!(trained(0.25, 4), found);
        assert_eq!(trained(0.0, 3), values);
        assert_eq!(read(dense.forward(input())).unwrap(), values);
    }

    #[test]
    fn layer_normalisation_looks_at_each_row_alone() {
        let layer = NormalizationSpec::Layer { scale: "scale".into(), shift: "shift".into(), epsilon: 1e-5 };
        let dense = Dense::new(&tower(layer), 3, &Device::flex());
        let tensor = |values: &[f32]| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), [values.len() / 2, 2]), &Device::flex())
        };
        let two = read(dense.forward(tensor(&[3.0, -1.0, 0.5, 7.0]))).unwrap();
        assert_eq!(two[..2], read(dense.forward(tensor(&[3.0, -1.0]))).unwrap());
        assert!((two[0] + two[1]).abs() < 1e-5 && (two[0].abs() - 1.0).abs() < 1e-2, "{two:?}");
    }

    #[test]
    fn plain_layers_give_with_the_kernel_what_they_give_in_burn() {
        let device = Device::flex();
        let of = |activation, change: fn(&mut LayerSpec)| {
            let mut hidden = LayerSpec::new("user.0", 6, 20);
            hidden.activation = activation;
            change(&mut hidden);
            let layers = vec![hidden, LayerSpec::new("user.1", 20, 3)];
            let tower = TowerSpec { combine: Combine::Concat, width: 6, features: Vec::new(), gating: None, layers };
            Dense::new(&tower, 5, &device)
        };
        let values: Vec<f32> = (0..6 * 50).map(|at| (at as f32 * 0.37).sin()).collect();
        for activation in [None, Some(Activation::Relu), Some(Activation::LeakyRelu)] {
            let dense = of(activation, |_| ());
            let layers = dense.plain_layers().unwrap().expect("they are plain");
            let found = LayersKernel::new().forward(&layers, &values);
            let input = Tensor::from_data(TensorData::new(values.clone(), [50, 6]), &device);
            let expected = read(dense.forward(input)).unwrap();
            assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{activation:?}");
        }
        let layer_norm = NormalizationSpec::Layer { scale: "scale".into(), shift: "shift".into(), epsilon: 1e-5 };
        for dense in [
            of(Some(Activation::Gelu), |_| ()),
            of(Some(Activation::Relu), |layer| layer.residual = true),
            Dense::new(&tower(layer_norm), 3, &device),
        ] {
            assert!(dense.plain_layers().unwrap().is_none());
        }
    }
}
