//! The dense layers of a tower, `y = activation(x W + b)` one after another, forward and backward.
//!
//! Why it is fast: a block of rows goes through all layers while it is in cache, blocks go on all cores at once, and what has no product
//! (bias, activation, their gradients) is done to a block that the product has just left in cache.

use std::ops::Range;

use rayon::prelude::*;

use crate::math::{Layout, Output, multiply};
use crate::wide::in_two_widths;

/// Rows that go through the layers together: with 128 columns they and a layer's weights fit the L2 cache several times.
const BLOCK: usize = 128;
/// Rows of a parallel piece, which has sums of gradients of its own.
const PIECE: usize = 512;

/// `y = x W + b`, of which what is not above 0 is multiplied by `slope`: 1 without activation, 0 for a rectifier.
#[derive(Clone, Debug)]
pub struct Layer {
    /// [inputs, outputs].
    weight: Vec<f32>,
    /// `[outputs]`.
    bias: Vec<f32>,
    slope: f32,
}

impl Layer {
    /// Of a weight [inputs, outputs] and a bias `[outputs]`.
    pub fn new(weight: Vec<f32>, bias: Vec<f32>, slope: f32) -> Self {
        let outputs = bias.len();
        assert!(outputs > 0 && weight.len().is_multiple_of(outputs), "a weight is [inputs, outputs]");
        Layer { weight, bias, slope }
    }

    /// Its weight as [outputs, inputs]: the way back reads it row by row.
    fn transposed(&self) -> Vec<f32> {
        let column = |at: usize| self.weight.iter().skip(at).step_by(self.outputs()).copied();
        (0..self.outputs()).flat_map(column).collect()
    }

    fn inputs(&self) -> usize {
        self.weight.len() / self.bias.len()
    }

    fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Of the shapes of its weight and bias.
    fn zeros(&self) -> [Vec<f32>; 2] {
        [vec![0.0; self.weight.len()], vec![0.0; self.bias.len()]]
    }
}

/// What a batch leaves for its way back, and memory that is used again. Keep one for each tower.
#[derive(Debug, Default)]
pub struct LayersKernel {
    pieces: Vec<Piece>,
}

/// A piece of the rows of a batch.
#[derive(Debug, Default)]
struct Piece {
    /// By layer: what it gave [rows, outputs].
    outputs: Vec<Vec<f32>>,
    /// By layer: the gradients by its weight and bias.
    gradients: Vec<[Vec<f32>; 2]>,
    /// Of a block: the gradients by what a layer gave and by what it took.
    d_y: Vec<f32>,
    d_x: Vec<f32>,
}

impl LayersKernel {
    pub fn new() -> Self {
        Self::default()
    }

    /// [rows, inputs] -> [rows, outputs]; at least one layer, and each has as many inputs as the one before has outputs.
    pub fn forward(&mut self, layers: &[Layer], input: &[f32]) -> Vec<f32> {
        let (inputs, outputs) = ends(layers);
        assert!(layers.windows(2).all(|pair| pair[0].outputs() == pair[1].inputs()), "layers do not fit each other");
        assert!(input.len().is_multiple_of(inputs), "an input is [rows, {inputs}]");
        let mut out = vec![0.0; input.len() / inputs * outputs];
        self.pieces.resize_with(input.len().div_ceil(PIECE * inputs), Piece::default);
        let pieces = input.par_chunks(PIECE * inputs).zip(out.par_chunks_mut(PIECE * outputs));
        pieces.zip(&mut self.pieces).for_each(|((input, out), piece)| piece.forward(layers, input, out));
        out
    }

    /// From the gradient by what the last [`LayersKernel::forward`] gave to those by each layer's weight [inputs, outputs] and bias
    /// `[outputs]`. The `input` that it took becomes the gradient by that input.
    pub fn backward(&mut self, layers: &[Layer], input: &mut [f32], gradient: &[f32]) -> Vec<[Vec<f32>; 2]> {
        let (inputs, outputs) = ends(layers);
        let rows = input.len() / inputs;
        assert!(rows == gradient.len() / outputs, "an input and a gradient have the same rows");
        assert!(self.pieces.len() == rows.div_ceil(PIECE), "this is not the input of the last forward");
        let transposed: Vec<Vec<f32>> = layers.iter().map(Layer::transposed).collect();
        let pieces = input.par_chunks_mut(PIECE * inputs).zip(gradient.par_chunks(PIECE * outputs));
        pieces.zip(&mut self.pieces).for_each(|((input, gradient), piece)| {
            piece.backward(layers, &transposed, input, gradient);
        });
        let mut sums: Vec<[Vec<f32>; 2]> = layers.iter().map(Layer::zeros).collect();
        for piece in &self.pieces {
            for (sum, of_piece) in sums.iter_mut().flatten().zip(piece.gradients.iter().flatten()) {
                sum.iter_mut().zip(of_piece).for_each(|(sum, value)| *sum += value);
            }
        }
        sums
    }
}

