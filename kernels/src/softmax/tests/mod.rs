//! The kernel against straight loops in f64, and those against finite differences.

use super::*;

mod pairwise;

/// A batch that owns its data; every option is off until a test turns it on.
#[derive(Clone)]
struct Batch {
    dim: usize,
    users: Vec<f32>,
    items: Vec<f32>,
    log_q: Vec<f32>,
    /// Column and `log_q` of each row's positive.
    positives: (Vec<u32>, Vec<f32>),
    hard: (Vec<u32>, Vec<u32>),
    hard_weight: f64,
    loss: Loss,
    in_batch: bool,
    hardest: (usize, f64),
    masked: (Vec<u32>, Vec<u32>),
    inv_temperature: f32,
    weights: Option<Vec<f32>>,
    draws: Draws,
}

/// splitmix64, so that a test is the same every time.
#[derive(Clone)]
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }
}

impl Batch {
    fn new(batch: usize, shared: usize, dim: usize, temperature: f32) -> Self {
        let mut draws = Draws((batch * 1_000_003 + shared * 101 + dim) as u64);
        let users = vectors(&mut draws, batch, dim);
        let items = vectors(&mut draws, shared, dim);
        Self {
            dim,
            users,
            items,
            log_q: vec![0.0; shared],
            positives: ((0..batch as u32).collect(), vec![0.0; batch]),
            hard: (Vec::new(), Vec::new()),
            hard_weight: 1.0,
            loss: Loss::Softmax,
            in_batch: true,
            hardest: (0, 1.0),
            masked: (Vec::new(), Vec::new()),
            inv_temperature: 1.0 / temperature,
            weights: None,
            draws,
        }
    }

    fn rows(&self) -> usize {
        self.users.len() / self.dim
    }

    fn with_log_q(mut self) -> Self {
        let draws = &mut self.draws;
        self.log_q.iter_mut().for_each(|q| *q = -12.0 * draws.unit());
        self.positives.1 = self.positives.0.iter().map(|column| self.log_q[*column as usize]).collect();
        self
    }

    fn with_weights(mut self) -> Self {
        let weights = (0..self.rows()).map(|row| if row % 5 == 3 { 0.0 } else { self.draws.unit() });
        self.weights = Some(weights.collect());
        self
    }

    /// Up to `most` columns of `extra` new ones for each row, some shared between rows or twice in one.
    fn with_hard(mut self, extra: usize, most: usize) -> Self {
        let shared = self.log_q.len();
        let new = vectors(&mut self.draws, extra, self.dim);
        self.items.extend(new);
        self.hard.0.push(0);
        for _ in 0..self.rows() {
            for _ in 0..self.draws.below(most + 1) {
                let col = shared + self.draws.below(extra);
                self.hard.1.push(col as u32);
            }
            self.hard.0.push(self.hard.1.len() as u32);
        }
        self.hard_weight = 2.1;
        self
    }

    /// Up to `most` columns of each row, unsorted, with duplicates, and often the row's own.
    fn with_masks(mut self, most: usize) -> Self {
        self.masked.0.push(0);
        for row in 0..self.rows() {
            for _ in 0..self.draws.below(most + 1) {
                let col = self.draws.below(self.log_q.len());
                self.masked.1.push(col as u32);
            }
            if row % 2 == 0 {
                self.masked.1.push(row as u32);
            }
            self.masked.0.push(self.masked.1.len() as u32);
        }
        self
    }

    fn with_loss(mut self, loss: Loss) -> Self {
        self.loss = loss;
        self
    }

    fn with_hardest(mut self, count: usize, weight: f64) -> Self {
        self.hardest = (count, weight);
        self
    }

    fn without_in_batch(mut self) -> Self {
        self.in_batch = false;
        self
    }

    /// Shared columns that are negatives of a row, and of those the ones that count as its hardest.
    fn negatives(&self, row: usize, users: &[f64], items: &[f64]) -> (Vec<usize>, Vec<usize>) {
        let inputs = self.inputs();
        let masked = inputs.masked.of(row);
        let from = if self.in_batch { 0 } else { self.rows() };
        let all: Vec<usize> =
            (from..self.log_q.len()).filter(|&col| col != row && !masked.contains(&(col as u32))).collect();
        let mut hardest = all.clone();
        let score = |col: usize| product(users, row, items, col, self.dim);
        hardest.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
        hardest.truncate(self.hardest.0);
        (all, hardest)
    }

    fn with_all_masked(mut self) -> Self {
        let shared = self.log_q.len() as u32;
        self.masked.0 = (0..=self.rows() as u32).map(|row| row * shared).collect();
        self.masked.1 = (0..self.rows()).flat_map(|_| 0..shared).collect();
        self
    }

