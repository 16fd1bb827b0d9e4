//! The highest scores of each row of a block, found while its tiles are in cache.

use crate::softmax::BLOCK;

/// Most negatives of a row that may count as its hardest. Facebook's EBR (arXiv 2006.11632, 6.1.1) found at most two best.
pub const MOST_HARDEST: usize = 2;

/// For each row of a block the highest scores so far, the highest first; of equal ones the earlier column.
#[derive(Debug)]
pub(crate) struct Hardest {
    scores: [[f32; BLOCK]; MOST_HARDEST],
    columns: [[u32; BLOCK]; MOST_HARDEST],
}

impl Default for Hardest {
    fn default() -> Self {
        Self { scores: [[f32::NEG_INFINITY; BLOCK]; MOST_HARDEST], columns: [[0; BLOCK]; MOST_HARDEST] }
    }
}

impl Hardest {
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Looks through a tile stored column after column, whose first column is `first`. Minus infinity and NaN never count.
    pub fn offer(&mut self, tile: &[f32], first: usize) {
        let (columns, _) = tile.as_chunks::<BLOCK>();
        let [mut top, mut second] = self.scores;
        let [mut top_column, mut second_column] = self.columns;
        for (column, scores) in (first as u32..).zip(columns) {
            for lane in 0..BLOCK {
                let score = scores[lane];
                let (leads, follows) = (score > top[lane], score > second[lane]);
                let (next, next_column) = if leads { (top[lane], top_column[lane]) } else { (score, column) };
                second[lane] = if follows { next } else { second[lane] };
                second_column[lane] = if follows { next_column } else { second_column[lane] };
                top[lane] = if leads { score } else { top[lane] };
                top_column[lane] = if leads { column } else { top_column[lane] };
            }
        }
        self.scores = [top, second];
        self.columns = [top_column, second_column];
    }

    /// Up to `count` (column, score) of a row.
    pub fn of(&self, lane: usize, count: usize) -> impl Iterator<Item = (usize, f32)> {
        let all =
            (0..count.min(MOST_HARDEST)).map(move |rank| (self.columns[rank][lane] as usize, self.scores[rank][lane]));
        all.filter(|(_, score)| *score > f32::NEG_INFINITY)
    }
}
