//! Lists of items: of each positive its negatives, of each user what he likes.

use std::ops::Range;

use crate::error::Result;
use crate::spill::{Column, Spill, pieces};

/// For each row a list of items.
#[derive(Debug, Default)]
pub struct Lists {
    /// [rows + 1].
    pub offsets: Column<u64>,
    /// Places in the catalogue.
    pub items: Column<u32>,
    /// Sampling probability of each; empty where the table has none.
    pub probabilities: Column<f32>,
}

impl Lists {
    pub fn bounds(&self, row: usize) -> Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    pub fn of(&self, row: usize) -> &[u32] {
        &self.items[self.bounds(row)]
    }

    /// Orders entries by row; those of one row stay in their order.
    pub fn new(rows: usize, entries: &[(u32, u32)], probabilities: &[f32]) -> Self {
        let offsets = offsets(rows, entries.iter().map(|(row, _)| *row));
        let mut next = offsets.clone();
        let (mut items, mut of_items) = (vec![0; entries.len()], vec![0.0; probabilities.len()]);
        for (at, (row, item)) in entries.iter().enumerate() {
            let place = &mut next[*row as usize];
            items[*place as usize] = *item;
            if let Some(probability) = probabilities.get(at) {
                of_items[*place as usize] = *probability;
            }
            *place += 1;
        }
        Lists { offsets: offsets.into(), items: items.into(), probabilities: of_items.into() }
    }

    /// Lets go of what was read of files.
    pub fn release(&self) {
        self.offsets.release();
        self.items.release();
        self.probabilities.release();
    }

    /// Fetches the lists of `rows`.
    pub fn will_need(&self, rows: Range<usize>) {
        self.offsets.will_need(rows.start..rows.end + 1);
        let places = self.offsets[rows.start] as usize..self.offsets[rows.end] as usize;
        self.items.will_need(places.clone());
        self.probabilities.will_need(places);
    }
}

/// Where the entries of each row begin, and the end, when they are ordered by row.
fn offsets(rows: usize, of: impl Iterator<Item = u32>) -> Vec<u64> {
    let mut offsets = vec![0u64; rows + 1];
    of.for_each(|row| offsets[row as usize + 1] += 1);
    (0..rows).for_each(|row| offsets[row + 1] += offsets[row]);
    offsets
}

/// The same of rows that are in order: as it goes, so that neither they nor the offsets have to be in memory.
fn sorted_offsets(rows: usize, of: &Column<u32>, spill: &Spill) -> Result<Column<u64>> {
    let mut offsets = Column::default();
    let mut entry = 0;
    for piece in pieces(rows + 1, || of.release()) {
        let places = piece.map(|row| {
            while of.get(entry).is_some_and(|of| (*of as usize) < row) {
                entry += 1;
            }
            entry as u64
        });
        offsets.append(&places.collect::<Vec<_>>(), spill)?;
    }
    Ok(offsets)
}

/// Entries of lists as they come.
#[derive(Default)]
pub struct Entries {
    rows: Column<u32>,
    items: Column<u32>,
    probabilities: Column<f32>,
    /// A row came after a later one.
    mixed: bool,
}

impl Entries {
    /// `probabilities` is empty, or has one for each.
    pub fn append(&mut self, entries: &[(u32, u32)], probabilities: &[f32], spill: &Spill) -> Result<()> {
        let (rows, items): (Vec<u32>, Vec<u32>) = entries.iter().copied().unzip();
        self.mixed |= !self.rows.last().into_iter().chain(&rows).is_sorted();
        self.rows.append(&rows, spill)?;
        self.items.append(&items, spill)?;
        self.probabilities.append(probabilities, spill)
    }

    /// The lists of `rows` rows. Sample tables are in the order of the positives, so that usually nothing has to be moved.
    pub fn into_lists(self, rows: usize, spill: &Spill) -> Result<Lists> {
        let Entries { rows: of, items, probabilities, mixed } = self;
        if mixed {
            let entries: Vec<(u32, u32)> = of.iter().copied().zip(items.iter().copied()).collect();
            return Ok(Lists::new(rows, &entries, &probabilities));
        }
        let offsets = sorted_offsets(rows, &of, spill)?;
        Ok(Lists { offsets, items, probabilities })
    }
}

