//! The inner part of the softmax kernel: one block of rows at a time, on one thread.

use std::ops::Range;

use super::{BLOCK, Loss, SoftmaxInputs, TILE, item, user};
use crate::hardest::Hardest;
use crate::math::{Layout, Output, add_scaled, dot, dot_f64, exp2_at_most_zero, multiply};

/// One value for each row of a block.
pub(super) type Lanes = [f32; BLOCK];

/// Memory for one block, reused from block to block and from batch to batch.
#[derive(Debug, Default)]
pub(super) struct BlockScratch {
    /// [S, BLOCK]: dot products, then unnormalised probabilities; one tile of it, then slopes, where the loss is no softmax.
    pub(super) logits: Vec<f32>,
    /// [BLOCK, dim]: users times the scale of their row's probabilities.
    pub(super) users: Vec<f32>,
    /// Masked (column, row in block), and the positives, by column.
    pub(super) removed: Vec<(u32, u32)>,
    pub(super) hardest: Hardest,
    /// Logits of the block's hard negatives, then their probabilities.
    hard: Vec<f32>,
}

/// A run of rows with the places its results go to, each cut to these rows.
pub(super) struct RowTask<'a> {
    pub rows: Range<usize>,
    pub inputs: &'a SoftmaxInputs<'a>,
    pub bias: &'a [f32],
    pub weight_scale: f64,
    pub d_users: &'a mut [f32],
    pub row_losses: &'a mut [f32],
    pub positive_slopes: &'a mut [f32],
    pub hard_slopes: &'a mut [f32],
    /// This task's partial sum [S, dim], without the positives and the hard negatives.
    pub d_items: &'a mut Vec<f32>,
}

/// Sums over the rows of a task.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TaskTotals {
    /// Weighted.
    pub loss: f64,
    /// Sum of u . d_users, which is inv_temperature * d loss / d inv_temperature.
    pub user_slope: f64,
    /// Weighted.
    pub positive_probability: f64,
}

impl TaskTotals {
    pub fn plus(self, other: Self) -> Self {
        Self {
            loss: self.loss + other.loss,
            user_slope: self.user_slope + other.user_slope,
            positive_probability: self.positive_probability + other.positive_probability,
        }
    }
}

