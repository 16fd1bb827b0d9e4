//! Which shared columns are no negatives of the rows of a block.

use std::ops::Range;

use super::{BLOCK, SoftmaxInputs};

/// A word for each shared column, in which the bits of the rows are set that must not count it as a negative. As many columns as there
/// are can be removed from each row, so that nothing here may cost more than going through them once: they are not sorted.
#[derive(Debug, Default)]
pub(super) struct Removed {
    words: Vec<u64>,
}

const _: () = assert!(BLOCK <= u64::BITS as usize);

impl Removed {
    /// Takes the masked columns of `rows` and their own positives.
    pub fn list(&mut self, inputs: &SoftmaxInputs, rows: Range<usize>) {
        self.words.clear();
        self.words.resize(inputs.log_q.len(), 0);
        for (lane, row) in rows.enumerate() {
            self.words[inputs.positives[row] as usize] |= 1 << lane;
            for column in inputs.masked.of(row) {
                self.words[*column as usize] |= 1 << lane;
            }
        }
    }

    /// How many of the columns from `first` on are left to each row.
    pub fn left(&self, first: usize) -> [u32; BLOCK] {
        let columns = &self.words[first..];
        let mut left = [columns.len() as u32; BLOCK];
        for_each(columns, |_, lane| left[lane] -= 1);
        left
    }

    /// Makes logits minus infinity: `tile` has those of the columns from `first` on, column by column.
    pub fn remove(&self, first: usize, tile: &mut [f32]) {
        let columns = &self.words[first..first + tile.len() / BLOCK];
        for_each(columns, |column, lane| tile[column * BLOCK + lane] = f32::NEG_INFINITY);
    }
}

/// Tells the places of all bits that are set.
fn for_each(columns: &[u64], mut told: impl FnMut(usize, usize)) {
    for (column, word) in columns.iter().enumerate() {
        let mut rest = *word;
        while rest != 0 {
            told(column, rest.trailing_zeros() as usize);
            rest &= rest - 1;
        }
    }
}
