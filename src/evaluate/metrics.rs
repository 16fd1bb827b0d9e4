//! Recall@K, NDCG@K, hit rate, MRR and coverage.

use std::collections::BTreeMap;

use crate::artifacts::{AtK, Metrics};

/// Sums of one way to rank, over users.
///
/// For the top K of a user and his targets T: recall = |top K and T| / |T|. NDCG = DCG / ideal DCG, where the item at rank r (from 1)
/// gains 1 / log2(r + 1) if it is in T, and the ideal list has min(K, |T|) targets at its top. Hit rate: whether any target is in
/// the top K. MRR: 1 / rank of the first one in the top K, else 0. All are averaged over users, whose |T| is at least 1.
pub struct Tally {
    cutoffs: Vec<usize>,
    /// `discount[r]` = 1 / log2(r + 2): the gain at rank r + 1.
    discount: Vec<f64>,
    /// `ideal[n]`: the sum of the first n gains.
    ideal: Vec<f64>,
    users: u64,
    /// Recall, NDCG, hit rate, MRR by cut-off.
    sums: Vec<[f64; 4]>,
    /// The best rank (from 0) at which anyone was shown an item.
    best_rank: Vec<u32>,
}

impl Tally {
    /// `cutoffs` ascending; `items` is the size of the catalogue.
    pub fn new(cutoffs: &[usize], items: usize) -> Self {
        let deepest = cutoffs.last().copied().unwrap_or(0);
        let discount: Vec<f64> = (0..deepest).map(|rank| 1.0 / (rank as f64 + 2.0).log2()).collect();
        let sum = |total: &mut f64, gain: &f64| {
            *total += gain;
            Some(*total)
        };
        let ideal = std::iter::once(0.0).chain(discount.iter().scan(0.0, sum)).collect();
        Tally {
            cutoffs: cutoffs.to_vec(),
            discount,
            ideal,
            users: 0,
            sums: vec![[0.0; 4]; cutoffs.len()],
            best_rank: vec![u32::MAX; items],
        }
    }

    /// Adds one user: `ranked` from the best, `targets` ascending, `total` at least 1 counts targets outside the catalogue too.
    pub fn add(&mut self, ranked: &[u32], targets: &[u32], total: u32) {
        self.users += 1;
        let (mut rank, mut found, mut gain, mut first) = (0, 0u32, 0.0, None);
        for (cutoff, sums) in self.cutoffs.iter().zip(&mut self.sums) {
            for &item in &ranked[rank.min(ranked.len())..ranked.len().min(*cutoff)] {
                let best = &mut self.best_rank[item as usize];
                *best = (*best).min(rank as u32);
                if targets.binary_search(&item).is_ok() {
                    found += 1;
                    gain += self.discount[rank];
                    first = first.or(Some(rank));
                }
                rank += 1;
            }
            sums[0] += f64::from(found) / f64::from(total);
            sums[1] += gain / self.ideal[(*cutoff).min(total as usize)];
            sums[2] += if found > 0 { 1.0 } else { 0.0 };
            sums[3] += first.map_or(0.0, |rank| 1.0 / (rank as f64 + 1.0));
        }
    }

    /// The averages.
    pub fn metrics(&self) -> Metrics {
        let users = self.users.max(1) as f64;
        let at = |(&cutoff, sums): (&usize, &[f64; 4])| {
            let shown = self.best_rank.iter().filter(|rank| (**rank as usize) < cutoff).count();
            let [recall, ndcg, hit_rate, mrr] = sums.map(|sum| sum / users);
            (cutoff, AtK { recall, ndcg, hit_rate, mrr, coverage: shown as f64 / self.best_rank.len().max(1) as f64 })
        };
        let at: BTreeMap<usize, AtK> = self.cutoffs.iter().zip(&self.sums).map(at).collect();
        Metrics { users: self.users, at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definitions, word by word.
    fn slow(ranked: &[u32], targets: &[u32], total: u32, k: usize) -> [f64; 4] {
        let top = &ranked[..k.min(ranked.len())];
        let gain = |rank: usize| 1.0 / ((rank + 1) as f64).log2();
        let hits: Vec<usize> = (1..=top.len()).filter(|rank| targets.contains(&top[rank - 1])).collect();
        let ideal: f64 = (1..=k.min(total as usize)).map(gain).sum();
        [
            hits.len() as f64 / f64::from(total),
            hits.iter().map(|rank| gain(*rank)).sum::<f64>() / ideal,
            f64::from(u8::from(!hits.is_empty())),
            hits.first().map_or(0.0, |rank| 1.0 / *rank as f64),
        ]
    }

    #[test]
    fn it_equals_the_definitions_also_with_more_targets_than_k_or_none_found() {
        let users: [(&[u32], &[u32], u32); 6] = [
            (&[3, 1, 4, 2, 0], &[1, 2], 2),
            (&[3, 1, 4, 2, 0], &[0, 1, 2, 3, 4, 5, 6], 9),
            (&[3, 1], &[7], 1),
            (&[], &[1], 1),
            (&[5, 6, 7], &[], 2),
            (&[9, 8, 7, 6, 5, 4, 3], &[9], 1),
        ];
        let cutoffs = [1, 3, 5, 10];
        let mut tally = Tally::new(&cutoffs, 10);
        users.iter().for_each(|(ranked, targets, total)| tally.add(ranked, targets, *total));
        let metrics = tally.metrics();
        assert_eq!(metrics.users, 6);
        for k in cutoffs {
            let mut expected = [0.0; 4];
            for (ranked, targets, total) in users {
                let one = slow(ranked, targets, total, k);
                (0..4).for_each(|at| expected[at] += one[at] / 6.0);
            }
            let AtK { recall, ndcg, hit_rate, mrr, .. } = metrics.at[&k];
            for (found, expected) in [recall, ndcg, hit_rate, mrr].into_iter().zip(expected) {
                assert!((found - expected).abs() < 1e-12, "at {k}: {found} and not {expected}");
            }
        }
        assert_eq!(metrics.at[&1].coverage, 0.3);
        assert_eq!(metrics.at[&10].coverage, 1.0);
    }

    #[test]
    fn no_user_at_all_gives_zeros() {
        let metrics = Tally::new(&[5], 0).metrics();
        assert_eq!((metrics.users, metrics.at[&5]), (0, AtK::default()));
    }
}