impl RowTask<'_> {
    pub fn run(mut self, scratch: &mut BlockScratch) -> TaskTotals {
        let (dim, shared) = (self.inputs.dim, self.bias.len());
        let softmax = self.inputs.loss == Loss::Softmax;
        scratch.logits.resize(if softmax { shared } else { shared.min(TILE) } * BLOCK, 0.0);
        scratch.users.resize(BLOCK * dim, 0.0);
        self.d_items.resize(shared * dim, 0.0);
        let mut totals = TaskTotals::default();
        for start in self.rows.clone().step_by(BLOCK) {
            let rows = start..(start + BLOCK).min(self.rows.end);
            let block = if softmax { self.run_block(rows, scratch) } else { self.run_pairwise_block(rows, scratch) };
            totals = totals.plus(block);
        }
        totals
    }

    fn run_block(&mut self, rows: Range<usize>, scratch: &mut BlockScratch) -> TaskTotals {
        let (dim, shared) = (self.inputs.dim, self.bias.len());
        let local = rows.start - self.rows.start;
        self.list_removed(&rows, &mut scratch.removed);

        let mut max = [f32::NEG_INFINITY; BLOCK];
        let positives = self.fill_logits(&rows, scratch, &mut max);
        self.fill_hard_logits(&rows, &mut scratch.hard, &mut max);

        let mut others = [0.0f64; BLOCK];
        let d_users = &mut self.d_users[local * dim..(local + rows.len()) * dim];
        exponentiate(self.inputs, self.bias, &rows, scratch, &max, &mut others, d_users);
        let hard_start = self.inputs.hard.bounds(self.rows.start).start;
        let mut next_hard = 0;
        let mut totals = TaskTotals::default();
        for (lane, row) in rows.clone().enumerate() {
            let hard = self.inputs.hard.bounds(row);
            let probabilities = &mut scratch.hard[next_hard..next_hard + hard.len()];
            next_hard += hard.len();
            for e in probabilities.iter_mut() {
                *e = exp2_at_most_zero(*e - max[lane]);
                others[lane] += f64::from(*e);
            }
            let below_max = f64::from(positives[lane] - max[lane]);
            let positive = below_max.exp2();
            let sum = others[lane] + positive;
            let loss =
                if below_max == 0.0 { others[lane].ln_1p() } else { sum.ln() - below_max * std::f64::consts::LN_2 };
            let weight = f64::from(self.inputs.weights.map_or(1.0, |weights| weights[row]));
            let scale = weight * self.weight_scale * f64::from(self.inputs.inv_temperature) / sum;
            let positive_slope = (-others[lane] * scale) as f32;

            let u = user(self.inputs, row);
            let d_user = &mut d_users[lane * dim..(lane + 1) * dim];
            d_user.iter_mut().for_each(|g| *g *= scale as f32);
            add_scaled(d_user, positive_slope, item(self.inputs, row));
            for (e, entry) in probabilities.iter().zip(hard) {
                let slope = (f64::from(*e) * scale) as f32;
                self.hard_slopes[entry - hard_start] = slope;
                add_scaled(d_user, slope, item(self.inputs, self.inputs.hard.cols[entry] as usize));
            }
            let scaled = &mut scratch.users[lane * dim..(lane + 1) * dim];
            scaled.iter_mut().zip(u).for_each(|(s, v)| *s = v * scale as f32);
            self.positive_slopes[local + lane] = positive_slope;
            self.row_losses[local + lane] = loss as f32;
            totals = totals.plus(TaskTotals {
                loss: weight * loss,
                user_slope: dot_f64(u, d_user),
                positive_probability: weight * positive / sum,
            });
        }

        let mode = if local == 0 { Output::Overwrite } else { Output::Accumulate };
        let probabilities = Layout { rows: shared, cols: rows.len(), row_stride: BLOCK, col_stride: 1 };
        multiply(
            (self.d_items, Layout::row_major(shared, dim)),
            (&scratch.logits, probabilities),
            (&scratch.users, Layout::row_major(rows.len(), dim)),
            1.0,
            mode,
        );
        totals
    }

    /// What the block's rows must not count as negatives: masked columns, and their own positives.
    pub(super) fn list_removed(&self, rows: &Range<usize>, removed: &mut Vec<(u32, u32)>) {
        removed.clear();
        for (lane, row) in rows.clone().enumerate() {
            removed.push((row as u32, lane as u32));
            let masked = &self.inputs.masked.cols[self.inputs.masked.bounds(row)];
            removed.extend(masked.iter().map(|&col| (col, lane as u32)));
        }
        removed.sort_unstable();
        removed.dedup();
    }

    /// Scaled dot products of all shared columns in base 2, minus infinity where removed; raises
    /// `max` to the largest logit of each row, its positive included; returns the positives' logits.
    fn fill_logits(&self, rows: &Range<usize>, scratch: &mut BlockScratch, max: &mut Lanes) -> Lanes {
        let dim = self.inputs.dim;
        let users = &self.inputs.users[rows.start * dim..rows.end * dim];
        let scale = self.inputs.inv_temperature * std::f32::consts::LOG2_E;
        let mut positives = [0.0; BLOCK];
        let first_negative = self.inputs.first_negative();
        let hardest = &mut scratch.hardest;
        hardest.clear();
        let mut removed = scratch.removed.iter().peekable();
        let tiles = scratch.logits.chunks_mut(TILE * BLOCK).zip(self.bias.chunks(TILE));
        for (tile_index, (tile, bias)) in tiles.enumerate() {
            let first = tile_index * TILE;
            let items = &self.inputs.items[first * dim..(first + bias.len()) * dim];
            multiply(
                (tile, Layout { rows: rows.len(), cols: bias.len(), row_stride: 1, col_stride: BLOCK }),
                (users, Layout::row_major(rows.len(), dim)),
                (items, Layout::row_major(bias.len(), dim).transposed()),
                scale,
                Output::Overwrite,
            );
            while let Some(&(col, lane)) = removed.next_if(|r| (r.0 as usize) < first + bias.len()) {
                let (col, lane) = (col as usize, lane as usize);
                let logit = &mut tile[(col - first) * BLOCK + lane];
                if col == rows.start + lane {
                    positives[lane] = *logit + bias[col - first];
                }
                *logit = f32::NEG_INFINITY;
            }
            if first < first_negative {
                tile[..(first_negative - first).min(bias.len()) * BLOCK].fill(f32::NEG_INFINITY);
            }
            if self.inputs.hardest > 0 {
                hardest.offer(tile, first);
            }
            raise_max(tile, bias, max);
        }
        for (lane, max) in max.iter_mut().enumerate().take(rows.len()) {
            for (col, score) in hardest.of(lane, self.inputs.hardest) {
                let logit = score + self.inputs.hardest_weight.log2() as f32;
                scratch.logits[col * BLOCK + lane] = logit;
                *max = max.max(logit + self.bias[col]);
            }
        }
        for (max, positive) in max.iter_mut().zip(positives) {
            *max = if positive > *max { positive } else { *max };
        }
        positives
    }

    fn fill_hard_logits(&self, rows: &Range<usize>, hard: &mut Vec<f32>, max: &mut Lanes) {
        let log2_e = std::f32::consts::LOG2_E;
        let scale = self.inputs.inv_temperature * log2_e;
        hard.clear();
        for (max, row) in max.iter_mut().zip(rows.clone()) {
            for entry in self.inputs.hard.bounds(row) {
                let col = self.inputs.hard.cols[entry] as usize;
                let product = dot(user(self.inputs, row), item(self.inputs, col));
                let logit = product * scale + self.inputs.hard_weight.ln() as f32 * log2_e;
                *max = if logit > *max { logit } else { *max };
                hard.push(logit);
            }
        }
    }
}