/// By user the items that he likes. In memory: a batch asks for users at random places.
#[derive(Debug, Default)]
pub struct Liked {
    /// [users + 1].
    offsets: Vec<u32>,
    items: Vec<u32>,
}

impl Liked {
    /// `pairs` gives users and items twice, the same both times; no more than u32 counts.
    pub fn new<I: Iterator<Item = (u32, u32)>>(users: usize, pairs: impl Fn() -> I) -> Self {
        let mut offsets = vec![0u32; users + 1];
        let mut count = 0;
        for (user, _) in pairs() {
            offsets[user as usize] += 1;
            count += 1;
        }
        // each becomes the end of its user, and falls to his start while his items are put in place
        let mut sum = 0;
        for offset in &mut offsets {
            sum += *offset;
            *offset = sum;
        }
        let mut items = vec![0; count];
        for (user, item) in pairs() {
            let place = &mut offsets[user as usize];
            *place -= 1;
            items[*place as usize] = item;
        }
        let mut kept = 0;
        for user in 0..users {
            let bounds = offsets[user] as usize..offsets[user + 1] as usize;
            items[bounds.clone()].sort_unstable();
            offsets[user] = kept as u32;
            let mut last = None;
            for at in bounds {
                let item = items[at];
                if last.replace(item) != Some(item) {
                    items[kept] = item;
                    kept += 1;
                }
            }
        }
        offsets[users] = kept as u32;
        items.truncate(kept);
        items.shrink_to_fit();
        Liked { offsets, items }
    }

    pub fn users(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    fn bounds(&self, user: usize) -> Range<usize> {
        self.offsets[user] as usize..self.offsets[user + 1] as usize
    }

    /// Sorted places in the catalogue, each once.
    pub fn of(&self, user: usize) -> &[u32] {
        &self.items[self.bounds(user)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spill::AT_ONCE;

    #[test]
    fn lists_are_the_same_from_entries_in_any_order_of_rows() {
        let spill = Spill::new(None, 40);
        let sorted = [(0, 5), (0, 3), (2, 9), (2, 1), (2, 4)];
        let mixed = [(2, 9), (0, 5), (2, 1), (0, 3), (2, 4)];
        for (entries, probabilities) in [(sorted, [0.5, 0.3, 0.9, 0.1, 0.4]), (mixed, [0.9, 0.5, 0.1, 0.3, 0.4])] {
            let mut collected = Entries::default();
            collected.append(&entries[..2], &probabilities[..2], &spill).unwrap();
            collected.append(&entries[2..], &probabilities[2..], &spill).unwrap();
            let lists = collected.into_lists(4, &spill).unwrap();
            assert_eq!((lists.of(0), lists.of(1), lists.of(2)), (&[5, 3][..], &[][..], &[9, 1, 4][..]));
            assert_eq!(lists.probabilities[lists.bounds(2)], [0.9, 0.1, 0.4]);
            assert!(lists.of(3).is_empty());
            lists.will_need(1..4);
            lists.release();
        }
    }

    #[test]
    fn lists_of_more_rows_than_are_gone_through_at_once_begin_where_the_last_ended() {
        let (rows, spill) = (AT_ONCE + 3, Spill::new(None, 0));
        let held = [(0, 7), (AT_ONCE as u32 - 1, 5), (AT_ONCE as u32, 3), (AT_ONCE as u32, 1), (AT_ONCE as u32 + 2, 9)];
        let mut collected = Entries::default();
        collected.append(&held, &[], &spill).unwrap();
        let lists = collected.into_lists(rows, &spill).unwrap();
        assert_eq!(*lists.offsets, *Lists::new(rows, &held, &[]).offsets);
        assert_eq!((lists.of(AT_ONCE - 1), lists.of(AT_ONCE), lists.of(AT_ONCE + 1)), (&[5][..], &[3, 1][..], &[][..]));
    }

    #[test]
    fn what_a_user_likes_is_sorted_and_stands_once() {
        let pairs = [(1, 7), (0, 2), (0, 2), (1, 3), (1, 7), (3, 2), (3, 0)];
        let liked = Liked::new(4, || pairs.into_iter());
        assert_eq!(liked.users(), 4);
        let all: Vec<&[u32]> = (0..4).map(|user| liked.of(user)).collect();
        assert_eq!(all, [&[2][..], &[3, 7], &[], &[0, 2]]);
        assert_eq!(Liked::default().users(), 0);
    }
}
