//! The backward of pooling: gradients of pooled vectors, summed by table row.
//!
//! The ids of a batch are sorted by row, in pieces that stay in cache, and the gradients of a row are added when its optimizer asks for
//! them: nothing as large as the touched rows is written and read again in between.

use std::ops::Range;

use rayon::prelude::*;

use super::{Bag, Pooling, argmax};
use crate::math::{add_scaled, fma, weighted_sum};
use crate::tables::EmbeddingTable;
use crate::wide::in_two_widths;

/// Bits of a row by which ids are first put into buckets.
const BUCKET_BITS: u32 = 8;
/// Most bits per pass of the radix sort within a bucket.
const DIGIT_BITS: u32 = 9;
/// Ids per parallel piece, or a few more, as a row is never cut.
const IDS_PER_PIECE: usize = 1024;
/// Bags per parallel piece.
const OWNERS_PER_PIECE: usize = 256;
/// How many touched rows ahead of the one that takes its gradient are fetched from memory.
const FETCH_AHEAD: usize = 8;

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
    #[inline(always)]
    pub(super) fn part(&self, bag: u32, dim: usize) -> &[f32] {
        let start = bag as usize * self.stride + self.col_offset;
        &self.grad[start..start + dim]
    }
}

/// A bag of one of the sources.
#[derive(Clone, Copy, Debug, Default)]
struct Owner {
    source: u32,
    /// Its place in that source.
    bag: u32,
}

/// One id of the batch.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    row: u32,
    /// Index of its [`Owner`].
    owner: u32,
    /// Its place among the ids of its source.
    at: u32,
}

/// Touched rows that one thread takes: a range of the table's rows, and of the entries that touch them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    pub rows: Range<usize>,
    entries: Range<usize>,
}

/// Takes the gradients of the rows of a piece, which are numbered from its first.
pub(crate) trait TakeGradients {
    /// Asks for what [`TakeGradients::take`] will need of a row.
    fn fetch(&self, row: usize);
    /// `gradient` is `[dim]`.
    fn take(&mut self, row: usize, gradient: &[f32]);
}

/// Which rows of a table the ids of a batch read, and for which bags. It owns the memory: keep one for each table.
#[derive(Debug, Default)]
pub struct Scatter {
    /// By row, those of a row in the order of the sources, then of their ids.
    entries: Vec<Entry>,
    other: Vec<Entry>,
    owners: Vec<Owner>,
    /// By owner: its gradient times what all its weights are multiplied by [owners, dim]. Side by side, as they are read again and again in no
    /// order.
    terms: Vec<f32>,
    /// For each source pooled by max, who won each element.
    winners: Vec<Vec<u32>>,
}

/// Gradients of the rows a batch touched, each the sum of what its bags have for it.
#[derive(Clone, Copy, Debug)]
pub struct RowGradients<'a> {
    dim: usize,
    scatter: &'a Scatter,
    sources: &'a [BagGradient<'a>],
}

