//! Seeded draws. Only operations that IEEE 754 fixes to the last bit are used here and in the world (no `exp`, `ln` or
//! `powf`, whose last bit depends on the system's library), so that logs are the same bytes on every machine.

use crate::kernels::random::{GOLDEN, below, mix, unit};

/// A stream of random numbers (splitmix64), one for each thing that is drawn.
pub struct Random(u64);

impl Random {
    /// The stream of `what`, `a`, `b` under a seed: streams of other keys are unrelated.
    pub fn new(seed: u64, what: u64, a: u64, b: u64) -> Self {
        let mut state = mix(seed ^ 0x7477_6f74_6f77_6572);
        for key in [what, a, b] {
            state = mix(state.wrapping_add(GOLDEN) ^ mix(key));
        }
        Random(state)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        unit(self.bits())
    }

    /// Uniform in 0..n.
    pub fn below(&mut self, n: usize) -> usize {
        below(self.bits(), n)
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Mean 0, deviation 1, nearly normal: the sum of twelve uniforms.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// Draws positions in proportion to weights.
pub struct Weighted {
    upto: Vec<f64>,
}

impl Weighted {
    pub fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let mut total = 0.0;
        let upto = weights.into_iter().map(|weight| {
            total += weight;
            total
        });
        Weighted { upto: upto.collect() }
    }

    pub fn draw(&self, random: &mut Random) -> Option<usize> {
        let at = random.uniform() * self.upto.last()?;
        Some(self.upto.partition_point(|upto| *upto <= at).min(self.upto.len() - 1))
    }
}
