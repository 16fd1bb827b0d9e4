//! The backward of pooling: gradients of pooled vectors, summed by table row.

use rayon::prelude::*;

use super::{Bag, Pooling, RowGradients, argmax, fma};
use crate::tables::EmbeddingTable;

/// Bits per pass of the radix sort.
const DIGIT_BITS: u32 = 11;
const DIGITS: usize = 1 << DIGIT_BITS;
/// Unique rows per parallel piece.
const ROWS_PER_PIECE: usize = 128;

/// A bag column with the gradient of what [`super::gather`] made of it.
#[derive(Clone, Copy, Debug)]
pub struct BagGradient<'a> {
    pub bag: Bag<'a>,
    pub pooling: Pooling,
    /// [batch, stride] row-major; this feature's part starts at `col_offset` of each row. With stride 0 it is one row
    /// `[dim]`, the same for all bags.
    pub grad: &'a [f32],
    pub stride: usize,
    pub col_offset: usize,
}

impl BagGradient<'_> {
    #[inline]
    pub(super) fn part(&self, bag: u32, dim: usize) -> &[f32] {
        let start = bag as usize * self.stride + self.col_offset;
        &self.grad[start..start + dim]
    }
}

/// One id of the batch: where its gradient comes from.
#[derive(Clone, Copy, Debug, Default)]
struct Origin {
    source: u32,
    bag: u32,
    coefficient: f32,
}

/// One id of the batch, to be sorted by its row.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    row: u32,
    /// Index of its [`Origin`].
    origin: u32,
}

/// Owns the scratch memory and the result; keep one for each table (or for all, in turn).
#[derive(Debug, Default)]
pub struct Scatter {
    origins: Vec<Origin>,
    entries: Vec<Entry>,
    sorted: Vec<Entry>,
    /// First entry of each unique row, and the end.
    starts: Vec<u32>,
    /// For each source pooled by max, who won each element.
    winners: Vec<Vec<u32>>,
    result: RowGradients,
}

impl Scatter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sums the gradients of all `sources`, which read the same table, by row. A row takes its terms
    /// in the order of the sources, then of their ids. `table` must be as it was in the forward pass
    /// (max pooling looks again for its winners).
    pub fn run(&mut self, table: &EmbeddingTable, sources: &[BagGradient]) -> &RowGradients {
        self.list_entries(table, sources);
        self.sort_entries();
        self.find_unique();
        self.sum_rows(table.dim, sources);
        &self.result
    }

    fn list_entries(&mut self, table: &EmbeddingTable, sources: &[BagGradient]) {
        self.origins.clear();
        self.entries.clear();
        self.winners.resize_with(sources.len(), Vec::new);
        for (index, source) in sources.iter().enumerate() {
            let bag = &source.bag;
            bag.check();
            let (rows, stride) = if source.stride == 0 { (1, table.dim) } else { (bag.batch(), source.stride) };
            assert!(source.grad.len() == rows * stride, "grad must be [batch, stride]");
            assert!(source.col_offset + table.dim <= stride, "the feature does not fit its row");
            if source.pooling == Pooling::Max {
                argmax(table, bag, &mut self.winners[index]);
            }
            let base = self.origins.len() as u32;
            self.entries.extend(bag.ids.iter().zip(base..).map(|(&row, origin)| Entry { row, origin }));
            for b in 0..bag.batch() {
                let scale = bag.scale(b, source.pooling);
                self.origins.extend(bag.range(b).map(|at| Origin {
                    source: index as u32,
                    bag: b as u32,
                    coefficient: scale * bag.weight(at),
                }));
            }
        }
        assert!(u32::try_from(self.origins.len()).is_ok(), "more than 2^32 ids in one batch");
        let top = self.entries.iter().map(|e| e.row).max().unwrap_or(0);
        assert!(self.entries.is_empty() || (top as usize) < table.len(), "row {top} is not in the table");
    }

    /// Stable radix sort by row, from the lowest digit, in as many passes as the largest row needs.
    fn sort_entries(&mut self) {
        let top = self.entries.iter().map(|e| e.row).max().unwrap_or(0);
        let bits = u32::BITS - top.leading_zeros();
        self.sorted.resize(self.entries.len(), Entry::default());
        for shift in (0..bits).step_by(DIGIT_BITS as usize) {
            let digit = |entry: &Entry| (entry.row >> shift) as usize % DIGITS;
            let mut next = vec![0u32; DIGITS];
            self.entries.iter().for_each(|entry| next[digit(entry)] += 1);
            let mut sum = 0;
            for slot in &mut next {
                sum += std::mem::replace(slot, sum);
            }
            for entry in &self.entries {
                let slot = &mut next[digit(entry)];
                self.sorted[*slot as usize] = *entry;
                *slot += 1;
            }
            std::mem::swap(&mut self.entries, &mut self.sorted);
        }
    }

    fn find_unique(&mut self) {
        self.result.rows.clear();
        self.starts.clear();
        let mut last = None;
        for (at, entry) in self.entries.iter().enumerate() {
            if last != Some(entry.row) {
                last = Some(entry.row);
                self.result.rows.push(entry.row);
                self.starts.push(at as u32);
            }
        }
        self.starts.push(self.entries.len() as u32);
    }

    fn sum_rows(&mut self, dim: usize, sources: &[BagGradient]) {
        let unique = self.result.rows.len();
        self.result.dim = dim;
        if self.result.values.len() < unique * dim {
            self.result.values.resize(unique * dim, 0.0);
        }
        let (starts, entries, origins, winners) = (&self.starts, &self.entries, &self.origins, &self.winners);
        let values = self.result.values[..unique * dim].par_chunks_mut(ROWS_PER_PIECE * dim).enumerate();
        values.for_each(|(piece, values)| {
            for (offset, value) in values.chunks_exact_mut(dim).enumerate() {
                let at = piece * ROWS_PER_PIECE + offset;
                value.fill(0.0);
                for entry in &entries[starts[at] as usize..starts[at + 1] as usize] {
                    let origin = origins[entry.origin as usize];
                    let source = &sources[origin.source as usize];
                    let g = source.part(origin.bag, dim);
                    if source.pooling == Pooling::Max {
                        let bag = origin.bag as usize * dim;
                        let winners = &winners[origin.source as usize][bag..bag + dim];
                        let base = first_origin(sources, origin.source);
                        add_won(value, origin.coefficient, g, winners, entry.origin - base);
                    } else {
                        for (sum, &g) in value.iter_mut().zip(g) {
                            *sum = fma(origin.coefficient, g, *sum);
                        }
                    }
                }
            }
        });
    }
}

/// Index of the first origin of a source.
fn first_origin(sources: &[BagGradient], source: u32) -> u32 {
    sources[..source as usize].iter().map(|s| s.bag.ids.len() as u32).sum()
}

/// Adds the elements of `g` that the id at position `at` of its source won.
fn add_won(out: &mut [f32], coefficient: f32, g: &[f32], winners: &[u32], at: u32) {
    for ((sum, &g), &winner) in out.iter_mut().zip(g).zip(winners) {
        *sum = if winner == at { fma(coefficient, g, *sum) } else { *sum };
    }
}
