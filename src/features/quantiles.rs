//! Statistics of a stream of numbers, the same whatever the batches: mean, deviation, quantiles.

/// Values kept for the quantiles, at most.
const KEPT: usize = 1 << 17;

/// Mean and deviation by Welford's method, and an evenly thinned sample for quantiles.
#[derive(Debug, Clone)]
pub(super) struct Statistics {
    count: u64,
    mean: f64,
    squares: f64,
    sample: Vec<f64>,
    /// Every so many values one is kept.
    stride: u64,
}

impl Statistics {
    pub fn new() -> Self {
        Statistics { count: 0, mean: 0.0, squares: 0.0, sample: Vec::new(), stride: 1 }
    }

    /// Takes a finite value in; others are passed over, as null is.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        if self.count.is_multiple_of(self.stride) {
            if self.sample.len() == KEPT {
                let mut at = 0;
                self.sample.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
                self.stride *= 2;
            }
            if self.count.is_multiple_of(self.stride) {
                self.sample.push(value);
            }
        }
        self.count += 1;
        let away = value - self.mean;
        self.mean += away / self.count as f64;
        self.squares += away * (value - self.mean);
    }

    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Standard deviation; 1 where all values are the same, so that it can be divided by.
    pub fn deviation(&self) -> f64 {
        let variance = self.squares / self.count.max(1) as f64;
        if variance > 1e-12 * self.mean.abs().max(1.0) { variance.sqrt() } else { 1.0 }
    }

    /// Boundaries that cut the values into up to `buckets` parts of like size; equal values stay together.
    pub fn boundaries(mut self, buckets: usize) -> Vec<f64> {
        self.sample.sort_unstable_by(f64::total_cmp);
        let len = self.sample.len();
        let mut cuts: Vec<f64> =
            (1..buckets).filter_map(|part| self.sample.get(part * len / buckets).copied()).collect();
        cuts.dedup();
        // nothing lies below the smallest value
        if cuts.first() == self.sample.first() && !cuts.is_empty() {
            cuts.remove(0);
        }
        cuts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_a_long_stream_are_right() {
        let mut statistics = Statistics::new();
        let n = 300_000u64;
        (0..n).for_each(|i| statistics.add(((i * 7919) % n) as f64));
        statistics.add(f64::NAN);
        assert!((statistics.mean() - (n - 1) as f64 / 2.0).abs() < 1e-6);
        assert!((statistics.deviation() - n as f64 / 12f64.sqrt()).abs() < 1.0);
        let cuts = statistics.boundaries(4);
        for (cut, share) in cuts.iter().zip([0.25, 0.5, 0.75]) {
            assert!((cut / n as f64 - share).abs() < 0.01, "{cut}");
        }
    }

    #[test]
    fn equal_values_make_one_bucket() {
        let mut statistics = Statistics::new();
        [3.0, 3.0, 3.0, 3.0, 5.0].into_iter().for_each(|value| statistics.add(value));
        assert_eq!(statistics.clone().boundaries(3), [3.0f64; 0]);
        assert_eq!(statistics.boundaries(5), [5.0]);
        assert_eq!(Statistics::new().boundaries(4), [0.0f64; 0]);
        assert_eq!(Statistics::new().deviation(), 1.0);
    }
}