/// `max[row] = max(max[row], tile[column][row] + bias[column])`; a NaN is passed over.
fn raise_max(tile: &[f32], bias: &[f32], max: &mut Lanes) {
    let (columns, _) = tile.as_chunks::<BLOCK>();
    let mut top = *max;
    for (column, &bias) in columns.iter().zip(bias) {
        for lane in 0..BLOCK {
            let logit = column[lane] + bias;
            top[lane] = if logit > top[lane] { logit } else { top[lane] };
        }
    }
    *max = top;
}

/// Turns logits into `2^(logit - max)` in place, adds each row's to `others`, and writes their
/// product with the items to `d_users` [rows, dim], all tile by tile.
fn exponentiate(
    inputs: &SoftmaxInputs,
    bias: &[f32],
    rows: &Range<usize>,
    scratch: &mut BlockScratch,
    max: &Lanes,
    others: &mut [f64; BLOCK],
    d_users: &mut [f32],
) {
    let dim = inputs.dim;
    let tiles = scratch.logits.chunks_mut(TILE * BLOCK).zip(bias.chunks(TILE));
    for (tile_index, (tile, bias)) in tiles.enumerate() {
        let sums = exponentiate_tile(tile, bias, max);
        others.iter_mut().zip(sums).for_each(|(total, sum)| *total += f64::from(sum));
        let first = tile_index * TILE;
        let items = &inputs.items[first * dim..(first + bias.len()) * dim];
        multiply(
            (d_users, Layout::row_major(rows.len(), dim)),
            (tile, Layout { rows: rows.len(), cols: bias.len(), row_stride: 1, col_stride: BLOCK }),
            (items, Layout::row_major(bias.len(), dim)),
            1.0,
            if tile_index == 0 { Output::Overwrite } else { Output::Accumulate },
        );
    }
}

fn exponentiate_tile(tile: &mut [f32], bias: &[f32], max: &Lanes) -> Lanes {
    let (columns, _) = tile.as_chunks_mut::<BLOCK>();
    let mut sums = [0.0; BLOCK];
    for (column, &bias) in columns.iter_mut().zip(bias) {
        for lane in 0..BLOCK {
            let e = exp2_at_most_zero((column[lane] + bias) - max[lane]);
            column[lane] = e;
            sums[lane] += e;
        }
    }
    sums
}
