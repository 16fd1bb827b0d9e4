//! Search parameters chosen by recall against exact search.

use std::time::Instant;

use tracing::{info, warn};

use super::faiss::Faiss;
use crate::artifacts::SearchTrial;
use crate::error::Result;
use crate::job::Stop;
use crate::retrieval::Hit;

/// Scores this near count as equal: the index and the exact search round their sums differently.
const TIE: f32 = 1e-6;
/// Queries that are timed.
const TIMED: usize = 100;

/// What an index must find: for each query, the items as good as the k-th best.
pub struct Truth {
    k: usize,
    /// Ascending positions. More than k of them where items tie.
    acceptable: Vec<Vec<u32>>,
}

impl Truth {
    /// Hits that the exact search keeps for each query: room for ties with the k-th.
    pub fn kept(k: usize) -> usize {
        2 * k
    }

    /// From what an exact search that kept [`Truth::kept`] hits has found.
    pub fn new(found: Vec<Vec<Hit>>, k: usize) -> Self {
        let acceptable = |hits: Vec<Hit>| {
            let last = hits.get(k - 1).or(hits.last()).map_or(f32::NEG_INFINITY, |hit| hit.0 - TIE);
            let mut positions: Vec<u32> = hits.into_iter().filter(|hit| hit.0 >= last).map(|hit| hit.1).collect();
            positions.sort_unstable();
            positions
        };
        Truth { k, acceptable: found.into_iter().map(acceptable).collect() }
    }

    /// The same for an index that has row `i` at place `places[i]`.
    pub fn at(mut self, places: Option<&[u32]>) -> Self {
        if let Some(places) = places {
            for rows in &mut self.acceptable {
                rows.iter_mut().for_each(|row| *row = places[*row as usize]);
                rows.sort_unstable();
            }
        }
        self
    }

    /// Share of the exact top k among `positions`, `[queries, k]`, averaged over the queries.
    fn recall(&self, positions: &[i64]) -> f64 {
        let share = |(acceptable, found): (&Vec<u32>, &[i64])| {
            let good =
                found.iter().filter(|at| u32::try_from(**at).is_ok_and(|at| acceptable.binary_search(&at).is_ok()));
            good.count() as f64 / self.k.min(acceptable.len()).max(1) as f64
        };
        let sum: f64 = self.acceptable.iter().zip(positions.chunks(self.k)).map(share).sum();
        sum / self.acceptable.len().max(1) as f64
    }
}

/// Tries `candidates`, cheapest first, until one reaches `target`; it is the last trial then. Where none does, the best one is
/// taken (the cheaper of equals). Returns all trials and the place of the chosen one; the index is left with its parameters.
///
/// Only recall decides, so that the choice is the same on a busy machine; the time is measured to be looked at.
pub fn choose(
    index: &mut Faiss,
    candidates: &[String],
    queries: &[f32],
    truth: &Truth,
    target: f64,
    stop: &Stop,
) -> Result<(Vec<SearchTrial>, usize)> {
    let mut trials: Vec<SearchTrial> = Vec::new();
    for parameters in candidates {
        stop.check()?;
        index.set_parameters(parameters)?;
        let (_, positions) = index.search(queries, truth.k)?;
        let recall = truth.recall(&positions);
        let milliseconds = time(index, queries, truth.k)?;
        info!(parameters, recall, milliseconds, "measured the index against exact search");
        trials.push(SearchTrial { parameters: parameters.clone(), recall, milliseconds });
        if recall >= target {
            break;
        }
    }
    let first = |best: usize, at: usize| if trials[at].recall > trials[best].recall { at } else { best };
    let chosen = (0..trials.len()).fold(0, first);
    let trial = &trials[chosen];
    if trial.recall < target {
        warn!(
            parameters = trial.parameters,
            recall = trial.recall,
            target,
            "no search parameters reach index.recall_target: a finer index.factory would"
        );
    }
    index.set_parameters(&trial.parameters)?;
    Ok((trials, chosen))
}

/// Milliseconds for one query, one at a time.
fn time(index: &Faiss, queries: &[f32], k: usize) -> Result<f64> {
    let dim = index.dim();
    let start = Instant::now();
    let mut count = 0;
    for query in queries.chunks(dim).take(TIMED) {
        index.search(query, k)?;
        count += 1;
    }
    Ok(start.elapsed().as_secs_f64() * 1e3 / f64::from(count.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrieval::ExactSearch;

    fn truth(query: &[f32], items: &[f32], k: usize) -> Truth {
        let mut search = ExactSearch::new(query, 1, [Truth::kept(k)]);
        search.add(items);
        Truth::new(search.finish(), k)
    }

    #[test]
    fn a_tie_with_the_last_of_the_exact_top_is_as_good() {
        let truth = truth(&[1.0], &[0.1, 0.9, 0.5, 0.5, 0.2], 2);
        assert_eq!(truth.recall(&[1, 3]), 1.0);
        assert_eq!(truth.recall(&[1, 2]), 1.0);
        assert_eq!(truth.recall(&[1, 4]), 0.5);
        assert_eq!(truth.recall(&[-1, -1]), 0.0);
    }
}
