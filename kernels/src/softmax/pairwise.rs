//! The losses that compare each negative with a margin, or with the positive: one block of rows at a time, on one thread.
//!
//! All of them are `own(s_i) + factor * mean_k f(scale * s_k + offset_i)`, where `s_i` is the score of the row's positive,
//! `s_k` that of a negative, and `f` is `max(0, x)` or `ln(1 + e^x)`. So a tile of scores becomes a tile of slopes in
//! one pass, and nothing larger than a tile is ever kept.

use std::ops::Range;

use super::block::{BlockScratch, Lanes, RowTask, TaskTotals};
use super::{BLOCK, Loss, TILE, item, positive, user};
use crate::math::{Layout, Output, add_scaled, dot, dot_f64, exp2, fma, multiply};

/// What a loss does with the scores of one row.
#[derive(Clone, Copy)]
struct Form {
    /// `ln(1 + e^x)` of the negatives; otherwise `max(0, x)`.
    smooth: bool,
    /// Whether `x` holds minus the positive's score.
    pair: bool,
    /// What scores are multiplied by.
    scale: f32,
    /// Added to `x`.
    shift: f32,
    /// Weight of the negatives' mean.
    factor: f64,
}

impl Form {
    fn of(loss: Loss, inv_temperature: f32) -> Self {
        let (smooth, pair, scale, shift, factor) = match loss {
            Loss::Softmax => unreachable!("the softmax has a block of its own"),
            Loss::CosineContrastive { margin, negative_weight } => (false, false, 1.0, -margin, negative_weight),
            Loss::Triplet { margin } => (false, true, 1.0, margin, 1.0),
            Loss::Bpr => (true, true, inv_temperature, 0.0, 1.0),
            Loss::BinaryCrossEntropy { negative_weight } => (true, false, inv_temperature, 0.0, negative_weight),
        };
        Self { smooth, pair, scale, shift, factor: f64::from(factor) }
    }

    /// Loss of a positive by its score, and its slope.
    fn own(&self, score: f32) -> (f64, f64) {
        match (self.pair, self.smooth) {
            (true, _) => (0.0, 0.0),
            (false, false) => (1.0 - f64::from(score), -1.0),
            (false, true) => {
                let (value, slope) = softplus_f64(-f64::from(self.scale) * f64::from(score));
                (value, -f64::from(self.scale) * slope)
            }
        }
    }

    /// Loss of one negative beside the tiles, by its `x`, and its slope.
    fn one(&self, x: f64) -> (f64, f64) {
        if self.smooth { softplus_f64(x) } else { (if x <= 0.0 { 0.0 } else { x }, if x <= 0.0 { 0.0 } else { 1.0 }) }
    }
}