/// Inputs of the first layer and outputs of the last.
fn ends(layers: &[Layer]) -> (usize, usize) {
    let (first, last) = layers.first().zip(layers.last()).expect("there is at least one layer");
    (first.inputs(), last.outputs())
}

fn blocks(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(BLOCK).map(move |first| first..(first + BLOCK).min(rows))
}

impl Piece {
    fn forward(&mut self, layers: &[Layer], input: &[f32], out: &mut [f32]) {
        let rows = input.len() / layers[0].inputs();
        self.outputs.resize_with(layers.len(), Vec::new);
        for (layer, outputs) in layers.iter().zip(&mut self.outputs) {
            outputs.resize(rows * layer.outputs(), 0.0);
        }
        for block in blocks(rows) {
            for (at, layer) in layers.iter().enumerate() {
                let (before, after) = self.outputs.split_at_mut(at);
                let x = rows_of(before.last().map_or(input, |x| x), &block, layer.inputs());
                let y = &mut after[0][block.start * layer.outputs()..block.end * layer.outputs()];
                multiply(
                    (y, Layout::row_major(block.len(), layer.outputs())),
                    (x, Layout::row_major(block.len(), layer.inputs())),
                    (&layer.weight, Layout::row_major(layer.inputs(), layer.outputs())),
                    1.0,
                    Output::Overwrite,
                );
                activate(y, &layer.bias, layer.slope);
            }
        }
        out.copy_from_slice(&self.outputs[layers.len() - 1]);
    }

    /// `input` becomes the gradient by it; `transposed` are the weights of the layers.
    fn backward(&mut self, layers: &[Layer], transposed: &[Vec<f32>], input: &mut [f32], gradient: &[f32]) {
        let (first, last) = (&layers[0], &layers[layers.len() - 1]);
        self.gradients.clear();
        self.gradients.extend(layers.iter().map(Layer::zeros));
        let widest = layers.iter().map(|layer| layer.inputs().max(layer.outputs())).max().unwrap_or(0);
        self.d_y.resize(BLOCK * widest, 0.0);
        self.d_x.resize(BLOCK * widest, 0.0);
        for block in blocks(input.len() / first.inputs()) {
            let of_end = rows_of(gradient, &block, last.outputs());
            self.d_y[..of_end.len()].copy_from_slice(of_end);
            for (at, layer) in layers.iter().enumerate().rev() {
                let (inputs, outputs) = (layer.inputs(), layer.outputs());
                let d_y = &mut self.d_y[..block.len() * outputs];
                let [d_weight, d_bias] = &mut self.gradients[at];
                deactivate(d_y, rows_of(&self.outputs[at], &block, outputs), layer.slope);
                add_rows(d_bias, d_y);
                let x = rows_of(if at == 0 { input } else { &self.outputs[at - 1] }, &block, inputs);
                multiply(
                    (d_weight, Layout::row_major(inputs, outputs)),
                    (x, Layout::row_major(block.len(), inputs).transposed()),
                    (d_y, Layout::row_major(block.len(), outputs)),
                    1.0,
                    Output::Accumulate,
                );
                let d_x = match at {
                    0 => &mut input[block.start * inputs..block.end * inputs],
                    _ => &mut self.d_x[..block.len() * inputs],
                };
                multiply(
                    (d_x, Layout::row_major(block.len(), inputs)),
                    (d_y, Layout::row_major(block.len(), outputs)),
                    (&transposed[at], Layout::row_major(outputs, inputs)),
                    1.0,
                    Output::Overwrite,
                );
                std::mem::swap(&mut self.d_y, &mut self.d_x);
            }
        }
    }
}

fn rows_of<'a>(values: &'a [f32], rows: &Range<usize>, width: usize) -> &'a [f32] {
    &values[rows.start * width..rows.end * width]
}

in_two_widths! {
    /// Adds the bias to each row; then the activation.
    fn activate(rows: &mut [f32], bias: &[f32], slope: f32) {
        for row in rows.chunks_exact_mut(bias.len()) {
            for (y, bias) in row.iter_mut().zip(bias) {
                let sum = *y + *bias;
                *y = if sum > 0.0 { sum } else { sum * slope };
            }
        }
    }
}

in_two_widths! {
    /// Turns the gradient by what the activation gave, `y`, into that by what it took.
    fn deactivate(d_y: &mut [f32], y: &[f32], slope: f32) {
        for (d, y) in d_y.iter_mut().zip(y) {
            *d = if *y > 0.0 { *d } else { *d * slope };
        }
    }
}

