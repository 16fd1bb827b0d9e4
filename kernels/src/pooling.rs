//! Embedding bags: gathering and pooling the rows of a batch, and sending gradients back to them.
//!
//! A bag column is a CSR: bag `b` of the batch holds the table rows `ids[offsets[b]..offsets[b + 1]]`.
//! Pooled, with per-id weights `w` (1 when absent), as `tf.nn.embedding_lookup_sparse` defines it:
//!
//! ```text
//! Sum    sum w v
//! Mean   sum w v / sum w
//! SqrtN  sum w v / sqrt(sum w^2)
//! Max    elementwise max of w v
//! ```
//!
//! Attention, with learned shares, is in [`Attention`].
//!
//! An empty bag, and one whose divisor is zero, gives zeros. Nothing here costs anything in the size
//! of the table: time and memory are linear in the ids of the batch.

use rayon::prelude::*;

use crate::math::weighted_sum;
use crate::tables::EmbeddingTable;
use crate::wide::in_two_widths;

mod attention;
mod scatter;
pub use attention::{Attention, AttentionGradients};
pub use scatter::{BagGradient, RowGradients, Scatter};
pub(crate) use scatter::{Piece, TakeGradients};

/// Bags per parallel piece.
const BAGS_PER_PIECE: usize = 64;

/// How the rows of a bag become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    Mean,
    Sum,
    Max,
    SqrtN,
}

/// One feature of a batch: a list of table rows for each example.
#[derive(Clone, Copy, Debug)]
pub struct Bag<'a> {
    /// [batch + 1].
    pub offsets: &'a [u32],
    /// Rows of the table.
    pub ids: &'a [u32],
    /// One for each id; all 1 when absent.
    pub weights: Option<&'a [f32]>,
}

impl Bag<'_> {
    /// Number of bags.
    pub fn batch(&self) -> usize {
        self.offsets.len() - 1
    }

    fn range(&self, bag: usize) -> std::ops::Range<usize> {
        self.offsets[bag] as usize..self.offsets[bag + 1] as usize
    }

    #[inline(always)]
    fn weight(&self, at: usize) -> f32 {
        self.weights.map_or(1.0, |weights| weights[at])
    }

    /// What the weighted sum of a bag is multiplied by.
    fn scale(&self, bag: usize, pooling: Pooling) -> f32 {
        let range = self.range(bag);
        let divisor = match (pooling, self.weights) {
            (Pooling::Sum | Pooling::Max, _) => 1.0,
            (Pooling::Mean, None) => range.len() as f32,
            (Pooling::Mean, Some(weights)) => weights[range].iter().sum(),
            (Pooling::SqrtN, None) => (range.len() as f32).sqrt(),
            (Pooling::SqrtN, Some(weights)) => weights[range].iter().map(|w| w * w).sum::<f32>().sqrt(),
        };
        if divisor == 0.0 { 0.0 } else { 1.0 / divisor }
    }

    fn check(&self) {
        let end = self.offsets.last().map(|&end| end as usize);
        assert!(end == Some(self.ids.len()) && self.offsets[0] == 0, "offsets do not end at the last id");
        assert!(self.weights.is_none_or(|w| w.len() == self.ids.len()), "want one weight for each id");
    }
}

/// Pools each bag into `out[bag * stride + col_offset..][..table.dim]`, which it overwrites.
///
/// `out` is [batch, stride] row-major; features of one batch share it, each at its own `col_offset`.
pub fn gather(table: &EmbeddingTable, bag: Bag, pooling: Pooling, out: &mut [f32], stride: usize, col_offset: usize) {
    bag.check();
    assert_eq!(out.len(), bag.batch() * stride, "out must be [batch, stride]");
    assert!(col_offset + table.dim <= stride, "the feature does not fit its row");
    if out.is_empty() {
        return;
    }
    out.par_chunks_mut(BAGS_PER_PIECE * stride).enumerate().for_each(|(piece, rows)| {
        pool_all(table, &bag, pooling, piece * BAGS_PER_PIECE, rows, stride, col_offset);
    });
}

in_two_widths! {
    /// Pools bags from `first` on into their rows of `out`.
    fn pool_all(
        table: &EmbeddingTable,
        bag: &Bag,
        pooling: Pooling,
        first: usize,
        out: &mut [f32],
        stride: usize,
        col_offset: usize,
    ) {
        for (row, index) in out.chunks_exact_mut(stride).zip(first..) {
            pool(table, bag, index, pooling, &mut row[col_offset..col_offset + table.dim]);
        }
    }
}

#[inline(always)]
fn pool(table: &EmbeddingTable, bag: &Bag, index: usize, pooling: Pooling, out: &mut [f32]) {
    let range = bag.range(index);
    if range.is_empty() {
        out.fill(0.0);
        return;
    }
    if pooling == Pooling::Max {
        out.fill(f32::NEG_INFINITY);
        for at in range {
            let weight = bag.weight(at);
            for (o, &v) in out.iter_mut().zip(table.row(bag.ids[at] as usize)) {
                let candidate = weight * v;
                *o = if candidate > *o { candidate } else { *o };
            }
        }
        return;
    }
    let scale = bag.scale(index, pooling);
    let term = |at: usize| (scale * bag.weight(at), table.row(bag.ids[at] as usize));
    weighted_sum(out, range.map(term));
}

/// For each element of each bag, the position in `ids` that [`Pooling::Max`] took it from (the first
/// of equals) [batch, dim]; `u32::MAX` in an empty bag.
fn argmax(table: &EmbeddingTable, bag: &Bag, out: &mut Vec<u32>) {
    let dim = table.dim;
    out.clear();
    out.resize(bag.batch() * dim, u32::MAX);
    out.par_chunks_mut(BAGS_PER_PIECE * dim).enumerate().for_each_init(
        || vec![0.0f32; dim],
        |top, (piece, rows)| {
            for (offset, winners) in rows.chunks_exact_mut(dim).enumerate() {
                top.fill(f32::NEG_INFINITY);
                for at in bag.range(piece * BAGS_PER_PIECE + offset) {
                    let weight = bag.weight(at);
                    let row = table.row(bag.ids[at] as usize);
                    for ((top, winner), &v) in top.iter_mut().zip(winners.iter_mut()).zip(row) {
                        if weight * v > *top {
                            (*top, *winner) = (weight * v, at as u32);
                        }
                    }
                }
            }
        },
    );
}

#[cfg(test)]
mod tests;