impl Scatter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Finds the rows that `bags` touch in a table of `rows`. It needs no gradient, so it can be done before there is one.
    pub fn plan(&mut self, rows: usize, bags: &[Bag]) {
        let ids = bags.iter().map(|bag| bag.ids.len()).sum();
        assert!(u32::try_from(ids).is_ok(), "more than 2^32 ids in one batch");
        let low = (usize::BITS - rows.saturating_sub(1).leading_zeros()).saturating_sub(BUCKET_BITS);
        let mut next = [0u32; 1 << BUCKET_BITS];
        for &row in bags.iter().flat_map(|bag| bag.ids) {
            assert!((row as usize) < rows, "row {row} is not in the table");
            next[(row >> low) as usize] += 1;
        }
        let sizes = next;
        starts(&mut next);
        self.entries.resize(ids, Entry::default());
        let mut owner = 0;
        for bag in bags {
            bag.check();
            for b in 0..bag.batch() {
                for at in bag.range(b) {
                    let row = bag.ids[at];
                    place(&mut self.entries, &mut next[(row >> low) as usize], Entry { row, owner, at: at as u32 });
                }
                owner += 1;
            }
        }
        self.other.resize(ids, Entry::default());
        let (mut entries, mut other) = (self.entries.as_mut_slice(), self.other.as_mut_slice());
        let mut buckets = Vec::with_capacity(sizes.len());
        for size in sizes.into_iter().filter(|size| *size > 0) {
            let whole = "sizes add up to all";
            let bucket = entries.split_off_mut(..size as usize).expect(whole);
            buckets.push((bucket, other.split_off_mut(..size as usize).expect(whole)));
        }
        buckets.into_par_iter().for_each(|(entries, other)| sort_by_low_bits(entries, other, low));
        if passes(low) % 2 == 1 {
            std::mem::swap(&mut self.entries, &mut self.other);
        }
    }

    /// The gradients of those rows: `sources` have the bags of the plan, in its order, and their weights. `table` must be as it was in
    /// the forward pass (max pooling looks again for its winners).
    pub fn gradients<'a>(&'a mut self, table: &EmbeddingTable, sources: &'a [BagGradient<'a>]) -> RowGradients<'a> {
        self.owners.clear();
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
            self.owners.extend((0..bag.batch()).map(|b| Owner { source: index as u32, bag: b as u32 }));
        }
        self.terms.resize(self.owners.len() * table.dim, 0.0);
        let terms = self.terms.par_chunks_mut(OWNERS_PER_PIECE * table.dim);
        terms.zip(self.owners.par_chunks(OWNERS_PER_PIECE)).for_each(|(terms, owners)| {
            for (term, owner) in terms.chunks_exact_mut(table.dim).zip(owners) {
                let source = &sources[owner.source as usize];
                let scale = source.bag.scale(owner.bag as usize, source.pooling);
                term.iter_mut().zip(source.part(owner.bag, table.dim)).for_each(|(term, g)| *term = scale * g);
            }
        });
        assert!(
            sources.iter().map(|source| source.bag.ids.len()).sum::<usize>() == self.entries.len(),
            "the sources are not those of the plan"
        );
        let len = table.len();
        assert!(self.entries.last().is_none_or(|last| (last.row as usize) < len), "row ids must be below {len}");
        RowGradients { dim: table.dim, scatter: self, sources }
    }

    fn pieces(&self) -> Vec<Piece> {
        let (mut pieces, mut start) = (Vec::new(), 0);
        while start < self.entries.len() {
            let least = (start + IDS_PER_PIECE).min(self.entries.len());
            let last = self.entries[least - 1].row;
            let end = least + self.entries[least..].iter().take_while(|entry| entry.row == last).count();
            pieces.push(Piece { rows: self.entries[start].row as usize..last as usize + 1, entries: start..end });
            start = end;
        }
        pieces
    }
}

/// Turns counts of keys into the places where they start.
fn starts(counts: &mut [u32]) {
    let mut sum = 0;
    counts.iter_mut().for_each(|count| sum += std::mem::replace(count, sum));
}

/// Puts an entry to the next place of its key.
#[inline]
fn place(entries: &mut [Entry], next: &mut u32, entry: Entry) {
    entries[*next as usize] = entry;
    *next += 1;
}

/// Passes of [`sort_by_low_bits`].
fn passes(bits: u32) -> u32 {
    bits.div_ceil(DIGIT_BITS)
}

/// Stable sort of entries whose rows differ in their `bits` lowest bits alone, from the lowest. After an odd number of [`passes`] `other` has them.
fn sort_by_low_bits<'a>(mut entries: &'a mut [Entry], mut other: &'a mut [Entry], bits: u32) {
    let digits = bits.div_ceil(passes(bits).max(1));
    for pass in 0..passes(bits) {
        let key = |entry: &Entry| (entry.row >> (pass * digits)) as usize & ((1 << digits) - 1);
        let mut next = [0u32; 1 << DIGIT_BITS];
        entries.iter().for_each(|entry| next[key(entry)] += 1);
        starts(&mut next[..1 << digits]);
        entries.iter().for_each(|entry| place(other, &mut next[key(entry)], *entry));
        std::mem::swap(&mut entries, &mut other);
    }
}

impl RowGradients<'_> {
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// All touched rows, in pieces that ascend and do not overlap.
    pub(crate) fn pieces(&self) -> Vec<Piece> {
        self.scatter.pieces()
    }

    /// Gives each touched row of a piece, in ascending order and once, to `taker`. A row's gradient is summed in the order of the
    /// sources, then of their ids.
    pub(crate) fn each_row(&self, piece: &Piece, taker: &mut impl TakeGradients) {
        each_row(self, piece, taker);
    }

    /// What an entry adds to its row: so many times this `[dim]`.
    #[inline(always)]
    fn term(&self, entry: &Entry) -> (f32, &[f32]) {
        let owner = self.scatter.owners[entry.owner as usize];
        let weight = self.sources[owner.source as usize].bag.weight(entry.at as usize);
        (weight, self.without_weight(entry))
    }

    #[inline(always)]
    fn without_weight(&self, entry: &Entry) -> &[f32] {
        &self.scatter.terms[entry.owner as usize * self.dim..][..self.dim]
    }

    /// The gradient of a row `[dim]` where some sources are pooled by max: these add the elements alone that an id has won.
    fn sum_with_max(&self, of_row: &[Entry], sum: &mut [f32]) {
        sum.fill(0.0);
        for entry in of_row {
            let (scale, gradient) = self.term(entry);
            let owner = self.scatter.owners[entry.owner as usize];
            if self.sources[owner.source as usize].pooling == Pooling::Max {
                let winners = &self.scatter.winners[owner.source as usize][owner.bag as usize * self.dim..];
                for ((sum, &g), &winner) in sum.iter_mut().zip(gradient).zip(winners) {
                    *sum = if winner == entry.at { fma(scale, g, *sum) } else { *sum };
                }
            } else {
                add_scaled(sum, scale, gradient);
            }
        }
    }

    /// Touched rows, ascending, and their gradients.
    #[cfg(test)]
    pub(crate) fn all(&self) -> (Vec<u32>, Vec<f32>) {
        struct All(Vec<u32>, Vec<f32>);
        impl TakeGradients for All {
            fn fetch(&self, _: usize) {}
            fn take(&mut self, row: usize, gradient: &[f32]) {
                self.0.push(row as u32);
                self.1.extend(gradient);
            }
        }
        let (mut rows, mut values) = (Vec::new(), Vec::new());
        for piece in self.pieces() {
            let mut all = All(Vec::new(), Vec::new());
            self.each_row(&piece, &mut all);
            rows.extend(all.0.into_iter().map(|row| piece.rows.start as u32 + row));
            values.extend(all.1);
        }
        (rows, values)
    }
}

