//! Attention pooling against its formulas in f64, and their finite differences.

use super::*;

const BATCH: usize = 200;
const DIM: usize = 7;
const POSITIONS: usize = 4;
const STRIDE: usize = 12;
const OFFSET: usize = 3;

struct Learned {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

fn learned() -> Learned {
    let weight = (0..DIM).map(|k| (k as f32 * 1.7).sin() * 2.0).collect();
    Learned { weight, bias: (0..POSITIONS).map(|k| 0.5 - k as f32 * 0.4).collect() }
}

impl Learned {
    fn attention(&self) -> Attention<'_> {
        Attention { weight: &self.weight, bias: &self.bias }
    }
}

/// Pooled vectors [batch, dim] in f64.
fn pooled(column: &Column, rows: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; BATCH * DIM];
    for b in 0..BATCH {
        let ids = &column.ids[column.bag().range(b)];
        let row = |id: u32| &rows[id as usize * DIM..(id as usize + 1) * DIM];
        let score = |(place, &id): (usize, &u32)| {
            let product: f64 = row(id).iter().zip(weight).map(|(e, w)| e * w).sum();
            (product + bias[place.min(POSITIONS - 1)]).exp()
        };
        let scores: Vec<f64> = ids.iter().enumerate().map(score).collect();
        let sum: f64 = scores.iter().sum();
        for (&id, score) in ids.iter().zip(&scores) {
            (0..DIM).for_each(|d| out[b * DIM + d] += score / sum * row(id)[d]);
        }
    }
    out
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Gradients of rows, w and b of `sum(pooled * g)`, as a training step computes them.
fn gradients(column: &Column, table: &EmbeddingTable, g: &[f32]) -> ((Vec<u32>, Vec<f32>), AttentionGradients) {
    let learned = learned();
    let shares = learned.attention().shares(table, column.bag());
    let source = |bag, grad, stride, col_offset| BagGradient { bag, pooling: Pooling::Sum, grad, stride, col_offset };
    let by_output = source(Bag { weights: Some(&shares), ..column.bag() }, g, STRIDE, OFFSET);
    let back = learned.attention().backward(table, &shares, &by_output);
    let by_scores = source(Bag { weights: Some(&back.scores), ..column.bag() }, &learned.weight, 0, 0);
    (summed(&mut Scatter::new(), table, &[by_output, by_scores]), back)
}

#[test]
fn the_pooled_vector_is_the_softmax_average_and_an_empty_bag_gives_zeros() {
    let (column, table, learned) = (Column::random(BATCH, 40, 1), table(40, DIM), learned());
    let shares = learned.attention().shares(&table, column.bag());
    let mut out = vec![9.0; BATCH * STRIDE];
    gather(&table, Bag { weights: Some(&shares), ..column.bag() }, Pooling::Sum, &mut out, STRIDE, OFFSET);
    let expected = pooled(&column, &wide(&table.rows), &wide(&learned.weight), &wide(&learned.bias));
    for (found, expected) in out.chunks(STRIDE).zip(expected.chunks(DIM)) {
        for (found, expected) in found[OFFSET..OFFSET + DIM].iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
        }
    }
    assert!(column.offsets.windows(2).any(|w| w[0] == w[1]), "one of the bags is empty");
}

#[test]
fn gradients_agree_with_finite_differences() {
    let (column, table, learned) = (Column::random(BATCH, 40, 2), table(40, DIM), learned());
    let g = gradient(BATCH, STRIDE);
    let ((rows, values), back) = gradients(&column, &table, &g);
    let g = wide(&g);
    let loss = |rows: &[f64], weight: &[f64], bias: &[f64]| -> f64 {
        let pooled = pooled(&column, rows, weight, bias);
        pooled.chunks(DIM).zip(g.chunks(STRIDE)).flat_map(|(p, g)| p.iter().zip(&g[OFFSET..])).map(|(p, g)| p * g).sum()
    };
    let (e, w, b) = (wide(&table.rows), wide(&learned.weight), wide(&learned.bias));
    let nudged = |values: &[f64], at: usize, by: f64| {
        let mut values = values.to_vec();
        values[at] += by;
        values
    };
    let slope = |of: &dyn Fn(f64) -> f64| (of(1e-5) - of(-1e-5)) / 2e-5;
    let close = |found: f32, expected: f64| {
        assert!((f64::from(found) - expected).abs() < 1e-4 * expected.abs().max(1.0), "{found} {expected}");
    };
    for at in 0..DIM {
        close(back.weight[at], slope(&|by| loss(&e, &nudged(&w, at, by), &b)));
    }
    for at in 0..POSITIONS {
        close(back.bias[at], slope(&|by| loss(&e, &w, &nudged(&b, at, by))));
    }
    assert_eq!(rows.len(), 40);
    for (&row, values) in rows.iter().zip(values.chunks(DIM)) {
        for (d, value) in values.iter().enumerate() {
            close(*value, slope(&|by| loss(&nudged(&e, row as usize * DIM + d, by), &w, &b)));
        }
    }
}

#[test]
fn huge_scores_give_all_to_the_best_and_stay_finite() {
    let table = EmbeddingTable { dim: 1, rows: vec![1e30, -1e30, 0.0], accumulator: vec![0.0; 3] };
    let bag = Bag { offsets: &[0, 3], ids: &[2, 0, 1], weights: None };
    let shares = Attention { weight: &[1.0], bias: &[0.0] }.shares(&table, bag);
    assert_eq!(shares, [0.0, 1.0, 0.0]);
}

#[test]
fn the_bits_are_the_same_for_any_thread_count() {
    let (column, table, g) = (Column::random(BATCH, 40, 3), table(40, DIM), gradient(BATCH, STRIDE));
    let in_pool = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("a pool").install(|| gradients(&column, &table, &g))
    };
    let one = in_pool(1);
    assert!(in_pool(2) == one && in_pool(5) == one);
}
