//! The sampled softmax loss of a batch, with both gradients, in one fused pass.
//!
//! Row `i` (a user) meets its own positive, every other shared column it may count as a negative, and the hard negatives
//! it owns:
//!
//! ```text
//! z_ij = inv_temperature * u_i . v_j - log_q_j            shared columns; the positive has a log_q of its own
//! z_ih = inv_temperature * u_i . v_h + hard_log_weight    hard negatives
//! loss = sum_i w_i (logsumexp_j z_ij - z_ii) / sum_i w_i
//! ```
//!
//! The correction by `log_q` is that of Yi et al., "Sampling-bias-corrected neural modeling for large
//! corpus item recommendations" (RecSys 2019).
//!
//! Why it is fast: the logits of `BLOCK` rows are made, exponentiated and used up while they are in
//! cache, in tiles stored column after column (`tile[column * BLOCK + row]`), so that the maximum and
//! the sum of a row are vertical vector operations. All exponents are of base 2, and the scale of a
//! row's probabilities is put on the small matrices (users, d_users) rather than on the logits.
//! Why it is exact: powers are taken of the distance to a reference that is at most `HEADROOM` below the row's maximum and
//! rises when it has to, so nothing overflows and nothing that counts is lost; and the gradient of the positive, `p_i - 1`,
//! is computed as minus the sum of the other probabilities, which loses nothing when `p_i` is near 1.

use rayon::prelude::*;

pub use crate::hardest::MOST_HARDEST;
use crate::math::add_scaled;

mod block;
mod pairwise;
mod removed;
use block::{BlockScratch, RowTask, TaskTotals};

/// Rows whose logits are worked on together: a multiple of 24, the height of a tile of gemm on AVX2.
pub(crate) const BLOCK: usize = 48;
/// Columns per tile: the tile, its items and the block's users fit the L1 cache together, or nearly (up to 64 dimensions).
const TILE: usize = 96;
/// The largest pieces of a batch, each with its own partial sum of `d_items`, are such a part of it. The last ones are smaller, so that no
/// thread waits long for another's last.
const LARGEST_PIECE: usize = 14;
/// Item rows per parallel piece when the partial sums are added.
const ITEMS_PER_PIECE: usize = 64;

/// For each row a list of columns: those of row `i` are `cols[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Copy, Debug)]
pub struct Csr<'a> {
    /// [rows + 1]; empty when no row has any column.
    pub offsets: &'a [u32],
    pub cols: &'a [u32],
}

impl<'a> Csr<'a> {
    /// No columns, for any number of rows.
    pub const EMPTY: Csr<'static> = Csr { offsets: &[], cols: &[] };

    /// The columns of a row.
    pub fn of(&self, row: usize) -> &'a [u32] {
        &self.cols[self.bounds(row)]
    }

    fn bounds(&self, row: usize) -> std::ops::Range<usize> {
        if self.offsets.is_empty() { 0..0 } else { self.offsets[row] as usize..self.offsets[row + 1] as usize }
    }

    fn check(&self, name: &str, rows: usize) {
        let empty = self.offsets.is_empty() && self.cols.is_empty();
        let end = self.offsets.last().map(|&end| end as usize);
        let fits = self.offsets.len() == rows + 1 && self.offsets[0] == 0 && end == Some(self.cols.len());
        assert!(empty || fits, "{name}: offsets do not describe {rows} rows of {} columns", self.cols.len());
    }
}

impl<'a> From<&'a (Vec<u32>, Vec<u32>)> for Csr<'a> {
    /// Of offsets and columns.
    fn from((offsets, cols): &'a (Vec<u32>, Vec<u32>)) -> Self {
        Csr { offsets, cols }
    }
}

/// What a row loses, with `s` for inner products, `mean` over its negatives, each as often as its weight says, and `t` for
/// `inv_temperature`. A row without negatives has the mean 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Loss {
    /// The sampled softmax.
    #[default]
    Softmax,
    /// `(1 - s_i) + negative_weight * mean max(0, s_k - margin)`: Mao et al., "SimpleX: a simple and strong baseline for
    /// collaborative filtering" (CIKM 2021).
    CosineContrastive { margin: f32, negative_weight: f32 },
    /// `mean -ln sigmoid(t (s_i - s_k))`: Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback" (UAI 2009).
    Bpr,
    /// `mean max(0, s_k - s_i + margin)`.
    Triplet { margin: f32 },
    /// `-ln sigmoid(t s_i) + negative_weight * mean -ln(1 - sigmoid(t s_k))`.
    BinaryCrossEntropy { negative_weight: f32 },
}

