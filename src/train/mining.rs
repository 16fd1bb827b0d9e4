//! Hard negatives from the towers themselves: for each user the items that the last epoch's towers put at chosen ranks.

use std::time::Instant;

use burn::tensor::Device;
use tracing::info;

use super::batches::{select_users, targets};
use super::data::Data;
use super::random;
use crate::artifacts::keys;
use crate::config::{SelfMined, Training};
use crate::error::{Error, Result};
use crate::features::Side;
use crate::job::Stop;
use crate::model::tensors::{self, Named, Values};
use crate::model::{Files, Weights};
use crate::retrieval::{Hit, exact_top};
use crate::storage::{FileEntry, Store};

/// Users that are searched for together.
const USERS: usize = 2048;
/// Products of vectors that a step makes of each pair of row and shared column: the score, and both gradients.
const PRODUCTS_PER_PAIR: f64 = 3.0;
/// No item.
const NONE: u32 = u32::MAX;

/// Mined items of each positive.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mined {
    /// Most items of one positive.
    width: usize,
    /// [positives, width], filled up with `NONE`; empty where nothing was mined.
    items: Vec<u32>,
}

impl Mined {
    /// Places in the catalogue.
    pub fn of(&self, row: usize) -> impl Iterator<Item = u32> {
        let bounds = if self.items.is_empty() { 0..0 } else { row * self.width..(row + 1) * self.width };
        self.items[bounds].iter().copied().take_while(|item| *item != NONE)
    }

    /// Writes them, where there are any, for a checkpoint in the middle of their epoch: the weights that they came from are gone.
    pub async fn write(&self, files: &mut Files<'_>) -> Result<()> {
        if self.items.is_empty() {
            return Ok(());
        }
        let shape = [self.items.len() / self.width, self.width];
        files.tensors(keys::MINED, vec![Named::new("items", &shape, Values::U32(&self.items))]).await
    }

    /// Reads what [`Mined::write`] wrote of `positives` rows.
    pub async fn read(store: &Store, entry: &FileEntry, positives: usize, training: &Training) -> Result<Mined> {
        let width = training.self_mined.per_positive;
        let mut file = tensors::read(store, entry, "start the training anew", |_| true).await?;
        Ok(Mined { width, items: file.u32("items", &[positives, width])? })
    }

    /// The negatives of epoch `epoch`, from the weights that the one before it has left. A function of data, settings, weights
    /// and epoch alone.
    pub fn new(
        data: &Data,
        training: &Training,
        weights: &Weights,
        epoch: u32,
        device: &Device,
        stop: &Stop,
    ) -> Result<Mined> {
        let mining = &training.self_mined;
        if mining.per_positive == 0 || epoch <= mining.from_epoch {
            return Ok(Mined::default());
        }
        let started = Instant::now();
        let width = mining.per_positive;
        let mut items = vec![NONE; data.user_of.len() * width];
        let all: Vec<u32> = (0..data.catalogue.rows as u32).collect();
        let catalogue = weights.vectors_of(&data.spec, Side::Item, &data.catalogue, &all, device)?;
        let mut rows = data.training.to_vec();
        rows.sort_unstable_by_key(|row| (data.user_of[*row as usize], *row));
        let hash = |salt: u64, at: u32| random::bits(training.seed, &[salt, epoch.into(), at.into()]);
        let user_of = |rows: &[u32]| data.user_of[rows[0] as usize];
        let of_users = rows.chunk_by(|a, b| data.user_of[*a as usize] == data.user_of[*b as usize]);
        let chosen: Vec<&[u32]> = of_users.filter(|rows| random::unit(hash(6, user_of(rows))) < mining.share).collect();
        let targets = targets(data);
        for users in chosen.chunks(USERS) {
            stop.check()?;
            // a user is asked for as he was at one of his positives, another one in each epoch
            let one = |rows: &&[u32]| rows.iter().copied().min_by_key(|row| (hash(7, *row), *row));
            let queries: Vec<u32> = users.iter().filter_map(one).collect();
            let batch = select_users(data, training, &targets, &queries);
            let vectors = weights.vectors(&data.spec, Side::User, &batch, device)?;
            let liked = |rows: &[u32]| data.liked.of(user_of(rows) as usize);
            let keep: Vec<usize> = users.iter().map(|rows| mining.rank_to + liked(rows).len()).collect();
            for (rows, hits) in users.iter().zip(exact_top(&vectors, &catalogue, data.spec.dim, &keep)) {
                let window = window(mining, liked(rows), hits);
                for row in *rows {
                    let at = *row as usize * width;
                    draw(&window, hash(8, *row), &mut items[at..at + width]);
                }
            }
        }
        let mined = items.iter().filter(|item| **item != NONE).count();
        let seconds = started.elapsed().as_secs_f64();
        info!(epoch, users = chosen.len(), negatives = mined, seconds, "mined hard negatives");
        Ok(Mined { width, items })
    }

