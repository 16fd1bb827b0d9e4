//! Gather and scatter against straight loops in f64.

mod attention;

use super::*;
use crate::tables::RowInit;

const ALL: [Pooling; 4] = [Pooling::Mean, Pooling::Sum, Pooling::Max, Pooling::SqrtN];

/// A bag column that owns its data.
struct Column {
    offsets: Vec<u32>,
    ids: Vec<u32>,
    weights: Option<Vec<f32>>,
}

impl Column {
    /// Bags of 0 to 6 ids, duplicates included, the same for the same seed.
    fn random(batch: usize, rows: usize, seed: u64) -> Self {
        let mut state = seed;
        let mut below = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        let (mut offsets, mut ids) = (vec![0], Vec::new());
        for _ in 0..batch {
            for _ in 0..below(7) {
                ids.push(below(rows) as u32);
                if below(4) == 0 {
                    ids.push(ids[ids.len() - 1]);
                }
            }
            offsets.push(ids.len() as u32);
        }
        Self { offsets, ids, weights: None }
    }

    fn weighted(mut self) -> Self {
        self.weights = Some((0..self.ids.len()).map(|k| ((k * 13) % 7) as f32 * 0.4 + 0.1).collect());
        self
    }

    fn bag(&self) -> Bag<'_> {
        Bag { offsets: &self.offsets, ids: &self.ids, weights: self.weights.as_deref() }
    }

    /// Gradient of pooled element (b, d) by each id at each position: (row, factor) in f64.
    fn factors(&self, table: &EmbeddingTable, pooling: Pooling, b: usize, d: usize) -> Vec<(u32, f64)> {
        let range = self.bag().range(b);
        let weight = |at: usize| f64::from(self.bag().weight(at));
        let value = |at: usize| weight(at) * f64::from(table.row(self.ids[at] as usize)[d]);
        let divisor = match pooling {
            Pooling::Sum => 1.0,
            Pooling::Mean => range.clone().map(weight).sum(),
            Pooling::SqrtN => range.clone().map(|at| weight(at).powi(2)).sum::<f64>().sqrt(),
            Pooling::Max => {
                let mut best: Option<usize> = None;
                for at in range {
                    if best.is_none_or(|b| value(at) > value(b)) {
                        best = Some(at);
                    }
                }
                return best.map(|at| (self.ids[at], weight(at))).into_iter().collect();
            }
        };
        range.map(|at| (self.ids[at], weight(at) / divisor)).collect()
    }
}

fn table(rows: usize, dim: usize) -> EmbeddingTable {
    EmbeddingTable::new(rows, dim, &RowInit { seed: 7, scale: 1.0, accumulator: 0.0 })
}

/// Rows that `sources` touch, and their gradients.
fn summed(scatter: &mut Scatter, table: &EmbeddingTable, sources: &[BagGradient]) -> (Vec<u32>, Vec<f32>) {
    planned(scatter, table, sources).all()
}

fn planned<'a>(scatter: &'a mut Scatter, table: &EmbeddingTable, sources: &'a [BagGradient<'a>]) -> RowGradients<'a> {
    let bags: Vec<Bag> = sources.iter().map(|source| source.bag).collect();
    scatter.plan(table.len(), &bags);
    scatter.gradients(table, sources)
}

fn gradient(batch: usize, stride: usize) -> Vec<f32> {
    (0..batch * stride).map(|k| ((k * 7919) % 1013) as f32 / 500.0 - 1.0).collect()
}

#[test]
fn gather_agrees_with_the_reference_and_writes_its_own_columns_only() {
    let (batch, dim, stride, col_offset) = (333, 13, 20, 5);
    let table = table(50, dim);
    for pooling in ALL {
        for column in [Column::random(batch, 50, 1), Column::random(batch, 50, 2).weighted()] {
            let mut out = vec![9.0; batch * stride];
            gather(&table, column.bag(), pooling, &mut out, stride, col_offset);
            for (b, row) in out.chunks(stride).enumerate() {
                for (k, &value) in row.iter().enumerate() {
                    if !(col_offset..col_offset + dim).contains(&k) {
                        assert_eq!(value, 9.0);
                        continue;
                    }
                    let d = k - col_offset;
                    let want: f64 = column
                        .factors(&table, pooling, b, d)
                        .iter()
                        .map(|&(row, f)| f * f64::from(table.row(row as usize)[d]))
                        .sum();
                    assert!((f64::from(value) - want).abs() < 1e-5, "{pooling:?} {value} {want}");
                }
            }
        }
    }
}

