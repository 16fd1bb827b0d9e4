//! The inner part of the softmax kernel: one block of rows at a time, on one thread.

use std::ops::Range;

use super::removed::Removed;
use super::{BLOCK, Loss, SoftmaxInputs, TILE, item, positive, user};
use crate::hardest::Hardest;
use crate::math::{Layout, Output, add_scaled, dot, dot_f64, exp2, fma, multiply};
use crate::wide::in_two_widths;

/// How far a logit, in base 2, may lie above its row's reference before the reference rises to it: so far that this is rare, and
/// not so far that sums of powers of 2, or their inverses, would leave the range of an f32.
const HEADROOM: f32 = 24.0;

/// One value for each row of a block.
pub(super) type Lanes = [f32; BLOCK];

/// Memory for one block, reused from block to block and from batch to batch.
#[derive(Debug, Default)]
pub(super) struct BlockScratch {
    /// [negatives of S, BLOCK]: dot products, then unnormalised probabilities; one tile of it, then slopes, where the loss is no
    /// softmax.
    pub(super) logits: Vec<f32>,
    /// [dim, BLOCK]: users, column by column; zeros where the last block has no row.
    pub(super) columns: Vec<f32>,
    /// [BLOCK, dim]: users times the scale of their row's probabilities.
    pub(super) users: Vec<f32>,
    pub(super) removed: Removed,
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
        let columns = if softmax { shared - self.inputs.first_negative() } else { shared.min(TILE) };
        scratch.logits.resize(columns * BLOCK, 0.0);
        scratch.columns.resize(dim * BLOCK, 0.0);
        scratch.users.resize(BLOCK * dim, 0.0);
        self.d_items.resize(shared * dim, 0.0);
        self.d_items[..self.inputs.first_negative() * dim].fill(0.0);
        let mut totals = TaskTotals::default();
        for start in self.rows.clone().step_by(BLOCK) {
            let rows = start..(start + BLOCK).min(self.rows.end);
            let block = if softmax { self.run_block(rows, scratch) } else { self.run_pairwise_block(rows, scratch) };
            totals = totals.plus(block);
        }
        totals
    }

    fn run_block(&mut self, rows: Range<usize>, scratch: &mut BlockScratch) -> TaskTotals {
        let inputs = self.inputs;
        let (dim, first) = (inputs.dim, inputs.first_negative());
        let local = rows.start - self.rows.start;
        scratch.removed.list(inputs, rows.clone());
        self.lay_out_users(&rows, &mut scratch.columns);

        let mut reference: Lanes = [0.0; BLOCK];
        let positives = self.positive_logits(&rows);
        reference[..rows.len()].copy_from_slice(&positives[..rows.len()]);
        self.fill_hard_logits(&rows, &mut scratch.hard, &mut reference);

        let d_users = &mut self.d_users[local * dim..(local + rows.len()) * dim];
        let mut others = exponentiate(inputs, self.bias, &rows, scratch, &mut reference, d_users);
        let hard_start = inputs.hard.bounds(self.rows.start).start;
        let mut next_hard = 0;
        let mut totals = TaskTotals::default();
        for (lane, row) in rows.clone().enumerate() {
            let hard = inputs.hard.bounds(row);
            let probabilities = &mut scratch.hard[next_hard..next_hard + hard.len()];
            next_hard += hard.len();
            for e in probabilities.iter_mut() {
                *e = exp2(*e - reference[lane]);
                others[lane] += f64::from(*e);
            }
            let above = f64::from(positives[lane]) - f64::from(reference[lane]);
            let own = above.exp2();
            let sum = others[lane] + own;
            let ratio = others[lane] / own;
            let loss =
                if ratio == f64::INFINITY { others[lane].ln() - above * std::f64::consts::LN_2 } else { ratio.ln_1p() };
            let weight = f64::from(inputs.weights.map_or(1.0, |weights| weights[row]));
            let scale = weight * self.weight_scale * f64::from(inputs.inv_temperature) / sum;
            let positive_slope = (-others[lane] * scale) as f32;

            let u = user(inputs, row);
            let d_user = &mut d_users[lane * dim..(lane + 1) * dim];
            d_user.iter_mut().for_each(|g| *g *= scale as f32);
            add_scaled(d_user, positive_slope, positive(inputs, row));
            for (e, entry) in probabilities.iter().zip(hard) {
                let slope = (f64::from(*e) * scale) as f32;
                self.hard_slopes[entry - hard_start] = slope;
                add_scaled(d_user, slope, item(inputs, inputs.hard.cols[entry] as usize));
            }
            let scaled = &mut scratch.users[lane * dim..(lane + 1) * dim];
            scaled.iter_mut().zip(u).for_each(|(s, v)| *s = v * scale as f32);
            self.positive_slopes[local + lane] = positive_slope;
            self.row_losses[local + lane] = loss as f32;
            totals = totals.plus(TaskTotals {
                loss: weight * loss,
                user_slope: dot_f64(u, d_user),
                positive_probability: weight * own / sum,
            });
        }

        let count = self.bias.len() - first;
        multiply(
            (&mut self.d_items[first * dim..], Layout::row_major(count, dim)),
            (&scratch.logits, Layout { rows: count, cols: rows.len(), row_stride: BLOCK, col_stride: 1 }),
            (&scratch.users, Layout::row_major(rows.len(), dim)),
            1.0,
            if local == 0 { Output::Overwrite } else { Output::Accumulate },
        );
        totals
    }

    /// The users of a block, column by column.
    pub(super) fn lay_out_users(&self, rows: &Range<usize>, columns: &mut [f32]) {
        if rows.len() < BLOCK {
            columns.fill(0.0);
        }
        for (lane, row) in rows.clone().enumerate() {
            for (column, value) in columns.chunks_exact_mut(BLOCK).zip(user(self.inputs, row)) {
                column[lane] = *value;
            }
        }
    }

    /// Logits of the block's positives, in base 2.
    fn positive_logits(&self, rows: &Range<usize>) -> Lanes {
        let log2_e = std::f32::consts::LOG2_E;
        let mut logits = [0.0; BLOCK];
        for (logit, row) in logits.iter_mut().zip(rows.clone()) {
            let product = dot(user(self.inputs, row), positive(self.inputs, row));
            *logit = fma(self.inputs.inv_temperature * log2_e, product, -self.inputs.positive_log_q[row] * log2_e);
        }
        logits
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
/// The shared negatives of a block, tile by tile: their `2^(logit - reference)` stay in `scratch.logits`, the products of these with
/// the items in `d_users` [rows, dim]; returns their sums. `reference`, some logit of each row before, ends high enough for all.
fn exponentiate(
    inputs: &SoftmaxInputs,
    bias: &[f32],
    rows: &Range<usize>,
    scratch: &mut BlockScratch,
    reference: &mut Lanes,
    d_users: &mut [f32],
) -> [f64; BLOCK] {
    let (dim, first) = (inputs.dim, inputs.first_negative());
    let mut sums = [0.0f64; BLOCK];
    d_users.fill(0.0);
    if inputs.hardest > 0 {
        find_hardest(inputs, rows, scratch);
    }
    let BlockScratch { logits, columns, removed, .. } = scratch;
    let negatives = &bias[first..];
    for (at, bias) in negatives.chunks(TILE).enumerate() {
        let column = first + at * TILE;
        let (before, tile) = logits.split_at_mut(at * TILE * BLOCK);
        let tile = &mut tile[..bias.len() * BLOCK];
        if inputs.hardest == 0 {
            fill_tile(inputs, column, columns, removed, tile);
        }
        let top = highest(tile, bias);
        if top.iter().zip(reference.iter()).any(|(top, reference)| *top > *reference + HEADROOM) {
            let factors = raise(reference, &top);
            scale_lanes(before, &factors);
            for (lane, d_user) in d_users.chunks_exact_mut(dim).enumerate() {
                sums[lane] *= f64::from(factors[lane]);
                d_user.iter_mut().for_each(|g| *g *= factors[lane]);
            }
        }
        let of_tile = exponentiate_tile(tile, bias, reference);
        sums.iter_mut().zip(of_tile).for_each(|(total, sum)| *total += f64::from(sum));
        multiply(
            (d_users, Layout::row_major(rows.len(), dim)),
            (tile, Layout { rows: rows.len(), cols: bias.len(), row_stride: 1, col_stride: BLOCK }),
            (&inputs.items[column * dim..], Layout::row_major(bias.len(), dim)),
            1.0,
            Output::Accumulate,
        );
    }
    sums
}

/// Scaled dot products of a block's users with the items from `first` on, in base 2, as many as the tile holds; minus infinity where
/// they are `removed`.
fn fill_tile(inputs: &SoftmaxInputs, first: usize, users: &[f32], removed: &Removed, tile: &mut [f32]) {
    let (dim, count) = (inputs.dim, tile.len() / BLOCK);
    multiply(
        (tile, Layout { rows: BLOCK, cols: count, row_stride: 1, col_stride: BLOCK }),
        (users, Layout { rows: BLOCK, cols: dim, row_stride: 1, col_stride: BLOCK }),
        (&inputs.items[first * dim..], Layout::row_major(count, dim).transposed()),
        inputs.inv_temperature * std::f32::consts::LOG2_E,
        Output::Overwrite,
    );
    removed.remove(first, tile);
}

/// Fills all tiles, and lets the hardest negatives of each row count as often as they are to.
fn find_hardest(inputs: &SoftmaxInputs, rows: &Range<usize>, scratch: &mut BlockScratch) {
    let first = inputs.first_negative();
    scratch.hardest.clear();
    for (at, tile) in scratch.logits.chunks_mut(TILE * BLOCK).enumerate() {
        fill_tile(inputs, first + at * TILE, &scratch.columns, &scratch.removed, tile);
        scratch.hardest.offer(tile, first + at * TILE);
    }
    for lane in 0..rows.len() {
        for (column, score) in scratch.hardest.of(lane, inputs.hardest) {
            scratch.logits[(column - first) * BLOCK + lane] = score + inputs.hardest_weight.log2() as f32;
        }
    }
}

/// Raises the reference of rows that need it; returns what powers of 2 made with the one before are to be multiplied by.
fn raise(reference: &mut Lanes, top: &Lanes) -> Lanes {
    let mut factors = [1.0; BLOCK];
    for lane in 0..BLOCK {
        if top[lane] > reference[lane] + HEADROOM {
            factors[lane] = exp2(reference[lane] - top[lane]);
            reference[lane] = top[lane];
        }
    }
    factors
}

in_two_widths! {
    /// Each row's highest logit of a tile; a NaN is passed over.
    fn highest(tile: &[f32], bias: &[f32]) -> Lanes {
        let (columns, _) = tile.as_chunks::<BLOCK>();
        let mut top = [f32::NEG_INFINITY; BLOCK];
        for (column, &bias) in columns.iter().zip(bias) {
            for lane in 0..BLOCK {
                let logit = column[lane] + bias;
                top[lane] = if logit > top[lane] { logit } else { top[lane] };
            }
        }
        top
    }
}

in_two_widths! {
    /// Turns logits into `2^(logit - reference)` in place; returns each row's sum.
    fn exponentiate_tile(tile: &mut [f32], bias: &[f32], reference: &Lanes) -> Lanes {
        let (columns, _) = tile.as_chunks_mut::<BLOCK>();
        let mut sums = [0.0; BLOCK];
        for (column, &bias) in columns.iter_mut().zip(bias) {
            for lane in 0..BLOCK {
                let e = exp2((column[lane] + bias) - reference[lane]);
                column[lane] = e;
                sums[lane] += e;
            }
        }
        sums
    }
}

/// Multiplies the values of each row of a block.
fn scale_lanes(columns: &mut [f32], factors: &Lanes) {
    let (columns, _) = columns.as_chunks_mut::<BLOCK>();
    for column in columns {
        for lane in 0..BLOCK {
            column[lane] *= factors[lane];
        }
    }
}