    fn inputs(&self) -> SoftmaxInputs<'_> {
        SoftmaxInputs {
            loss: self.loss,
            dim: self.dim,
            users: &self.users,
            items: &self.items,
            log_q: &self.log_q,
            positives: &self.positives.0,
            positive_log_q: &self.positives.1,
            hard: (&self.hard).into(),
            hard_weight: self.hard_weight,
            in_batch: self.in_batch,
            hardest: self.hardest.0,
            hardest_weight: self.hardest.1,
            masked: (&self.masked).into(),
            inv_temperature: self.inv_temperature,
            weights: self.weights.as_deref(),
        }
    }

    fn run(&self) -> SoftmaxOutputs {
        let mut outputs = SoftmaxOutputs::default();
        SoftmaxKernel::new().run(&self.inputs(), &mut outputs);
        outputs
    }

    fn agrees(&self, name: &str) {
        let (fast, slow) = (self.run(), Reference::of(self));
        self.near(name, &fast, &slow);
    }

    fn near(&self, name: &str, fast: &SoftmaxOutputs, slow: &Reference) {
        let near = |what: &str, a: f64, b: f64, size: f64| {
            assert!((a - b).abs() <= 1e-5 * size, "{name}: {what} is {a:e}, want {b:e} (size {size:e})");
        };
        let all_near = |what: &str, a: &[f32], b: &[f64]| {
            assert_eq!(a.len(), b.len());
            let size = b.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            a.iter().zip(b).for_each(|(a, b)| near(what, f64::from(*a), *b, size));
        };
        near("loss", fast.loss, slow.loss, slow.loss);
        all_near("row_losses", &fast.row_losses, &slow.row_losses);
        all_near("d_users", &fast.d_users, &slow.d_users);
        all_near("d_items", &fast.d_items, &slow.d_items);
        let size = slow.slope_size;
        near("d_inv_temperature", fast.d_inv_temperature, slow.d_inv_temperature, size);
        near("positive_probability", fast.positive_probability, slow.positive_probability, 1.0);
    }
}

fn product(users: &[f64], row: usize, items: &[f64], col: usize, dim: usize) -> f64 {
    (0..dim).map(|k| users[row * dim + k] * items[col * dim + k]).sum()
}

/// `count` random unit vectors.
fn vectors(draws: &mut Draws, count: usize, dim: usize) -> Vec<f32> {
    let mut rows: Vec<f32> = (0..count * dim).map(|_| draws.unit() * 2.0 - 1.0).collect();
    let mut norms = vec![0.0; count];
    crate::math::normalize_rows(&mut rows, dim, 1e-12, &mut norms);
    rows
}

/// The definition, in f64 and straight loops.
struct Reference {
    loss: f64,
    row_losses: Vec<f64>,
    d_users: Vec<f64>,
    d_items: Vec<f64>,
    d_inv_temperature: f64,
    /// Sum of the absolute terms of `d_inv_temperature`, which may cancel.
    slope_size: f64,
    positive_probability: f64,
}

impl Reference {
    fn of(batch: &Batch) -> Self {
        let users = batch.users.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let items = batch.items.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        Self::at(batch, &users, &items, f64::from(batch.inv_temperature))
    }

    fn zeros(users: &[f64], items: &[f64]) -> Self {
        Self {
            loss: 0.0,
            row_losses: Vec::new(),
            d_users: vec![0.0; users.len()],
            d_items: vec![0.0; items.len()],
            d_inv_temperature: 0.0,
            slope_size: 0.0,
            positive_probability: 0.0,
        }
    }

    fn at(batch: &Batch, users: &[f64], items: &[f64], inv_temperature: f64) -> Self {
        let (dim, rows) = (batch.dim, batch.rows());
        let inputs = batch.inputs();
        let weight = |row: usize| batch.weights.as_ref().map_or(1.0, |w| f64::from(w[row]));
        let total: f64 = (0..rows).map(weight).sum();
        let mut result = Self::zeros(users, items);
        for row in 0..rows {
            let (negatives, hardest) = batch.negatives(row, users, items);
            let bias = |col: usize| -f64::from(batch.log_q[col]);
            let extra = |col: usize| if hardest.contains(&col) { batch.hardest.1.ln() } else { 0.0 };
            let mut columns = vec![(row, bias(row))];
            columns.extend(negatives.iter().map(|&col| (col, bias(col) + extra(col))));
            let owned = inputs.hard.of(row);
            columns.extend(owned.iter().map(|&c| (c as usize, batch.hard_weight.ln())));
            let product = |col: usize| product(users, row, items, col, dim);
            let logits: Vec<f64> = columns.iter().map(|&(col, bias)| inv_temperature * product(col) + bias).collect();
            let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits.iter().map(|z| (z - max).exp()).sum();
            let own = 0;
            let others: f64 = (0..logits.len()).filter(|&k| k != own).map(|k| (logits[k] - max).exp()).sum();
            // As the kernel does it: 1 - p loses digits that f64 has only just enough of.
            let loss = if logits[own] == max { others.ln_1p() } else { sum.ln() + max - logits[own] };
            result.loss += weight(row) / total * loss;
            result.row_losses.push(loss);
            result.positive_probability += weight(row) / total * (logits[own] - max).exp() / sum;
            for (k, &(col, _)) in columns.iter().enumerate() {
                let p = if k == own { -others / sum } else { (logits[k] - max).exp() / sum };
                let slope = weight(row) / total * p;
                result.d_inv_temperature += slope * product(col);
                result.slope_size += (slope * product(col)).abs();
                for d in 0..dim {
                    result.d_users[row * dim + d] += slope * inv_temperature * items[col * dim + d];
                    result.d_items[col * dim + d] += slope * inv_temperature * users[row * dim + d];
                }
            }
        }
        result
    }
}