/// One batch: B users, C items of which the first S are shared and have the users' positives among them.
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxInputs<'a> {
    pub loss: Loss,
    pub dim: usize,
    /// [B, dim] row-major; the caller has normalised them and the items where they are to be.
    pub users: &'a [f32],
    /// [C, dim] row-major: S shared columns, C - S hard negatives.
    pub items: &'a [f32],
    /// ln of each shared column's sampling probability, `[S]`; its length says what S is. Zeros for no
    /// correction, infinity for what is nobody's negative. Only the softmax corrects. An item that stands for several draws has one
    /// column, with minus the ln of the sum of their `1 / q`.
    pub log_q: &'a [f32],
    /// The shared column of each user's positive `[B]`, and what it has in place of the column's `log_q` there `[B]`.
    pub positives: &'a [u32],
    pub positive_log_q: &'a [f32],
    /// Columns in S..C that each row owns.
    pub hard: Csr<'a>,
    /// How many random negatives a hard one counts for. Above 0.
    pub hard_weight: f64,
    /// Whether all shared columns are negatives, the other rows' positives as well; otherwise only columns from B on are.
    pub in_batch: bool,
    /// How many of a row's shared negatives, those of the highest scores, count as its hardest: at most
    /// [`MOST_HARDEST`]. The choice itself has no gradient.
    pub hardest: usize,
    /// How many negatives each of them counts for. Above 0.
    pub hardest_weight: f64,
    /// Shared columns that must not count as negatives of a row; its own positive is never masked.
    pub masked: Csr<'a>,
    /// Above 0.
    pub inv_temperature: f32,
    /// Sample weights `[B]`; all 1 when absent.
    pub weights: Option<&'a [f32]>,
}

/// What one pass gives. The buffers are reused between calls; any of them may be taken away.
#[derive(Clone, Debug, Default)]
pub struct SoftmaxOutputs {
    /// Weighted mean loss, in nats; 0 (with zero gradients) when all weights are 0.
    pub loss: f64,
    /// Loss of each row before weighting `[B]`.
    pub row_losses: Vec<f32>,
    /// d loss / d users [B, dim].
    pub d_users: Vec<f32>,
    /// d loss / d items [C, dim].
    pub d_items: Vec<f32>,
    /// d loss / d inv_temperature.
    pub d_inv_temperature: f64,
    /// Weighted mean of the probability that a softmax gives to the positive; 0 with another loss.
    pub positive_probability: f64,
}

impl SoftmaxInputs<'_> {
    /// The first shared column that may be a negative.
    fn first_negative(&self) -> usize {
        if self.in_batch { 0 } else { self.users.len() / self.dim }
    }
}

/// Owns the scratch memory of [`SoftmaxKernel::run`]; keep one for the whole training.
#[derive(Debug, Default)]
pub struct SoftmaxKernel {
    /// Minus `log_q`, in base 2 `[S]`.
    bias: Vec<f32>,
    /// d loss / d logit of each row's positive, times inv_temperature `[B]`.
    positive_slopes: Vec<f32>,
    /// The same of each entry of `hard.cols`.
    hard_slopes: Vec<f32>,
    /// One sum of `d_items` [S, dim] for each task.
    partials: Vec<Vec<f32>>,
    /// As many as tasks ran at once.
    scratch: std::sync::Mutex<Vec<BlockScratch>>,
    /// Positives by column, then hard negatives by column.
    by_column: ByColumn,
}

impl SoftmaxKernel {
    pub fn new() -> Self {
        Self::default()
    }

    /// Loss and gradients of one batch. Panics where the slices of `inputs` do not fit each other.
    pub fn run(&mut self, inputs: &SoftmaxInputs, outputs: &mut SoftmaxOutputs) {
        let sizes = Sizes::of(inputs);
        self.bias.clear();
        self.bias.extend(inputs.log_q.iter().map(|q| -q * std::f32::consts::LOG2_E));
        self.positive_slopes.resize(sizes.batch, 0.0);
        self.hard_slopes.resize(inputs.hard.cols.len(), 0.0);
        outputs.row_losses.resize(sizes.batch, 0.0);
        outputs.d_users.resize(sizes.batch * sizes.dim, 0.0);
        outputs.d_items.resize(sizes.items * sizes.dim, 0.0);

        let total_weight = match inputs.weights {
            Some(weights) => weights.iter().map(|&w| f64::from(w)).sum(),
            None => sizes.batch as f64,
        };
        let weight_scale = if total_weight == 0.0 { 0.0 } else { 1.0 / total_weight };

        let totals = self.run_rows(inputs, &sizes, weight_scale, outputs);
        outputs.loss = totals.loss * weight_scale;
        outputs.d_inv_temperature = totals.user_slope / f64::from(inputs.inv_temperature);
        outputs.positive_probability = totals.positive_probability * weight_scale;

        let (shared, hard) = outputs.d_items.split_at_mut(sizes.shared * sizes.dim);
        self.sum_shared_items(inputs, &sizes, shared);
        self.sum_hard_items(inputs, &sizes, hard);
    }

