//! Embedding tables and their optimizer: row-wise Adagrad on the rows a batch has touched.

mod adam;

use rayon::prelude::*;

pub use self::adam::{LazyAdam, Moments};
use crate::math::{dot, fma, prefetch};
use crate::pooling::{Piece, RowGradients, TakeGradients};
use crate::random::{GOLDEN, splitmix64};

/// Rows per parallel piece.
const ROWS_PER_PIECE: usize = 256;

/// One vector and one optimizer cell for each id of a vocabulary.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmbeddingTable {
    pub dim: usize,
    /// `[rows, dim]` row-major.
    pub rows: Vec<f32>,
    /// Adagrad's running sum of each row's mean squared gradient `[rows]`.
    pub accumulator: Vec<f32>,
}

/// How new rows get their values: uniform in ±`scale`, a pure function of seed, row and column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowInit {
    pub seed: u64,
    /// Largest magnitude; `1 / sqrt(dim)` is the usual choice, see [`RowInit::usual`].
    pub scale: f32,
    /// What the accumulator of a new row starts from.
    pub accumulator: f32,
}

impl RowInit {
    /// Scale `1 / sqrt(dim)`, accumulator 0.
    pub fn usual(dim: usize, seed: u64) -> Self {
        Self { seed, scale: 1.0 / (dim as f32).sqrt(), accumulator: 0.0 }
    }
}

/// One step of row-wise Adagrad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowwiseAdagrad {
    pub learning_rate: f32,
    /// Added to the root of the accumulator (FBGEMM's default is 1e-8).
    pub epsilon: f32,
    /// L2 decay, added to the gradient before it is squared; touched rows only. 0 for none.
    pub weight_decay: f32,
}

impl EmbeddingTable {
    pub fn new(rows: usize, dim: usize, init: &RowInit) -> Self {
        assert!(dim > 0, "an embedding needs a dimension");
        let mut table = Self { dim, rows: Vec::new(), accumulator: Vec::new() };
        table.grow(rows, init);
        table
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.accumulator.len()
    }

    pub fn is_empty(&self) -> bool {
        self.accumulator.is_empty()
    }

    /// `[dim]` values of one row.
    #[inline]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.rows[row * self.dim..(row + 1) * self.dim]
    }

    /// Appends rows until there are `to_rows`; row r gets what it would have got from the start.
    pub fn grow(&mut self, to_rows: usize, init: &RowInit) {
        let (dim, from) = (self.dim, self.len());
        assert!(to_rows >= from, "cannot shrink a table of {from} rows to {to_rows}");
        if from == 0 {
            (self.rows, self.accumulator) = (zeros(to_rows * dim), zeros(to_rows));
            if init.accumulator != 0.0 {
                self.accumulator.fill(init.accumulator);
            }
        }
        self.accumulator.resize(to_rows, init.accumulator);
        self.rows.resize(to_rows * dim, 0.0);
        let new = self.rows[from * dim..].par_chunks_mut(ROWS_PER_PIECE * dim).enumerate();
        new.for_each(|(piece, rows)| {
            for (offset, row) in rows.chunks_exact_mut(dim).enumerate() {
                let state = row_state(init.seed, (from + piece * ROWS_PER_PIECE + offset) as u64);
                for (col, value) in row.iter_mut().enumerate() {
                    let bits = splitmix64(state.wrapping_add((col as u64).wrapping_mul(GOLDEN))) >> 40;
                    // 24 bits, centred: the values are symmetric about zero and never reach ±scale.
                    let unit = (bits as f32 + 0.5) / (1 << 23) as f32 - 1.0;
                    *value = unit * init.scale;
                }
            }
        });
    }

    /// Puts the table into huge pages where it did not get them when it was filled, because free memory was too scattered: the system moves
    /// other things out of the way for it. Costs a copy of those parts, and nothing where all is well.
    pub fn settle(&self) {
        collapse_pages(&self.rows);
        collapse_pages(&self.accumulator);
    }

    /// Steps the touched rows: with `g += weight_decay * row`,
    /// `accumulator += mean(g^2)`, `row -= learning_rate * g / (sqrt(accumulator) + epsilon)`.
    ///
    /// Source: EXACT_ROWWISE_ADAGRAD of FBGEMM, as TorchRec uses it (weight decay mode L2).
    pub fn apply(&mut self, grads: &RowGradients, optimizer: &RowwiseAdagrad) {
        let dim = self.dim;
        assert_eq!(grads.dim(), dim, "gradients of another dimension");
        let pieces = grads.pieces();
        let rows = cut(&mut self.rows, dim, &pieces).into_par_iter();
        let cells = rows.zip(cut(&mut self.accumulator, 1, &pieces));
        pieces.par_iter().zip(cells).for_each(|(piece, (rows, accumulator))| {
            grads.each_row(piece, &mut Adagrad { dim, rows, accumulator, optimizer });
        });
    }
}

