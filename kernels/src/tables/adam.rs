//! Adam for embedding tables: only the rows that a batch has touched take a step.

use std::ops::Range;

use rayon::prelude::*;

use super::{EmbeddingTable, cut, zeros};
use crate::math::{fma, prefetch};
use crate::pooling::{RowGradients, TakeGradients};

/// Adam's running means for every value of a table: twice the table's memory beside it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// Of the gradient `[rows, dim]`.
    pub first: Vec<f32>,
    /// Of its square `[rows, dim]`.
    pub second: Vec<f32>,
}

impl Moments {
    /// Zeros for a table.
    pub fn new(table: &EmbeddingTable) -> Self {
        Moments { first: zeros(table.rows.len()), second: zeros(table.rows.len()) }
    }
}

/// One step of lazy Adam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LazyAdam {
    pub learning_rate: f32,
    pub betas: (f64, f64),
    pub epsilon: f32,
    /// L2 decay, added to the gradient; touched rows only. 0 for none.
    pub weight_decay: f32,
    /// Which step of the training this is, from 1: the means are corrected by it, not by how often a row was touched.
    pub step: u64,
}

impl EmbeddingTable {
    /// Steps the touched rows: with `g += weight_decay * row`, `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
    /// `row -= learning_rate * m / (1 - b1^step) / (sqrt(v / (1 - b2^step)) + epsilon)`. Other rows and their moments stay
    /// as they are.
    ///
    /// Source: Kingma and Ba 2015, algorithm 1; the lazy variant as PyTorch's SparseAdam has it.
    ///
    /// # Panics
    /// If `moments` are of another table.
    pub fn apply_adam(&mut self, grads: &RowGradients, moments: &mut Moments, optimizer: &LazyAdam) {
        let dim = self.dim;
        assert_eq!(grads.dim(), dim, "gradients of another dimension");
        let sizes = (moments.first.len(), moments.second.len());
        assert_eq!(sizes, (self.rows.len(), self.rows.len()), "moments of another table");
        let step = &Step::new(optimizer);
        let pieces = grads.pieces();
        let rows = cut(&mut self.rows, dim, &pieces).into_par_iter();
        let moments = cut(&mut moments.first, dim, &pieces).into_par_iter().zip(cut(&mut moments.second, dim, &pieces));
        pieces.par_iter().zip(rows.zip(moments)).for_each(|(piece, (rows, (first_moments, second_moments)))| {
            grads.each_row(piece, &mut Adam { dim, rows, first_moments, second_moments, step });
        });
    }
}

/// Adam on the rows of a piece.
struct Adam<'a> {
    dim: usize,
    rows: &'a mut [f32],
    first_moments: &'a mut [f32],
    second_moments: &'a mut [f32],
    step: &'a Step,
}

impl Adam<'_> {
    fn range(&self, row: usize) -> Range<usize> {
        row * self.dim..(row + 1) * self.dim
    }
}

impl TakeGradients for Adam<'_> {
    #[inline(always)]
    fn fetch(&self, row: usize) {
        let range = self.range(row);
        [&*self.rows, self.first_moments, self.second_moments].into_iter().for_each(|of| prefetch(&of[range.clone()]));
    }

    #[inline(always)]
    fn take(&mut self, row: usize, gradient: &[f32]) {
        let range = self.range(row);
        let (first, second) = (&mut self.first_moments[range.clone()], &mut self.second_moments[range.clone()]);
        self.step.row(&mut self.rows[range], first, second, gradient);
    }
}

/// The numbers of one step that all rows share.
struct Step {
    betas: (f32, f32),
    /// 1 - beta, from f64.
    rest: (f32, f32),
    /// `learning_rate / (1 - b1^step)`.
    rate: f32,
    /// `1 / (1 - b2^step)`.
    correction: f32,
    epsilon: f32,
    decay: f32,
}

impl Step {
    fn new(optimizer: &LazyAdam) -> Self {
        let (b1, b2) = optimizer.betas;
        // past this many steps the corrections are 1 in f32
        let step = optimizer.step.clamp(1, 1 << 20) as i32;
        Step {
            betas: (b1 as f32, b2 as f32),
            rest: ((1.0 - b1) as f32, (1.0 - b2) as f32),
            rate: (f64::from(optimizer.learning_rate) / (1.0 - b1.powi(step))) as f32,
            correction: (1.0 / (1.0 - b2.powi(step))) as f32,
            epsilon: optimizer.epsilon,
            decay: optimizer.weight_decay,
        }
    }