    /// All rows: everything but `d_items`, which is left in `partials` and the slopes.
    fn run_rows(
        &mut self,
        inputs: &SoftmaxInputs,
        sizes: &Sizes,
        weight_scale: f64,
        outputs: &mut SoftmaxOutputs,
    ) -> TaskTotals {
        let pieces = sizes.pieces();
        self.partials.truncate(pieces.len());
        self.partials.resize_with(pieces.len(), Vec::new);
        let mut tasks = Vec::with_capacity(pieces.len());
        let mut d_users = outputs.d_users.as_mut_slice();
        let mut row_losses = outputs.row_losses.as_mut_slice();
        let mut positive_slopes = self.positive_slopes.as_mut_slice();
        let mut hard_slopes = self.hard_slopes.as_mut_slice();
        for (rows, partial) in pieces.into_iter().zip(&mut self.partials) {
            let hard_len = rows.clone().map(|row| inputs.hard.bounds(row).len()).sum();
            tasks.push(RowTask {
                d_users: d_users.split_off_mut(..rows.len() * sizes.dim).expect("d_users is [B, dim]"),
                row_losses: row_losses.split_off_mut(..rows.len()).expect("row_losses is [B]"),
                positive_slopes: positive_slopes.split_off_mut(..rows.len()).expect("slopes are [B]"),
                hard_slopes: hard_slopes.split_off_mut(..hard_len).expect("one slope an entry"),
                rows,
                inputs,
                bias: &self.bias,
                weight_scale,
                d_items: partial,
            });
        }
        let pool = &self.scratch;
        let mut totals: Vec<(usize, TaskTotals)> = tasks
            .into_iter()
            .enumerate()
            // in this order, whoever is free
            .par_bridge()
            .map(|(at, task)| {
                // A panicking task cannot leave a scratch half-written in the pool, so poison is moot.
                let taken = pool.lock().unwrap_or_else(|e| e.into_inner()).pop();
                let mut scratch = taken.unwrap_or_default();
                let totals = task.run(&mut scratch);
                pool.lock().unwrap_or_else(|e| e.into_inner()).push(scratch);
                (at, totals)
            })
            .collect();
        totals.sort_by_key(|(at, _)| *at);
        totals.into_iter().fold(TaskTotals::default(), |sum, (_, totals)| sum.plus(totals))
    }

    /// `d_items` [S, dim] of the shared columns: the partial sums in task order, then the positives in row order.
    fn sum_shared_items(&mut self, inputs: &SoftmaxInputs, sizes: &Sizes, d_items: &mut [f32]) {
        let dim = sizes.dim;
        self.by_column.sort(sizes.shared, inputs.positives.iter().zip(0..).map(|(&column, row)| (column, row, row)));
        d_items.par_chunks_mut(ITEMS_PER_PIECE * dim).enumerate().for_each(|(piece, out)| {
            let start = piece * ITEMS_PER_PIECE * dim;
            let (first, rest) = self.partials.split_first().expect("there is at least one task");
            out.copy_from_slice(&first[start..start + out.len()]);
            for partial in rest {
                let part = &partial[start..start + out.len()];
                out.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
            }
            for (offset, d_item) in out.chunks_exact_mut(dim).enumerate() {
                for &(row, _) in self.by_column.of(piece * ITEMS_PER_PIECE + offset) {
                    add_scaled(d_item, self.positive_slopes[row as usize], user(inputs, row as usize));
                }
            }
        });
    }

    /// `d_items` [C - S, dim] of the hard negatives: each column takes from its owners in row order.
    fn sum_hard_items(&mut self, inputs: &SoftmaxInputs, sizes: &Sizes, d_items: &mut [f32]) {
        let dim = sizes.dim;
        let entries = (0..sizes.batch).flat_map(|row| inputs.hard.bounds(row).map(move |entry| (row, entry)));
        let columns =
            entries.map(|(row, entry)| (inputs.hard.cols[entry] - sizes.shared as u32, row as u32, entry as u32));
        self.by_column.sort(sizes.items - sizes.shared, columns);
        d_items.par_chunks_mut(ITEMS_PER_PIECE * dim).enumerate().for_each(|(piece, out)| {
            out.fill(0.0);
            for (offset, d_item) in out.chunks_exact_mut(dim).enumerate() {
                for &(row, entry) in self.by_column.of(piece * ITEMS_PER_PIECE + offset) {
                    add_scaled(d_item, self.hard_slopes[entry as usize], user(inputs, row as usize));
                }
            }
        });
    }
}