in_two_widths! {
    /// See [`RowGradients::each_row`].
    fn each_row(gradients: &RowGradients, piece: &Piece, taker: &mut impl TakeGradients) {
        let entries = &gradients.scatter.entries[piece.entries.clone()];
        let by_max = gradients.sources.iter().any(|source| source.pooling == Pooling::Max);
        let weighted = gradients.sources.iter().any(|source| source.bag.weights.is_some());
        let by_row = || entries.chunk_by(|entry, next| entry.row == next.row);
        let place = |of_row: &[Entry]| of_row[0].row as usize - piece.rows.start;
        let mut soon = by_row().map(place);
        soon.by_ref().take(FETCH_AHEAD).for_each(|row| taker.fetch(row));
        let mut sum = vec![0.0; gradients.dim];
        for of_row in by_row() {
            if let Some(row) = soon.next() {
                taker.fetch(row);
            }
            if by_max {
                gradients.sum_with_max(of_row, &mut sum);
            } else if weighted {
                weighted_sum(&mut sum, of_row.iter().map(|entry| gradients.term(entry)));
            } else {
                weighted_sum(&mut sum, of_row.iter().map(|entry| (1.0, gradients.without_weight(entry))));
            }
            taker.take(place(of_row), &sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::splitmix64;

    #[test]
    fn ids_are_sorted_by_row_and_those_of_a_row_stay_in_order() {
        let (offsets, count) = ([0, 700, 700, 3000], 3000);
        // none, one, two and three passes within a bucket
        for rows in [1, 2, 256, 257, 5000, 1 << 20, (1 << 26) + 1, u32::MAX as usize] {
            // half of them at few places
            let below = |at: u64| if at.is_multiple_of(2) { rows as u64 } else { rows.min(40) as u64 };
            let ids: Vec<u32> = (0..count).map(|at| (splitmix64(at) % below(at)) as u32).collect();
            let bag = Bag { offsets: &offsets, ids: &ids, weights: None };
            let mut scatter = Scatter::new();
            scatter.plan(rows, &[bag, bag]);
            let mut expected: Vec<(u32, u32, u32)> = Vec::new();
            for owner in 0..6 {
                expected.extend(bag.range(owner % 3).map(|at| (ids[at], owner as u32, at as u32)));
            }
            expected.sort_by_key(|(row, ..)| *row);
            let found: Vec<(u32, u32, u32)> = scatter.entries.iter().map(|e| (e.row, e.owner, e.at)).collect();
            assert!(found == expected, "{rows} rows");
            let pieces = scatter.pieces();
            assert!(pieces.windows(2).all(|two| two[0].rows.end <= two[1].rows.start), "{rows} rows: {pieces:?}");
            assert_eq!(pieces.iter().map(|piece| piece.entries.len()).sum::<usize>(), 2 * count as usize);
        }
    }

    #[test]
    #[should_panic(expected = "not those of the plan")]
    fn gradients_of_other_bags_are_refused() {
        let table = EmbeddingTable::new(4, 1, &crate::tables::RowInit::usual(1, 1));
        let bag =
            |ids: &'static [u32]| Bag { offsets: if ids.len() == 1 { &[0, 1] } else { &[0, 2] }, ids, weights: None };
        let mut scatter = Scatter::new();
        scatter.plan(4, &[bag(&[3])]);
        let grad = [1.0];
        let source = BagGradient { bag: bag(&[3, 1]), pooling: Pooling::Sum, grad: &grad, stride: 1, col_offset: 0 };
        scatter.gradients(&table, &[source]);
    }
}