#[test]
fn scatter_merges_bags_that_share_a_table() {
    let (batch, dim) = (300, 9);
    let table = table(5000, dim);
    for pooling in ALL {
        let history = Column::random(batch, 5000, 3).weighted();
        let few = Column::random(batch, 12, 4);
        let (g1, g2) = (gradient(batch, 30), gradient(batch, dim));
        let sources = [
            BagGradient { bag: history.bag(), pooling, grad: &g1, stride: 30, col_offset: 11 },
            BagGradient { bag: few.bag(), pooling: Pooling::Max, grad: &g2, stride: dim, col_offset: 0 },
        ];
        let mut want = vec![0.0f64; 5000 * dim];
        for (source, column) in sources.iter().zip([&history, &few]) {
            for b in 0..batch {
                for d in 0..dim {
                    let g = f64::from(source.grad[b * source.stride + source.col_offset + d]);
                    for (row, f) in column.factors(&table, source.pooling, b, d) {
                        want[row as usize * dim + d] += f * g;
                    }
                }
            }
        }
        let mut touched: Vec<u32> = history.ids.iter().chain(&few.ids).copied().collect();
        touched.sort_unstable();
        touched.dedup();
        let mut scatter = Scatter::new();
        // A larger batch before it must leave nothing behind.
        let other = Column::random(900, 5000, 5);
        let g3 = gradient(900, dim);
        let bag = other.bag();
        let source = BagGradient { bag, pooling: Pooling::Sum, grad: &g3, stride: dim, col_offset: 0 };
        summed(&mut scatter, &table, &[source]);
        let (rows, values) = summed(&mut scatter, &table, &sources);
        assert_eq!(rows, touched);
        for (row, values) in rows.into_iter().zip(values.chunks(dim)) {
            for (d, &value) in values.iter().enumerate() {
                let want = want[row as usize * dim + d];
                assert!((f64::from(value) - want).abs() < 2e-5, "{pooling:?} {value} {want}");
            }
        }
    }
}

#[test]
fn max_pooling_gives_its_gradient_to_the_first_of_equals() {
    let mut table = table(3, 1);
    table.rows = vec![1.0, 1.0, 0.5];
    let bag = Bag { offsets: &[0, 4], ids: &[2, 1, 0, 1], weights: None };
    let source = BagGradient { bag, pooling: Pooling::Max, grad: &[3.0], stride: 1, col_offset: 0 };
    assert_eq!(summed(&mut Scatter::new(), &table, &[source]), (vec![0, 1, 2], vec![0.0, 3.0, 0.0]));
}

#[test]
fn nothing_in_gives_nothing_out() {
    let table = table(3, 2);
    let bag = Bag { offsets: &[0, 0, 0], ids: &[], weights: None };
    let mut out = [5.0; 4];
    for pooling in ALL {
        gather(&table, bag, pooling, &mut out, 2, 0);
        assert_eq!(out, [0.0; 4]);
        let source = BagGradient { bag, pooling, grad: &[1.0; 4], stride: 2, col_offset: 0 };
        assert!(summed(&mut Scatter::new(), &table, &[source]).0.is_empty());
    }
    assert!(summed(&mut Scatter::new(), &table, &[]).0.is_empty());
}

#[test]
#[should_panic(expected = "row 3 is not in the table")]
fn an_id_outside_the_table_is_refused() {
    let table = table(3, 1);
    let bag = Bag { offsets: &[0, 1], ids: &[3], weights: None };
    let source = BagGradient { bag, pooling: Pooling::Sum, grad: &[1.0], stride: 1, col_offset: 0 };
    summed(&mut Scatter::new(), &table, &[source]);
}

#[test]
fn the_bits_are_the_same_for_any_thread_count() {
    use crate::tables::RowwiseAdagrad;
    let (batch, dim) = (2000, 16);
    let column = Column::random(batch, 3000, 6).weighted();
    let g = gradient(batch, dim);
    let in_pool = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("a pool").install(|| {
            let mut table = table(3000, dim);
            let mut out = vec![0.0; batch * dim];
            gather(&table, column.bag(), Pooling::Mean, &mut out, dim, 0);
            let source =
                BagGradient { bag: column.bag(), pooling: Pooling::Mean, grad: &g, stride: dim, col_offset: 0 };
            let mut scatter = Scatter::new();
            let sources = [source];
            let grads = planned(&mut scatter, &table, &sources);
            table.apply(&grads, &RowwiseAdagrad { learning_rate: 0.1, epsilon: 1e-8, weight_decay: 0.0 });
            (out, table)
        })
    };
    let one = in_pool(1);
    assert!(in_pool(2) == one && in_pool(5) == one);
}
