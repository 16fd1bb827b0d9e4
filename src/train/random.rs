//! Draws that are functions of a seed and a place, so that they are the same in any order and on any number of threads.

pub use crate::kernels::random::{below, splitmix64, unit};

/// 64 random bits for a place.
pub fn bits(seed: u64, place: &[u64]) -> u64 {
    place.iter().fold(splitmix64(seed), |state, part| splitmix64(state ^ part))
}

/// Shuffles by Fisher and Yates.
pub fn shuffle<T>(items: &mut [T], seed: u64) {
    for at in (1..items.len()).rev() {
        items.swap(at, below(bits(seed, &[at as u64]), at + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_uniform_and_a_shuffle_keeps_all() {
        let mut hits = [0; 10];
        (0..10_000).for_each(|at| hits[below(bits(1, &[2, at]), 10)] += 1);
        assert!(hits.iter().all(|hits| (850..1150).contains(hits)), "{hits:?}");
        let mut items: Vec<u32> = (0..1000).collect();
        shuffle(&mut items, 5);
        assert_ne!(items[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<u32>>());
    }
}