    /// Refuses to spend more on mining than on the steps, and ranks that the catalogue does not have.
    pub fn check(data: &Data, training: &Training) -> Result<()> {
        let (mining, items) = (&training.self_mined, data.catalogue.rows);
        // where the parent was taught all there is, nobody is searched for
        if mining.per_positive == 0 || data.training.is_empty() {
            return Ok(());
        }
        if mining.rank_from > items {
            return Err(Error::config(format!(
                "training.self_mined.rank_from: found {} with a catalogue of {items} items; lower it",
                mining.rank_from
            )));
        }
        // those of the training rows alone: who has nothing but what the parent was taught is not searched for
        let mut searched = vec![false; data.liked.users()];
        data.training.iter().for_each(|row| searched[data.user_of[*row as usize] as usize] = true);
        let users = searched.into_iter().filter(|searched| *searched).count() as f64;
        let pairs = data.training.len() as f64 * (training.batch_size + training.random_negatives) as f64;
        let (mines, steps) = (users * mining.share * items as f64, pairs * PRODUCTS_PER_PAIR);
        if mines <= steps {
            return Ok(());
        }
        Err(Error::config(format!(
            "training.self_mined.share: found {}, which of {users} users, each against {items} items, makes {mines:.1e} products of vectors an epoch, expected at most the {steps:.1e} of the steps themselves; lower it to {} or less",
            mining.share,
            floor(mining.share * steps / mines)
        )))
    }
}

/// Two significant digits, not above the number.
fn floor(share: f64) -> f64 {
    let unit = 10f64.powf(share.log10().floor() - 1.0);
    ((share / unit).floor() * unit * 1e12).round() / 1e12
}

/// The items at the wanted ranks among those that the user has not liked. `liked` is sorted.
fn window(mining: &SelfMined, liked: &[u32], hits: Vec<Hit>) -> Vec<u32> {
    let others = hits.into_iter().map(|(_, item)| item).filter(|item| liked.binary_search(item).is_err());
    others.take(mining.rank_to).skip(mining.rank_from - 1).collect()
}

/// Draws distinct items of `window`, as many as there are places and items: Floyd's sample (CACM 30, 1987).
fn draw(window: &[u32], seed: u64, places: &mut [u32]) {
    let count = places.len().min(window.len());
    let mut drawn: Vec<usize> = Vec::with_capacity(count);
    for (place, last) in places.iter_mut().zip(window.len() - count..window.len()) {
        let at = random::below(random::bits(seed, &[last as u64]), last + 1);
        let at = if drawn.contains(&at) { last } else { at };
        drawn.push(at);
        *place = window[at];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_distinct_within_the_window_and_uniform() {
        let window: Vec<u32> = (100..107).collect();
        let mut hits = [0; 7];
        for seed in 0..7000 {
            let mut places = [NONE; 3];
            draw(&window, random::splitmix64(seed), &mut places);
            places.iter().for_each(|item| hits[*item as usize - 100] += 1);
            assert!(places[0] != places[1] && places[1] != places[2] && places[0] != places[2]);
        }
        assert!(hits.iter().all(|hits| (2800..3200).contains(hits)), "{hits:?}");
        let mut places = [NONE; 4];
        draw(&window[..2], 5, &mut places);
        places.sort_unstable();
        assert_eq!(places, [100, 101, NONE, NONE]);
    }

    #[test]
    fn ranks_count_without_what_the_user_liked() {
        let mining = SelfMined { rank_from: 2, rank_to: 3, ..Default::default() };
        let hits = [9, 4, 7, 5, 1, 2].map(|item| (0.0, item)).to_vec();
        assert_eq!(window(&mining, &[4, 5], hits), [7, 1]);
        assert!(window(&mining, &[], vec![(0.0, 3)]).is_empty());
    }

    #[test]
    fn a_share_is_cut_to_two_digits() {
        assert_eq!([floor(0.0567), floor(0.8), floor(0.00019)], [0.056, 0.8, 0.00019]);
    }
}
