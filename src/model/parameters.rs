//! The parameters of a tower: which there are, under which names, and how each starts.

use std::ops::Range;

use crate::config::Activation;
use crate::error::Result;
use crate::features::{LayerSpec, NormalizationSpec, TowerSpec};
use crate::kernels::tables::{EmbeddingTable, RowInit};

/// One tensor of towers.safetensors.
#[derive(Clone, Debug)]
pub struct Described {
    pub name: String,
    /// [inputs, outputs], or one dimension.
    pub shape: Vec<usize>,
    /// Whether weight decay pulls it to zero.
    pub decays: bool,
    pub start: Start,
}

/// What a parameter starts from.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    All(f32),
    /// Uniform with the variance `gain / 3 / inputs`; `salt` tells parameters of one seed apart.
    Uniform {
        gain: f32,
        salt: u64,
    },
}

impl Start {
    pub fn values(self, shape: &[usize], seed: u64) -> Vec<f32> {
        match self {
            Start::All(value) => vec![value; shape.iter().product()],
            Start::Uniform { gain, salt } => {
                let scale = (gain / shape[0] as f32).sqrt();
                let init = RowInit { seed: seed.wrapping_add(salt), scale, accumulator: 0.0 };
                EmbeddingTable::new(shape[0], shape[1], &init).rows
            }
        }
    }
}

/// Where the parameters of a tower stand among all of its own.
#[derive(Debug)]
pub struct Plan {
    /// Those that are learned.
    pub learned: Vec<Described>,
    /// Running statistics of normalisation: mean and variance of each layer that has them, then the count of batches.
    pub statistics: Vec<Described>,
    /// By layer: where its scale and shift stand.
    pub norms: Vec<Option<usize>>,
    /// By layer: where its mean, variance and count stand among the statistics.
    pub running: Vec<Option<usize>>,
    /// Where the two layers of gating begin.
    pub gating: Option<usize>,
    /// By feature: where the weight and bias of attention stand.
    pub attention: Vec<Option<usize>>,
    /// The part of `learned` that the autodiff graph has: all but attention.
    pub in_graph: Range<usize>,
}

impl Plan {
    /// The order, and so the optimizer's: weights and biases of the layers, scales and shifts, gating, attention.
    pub fn new(tower: &TowerSpec) -> Plan {
        let mut learned = Vec::new();
        for (at, layer) in tower.layers.iter().enumerate() {
            learned.extend(layer_parameters(layer, at as u64));
        }
        let (mut norms, mut running, mut statistics) = (Vec::new(), Vec::new(), Vec::new());
        for layer in &tower.layers {
            let plain = |name: &String, start: f32| described(name, &[layer.outputs], Start::All(start));
            let Some(spec) = &layer.normalization else {
                norms.push(None);
                running.push(None);
                continue;
            };
            let (NormalizationSpec::Layer { scale, shift, .. } | NormalizationSpec::Batch { scale, shift, .. }) = spec;
            norms.push(Some(learned.len()));
            learned.extend([plain(scale, 1.0), plain(shift, 0.0)]);
            running.push(match spec {
                NormalizationSpec::Layer { .. } => None,
                NormalizationSpec::Batch { mean, variance, batches, .. } => {
                    statistics.extend([plain(mean, 0.0), plain(variance, 1.0)]);
                    statistics.push(described(batches, &[1], Start::All(0.0)));
                    Some(statistics.len() - 3)
                }
            });
        }
        let gating = tower.gating.as_ref().map(|gating| {
            let at = learned.len();
            learned.extend(layer_parameters(&gating.squeeze, 1 << 20));
            // all factors start at 1: 2 sigmoid(0)
            let mut excite = layer_parameters(&gating.excite, 0);
            excite[0].start = Start::All(0.0);
            learned.extend(excite);
            at
        });
        let in_graph = 0..learned.len();
        let attention = tower.features.iter().map(|feature| {
            feature.encoding.attention().map(|spec| {
                // zeros give equal shares: it starts as the mean
                let weight = described(&spec.weight, &[feature.width], Start::All(0.0));
                learned.push(Described { decays: true, ..weight });
                learned.push(described(&spec.bias, &[spec.positions], Start::All(0.0)));
                learned.len() - 2
            })
        });
        let attention = attention.collect();
        Plan { learned, statistics, norms, running, gating, attention, in_graph }
    }

    /// The values of all parameters, learned ones and statistics, each from `values`.
    pub fn collect(&self, values: &mut dyn FnMut(&Described) -> Result<Vec<f32>>) -> Result<[Vec<Vec<f32>>; 2]> {
        let learned = self.learned.iter().map(&mut *values).collect::<Result<_>>()?;
        Ok([learned, self.statistics.iter().map(values).collect::<Result<_>>()?])
    }
}

/// Weights before a rectifier have the variance 2 / inputs (He et al. 2015), others 1 / inputs; biases start at 0.
fn layer_parameters(layer: &LayerSpec, salt: u64) -> [Described; 2] {
    let rectified = matches!(layer.activation, Some(Activation::Relu | Activation::LeakyRelu));
    let start = Start::Uniform { gain: if rectified { 6.0 } else { 3.0 }, salt };
    let weight = described(&layer.weight, &[layer.inputs, layer.outputs], start);
    [Described { decays: true, ..weight }, described(&layer.bias, &[layer.outputs], Start::All(0.0))]
}

fn described(name: &str, shape: &[usize], start: Start) -> Described {
    Described { name: name.to_string(), shape: shape.to_vec(), decays: false, start }
}