/// (row, entry) of what columns take from rows, sorted by column.
#[derive(Debug, Default)]
struct ByColumn {
    starts: Vec<u32>,
    entries: Vec<(u32, u32)>,
}

impl ByColumn {
    /// Sorts (column, row, entry); those of a column keep their order.
    fn sort(&mut self, columns: usize, all: impl Iterator<Item = (u32, u32, u32)> + Clone) {
        self.starts.clear();
        self.starts.resize(columns + 2, 0);
        all.clone().for_each(|(column, ..)| self.starts[column as usize + 2] += 1);
        for column in 2..columns + 2 {
            self.starts[column] += self.starts[column - 1];
        }
        self.entries.clear();
        self.entries.resize(self.starts[columns + 1] as usize, (0, 0));
        for (column, row, entry) in all {
            let next = &mut self.starts[column as usize + 1];
            self.entries[*next as usize] = (row, entry);
            *next += 1;
        }
    }

    fn of(&self, column: usize) -> &[(u32, u32)] {
        &self.entries[self.starts[column] as usize..self.starts[column + 1] as usize]
    }
}

fn user<'a>(inputs: &SoftmaxInputs<'a>, row: usize) -> &'a [f32] {
    &inputs.users[row * inputs.dim..(row + 1) * inputs.dim]
}

fn positive<'a>(inputs: &SoftmaxInputs<'a>, row: usize) -> &'a [f32] {
    item(inputs, inputs.positives[row] as usize)
}

fn item<'a>(inputs: &SoftmaxInputs<'a>, col: usize) -> &'a [f32] {
    &inputs.items[col * inputs.dim..(col + 1) * inputs.dim]
}

/// B, S, C and dim of a batch, checked against each other.
struct Sizes {
    dim: usize,
    batch: usize,
    shared: usize,
    items: usize,
}

impl Sizes {
    fn of(inputs: &SoftmaxInputs) -> Self {
        let dim = inputs.dim;
        assert!(dim > 0 && inputs.users.len().is_multiple_of(dim) && inputs.items.len().is_multiple_of(dim));
        let (batch, items) = (inputs.users.len() / dim, inputs.items.len() / dim);
        let shared = inputs.log_q.len();
        assert!(
            0 < batch && 0 < shared && shared <= items && (inputs.in_batch || batch <= shared),
            "want 0 < B, 0 < S <= C and B <= S without in-batch negatives, not B {batch}, S {shared}, C {items}"
        );
        assert!(inputs.inv_temperature > 0.0, "inv_temperature is {}", inputs.inv_temperature);
        let weighs = |weight: f64| weight > 0.0 && weight.is_finite();
        assert!(weighs(inputs.hard_weight) && weighs(inputs.hardest_weight) && inputs.hardest <= MOST_HARDEST);
        assert!(inputs.weights.is_none_or(|w| w.len() == batch), "weights must be [{batch}]");
        inputs.hard.check("hard", batch);
        inputs.masked.check("masked", batch);
        let in_range =
            |cols: &[u32], range: std::ops::Range<usize>| cols.iter().all(|&col| range.contains(&(col as usize)));
        assert!(in_range(inputs.hard.cols, shared..items), "a hard column is not in {shared}..{items}");
        assert!(
            inputs.positives.len() == batch && inputs.positive_log_q.len() == batch,
            "want a positive for each user"
        );
        assert!(in_range(inputs.positives, 0..shared), "a positive is not in 0..{shared}");
        assert!(in_range(inputs.masked.cols, 0..shared), "a masked column is not in 0..{shared}");
        Self { dim, batch, shared, items }
    }

    /// Pieces the rows are cut into: never a matter of the thread count, and not so many that adding the partial sums of `d_items` would
    /// be felt.
    fn pieces(&self) -> Vec<std::ops::Range<usize>> {
        let blocks = self.batch.div_ceil(BLOCK);
        let most = blocks.div_ceil(LARGEST_PIECE);
        let mut pieces = Vec::new();
        let mut first = 0;
        while first < blocks {
            let left = blocks - first;
            let next = first + most.min(left.div_ceil(4)).max(2).min(left);
            pieces.push(first * BLOCK..(next * BLOCK).min(self.batch));
            first = next;
        }
        pieces
    }
}

#[cfg(test)]
mod tests;
