//! A tower's dense layers in the middle of a step.

use burn::tensor::{Device, Tensor};

use super::optimizer::tensor;
use crate::error::{Error, Result};
use crate::features::FeatureSpec;
use crate::kernels::layers::{Layer, LayersKernel};
use crate::kernels::math::normalize_rows;
use crate::model::{BatchStatistics, Dense, Dropout, NORM_EPSILON, read};

/// What forward leaves for backward.
pub struct Pass {
    way_back: WayBack,
    /// Outputs [rows, dim], normalised where the model does.
    pub vectors: Vec<f32>,
    /// What they were divided by `[rows]`.
    pub norms: Vec<f32>,
}

/// How gradients go back through the layers.
enum WayBack {
    /// There are none.
    Nothing,
    /// Through the kernel that went forward, with the input rows [rows, width].
    Kernel(Vec<Layer>, Vec<f32>),
    Burn(Box<Graph>),
}

/// What burn goes back through.
struct Graph {
    /// [rows, width].
    leaf: Tensor<2>,
    /// [rows, dim].
    end: Tensor<2>,
    /// The layers as leaves.
    leaves: Dense,
}

impl Pass {
    /// From the input `rows` [count, width] of a tower; with the statistics of its batch normalisation.
    pub fn forward(
        dense: &Dense,
        kernel: &mut LayersKernel,
        rows: Vec<f32>,
        count: usize,
        dropout: Dropout,
        spec: &FeatureSpec,
        device: &Device,
    ) -> Result<(Pass, BatchStatistics)> {
        let plain = if dropout.share == 0.0 { dense.plain_layers()? } else { None };
        let (way_back, mut vectors, statistics) = if dense.is_empty() {
            (WayBack::Nothing, rows, Vec::new())
        } else if let Some(layers) = plain {
            let vectors = kernel.forward(&layers, &rows);
            (WayBack::Kernel(layers, rows), vectors, Vec::new())
        } else {
            let width = rows.len() / count;
            let leaf = tensor(rows, width, device).autodiff().require_grad();
            let leaves = dense.leaves();
            let (end, statistics) = leaves.forward_training(leaf.clone(), dropout);
            let values = read(end.clone().without_autodiff())?;
            (WayBack::Burn(Box::new(Graph { leaf, end, leaves })), values, statistics)
        };
        let mut norms = vec![1.0; count];
        if spec.normalize {
            normalize_rows(&mut vectors, spec.dim, NORM_EPSILON, &mut norms);
        }
        Ok((Pass { way_back, vectors, norms }, statistics))
    }

    /// From the gradient of the vectors [rows, dim] before they were normalised to those of the input rows and of the layers.
    pub fn backward(
        self,
        kernel: &mut LayersKernel,
        gradient: Vec<f32>,
        dim: usize,
        device: &Device,
    ) -> Result<(Vec<f32>, Vec<Tensor<2>>)> {
        match self.way_back {
            WayBack::Nothing => Ok((gradient, Vec::new())),
            WayBack::Kernel(layers, mut rows) => {
                let gradients = kernel.backward(&layers, &mut rows, &gradient);
                let tensors = gradients.into_iter().flat_map(|[weight, bias]| {
                    let outputs = bias.len();
                    [tensor(weight, outputs, device), tensor(bias, outputs, device)]
                });
                Ok((rows, tensors.collect()))
            }
            WayBack::Burn(graph) => {
                let Graph { leaf, end, leaves } = *graph;
                // the gradient of sum(y * g) by y is g: so burn goes on from the gradients that the kernel has made
                let mut gradients = (end * tensor(gradient, dim, device)).sum().backward();
                let mut take = |tensor: &Tensor<2>| {
                    let taken = tensor.grad_remove(&mut gradients);
                    taken.ok_or_else(|| Error::internal("a parameter has no gradient"))
                };
                Ok((read(take(&leaf)?)?, leaves.graph_parameters().map(take).collect::<Result<_>>()?))
            }
        }
    }
}
