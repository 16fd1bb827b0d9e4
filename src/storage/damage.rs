//! Random damage to files, for tests: whatever the bytes, a reader gives an error or what was written, and never panics.
//!
//! `TWOTOWER_DAMAGE=n` tries n inputs on each reader; `make soak` does so.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use crate::kernels::random::{GOLDEN, splitmix64};

/// Numbers from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        let bits = splitmix64(self.0);
        self.0 = self.0.wrapping_add(GOLDEN);
        bits
    }

    fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { (self.next() % limit as u64) as usize }
    }

    /// A place of at most `most` bytes in `bytes`.
    fn place(&mut self, bytes: &[u8], most: usize) -> std::ops::Range<usize> {
        let from = self.below(bytes.len());
        from..(from + 1 + self.below(most)).min(bytes.len())
    }
}

/// `bytes` with one to three wounds: another text than before.
pub fn damaged(seed: u64, bytes: &[u8]) -> Vec<u8> {
    let mut random = Random(seed);
    let mut found = bytes.to_vec();
    for _ in 0..=random.below(3) {
        wound(&mut random, &mut found);
    }
    if found == bytes {
        found.push(b'!');
    }
    found
}

fn wound(random: &mut Random, bytes: &mut Vec<u8>) {
    let place = random.place(bytes, 16);
    let at = place.start;
    match random.below(10) {
        _ if bytes.is_empty() => bytes.extend(random.next().to_le_bytes()),
        0..3 => bytes[at] ^= 1 << random.below(8),
        3 => bytes[place].fill_with(|| random.next() as u8),
        4 => bytes[place].fill(if random.below(2) == 0 { 0 } else { 0xff }),
        5 => bytes.truncate(at),
        6 => drop(bytes.drain(place)),
        7 => {
            let copy = bytes[place].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, copy);
        }
        8 => bytes.swap(at, place.end - 1),
        // a number of a text, or what stands in the place of one
        _ => {
            let from = bytes[at..].iter().position(u8::is_ascii_digit).map_or(at, |found| at + found);
            let numbers =
                ["-1", "0", "99999999999999999999", "1e308", "9223372036854775808", "null", "NaN", "[]", "\"\""];
            let number = numbers[random.below(numbers.len())].bytes();
            bytes.splice(from..from + 1, number);
        }
    }
}

/// Tries `read` on damaged forms of `bytes`.
///
/// # Panics
/// With the seed of the first input on which `read` panics: by itself, or by an assertion about what it found.
pub async fn each(what: &str, usual: u64, bytes: &[u8], mut read: impl AsyncFnMut(Vec<u8>)) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match number("TWOTOWER_DAMAGE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TWOTOWER_DAMAGE").unwrap_or(usual),
    };
    let count = seeds.end - seeds.start;
    for seed in seeds {
        if AssertUnwindSafe(read(damaged(seed, bytes))).catch_unwind().await.is_err() {
            panic!("{what}: run it alone with TWOTOWER_DAMAGE_SEED={seed}");
        }
    }
    println!("{what}: {count} damaged inputs");
}