impl RowTask<'_> {
    pub(super) fn run_pairwise_block(&mut self, rows: Range<usize>, scratch: &mut BlockScratch) -> TaskTotals {
        let inputs = self.inputs;
        let dim = inputs.dim;
        let form = Form::of(inputs.loss, inputs.inv_temperature);
        let first_negative = inputs.first_negative();
        let local = rows.start - self.rows.start;
        scratch.removed.list(inputs, rows.clone());
        scratch.hardest.clear();
        self.lay_out_users(&rows, &mut scratch.columns);

        let mut own_scores = [0.0f32; BLOCK];
        let mut offsets: Lanes = [0.0; BLOCK];
        let mut slope_scales = [0.0f64; BLOCK];
        let counts = scratch.removed.left(first_negative);
        for (lane, row) in rows.clone().enumerate() {
            own_scores[lane] = dot(user(inputs, row), positive(inputs, row));
            offsets[lane] = if form.pair { form.shift - form.scale * own_scores[lane] } else { form.shift };
            let hardest = f64::from(counts[lane].min(inputs.hardest as u32)) * (inputs.hardest_weight - 1.0);
            let mass = f64::from(counts[lane]) + hardest + inputs.hard.bounds(row).len() as f64 * inputs.hard_weight;
            slope_scales[lane] = if mass > 0.0 { form.factor / mass } else { 0.0 };
            let weight = f64::from(inputs.weights.map_or(1.0, |weights| weights[row])) * self.weight_scale;
            let scale = (weight * slope_scales[lane] * f64::from(form.scale)) as f32;
            let scaled = &mut scratch.users[lane * dim..(lane + 1) * dim];
            scaled.iter_mut().zip(user(inputs, row)).for_each(|(s, v)| *s = v * scale);
        }

        let (values, slopes) = self.run_tiles(&rows, &form, &offsets, scratch);
        let mut totals = TaskTotals::default();
        let hard_start = inputs.hard.bounds(self.rows.start).start;
        for (lane, row) in rows.clone().enumerate() {
            let weight = f64::from(inputs.weights.map_or(1.0, |weights| weights[row]));
            let scale = weight * self.weight_scale * slope_scales[lane] * f64::from(form.scale);
            let (mut value, mut slope) = (values[lane], slopes[lane]);
            let at = local + lane;
            let d_user = &mut self.d_users[at * dim..(at + 1) * dim];
            d_user.iter_mut().for_each(|g| *g *= scale as f32);
            for (col, score) in scratch.hardest.of(lane, inputs.hardest) {
                let extra = inputs.hardest_weight - 1.0;
                let (v, s) = form.one(f64::from(score + offsets[lane]));
                (value, slope) = (value + extra * v, slope + extra * s);
                let change = (extra * s * scale) as f32;
                add_scaled(d_user, change, item(inputs, col));
                add_scaled(&mut self.d_items[col * dim..(col + 1) * dim], change, user(inputs, row));
            }
            for entry in inputs.hard.bounds(row) {
                let column = item(inputs, inputs.hard.cols[entry] as usize);
                let score = dot(user(inputs, row), column);
                let (v, s) = form.one(f64::from(fma(form.scale, score, offsets[lane])));
                (value, slope) = (value + inputs.hard_weight * v, slope + inputs.hard_weight * s);
                let change = (inputs.hard_weight * s * scale) as f32;
                self.hard_slopes[entry - hard_start] = change;
                add_scaled(d_user, change, column);
            }
            let (own, own_slope) = form.own(own_scores[lane]);
            let own_slope = if form.pair { -slope * scale } else { own_slope * weight * self.weight_scale };
            add_scaled(d_user, own_slope as f32, positive(inputs, row));
            self.positive_slopes[at] = own_slope as f32;
            let loss = own + slope_scales[lane] * value;
            self.row_losses[at] = loss as f32;
            totals = totals.plus(TaskTotals {
                loss: weight * loss,
                user_slope: if form.smooth { dot_f64(user(inputs, row), d_user) } else { 0.0 },
                positive_probability: 0.0,
            });
        }
        totals
    }

    /// Sums of values and slopes of the shared negatives of each row; the slopes' products with the items go to `d_users`
    /// and those with the users, scaled as they are in `scratch`, to `d_items`.
    fn run_tiles(
        &mut self,
        rows: &Range<usize>,
        form: &Form,
        offsets: &Lanes,
        scratch: &mut BlockScratch,
    ) -> ([f64; BLOCK], [f64; BLOCK]) {
        let inputs = self.inputs;
        let (dim, shared) = (inputs.dim, self.bias.len());
        let first_negative = inputs.first_negative();
        let local = rows.start - self.rows.start;
        let d_users = &mut self.d_users[local * dim..(local + rows.len()) * dim];
        d_users.fill(0.0);
        if local == 0 {
            self.d_items.fill(0.0);
        }
        let (mut values, mut slopes) = ([0.0f64; BLOCK], [0.0f64; BLOCK]);
        for first in (first_negative..shared).step_by(TILE) {
            let count = TILE.min(shared - first);
            let tile = &mut scratch.logits[..count * BLOCK];
            let of_tile = Layout { rows: rows.len(), cols: count, row_stride: 1, col_stride: BLOCK };
            let items = &inputs.items[first * dim..(first + count) * dim];
            multiply(
                (tile, Layout { rows: BLOCK, ..of_tile }),
                (&scratch.columns, Layout { rows: BLOCK, cols: dim, row_stride: 1, col_stride: BLOCK }),
                (items, Layout::row_major(count, dim).transposed()),
                form.scale,
                Output::Overwrite,
            );
            scratch.removed.remove(first, tile);
            if inputs.hardest > 0 {
                scratch.hardest.offer(tile, first);
            }
            let (value, slope) = if form.smooth { apply(tile, offsets, softplus) } else { apply(tile, offsets, hinge) };
            values.iter_mut().zip(value).for_each(|(sum, v)| *sum += f64::from(v));
            slopes.iter_mut().zip(slope).for_each(|(sum, v)| *sum += f64::from(v));
            multiply(
                (d_users, Layout::row_major(rows.len(), dim)),
                (&*tile, of_tile),
                (items, Layout::row_major(count, dim)),
                1.0,
                Output::Accumulate,
            );
            multiply(
                (&mut self.d_items[first * dim..(first + count) * dim], Layout::row_major(count, dim)),
                (&*tile, of_tile.transposed()),
                (&scratch.users, Layout::row_major(rows.len(), dim)),
                1.0,
                Output::Accumulate,
            );
        }
        (values, slopes)
    }
}

