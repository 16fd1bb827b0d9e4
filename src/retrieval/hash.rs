//! Choices that depend on a seed and on ids alone, never on order or time.

use crate::artifacts::Ids;
use crate::kernels::random::{fnv1a64, splitmix64};

/// A hash of the id at `at`, the same on every machine.
pub fn seeded_hash(seed: u64, ids: &Ids, at: usize) -> u64 {
    let id = match ids {
        Ids::Int(ids) => ids[at] as u64,
        Ids::Str(ids) => fnv1a64(ids[at].as_bytes()),
    };
    splitmix64(splitmix64(seed) ^ id)
}

/// The places of the `count` smallest hashes, ascending; a tie goes to the lower place.
pub fn smallest(hashes: &[u64], count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..hashes.len()).collect();
    if count < places.len() {
        places.select_nth_unstable_by_key(count, |&at| (hashes[at], at));
        places.truncate(count);
        places.sort_unstable();
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_has_the_asked_size_depends_on_the_seed_and_not_on_the_order_of_ids() {
        let chosen = |seed: u64, ids: Vec<i64>| {
            let ids = Ids::Int(ids);
            let hashes: Vec<u64> = (0..ids.len()).map(|at| seeded_hash(seed, &ids, at)).collect();
            let mut chosen: Vec<_> = smallest(&hashes, 10).into_iter().map(|at| ids.get(at)).collect();
            chosen.sort();
            chosen
        };
        let forward = chosen(1, (0..100).collect());
        assert_eq!(forward.len(), 10);
        assert_eq!(forward, chosen(1, (0..100).rev().collect()));
        assert_ne!(forward, chosen(2, (0..100).collect()));
        assert_eq!(chosen(1, (0..4).collect()).len(), 4);
    }

    #[test]
    fn text_ids_hash_by_their_bytes() {
        let ids = Ids::Str(vec!["a".into(), "b".into(), "a".into()]);
        assert_eq!(seeded_hash(7, &ids, 0), seeded_hash(7, &ids, 2));
        assert_ne!(seeded_hash(7, &ids, 0), seeded_hash(7, &ids, 1));
    }
}
