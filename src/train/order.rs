//! The order of an epoch's rows.

use std::ops::Range;

use super::random;

/// Rows that are shuffled together. Up to this many an epoch is one shuffle; beyond it, rows that lie in a file are read from a part of it
/// at a time, and the order takes the same memory however many there are.
const GROUP: usize = 1 << 20;
/// Neighbouring rows of the table that are in the same group. Which rows are neighbours is chance: the table is in the order of a hash.
const BLOCK: usize = 1 << 14;

/// A shuffle of rows, group after group: blocks in random order, then the rows of each group of them.
pub struct Order<'a> {
    rows: &'a [u32],
    seed: u64,
    group: usize,
    block: usize,
    /// Blocks in their order; empty where one group holds all rows.
    blocks: Vec<u32>,
    /// The group at hand and its rows.
    at: Option<usize>,
    order: Vec<u32>,
    /// Its first place in the whole.
    first: usize,
}

impl<'a> Order<'a> {
    pub fn new(rows: &'a [u32], seed: u64) -> Self {
        Order::in_groups(rows, seed, GROUP, BLOCK)
    }

    /// `group` is a multiple of `block`.
    fn in_groups(rows: &'a [u32], seed: u64, group: usize, block: usize) -> Self {
        let mut blocks: Vec<u32> = Vec::new();
        if rows.len() > group {
            // the last one may be short: it stays last, so that every other group is full
            blocks.extend(0..rows.len().div_ceil(block) as u32);
            let full = rows.len() / block;
            random::shuffle(&mut blocks[..full], random::splitmix64(seed));
        }
        Order { rows, seed, group, block, blocks, at: None, order: Vec::new(), first: 0 }
    }

    /// The rows at `places` of the order. `turns` sees the table's rows that a new group takes, block by block.
    pub fn rows(&mut self, places: Range<usize>, mut turns: impl FnMut(&[Range<usize>])) -> Vec<u32> {
        let mut found = Vec::with_capacity(places.len());
        let mut place = places.start;
        while place < places.end {
            let group = place / self.group;
            if self.at != Some(group) {
                turns(&self.take(group));
            }
            let end = places.end.min(self.first + self.order.len());
            found.extend_from_slice(&self.order[place - self.first..end - self.first]);
            place = end;
        }
        found
    }

    fn take(&mut self, group: usize) -> Vec<Range<usize>> {
        self.order.clear();
        (self.at, self.first) = (Some(group), group * self.group);
        if self.blocks.is_empty() {
            self.order.extend_from_slice(self.rows);
            random::shuffle(&mut self.order, self.seed);
            return Vec::new();
        }
        let of_group = self.group / self.block;
        let blocks = self.blocks.chunks(of_group).nth(group).unwrap_or_default();
        let mut parts = Vec::with_capacity(blocks.len());
        for block in blocks {
            let rows = self.rows.chunks(self.block).nth(*block as usize).unwrap_or_default();
            self.order.extend_from_slice(rows);
            if let [first, .., last] | [first @ last] = rows {
                parts.push(*first as usize..*last as usize + 1);
            }
        }
        random::shuffle(&mut self.order, random::bits(self.seed, &[group as u64]));
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_comes_once_whatever_the_batches_and_a_group_takes_few_parts_of_the_table() {
        let rows: Vec<u32> = (0..10_007).map(|row| row * 2).collect();
        let mut whole = None;
        for batch in [10_007, 64, 1000, 1] {
            let mut order = Order::in_groups(&rows, 7, 1024, 128);
            let (mut found, mut groups) = (Vec::new(), 0);
            for start in (0..rows.len()).step_by(batch) {
                found.extend(order.rows(start..(start + batch).min(rows.len()), |parts| {
                    assert!(parts.len() <= 8 && parts.iter().all(|part| part.len() <= 255), "{parts:?}");
                    groups += 1;
                }));
            }
            assert_eq!(groups, 10);
            assert_eq!(whole.get_or_insert_with(|| found.clone()), &found, "batches of {batch}");
        }
        let whole = whole.unwrap();
        assert_ne!(whole[..5], rows[..5]);
        let mut sorted = whole.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, rows);
        // one may begin anywhere: a training goes on in the middle of an epoch
        assert_eq!(Order::in_groups(&rows, 7, 1024, 128).rows(5000..5100, |_| ()), whole[5000..5100]);
        assert_ne!(Order::in_groups(&rows, 8, 1024, 128).rows(0..100, |_| ()), whole[..100]);
    }

    #[test]
    fn few_rows_are_one_shuffle() {
        let rows: Vec<u32> = (0..1000).collect();
        let mut expected = rows.clone();
        random::shuffle(&mut expected, 3);
        let found = Order::new(&rows, 3).rows(0..1000, |parts| assert!(parts.is_empty()));
        assert_eq!(found, expected);
    }
}
