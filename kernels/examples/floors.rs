//! What this machine can do at most, for `scripts/bench.sh`: one line of JSON with the speed of a matrix product, as the kernels
//! call it, and of reading memory. With `TABLE_ROWS` instead: rows a second that are read, and changed, at random places of such a table.
//!
//!     floors [THREADS [TABLE_ROWS]]     0 threads or nothing: all cores

use std::time::{Duration, Instant};

use rayon::prelude::*;
use twotower_kernels::math::{Layout, Output, multiply};
use twotower_kernels::pooling::{Bag, BagGradient, Pooling, Scatter, gather};
use twotower_kernels::random::splitmix64;
use twotower_kernels::tables::{EmbeddingTable, RowInit, RowwiseAdagrad};

const SIZE: usize = 2048;
/// Rows of the product that one thread makes at a time.
const ROWS: usize = 256;
/// Numbers read: 512 MiB, more than any cache.
const NUMBERS: usize = 1 << 27;
const MEASURED: Duration = Duration::from_secs(1);
/// Numbers of a table's row, rows that are pooled into one vector, and such vectors of one run.
const DIM: usize = 64;
const POOLED: usize = 50;
const VECTORS: usize = 1 << 14;
/// Rows that a step changes, steps of one run, and runs before rows come again.
const STEP_ROWS: usize = 1 << 15;
const STEPS: usize = 8;
const RUNS: usize = 4;

fn main() {
    let number = |at, name| {
        std::env::args().nth(at).map(|text| text.parse::<usize>().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(number(1, "THREADS").unwrap_or(0));
    let pool = pool.build().expect("threads can be started");
    let table_rows = number(2, "TABLE_ROWS");
    pool.install(|| {
        if let Some(rows) = table_rows {
            let mut table = EmbeddingTable::new(rows, DIM, &RowInit::usual(DIM, 1));
            let read = (VECTORS * POOLED) as f64 / best(&mut reading_rows(&table));
            let changed = (STEP_ROWS.min(rows) * STEPS) as f64 / best(&mut changing_rows(&mut table));
            println!("{{\"rows_read_per_second\": {read:.0}, \"rows_changed_per_second\": {changed:.0}}}");
            return;
        }
        let gflops = 2.0 * (SIZE * SIZE * SIZE) as f64 / best(&mut product()) / 1e9;
        let gigabytes = (NUMBERS * 4) as f64 / best(&mut reading()) / 1e9;
        println!("{{\"product_gflops\": {gflops:.1}, \"read_gigabytes_per_second\": {gigabytes:.2}}}");
    });
}

/// Seconds of the fastest run.
fn best(work: &mut dyn FnMut()) -> f64 {
    let began = Instant::now();
    let mut best = f64::INFINITY;
    while began.elapsed() < MEASURED {
        let run = Instant::now();
        work();
        best = best.min(run.elapsed().as_secs_f64());
    }
    best
}

fn product() -> impl Fn() {
    let a: Vec<f32> = (0..SIZE * SIZE).map(|at| (at % 97) as f32).collect();
    let out = std::sync::Mutex::new(vec![0.0f32; SIZE * SIZE]);
    move || {
        let mut out = out.lock().expect("no holder panics");
        out.par_chunks_mut(ROWS * SIZE).zip(a.par_chunks(ROWS * SIZE)).for_each(|(out, rows)| {
            let piece = Layout::row_major(ROWS, SIZE);
            multiply((out, piece), (rows, piece), (&a, Layout::row_major(SIZE, SIZE)), 1.0, Output::Overwrite);
        });
        std::hint::black_box(&mut *out);
    }
}

fn reading() -> impl Fn() {
    let numbers = vec![1u32; NUMBERS];
    move || {
        let sum: u32 =
            numbers.par_chunks(1 << 16).map(|chunk| chunk.iter().fold(0u32, |sum, n| sum.wrapping_add(*n))).sum();
        std::hint::black_box(sum);
    }
}

/// Other rows in each run, as a table's rows are other ones in each step.
fn reading_rows(table: &EmbeddingTable) -> impl FnMut() {
    let offsets: Vec<u32> = (0..=VECTORS).map(|vector| (vector * POOLED) as u32).collect();
    let runs: Vec<Vec<u32>> = (0..RUNS).map(|run| drawn(table.len(), VECTORS * POOLED, run)).collect();
    let (mut out, mut run) = (vec![0.0f32; VECTORS * DIM], 0);
    move || {
        let bag = Bag { offsets: &offsets, ids: &runs[run % runs.len()], weights: None };
        gather(table, bag, Pooling::Mean, &mut out, DIM, 0);
        run += 1;
        std::hint::black_box(&mut out);
    }
}

/// Each row once in a step, in ascending order, as the optimizer takes them.
fn changing_rows(table: &mut EmbeddingTable) -> impl FnMut() {
    let rows = STEP_ROWS.min(table.len());
    let steps = (0..RUNS * STEPS).map(|step| {
        // every so many rows one, at a place by chance
        let every = table.len() / rows;
        let chance = drawn(every, rows, step);
        let ids = chance.iter().enumerate().map(|(at, chance)| (at * every) as u32 + chance);
        ids.collect::<Vec<u32>>()
    });
    let offsets: Vec<u32> = (0..=rows as u32).collect();
    let grad = vec![1e-3; rows * DIM];
    let mut steps: Vec<(Vec<u32>, Scatter)> = steps.map(|ids| (ids, Scatter::new())).collect();
    for (ids, scatter) in &mut steps {
        scatter.plan(table.len(), &[Bag { offsets: &offsets, ids, weights: None }]);
    }
    let optimizer = RowwiseAdagrad { learning_rate: 0.05, epsilon: 1e-8, weight_decay: 0.0 };
    let mut run = 0;
    move || {
        for step in 0..STEPS {
            let place = (run * STEPS + step) % steps.len();
            let (ids, scatter) = &mut steps[place];
            let bag = Bag { offsets: &offsets, ids, weights: None };
            let source = [BagGradient { bag, pooling: Pooling::Sum, grad: &grad, stride: DIM, col_offset: 0 }];
            let gradients = scatter.gradients(table, &source);
            table.apply(&gradients, &optimizer);
        }
        run += 1;
    }
}

fn drawn(below: usize, count: usize, seed: usize) -> Vec<u32> {
    let hash = |at: usize| splitmix64(splitmix64(seed as u64) ^ at as u64);
    (0..count).map(|at| (hash(at) % below as u64) as u32).collect()
}
