//! Recall over the whole catalogue on the rows that were held out.

use burn::tensor::Device;
use rayon::prelude::*;

use super::batches::{select_users, targets};
use super::data::Data;
use super::lists::Lists;
use super::random;
use crate::config::Training;
use crate::error::{Error, Result};
use crate::features::Side;
use crate::job::Stop;
use crate::kernels::math::{Layout, Output, dot, multiply};
use crate::model::Weights;

/// Queries whose scores are made together, and items in one tile of them.
const QUERIES: usize = 64;
const ITEMS: usize = 1024;
/// Items whose vectors are in memory together.
const AT_ONCE: usize = 64 * ITEMS;

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
        // by user; far fewer than there are users
        let pair = |row: &u32| (data.user_of[*row as usize], data.item_of[*row as usize]);
        let mut held_out: Vec<(u32, u32)> = data.validation.iter().map(pair).collect();
        held_out.sort_unstable();
        let mut entries = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let (user, target) = pair(row);
            let of_user = &held_out[held_out.partition_point(|(other, _)| *other < user)..];
            let held_out = of_user.iter().take_while(|(other, _)| *other == user).map(|(_, item)| *item);
            let mut others: Vec<u32> = data.liked.of(user as usize).iter().copied().chain(held_out).collect();
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
        let dim = data.spec.dim;
        let vectors = |items: &[u32]| weights.vectors_of(&data.spec, Side::Item, &data.catalogue, items, device);
        let features = targets(data);
        let mut users = Vec::new();
        for rows in self.rows.chunks(4096) {
            stop.check()?;
            let batch = select_users(data, training, &features, rows);
            users.extend(weights.vectors(&data.spec, Side::User, &batch, device)?);
        }
        let targets = vectors(&collect(self.rows.iter().map(|row| data.item_of[*row as usize])))?;
        let blocks = users.chunks(QUERIES * dim).zip(targets.chunks(QUERIES * dim)).enumerate();
        let mut blocks: Vec<Block> =
            collect(blocks.map(|(block, (users, targets))| Block::new(block * QUERIES, users, targets, dim)));
        // a part of the catalogue at a time: its vectors may take as much memory as the tables
        for first in (0..data.catalogue.rows).step_by(AT_ONCE) {
            let items = vectors(&collect(first as u32..(first + AT_ONCE).min(data.catalogue.rows) as u32))?;
            blocks.par_iter_mut().try_for_each(|block| {
                stop.check()?;
                block.meet(first, &items, dim, &self.others);
                Ok::<_, Error>(())
            })?;
        }
        let found: usize = blocks.iter().map(|block| block.found(self.k)).sum();
        Ok(found as f64 / self.rows.len().max(1) as f64)
    }
}

fn collect<T>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.collect()
}

/// Queries whose scores are made together.
struct Block<'a> {
    /// The first of them.
    first: usize,
    users: &'a [f32],
    /// By query: the score beyond which an item stands ahead of the query's own.
    limits: Vec<f32>,
    /// How many stand ahead, without the user's others.
    ahead: Vec<i64>,
}

impl<'a> Block<'a> {
    fn new(first: usize, users: &'a [f32], targets: &[f32], dim: usize) -> Self {
        let pairs = users.chunks_exact(dim).zip(targets.chunks_exact(dim));
        // sums of another order differ in the last bits: the target itself must not stand ahead of itself
        let limits: Vec<f32> = pairs.map(|(user, target)| dot(user, target) + 1e-6).collect();
        Block { first, users, ahead: vec![0; limits.len()], limits }
    }

    /// Counts those ahead among `items`, the part of the catalogue from item `start` on. `others` are sorted.
    fn meet(&mut self, start: usize, items: &[f32], dim: usize, others: &Lists) {
        let queries = self.limits.len();
        let mut scores = vec![0.0; QUERIES * ITEMS];
        for items in items.chunks(ITEMS * dim) {
            let count = items.len() / dim;
            multiply(
                (&mut scores, Layout { rows: queries, cols: count, row_stride: count, col_stride: 1 }),
                (self.users, Layout::row_major(queries, dim)),
                (items, Layout::row_major(count, dim).transposed()),
                1.0,
                Output::Overwrite,
            );
            for ((ahead, limit), scores) in self.ahead.iter_mut().zip(&self.limits).zip(scores.chunks_exact(count)) {
                *ahead += scores.iter().filter(|score| *score > limit).count() as i64;
            }
        }
        let end = start + items.len() / dim;
        let item = |at: u32| &items[(at as usize - start) * dim..(at as usize + 1 - start) * dim];
        for (query, (ahead, limit)) in self.ahead.iter_mut().zip(&self.limits).enumerate() {
            let others = others.of(self.first + query);
            let here = &others[others.partition_point(|other| (*other as usize) < start)..];
            let here = here.iter().take_while(|other| (**other as usize) < end);
            let user = &self.users[query * dim..(query + 1) * dim];
            *ahead -= here.filter(|other| dot(user, item(**other)) > *limit).count() as i64;
        }
    }

    /// How many queries find their item among the first `k`.
    fn found(&self, k: usize) -> usize {
        let hit = |(ahead, limit): &(&i64, &f32)| limit.is_finite() && **ahead < k as i64;
        self.ahead.iter().zip(&self.limits).filter(hit).count()
    }
}