/// Of each piece the values of its rows, `width` of them each, to be written in parallel.
fn cut<'a>(mut values: &'a mut [f32], width: usize, pieces: &[Piece]) -> Vec<&'a mut [f32]> {
    let mut start = 0;
    let cut = pieces.iter().map(|piece| {
        let in_table = "rows are of this table";
        values.split_off_mut(..(piece.rows.start - start) * width).expect(in_table);
        start = piece.rows.end;
        values.split_off_mut(..piece.rows.len() * width).expect(in_table)
    });
    cut.collect()
}

/// An empty array with room for `values`, in huge pages where the system gives them on request: rows at random places of a large
/// table then cost a miss of the cache, and not one of the address translation too.
pub fn with_room(values: usize) -> Vec<f32> {
    let mut rows = Vec::with_capacity(values);
    in_huge_pages(rows.spare_capacity_mut());
    rows
}

/// Zeros in such pages. They come from the system as zeros, so that memory is first touched by whoever fills it, on all cores.
pub(crate) fn zeros(values: usize) -> Vec<f32> {
    let mut rows = vec![0.0; values];
    in_huge_pages(&mut rows);
    rows
}

/// Asks for huge pages for memory that nothing has been written to.
fn in_huge_pages<T>(memory: &mut [T]) {
    #[cfg(target_os = "linux")]
    advise(huge_pages(memory), libc::MADV_HUGEPAGE);
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// Has the system put memory that was written to into huge pages now.
fn collapse_pages(memory: &[f32]) {
    #[cfg(target_os = "linux")]
    {
        /// Since Linux 6.1; libc has it for some targets only.
        const MADV_COLLAPSE: libc::c_int = 25;
        /// Bytes of one call: a page for which it cannot be done ends it.
        const TOGETHER: usize = 64 << 20;
        let all = huge_pages(memory);
        let parts = all.clone().step_by(TOGETHER).map(|start| start..(start + TOGETHER).min(all.end));
        parts.for_each(|part| advise(part, MADV_COLLAPSE));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// Addresses of the whole huge pages within `memory`.
#[cfg(target_os = "linux")]
fn huge_pages<T>(memory: &[T]) -> std::ops::Range<usize> {
    const SIZE: usize = 2 << 20;
    let start = memory.as_ptr() as usize;
    start.next_multiple_of(SIZE)..(start + size_of_val(memory)) / SIZE * SIZE
}

/// Gives advice on whole pages of this process's memory, such that changes no value; where it is refused nothing is lost.
#[cfg(target_os = "linux")]
fn advise(pages: std::ops::Range<usize>, advice: libc::c_int) {
    if !pages.is_empty() {
        // SAFETY: the callers' pages are their own, and neither advice changes what is in them
        unsafe { libc::madvise(pages.start as *mut _, pages.len(), advice) };
    }
}

/// Row-wise Adagrad on the rows of a piece.
struct Adagrad<'a> {
    dim: usize,
    rows: &'a mut [f32],
    accumulator: &'a mut [f32],
    optimizer: &'a RowwiseAdagrad,
}

impl TakeGradients for Adagrad<'_> {
    #[inline(always)]
    fn fetch(&self, row: usize) {
        prefetch(&self.rows[row * self.dim..(row + 1) * self.dim]);
        prefetch(&self.accumulator[row..row + 1]);
    }

    #[inline(always)]
    fn take(&mut self, row: usize, g: &[f32]) {
        let (weights, accumulator) = (&mut self.rows[row * self.dim..(row + 1) * self.dim], &mut self.accumulator[row]);
        let decay = self.optimizer.weight_decay;
        let squares = if decay == 0.0 {
            dot(g, g)
        } else {
            g.iter().zip(weights.iter()).map(|(&g, &w)| fma(decay, w, g).powi(2)).sum()
        };
        *accumulator += squares / g.len() as f32;
        let rate = -self.optimizer.learning_rate / (accumulator.sqrt() + self.optimizer.epsilon);
        for (w, &g) in weights.iter_mut().zip(g) {
            *w = fma(rate, fma(decay, *w, g), *w);
        }
    }
}

fn row_state(seed: u64, row: u64) -> u64 {
    splitmix64(splitmix64(seed) ^ row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pooling::{Bag, BagGradient, Pooling, Scatter};

    /// Gradients of single rows, as they come to an optimizer.
    pub(super) struct Given {
        dim: usize,
        offsets: Vec<u32>,
        ids: Vec<u32>,
        values: Vec<f32>,
    }

    impl Given {
        pub fn new(dim: usize, ids: &[u32], values: &[f32]) -> Self {
            Given { dim, offsets: (0..=ids.len() as u32).collect(), ids: ids.to_vec(), values: values.to_vec() }
        }

        pub fn source(&self) -> BagGradient<'_> {
            let bag = Bag { offsets: &self.offsets, ids: &self.ids, weights: None };
            BagGradient { bag, pooling: Pooling::Sum, grad: &self.values, stride: self.dim, col_offset: 0 }
        }

        pub fn scatter(&self, table: &EmbeddingTable) -> Scatter {
            let mut scatter = Scatter::new();
            scatter.plan(table.len(), &[self.source().bag]);
            scatter
        }
    }

    const INIT: RowInit = RowInit { seed: 42, scale: 0.25, accumulator: 0.1 };

    #[test]
    fn a_grown_table_equals_one_made_at_once() {
        let whole = EmbeddingTable::new(1000, 6, &INIT);
        let mut grown = EmbeddingTable::new(3, 6, &INIT);
        grown.grow(3, &INIT);
        grown.grow(517, &INIT);
        grown.grow(1000, &INIT);
        assert_eq!(whole, grown);
        assert_ne!(whole, EmbeddingTable::new(1000, 6, &RowInit { seed: 43, ..INIT }));
        assert_eq!(whole.accumulator, vec![0.1; 1000]);
    }

    #[test]
    fn initial_values_are_uniform_about_zero() {
        let table = EmbeddingTable::new(20_000, 8, &INIT);
        let n = table.rows.len() as f64;
        let mean = table.rows.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = table.rows.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
        assert!(table.rows.iter().all(|v| v.abs() < 0.25));
        assert!(mean.abs() < 1e-3, "mean {mean}");
        assert!((variance - 0.0625 / 3.0).abs() < 2e-4, "variance {variance}");
    }

    #[test]
    fn adagrad_agrees_with_f64_and_leaves_other_rows_alone() {
        for weight_decay in [0.0, 0.03] {
            let optimizer = RowwiseAdagrad { learning_rate: 0.1, epsilon: 1e-8, weight_decay };
            let dim = 11;
            let mut table = EmbeddingTable::new(2000, dim, &INIT);
            let before = table.clone();
            let ids: Vec<u32> = (0..2000).filter(|id| id % 3 == 1 || *id == 1999).collect();
            let values: Vec<f32> = (0..ids.len() * dim).map(|k| ((k * 37) % 101) as f32 * 0.02 - 1.0).collect();
            let given = Given::new(dim, &ids, &values);
            let source = [given.source()];
            let mut scatter = given.scatter(&table);
            let grads = scatter.gradients(&table, &source);
            table.apply(&grads, &optimizer);
            let mut touched = ids.iter().zip(values.chunks(dim)).peekable();
            for row in 0..2000 {
                let Some((_, g)) = touched.next_if(|t| *t.0 as usize == row) else {
                    assert_eq!(table.row(row), before.row(row));
                    assert_eq!(table.accumulator[row], before.accumulator[row]);
                    continue;
                };
                let decay = f64::from(weight_decay);
                let g: Vec<f64> =
                    g.iter().zip(before.row(row)).map(|(&g, &w)| f64::from(g) + decay * f64::from(w)).collect();
                let mean = g.iter().map(|g| g * g).sum::<f64>() / dim as f64;
                let accumulator = f64::from(before.accumulator[row]) + mean;
                assert!((f64::from(table.accumulator[row]) - accumulator).abs() < 1e-6);
                for (k, g) in g.iter().enumerate() {
                    let want = f64::from(before.row(row)[k]) - 0.1 * g / (accumulator.sqrt() + 1e-8);
                    assert!((f64::from(table.row(row)[k]) - want).abs() < 1e-6);
                }
            }
            assert!(touched.next().is_none());
        }
    }

    #[test]
    #[should_panic(expected = "below 4")]
    fn a_gradient_outside_the_table_is_refused() {
        let table = EmbeddingTable::new(4, 2, &INIT);
        let given = Given::new(2, &[1, 4], &[0.0; 4]);
        // found in a table that has the row
        let mut scatter = given.scatter(&EmbeddingTable::new(5, 2, &INIT));
        scatter.gradients(&table, &[given.source()]);
    }
}
