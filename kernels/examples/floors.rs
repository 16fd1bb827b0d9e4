//! What this machine can do at most, for `scripts/bench.sh`: one line of JSON with the speed of a matrix product, as the kernels
//! call it, and of reading memory.
//!
//!     floors [THREADS]     0 or nothing: all cores

use std::time::{Duration, Instant};

use rayon::prelude::*;
use twotower_kernels::math::{Layout, Output, multiply};

const SIZE: usize = 2048;
/// Rows of the product that one thread makes at a time.
const ROWS: usize = 256;
/// Numbers read: 512 MiB, more than any cache.
const NUMBERS: usize = 1 << 27;
const MEASURED: Duration = Duration::from_secs(1);

fn main() {
    let threads = std::env::args().nth(1).map_or(0, |text| text.parse().expect("THREADS is a number"));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
    pool.install(|| {
        let gflops = 2.0 * (SIZE * SIZE * SIZE) as f64 / best(&product()) / 1e9;
        let gigabytes = (NUMBERS * 4) as f64 / best(&reading()) / 1e9;
        println!("{{\"product_gflops\": {gflops:.1}, \"read_gigabytes_per_second\": {gigabytes:.2}}}");
    });
}

/// Seconds of the fastest run.
fn best(work: &dyn Fn()) -> f64 {
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
