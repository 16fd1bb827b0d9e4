//! The held-out items among candidates that the samples name (`holdout_candidates`): how benchmarks measure that rank one item among
//! sampled ones. Such figures say little of retrieval from a whole catalogue (Krichene and Rendle, "On sampled metrics for item
//! recommendation", KDD 2020); they are there to be compared with published ones.

use std::collections::BTreeMap;

use crate::artifacts::{AmongAtK, AmongCandidates};
use crate::kernels::math::dot;

/// Sums over targets of users that have candidates.
///
/// The rank of a target counts from 0 the user's candidates that score strictly higher, his own targets left out. A target hits at K
/// where its rank is below K, and gains 1 / log2(rank + 2) there. Both are averaged over targets.
pub struct Among {
    cutoffs: Vec<usize>,
    users: u64,
    targets: u64,
    candidates: u64,
    /// Hits and gains by cut-off: by the model, by popularity.
    sums: [Vec<[f64; 2]>; 2],
}

impl Among {
    pub fn new(cutoffs: &[usize]) -> Self {
        let zeros = vec![[0.0; 2]; cutoffs.len()];
        Among { cutoffs: cutoffs.to_vec(), users: 0, targets: 0, candidates: 0, sums: [zeros.clone(), zeros] }
    }

    /// Adds one user: his vector `[dim]`, his targets in the catalogue (ascending), how many more are outside of it, which nothing
    /// finds, and his candidates. `vectors` is `[items, dim]`, `positives` `[items]`.
    pub fn add(
        &mut self,
        user: &[f32],
        targets: &[u32],
        outside: u64,
        candidates: &[u32],
        vectors: &[f32],
        positives: &[u64],
    ) {
        if candidates.is_empty() {
            return;
        }
        let score = |item: u32| dot(user, &vectors[item as usize * user.len()..][..user.len()]);
        let others: Vec<u32> = candidates.iter().copied().filter(|item| targets.binary_search(item).is_err()).collect();
        let scores: Vec<f32> = others.iter().map(|item| score(*item)).collect();
        self.users += 1;
        self.targets += targets.len() as u64 + outside;
        self.candidates += others.len() as u64;
        for &target in targets {
            let (own, own_positives) = (score(target), positives[target as usize]);
            // an item whose score is no number is never found
            let higher = if own.is_nan() { usize::MAX } else { scores.iter().filter(|score| **score > own).count() };
            let popular = others.iter().filter(|item| positives[**item as usize] > own_positives).count();
            for (sums, rank) in self.sums.iter_mut().zip([higher, popular]) {
                for (_, sums) in self.cutoffs.iter().zip(sums).filter(|(cutoff, _)| rank < **cutoff) {
                    sums[0] += 1.0;
                    sums[1] += 1.0 / (rank as f64 + 2.0).log2();
                }
            }
        }
    }

    /// The averages; none where no measured user has candidates.
    pub fn finish(self) -> Option<AmongCandidates> {
        let targets = self.targets as f64;
        let [model, popularity] = self.sums.map(|sums| {
            let at = |(&cutoff, [hits, gains]): (&usize, [f64; 2])| {
                (cutoff, AmongAtK { hit_rate: hits / targets, ndcg: gains / targets })
            };
            self.cutoffs.iter().zip(sums).map(at).collect::<BTreeMap<_, _>>()
        });
        (self.targets > 0).then(|| AmongCandidates {
            users: self.users,
            targets: self.targets,
            candidates: self.candidates as f64 / self.users as f64,
            model,
            popularity,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_counts_what_scores_strictly_higher_and_is_not_a_target_itself() {
        // scores are the item's own number
        let vectors = [0.5, 0.9, 0.5, 0.1, f32::NAN, 0.7];
        let positives = [4, 1, 9, 9, 9, 9];
        let mut among = Among::new(&[1, 2]);
        // target 0 ties with 2 and is below 1; 3 is lower; 4 is no number; by popularity 2 and 3 are higher
        among.add(&[1.0], &[0], 0, &[0, 1, 2, 3], &vectors, &positives);
        // two targets, one outside: 5 is below 1 alone, and the other target 1 does not count against it
        among.add(&[1.0], &[1, 5], 1, &[0, 1, 2, 4], &vectors, &positives);
        // a target whose score is no number is never found
        among.add(&[1.0], &[4], 0, &[3], &vectors, &positives);
        // no candidates, not measured
        among.add(&[1.0], &[1], 0, &[], &vectors, &positives);
        let found = among.finish().unwrap();
        assert_eq!((found.users, found.targets, found.candidates), (3, 5, 7.0 / 3.0));
        let second = 1.0 / 3f64.log2();
        assert_eq!(found.model[&1], AmongAtK { hit_rate: 2.0 / 5.0, ndcg: 2.0 / 5.0 });
        assert_eq!(found.model[&2], AmongAtK { hit_rate: 3.0 / 5.0, ndcg: (2.0 + second) / 5.0 });
        // popularity: 5 and 4 lead, 1 comes after all three of its others, 0 after two
        assert_eq!(found.popularity[&2], AmongAtK { hit_rate: 2.0 / 5.0, ndcg: 2.0 / 5.0 });
        assert!(Among::new(&[1]).finish().is_none());
    }
}
