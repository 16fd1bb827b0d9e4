//! Recall over the whole catalogue on the rows that were held out.

use burn::tensor::Device;
use rayon::prelude::*;

use super::batches::{select_users, targets};
use super::data::{Data, Lists};
use super::random;
use crate::config::Training;
use crate::error::Result;
use crate::features::Side;
use crate::job::Stop;
use crate::kernels::math::{Layout, Output, dot, multiply};
use crate::model::Weights;

/// Queries whose scores are made together, and items in one tile of them.
const QUERIES: usize = 64;
const ITEMS: usize = 1024;

/// The held-out rows that are measured, and what is left out for each.
pub struct Validation {
    rows: Vec<u32>,
    /// By row: the user's other positives, training and held out.
    others: Lists,
    k: usize,
}

impl Validation {
    /// At most `training.validation.rows` rows, chosen by hash.
    pub fn new(data: &Data, training: &Training) -> Self {
        let mut rows = data.validation.clone();
        let hash = |row: &u32| random::bits(training.seed ^ 0x7661_6c69, &[data.sample_ids[*row as usize] as u64]);
        rows.sort_unstable_by_key(|row| (hash(row), *row));
        rows.truncate(training.validation.rows);
        let users = data.liked.offsets.len() - 1;
        let held_out: Vec<(u32, u32)> =
            data.validation.iter().map(|row| (data.user_of[*row as usize], data.item_of[*row as usize])).collect();
        let held_out = Lists::new(users, &held_out, &[]);
        let mut entries = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let (user, target) = (data.user_of[*row as usize] as usize, data.item_of[*row as usize]);
            let mut others = [data.liked.of(user), held_out.of(user)].concat();
            others.sort_unstable();
            others.dedup();
            entries.extend(others.into_iter().filter(|item| *item != target).map(|item| (at as u32, item)));
        }
        Validation { others: Lists::new(rows.len(), &entries, &[]), rows, k: training.validation.k }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Share of the rows whose item is among the k best of the catalogue by exact inner product, without the user's
    /// other positives.
    pub fn recall(
        &self,
        data: &Data,
        weights: &Weights,
        training: &Training,
        device: &Device,
        stop: &Stop,
    ) -> Result<f64> {
        stop.check()?;
        let all: Vec<u32> = (0..data.catalogue.rows as u32).collect();
        let items = weights.vectors_of(&data.spec, Side::Item, &data.catalogue, &all, device)?;
        let targets = targets(data);
        let mut users = Vec::new();
        for rows in self.rows.chunks(4096) {
            stop.check()?;
            let batch = select_users(data, training, &targets, rows);
            users.extend(weights.vectors(&data.spec, Side::User, &batch, device)?);
        }
        let dim = data.spec.dim;
        let blocks = users.par_chunks(QUERIES * dim).enumerate();
        let found = blocks.map(|(block, users)| {
            stop.check()?;
            Ok(self.found(data, block * QUERIES, users, &items, dim))
        });
        let found: usize = found.sum::<Result<usize>>()?;
        Ok(found as f64 / self.rows.len().max(1) as f64)
    }

    /// How many of the queries from `first` on find their item.
    fn found(&self, data: &Data, first: usize, users: &[f32], items: &[f32], dim: usize) -> usize {
        let queries = users.len() / dim;
        let item = |at: u32| &items[at as usize * dim..(at as usize + 1) * dim];
        let user = |query: usize| &users[query * dim..(query + 1) * dim];
        let target = |query: usize| dot(user(query), item(data.item_of[self.rows[first + query] as usize]));
        let targets: Vec<f32> = (0..queries).map(target).collect();
        // an item ahead of the target counts, unless it is one of the user's others
        let mut ahead = vec![0i64; queries];
        let mut scores = vec![0.0; QUERIES * ITEMS];
        for items in items.chunks(ITEMS * dim) {
            let count = items.len() / dim;
            multiply(
                (&mut scores, Layout { rows: queries, cols: count, row_stride: count, col_stride: 1 }),
                (users, Layout::row_major(queries, dim)),
                (items, Layout::row_major(count, dim).transposed()),
                1.0,
                Output::Overwrite,
            );
            for (query, scores) in scores.chunks_exact(count).take(queries).enumerate() {
                // sums of another order differ in the last bits: the target itself must not stand ahead of itself
                let limit = targets[query] + 1e-6;
                ahead[query] += scores.iter().filter(|score| **score > limit).count() as i64;
            }
        }
        let hit = |query: &usize| {
            let others = self.others.of(first + query).iter();
            let masked =
                others.filter(|other| dot(user(*query), item(**other)) > targets[*query] + 1e-6).count() as i64;
            targets[*query].is_finite() && ahead[*query] - masked < self.k as i64
        };
        (0..queries).filter(hit).count()
    }
}