/// Turns scores into slopes of `f(score + offset)` in place; returns each row's sum of values and of slopes.
#[inline(always)]
fn apply(tile: &mut [f32], offsets: &Lanes, f: impl Fn(f32) -> (f32, f32)) -> (Lanes, Lanes) {
    let (columns, _) = tile.as_chunks_mut::<BLOCK>();
    let (mut values, mut slopes) = ([0.0; BLOCK], [0.0; BLOCK]);
    for column in columns {
        for lane in 0..BLOCK {
            let (value, slope) = f(column[lane] + offsets[lane]);
            column[lane] = slope;
            values[lane] += value;
            slopes[lane] += slope;
        }
    }
    (values, slopes)
}

/// `max(0, x)` and its slope; a NaN stays one.
#[inline(always)]
fn hinge(x: f32) -> (f32, f32) {
    (if x <= 0.0 { 0.0 } else { x }, if x <= 0.0 { 0.0 } else { 1.0 })
}

/// `ln(1 + e^x)` and its slope, to 2e-7 relative down to where e^x is below 2^-100.
///
/// With `t = e^-|x|` and `y = t / (2 + t)`, `ln(1 + t) = 2 artanh y = 2 y (1 + y^2 / 3 + y^4 / 5 + ...)`; as y is at most
/// 1/3, seven terms leave out less than 2e-8.
#[inline(always)]
fn softplus(x: f32) -> (f32, f32) {
    let t = exp2(-x.abs() * std::f32::consts::LOG2_E);
    let y = t / (2.0 + t);
    let square = y * y;
    let mut series = 1.0 / 13.0;
    for odd in [11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        series = fma(series, square, 1.0 / odd);
    }
    let above = if x <= 0.0 { 0.0 } else { x };
    let slope = if x <= 0.0 { t } else { 1.0 } / (1.0 + t);
    (fma(2.0 * y, series, above), slope)
}

/// The same of one number.
fn softplus_f64(x: f64) -> (f64, f64) {
    let t = (-x.abs()).exp();
    (x.max(0.0) + t.ln_1p(), if x <= 0.0 { t } else { 1.0 } / (1.0 + t))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softplus_and_its_slope_are_accurate_over_their_whole_range() {
        let mut worst = (0.0f64, 0.0f64);
        for step in -690_000..=900_000i32 {
            let x = step as f32 * 1e-4;
            let ((value, slope), (exact, exact_slope)) = (softplus(x), softplus_f64(f64::from(x)));
            // below 0 both are near e^x, whose exponent an f32 holds to |x| * 6e-8
            let allowed = 3e-7 + f64::from(x.min(0.0).abs()) * 1.2e-7;
            worst.0 = worst.0.max((f64::from(value) - exact).abs() / exact / allowed);
            worst.1 = worst.1.max((f64::from(slope) - exact_slope).abs() / exact_slope / allowed);
        }
        assert!(worst.0 < 1.0 && worst.1 < 1.0, "{worst:?}");
    }

    #[test]
    fn the_edges_are_kept() {
        assert_eq!(softplus(f32::NEG_INFINITY), (0.0, 0.0));
        assert_eq!(softplus(f32::INFINITY), (f32::INFINITY, 1.0));
        assert!(softplus(f32::NAN).0.is_nan() && hinge(f32::NAN).0.is_nan());
        assert_eq!((hinge(f32::NEG_INFINITY), hinge(0.0), hinge(0.5)), ((0.0, 0.0), (0.0, 0.0), (0.5, 1.0)));
    }
}
