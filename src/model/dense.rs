//! The dense layers of one tower.

use burn::tensor::{Device, Tensor, TensorData, activation};

use crate::config::Activation;
use crate::features::LayerSpec;
use crate::kernels::tables::{EmbeddingTable, RowInit};

/// Layers `y = activation(x W + b)`; none of them is the identity.
#[derive(Clone, Debug)]
pub struct Dense {
    pub layers: Vec<Layer>,
}

#[derive(Clone, Debug)]
pub struct Layer {
    /// [inputs, outputs].
    pub weight: Tensor<2>,
    /// [1, outputs].
    pub bias: Tensor<2>,
    activation: Option<Activation>,
}

/// Sets hidden values to zero while training; which ones is a function of the seed alone.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    pub share: f64,
    pub seed: u64,
}

impl Dense {
    /// Fresh weights: uniform with the variance 2 / inputs before a rectifier (He et al. 2015) and 1 / inputs
    /// elsewhere; biases 0.
    pub fn new(layers: &[LayerSpec], seed: u64, device: &Device) -> Self {
        let fresh = |(at, spec): (usize, &LayerSpec)| {
            let gain = if spec.activation == Some(Activation::Relu) { 6.0 } else { 3.0 };
            let scale = (gain / spec.inputs as f32).sqrt();
            let init = RowInit { seed: seed.wrapping_add(at as u64), scale, accumulator: 0.0 };
            let weight = EmbeddingTable::new(spec.inputs, spec.outputs, &init).rows;
            Layer::new(spec, weight, vec![0.0; spec.outputs], device)
        };
        Dense { layers: layers.iter().enumerate().map(fresh).collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// [batch, width] -> [batch, dim], not normalised.
    pub fn forward(&self, input: Tensor<2>, dropout: Option<Dropout>) -> Tensor<2> {
        let mut x = input;
        for (at, layer) in self.layers.iter().enumerate() {
            x = x.matmul(layer.weight.clone()) + layer.bias.clone();
            x = match layer.activation {
                Some(Activation::Relu) => activation::relu(x),
                Some(Activation::Gelu) => activation::gelu(x),
                Some(Activation::Tanh) => activation::tanh(x),
                None => x,
            };
            if let (Some(dropout), Some(_)) = (dropout.filter(|dropout| dropout.share > 0.0), layer.activation) {
                let [rows, cols] = x.dims();
                x = x.clone() * dropout.mask(at, rows, cols, &x.device());
            }
        }
        x
    }

    /// The same values as leaves of an autodiff graph.
    pub fn leaves(&self) -> Dense {
        let leaf = |tensor: &Tensor<2>| tensor.clone().autodiff().require_grad();
        let layers = self.layers.iter().map(|layer| Layer {
            weight: leaf(&layer.weight),
            bias: leaf(&layer.bias),
            activation: layer.activation,
        });
        Dense { layers: layers.collect() }
    }

    /// Weights and biases in the order of the layers.
    pub fn parameters(&self) -> impl Iterator<Item = &Tensor<2>> {
        self.layers.iter().flat_map(|layer| [&layer.weight, &layer.bias])
    }

    /// The same, to be changed.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Tensor<2>> {
        self.layers.iter_mut().flat_map(|layer| [&mut layer.weight, &mut layer.bias])
    }
}

impl Layer {
    /// `weight` [inputs, outputs] row-major, `bias` `[outputs]`.
    pub fn new(spec: &LayerSpec, weight: Vec<f32>, bias: Vec<f32>, device: &Device) -> Self {
        Layer {
            weight: Tensor::from_data(TensorData::new(weight, [spec.inputs, spec.outputs]), device),
            bias: Tensor::from_data(TensorData::new(bias, [1, spec.outputs]), device),
            activation: spec.activation,
        }
    }
}

impl Dropout {
    /// Zeros, and the inverse of the kept share elsewhere.
    fn mask(&self, layer: usize, rows: usize, cols: usize, device: &Device) -> Tensor<2> {
        // uniform in (-1, 1), as a function of seed, row and column
        let init = RowInit { seed: self.seed ^ (layer as u64 + 1) << 56, scale: 1.0, accumulator: 0.0 };
        let mut mask = EmbeddingTable::new(rows, cols, &init).rows;
        let (limit, kept) = ((self.share * 2.0 - 1.0) as f32, (1.0 / (1.0 - self.share)) as f32);
        mask.iter_mut().for_each(|value| *value = if *value < limit { 0.0 } else { kept });
        Tensor::from_data(TensorData::new(mask, [rows, cols]), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropout_keeps_its_share_and_the_mean() {
        let mask = Dropout { share: 0.25, seed: 3 }
            .mask(0, 200, 50, &Device::flex())
            .into_data()
            .try_into_vec::<f32>()
            .unwrap();
        let zeros = mask.iter().filter(|value| **value == 0.0).count() as f64 / mask.len() as f64;
        assert!((zeros - 0.25).abs() < 0.02, "{zeros}");
        assert!((mask.iter().sum::<f32>() / mask.len() as f32 - 1.0).abs() < 0.03);
    }
}