#[test]
fn the_reference_agrees_with_finite_differences() {
    let batch = Batch::new(5, 9, 3, 0.3).with_log_q().with_weights().with_hard(4, 3).with_masks(3);
    let users: Vec<f64> = batch.users.iter().map(|&v| f64::from(v)).collect();
    let items: Vec<f64> = batch.items.iter().map(|&v| f64::from(v)).collect();
    let heat = f64::from(batch.inv_temperature);
    let exact = Reference::at(&batch, &users, &items, heat);
    let step = 1e-5;
    let moved = |v: &[f64], k: usize, by: f64| {
        let mut v = v.to_vec();
        v[k] += by;
        v
    };
    for (k, &slope) in exact.d_users.iter().enumerate() {
        let loss = |by| Reference::at(&batch, &moved(&users, k, by), &items, heat).loss;
        assert!(((loss(step) - loss(-step)) / (2.0 * step) - slope).abs() < 1e-8);
    }
    for (k, &slope) in exact.d_items.iter().enumerate() {
        let loss = |by| Reference::at(&batch, &users, &moved(&items, k, by), heat).loss;
        assert!(((loss(step) - loss(-step)) / (2.0 * step) - slope).abs() < 1e-8);
    }
    let loss = |by| Reference::at(&batch, &users, &items, heat + by).loss;
    assert!(((loss(step) - loss(-step)) / (2.0 * step) - exact.d_inv_temperature).abs() < 1e-8);
}

#[test]
fn every_option_agrees_with_the_reference_alone_and_together() {
    for temperature in [0.02, 0.07, 0.3, 1.0] {
        let plain = || Batch::new(70, 150, 12, temperature);
        plain().agrees("plain");
        plain().with_log_q().agrees("log_q");
        plain().with_weights().agrees("weights");
        plain().with_hard(40, 4).agrees("hard");
        plain().with_masks(9).agrees("masks");
        plain().with_all_masked().agrees("all masked");
        plain().with_all_masked().with_hard(40, 4).agrees("only hard");
        plain().without_in_batch().with_log_q().with_masks(9).agrees("no in-batch negatives");
        plain().with_hardest(1, 3.0).agrees("the hardest");
        plain().with_all_masked().with_hardest(2, 3.0).agrees("none to be the hardest");
        let together = plain().with_log_q().with_weights().with_hard(40, 4).with_masks(9).with_hardest(2, 30.0);
        together.without_in_batch().agrees("all options");
        plain().with_log_q().with_weights().with_hard(40, 4).with_masks(9).agrees("together");
    }
}

#[test]
fn every_shape_agrees_with_the_reference() {
    for (rows, shared, dim) in
        [(1, 1, 8), (1, 2, 1), (2, 700, 5), (63, 63, 7), (64, 64, 64), (65, 1100, 33), (200, 513, 16)]
    {
        let plain = Batch::new(rows, shared, dim, 0.1);
        plain.agrees(&format!("{rows} x {shared} x {dim}"));
        plain.with_log_q().with_weights().with_hard(9, 3).with_masks(4).agrees("with options");
    }
    Batch::new(1500, 1600, 16, 0.05).with_hard(300, 2).with_masks(2).agrees("many blocks a task");
}

#[test]
fn a_trained_model_with_near_certain_positives_keeps_its_small_gradients() {
    let mut batch = Batch::new(80, 120, 32, 0.02);
    batch.items[..80 * 32].copy_from_slice(&batch.users);
    assert!(batch.run().loss < 1e-4);
    batch.agrees("certain");
    batch.with_hard(20, 2).with_log_q().agrees("certain, with options");
}