    #[inline]
    fn row(&self, weights: &mut [f32], first: &mut [f32], second: &mut [f32], g: &[f32]) {
        for (((w, m), v), &g) in weights.iter_mut().zip(first).zip(second).zip(g) {
            let g = fma(self.decay, *w, g);
            *m = fma(self.betas.0, *m, self.rest.0 * g);
            *v = fma(self.betas.1, *v, self.rest.1 * g * g);
            *w -= self.rate * *m / ((*v * self.correction).sqrt() + self.epsilon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::RowInit;
    use crate::tables::tests::Given;

    /// Rows touched in a step, and their gradients.
    fn gradients(step: u64, dim: usize) -> (Vec<u32>, Vec<f32>) {
        let ids: Vec<u32> = (0..2000).filter(|id| (id + step as u32) % 3 == 1 || *id == 1999).collect();
        let values = (0..ids.len() * dim).map(|k| ((k as u64 * 37 + step * 11) % 101) as f32 * 0.02 - 1.0).collect();
        (ids, values)
    }

    #[test]
    fn three_steps_agree_with_f64_and_leave_other_rows_alone() {
        for weight_decay in [0.0, 0.03] {
            let dim = 11;
            let mut table = EmbeddingTable::new(2000, dim, &RowInit { seed: 42, scale: 0.25, accumulator: 0.0 });
            let mut moments = Moments::new(&table);
            let mut expected: Vec<f64> = table.rows.iter().map(|w| f64::from(*w)).collect();
            let (mut m, mut v) = (vec![0.0f64; expected.len()], vec![0.0f64; expected.len()]);
            for step in 1..=3 {
                let optimizer =
                    LazyAdam { learning_rate: 0.01, betas: (0.9, 0.999), epsilon: 1e-8, weight_decay, step };
                let before = (table.clone(), moments.clone());
                let (ids, values) = gradients(step, dim);
                let given = Given::new(dim, &ids, &values);
                let (source, mut scatter) = ([given.source()], given.scatter(&table));
                let grads = scatter.gradients(&table, &source);
                table.apply_adam(&grads, &mut moments, &optimizer);
                for (id, g) in ids.iter().zip(values.chunks(dim)) {
                    for (k, g) in g.iter().enumerate() {
                        let at = *id as usize * dim + k;
                        let g = f64::from(*g) + f64::from(weight_decay) * expected[at];
                        m[at] = 0.9 * m[at] + 0.1 * g;
                        v[at] = 0.999 * v[at] + 0.001 * g * g;
                        let corrected =
                            (m[at] / (1.0 - 0.9f64.powi(step as i32)), v[at] / (1.0 - 0.999f64.powi(step as i32)));
                        expected[at] -= 0.01 * corrected.0 / (corrected.1.sqrt() + 1e-8);
                    }
                }
                for row in (0..2000).filter(|row| ids.binary_search(row).is_err()) {
                    let range = row as usize * dim..(row as usize + 1) * dim;
                    assert_eq!(table.rows[range.clone()], before.0.rows[range.clone()]);
                    assert_eq!(moments.first[range.clone()], before.1.first[range]);
                }
            }
            for (at, (found, expected)) in table.rows.iter().zip(&expected).enumerate() {
                // a gradient of nearly 0 has a direction, and no certain one
                let certain = m[at].abs() > 1e-6 || m[at] == 0.0;
                assert!(!certain || (f64::from(*found) - expected).abs() < 2e-6, "{at}: {found} {expected}");
            }
        }
    }

    #[test]
    fn the_result_is_the_same_for_any_number_of_threads() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut table = EmbeddingTable::new(2000, 7, &RowInit::usual(7, 1));
            let mut moments = Moments::new(&table);
            let (ids, values) = gradients(1, 7);
            let given = Given::new(7, &ids, &values);
            let optimizer =
                LazyAdam { learning_rate: 0.01, betas: (0.9, 0.999), epsilon: 1e-8, weight_decay: 0.1, step: 1 };
            let (source, mut scatter) = ([given.source()], given.scatter(&table));
            let grads = scatter.gradients(&table, &source);
            pool.install(|| table.apply_adam(&grads, &mut moments, &optimizer));
            (table, moments)
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    #[should_panic(expected = "moments of another table")]
    fn moments_of_another_table_are_refused() {
        let mut table = EmbeddingTable::new(4, 2, &RowInit::usual(2, 1));
        let optimizer = LazyAdam { learning_rate: 0.1, betas: (0.9, 0.999), epsilon: 1e-8, weight_decay: 0.0, step: 1 };
        let given = Given::new(2, &[1], &[0.0; 2]);
        let (source, mut scatter) = ([given.source()], given.scatter(&table));
        let grads = scatter.gradients(&table, &source);
        table.apply_adam(&grads, &mut Moments::default(), &optimizer);
    }
}
