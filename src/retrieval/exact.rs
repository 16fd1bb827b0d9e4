//! Exact inner-product search: blocked matrix products, the best kept per query.

use std::cmp::Ordering;

use rayon::prelude::*;

/// Score and position of an item.
pub type Hit = (f32, u32);

/// Queries that share one packed block of items. With [`ITEMS`] it bounds a task's scratch to half a MiB, which stays in cache.
const QUERIES: usize = 64;
/// Items of one block of scores.
const ITEMS: usize = 2048;

/// Higher score first, then lower position, so that ties have one order.
fn better(a: &Hit, b: &Hit) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// The best hits of one query so far. Positions must come in ascending order: a later tie is no better.
struct Best {
    keep: usize,
    hits: Vec<Hit>,
    /// The score of the last hit that would be kept; nothing at or below it matters any more.
    threshold: f32,
}

impl Best {
    fn new(keep: usize) -> Self {
        Best { keep, hits: Vec::new(), threshold: f32::NEG_INFINITY }
    }

    /// Takes the scores of items `first`, `first + 1` …; one that is not a number is never a hit.
    fn offer(&mut self, scores: &[f32], first: u32) {
        if self.keep == 0 {
            return;
        }
        let full = self.keep + self.keep.max(ITEMS / 8);
        for (block, scores) in scores.chunks(32).enumerate() {
            // one branch for 32 scores: nearly all blocks hold nothing good enough
            if !scores.iter().fold(false, |any, &score| any | (score > self.threshold)) {
                continue;
            }
            for (at, &score) in scores.iter().enumerate() {
                if score > self.threshold {
                    self.hits.push((score, first + (block * 32 + at) as u32));
                }
            }
            if self.hits.len() >= full {
                self.shrink();
            }
        }
    }

    fn shrink(&mut self) {
        if self.hits.len() > self.keep {
            let (_, last, _) = self.hits.select_nth_unstable_by(self.keep - 1, better);
            self.threshold = last.0;
            self.hits.truncate(self.keep);
        }
    }

    fn finish(mut self) -> Vec<Hit> {
        self.shrink();
        self.hits.sort_unstable_by(better);
        self.hits
    }
}

/// A search of queries `[n, dim]` over items that come block by block, so that not all items need be in memory.
pub struct ExactSearch<'a> {
    queries: &'a [f32],
    dim: usize,
    best: Vec<Best>,
    items: u32,
}

impl<'a> ExactSearch<'a> {
    /// `keep` is the number of hits wanted for each query.
    pub fn new(queries: &'a [f32], dim: usize, keep: impl IntoIterator<Item = usize>) -> Self {
        let best: Vec<Best> = keep.into_iter().map(Best::new).collect();
        assert_eq!(queries.len(), best.len() * dim, "one number of hits for each query");
        ExactSearch { queries, dim, best, items: 0 }
    }

    /// Searches the next items, `[m, dim]`. All cores of the current rayon pool take part; the result does not depend on them.
    pub fn add(&mut self, items: &[f32]) {
        let (dim, first) = (self.dim, self.items);
        let tasks = self.best.par_chunks_mut(QUERIES).zip(self.queries.par_chunks(QUERIES * dim));
        tasks.for_each_init(Vec::new, |scores: &mut Vec<f32>, (best, queries)| {
            for (block, items) in items.chunks(ITEMS * dim).enumerate() {
                let count = items.len() / dim;
                scores.resize(best.len() * count, 0.0);
                inner_products(queries, items, dim, scores);
                for (best, scores) in best.iter_mut().zip(scores.chunks(count)) {
                    best.offer(scores, first + (block * ITEMS) as u32);
                }
            }
        });
        self.items += (items.len() / dim) as u32;
    }

    /// Hits of each query, best first.
    pub fn finish(self) -> Vec<Vec<Hit>> {
        self.best.into_par_iter().map(Best::finish).collect()
    }
}

/// The best items of each query, best first: higher score, then lower position. `queries` is `[n, dim]`, `items` `[m, dim]`,
/// `keep` has the number of hits wanted for each query.
pub fn exact_top(queries: &[f32], items: &[f32], dim: usize, keep: &[usize]) -> Vec<Vec<Hit>> {
    let mut search = ExactSearch::new(queries, dim, keep.iter().copied());
    search.add(items);
    search.finish()
}

/// `scores[q, i]` = inner product of query q and item i, all row-major.
fn inner_products(queries: &[f32], items: &[f32], dim: usize, scores: &mut [f32]) {
    let (rows, columns) = (queries.len() / dim, items.len() / dim);
    assert_eq!(scores.len(), rows * columns);
    // SAFETY: the lengths above are those that the sizes and strides reach, and `scores` overlaps neither input
    unsafe {
        gemm::gemm(
            rows,
            columns,
            dim,
            scores.as_mut_ptr(),
            1,
            columns as isize,
            false,
            queries.as_ptr(),
            1,
            dim as isize,
            items.as_ptr(),
            dim as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of small whole numbers, so that products are exact and ties are many.
    fn grid(rows: usize, dim: usize, salt: usize) -> Vec<f32> {
        (0..rows * dim).map(|at| ((at * 7919 + salt * 104_729) / 13 % 5) as f32 - 2.0).collect()
    }

    fn slow(queries: &[f32], items: &[f32], dim: usize, keep: &[usize]) -> Vec<Vec<Hit>> {
        let score =
            |q: &[f32], v: &[f32]| q.iter().zip(v).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32;
        let all = queries.chunks(dim).zip(keep).map(|(q, &keep)| {
            let mut hits: Vec<Hit> = items.chunks(dim).enumerate().map(|(at, v)| (score(q, v), at as u32)).collect();
            hits.sort_by(better);
            hits.truncate(keep);
            hits
        });
        all.collect()
    }

    #[test]
    fn it_equals_a_full_sort_with_ties_by_position() {
        let dim = 5;
        let (queries, items) = (grid(150, dim, 1), grid(5000, dim, 2));
        let keep: Vec<usize> = (0..150).map(|at| [0, 1, 20, 300, 5000, 9000][at % 6]).collect();
        assert_eq!(exact_top(&queries, &items, dim, &keep), slow(&queries, &items, dim, &keep));
    }

    #[test]
    fn items_may_come_in_any_blocks_and_on_any_number_of_threads() {
        let dim = 4;
        let (queries, items) = (grid(70, dim, 3), grid(4100, dim, 4));
        let whole = exact_top(&queries, &items, dim, &[30; 70]);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let pieces = pool.install(|| {
            let mut search = ExactSearch::new(&queries, dim, [30; 70]);
            items.chunks(777 * dim).for_each(|block| search.add(block));
            search.finish()
        });
        assert_eq!(whole, pieces);
    }

    #[test]
    fn a_score_that_is_no_number_is_never_found() {
        let found = exact_top(&[1.0, 0.0], &[f32::NAN, 0.0, 0.5, 0.5, 0.7, 0.1], 2, &[3]);
        assert_eq!(found, [vec![(0.7, 2), (0.5, 1)]]);
        assert_eq!(exact_top(&[], &[1.0, 2.0], 2, &[]), Vec::<Vec<Hit>>::new());
    }
}