#[test]
fn the_bits_are_the_same_for_any_thread_count_and_for_reused_memory() {
    let batch = Batch::new(1100, 1300, 24, 0.05);
    let batch = batch.with_log_q().with_weights().with_hard(300, 3).with_masks(5);
    let in_pool = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("a pool").install(|| {
            let (mut kernel, mut outputs) = (SoftmaxKernel::new(), SoftmaxOutputs::default());
            kernel.run(&Batch::new(100, 2000, 40, 0.5).inputs(), &mut outputs);
            kernel.run(&batch.inputs(), &mut outputs);
            outputs
        })
    };
    let one = in_pool(1);
    for threads in [2, 5] {
        let many = in_pool(threads);
        assert_eq!(one.loss.to_bits(), many.loss.to_bits());
        assert_eq!(one.d_inv_temperature.to_bits(), many.d_inv_temperature.to_bits());
        let same = |a: &[f32], b: &[f32]| {
            assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()));
        };
        same(&one.row_losses, &many.row_losses);
        same(&one.d_users, &many.d_users);
        same(&one.d_items, &many.d_items);
    }
}

#[test]
fn an_item_that_stands_in_one_column_for_several_gives_what_they_give_together() {
    // columns 0..40 are positives of 20 items; 40..60 are random draws, of which 50.. are items of the positives
    let mut apart = Batch::new(40, 60, 16, 0.1).with_log_q().with_weights();
    let item_of =
        |column: usize| if column < 40 { column % 20 } else { column - 20 - if column < 50 { 0 } else { 30 } };
    let rows = |batch: &Batch, column: usize| batch.items[column * 16..(column + 1) * 16].to_vec();
    let first_of = |item: usize| (0..60).find(|column| item_of(*column) == item).unwrap();
    apart.items = (0..60).flat_map(|column| rows(&apart, first_of(item_of(column)))).collect();
    // masks are of items: the row's own, wherever it stands, and the one after it
    let liked = |row: usize| [item_of(row), (item_of(row) + 1) % 20];
    let masks = |columns: usize, item_of: &dyn Fn(usize) -> usize| {
        let mut masked = (vec![0], Vec::new());
        for row in 0..40 {
            masked.1.extend((0..columns).filter(|column| liked(row).contains(&item_of(*column))).map(|at| at as u32));
            masked.0.push(masked.1.len() as u32);
        }
        masked
    };
    apart.masked = masks(60, &item_of);
    let mut merged = apart.clone();
    let items = 30;
    merged.items = (0..items).flat_map(|item| rows(&apart, first_of(item))).collect();
    let of = |item: usize| (0..60).filter(move |column| item_of(*column) == item);
    merged.log_q = (0..items).map(|item| -of(item).map(|at| (-apart.log_q[at]).exp()).sum::<f32>().ln()).collect();
    merged.positives.0 = (0..40).map(|row| item_of(row) as u32).collect();
    merged.masked = masks(items, &|column| column);
    let (apart, merged) = (apart.run(), merged.run());
    let near = |a: &[f32], b: &[f32]| {
        let size = a.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5 * size));
    };
    near(&[apart.loss as f32, apart.d_inv_temperature as f32], &[merged.loss as f32, merged.d_inv_temperature as f32]);
    near(&apart.row_losses, &merged.row_losses);
    near(&apart.d_users, &merged.d_users);
    let gradient = |item: usize, k: usize| of(item).map(|column| apart.d_items[column * 16 + k]).sum();
    near(&(0..items * 16).map(|at| gradient(at / 16, at % 16)).collect::<Vec<f32>>(), &merged.d_items);
}

#[test]
fn a_column_that_is_nobodys_negative_is_like_one_that_is_not_there() {
    let mut batch = Batch::new(30, 70, 16, 0.1).with_log_q();
    let without = batch.clone().without_in_batch().run();
    batch.log_q[..30].fill(f32::INFINITY);
    let outputs = batch.run();
    assert!((outputs.loss - without.loss).abs() < 1e-6 * without.loss);
    assert!(outputs.d_items.iter().zip(&without.d_items).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn weights_that_are_all_zero_give_zeros() {
    let mut batch = Batch::new(10, 20, 8, 0.1);
    batch.weights = Some(vec![0.0; 10]);
    let outputs = batch.run();
    assert_eq!(outputs.loss, 0.0);
    assert!(outputs.d_users.iter().chain(&outputs.d_items).all(|&g| g == 0.0));
}

#[test]
fn a_nan_in_a_user_shows_in_its_row_only() {
    let mut batch = Batch::new(70, 90, 8, 0.1);
    batch.users[66 * 8] = f32::NAN;
    let losses = batch.run().row_losses;
    let bad: Vec<usize> = (0..70).filter(|&row| losses[row].is_nan()).collect();
    assert_eq!(bad, [66]);
}