in_two_widths! {
    fn add_rows(sum: &mut [f32], rows: &[f32]) {
        for row in rows.chunks_exact(sum.len()) {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::splitmix64;

    fn numbers(salt: u64, count: usize) -> Vec<f32> {
        (0..count as u64).map(|at| (splitmix64(salt << 32 | at) >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
    }

    fn layers(widths: &[usize], slopes: &[f32]) -> Vec<Layer> {
        let layer = |at: usize| {
            let (inputs, outputs) = (widths[at], widths[at + 1]);
            let scale = (2.0 / inputs as f32).sqrt();
            let weight = numbers(at as u64 + 1, inputs * outputs).iter().map(|value| value * scale).collect();
            Layer::new(weight, numbers(at as u64 + 20, outputs), slopes[at])
        };
        (0..slopes.len()).map(layer).collect()
    }

    /// Outputs, and the gradient by everything, of `sum(gradient * outputs)`, row by row in f64.
    fn slowly(layers: &[Layer], input: &[f32], gradient: &[f32]) -> (Vec<f64>, Vec<f64>, Vec<[Vec<f64>; 2]>) {
        let (inputs, outputs) = (layers[0].inputs(), layers[layers.len() - 1].outputs());
        let (mut out, mut d_input) = (Vec::new(), Vec::new());
        let zeros = |layer: &Layer| [vec![0.0; layer.weight.len()], vec![0.0; layer.bias.len()]];
        let mut parameters: Vec<[Vec<f64>; 2]> = layers.iter().map(zeros).collect();
        for (x, d) in input.chunks(inputs).zip(gradient.chunks(outputs)) {
            let mut values = vec![x.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>()];
            for layer in layers {
                let x = &values[values.len() - 1];
                let y = (0..layer.outputs()).map(|column| {
                    let weight = |row: usize| f64::from(layer.weight[row * layer.outputs() + column]);
                    let sum = x.iter().enumerate().map(|(row, x)| x * weight(row)).sum::<f64>();
                    let sum = sum + f64::from(layer.bias[column]);
                    if sum > 0.0 { sum } else { sum * f64::from(layer.slope) }
                });
                values.push(y.collect());
            }
            out.extend(&values[layers.len()]);
            let mut d: Vec<f64> = d.iter().map(|value| f64::from(*value)).collect();
            for (at, layer) in layers.iter().enumerate().rev() {
                for (d, y) in d.iter_mut().zip(&values[at + 1]) {
                    *d *= if *y > 0.0 { 1.0 } else { f64::from(layer.slope) };
                }
                let mut d_x = vec![0.0; layer.inputs()];
                for row in 0..layer.inputs() {
                    for (column, d) in d.iter().enumerate() {
                        let place = row * layer.outputs() + column;
                        parameters[at][0][place] += values[at][row] * d;
                        d_x[row] += f64::from(layer.weight[place]) * d;
                    }
                }
                parameters[at][1].iter_mut().zip(&d).for_each(|(sum, d)| *sum += d);
                d = d_x;
            }
            d_input.extend(d);
        }
        (out, d_input, parameters)
    }

    #[track_caller]
    fn assert_near(found: &[f32], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(0.0f64, |most, value| most.max(value.abs()));
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() <= 1e-5 * largest, "{found} is not {expected}");
        }
    }

    #[test]
    fn outputs_and_gradients_are_those_of_a_slow_reference() {
        // whole registers and not, one row, a block and a bit, more than a piece; all kinds of activation
        let shapes: [(&[usize], &[f32]); 4] = [
            (&[128, 128, 64], &[0.0, 1.0]),
            (&[7, 20, 3], &[0.01, 1.0]),
            (&[16, 32], &[0.0]),
            (&[5, 48, 64, 16], &[1.0, 0.0, 0.01]),
        ];
        // one for all of them: nothing of a batch is left in the next
        let mut kernel = LayersKernel::new();
        for (widths, slopes) in shapes {
            let layers = layers(widths, slopes);
            for rows in [1, 130, 700] {
                let (input, gradient) = (numbers(40, rows * widths[0]), numbers(41, rows * widths[widths.len() - 1]));
                let (out, d_input, parameters) = slowly(&layers, &input, &gradient);
                assert_near(&kernel.forward(&layers, &input), &out);
                let mut found_input = input.clone();
                let found = kernel.backward(&layers, &mut found_input, &gradient);
                assert_near(&found_input, &d_input);
                for (found, expected) in found.iter().flatten().zip(parameters.iter().flatten()) {
                    assert_near(found, expected);
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let (layers, input, gradient) =
            (layers(&[48, 64, 32], &[0.0, 1.0]), numbers(3, 1500 * 48), numbers(4, 1500 * 32));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (mut kernel, mut input) = (LayersKernel::new(), input.clone());
                (kernel.forward(&layers, &input), kernel.backward(&layers, &mut input, &gradient), input)
            })
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn a_batch_without_rows_has_gradients_of_nothing() {
        let (layers, mut kernel) = (layers(&[4, 2], &[0.0]), LayersKernel::new());
        assert!(kernel.forward(&layers, &[]).is_empty());
        assert_eq!(kernel.backward(&layers, &mut [], &[]), [[vec![0.0; 8], vec![0.0; 2]]]);
    }
}
