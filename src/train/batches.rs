//! Batches: rows in a random order, their negatives, what is masked. Made on a thread of their own while a step runs.

use super::data::Data;
use super::mining::Mined;
use super::order::Order;
use super::random;
use crate::config::{AccidentalHits, LossKind, OwnInList, Training};
use crate::features::{Encoded, EncodedColumn, Encoding, FeatureBatch, LayerSpec, NormalizationSpec, TowerSpec};

/// One step's input, as [`crate::kernels::softmax::SoftmaxInputs`] orders it: shared items up to S, the positives and the random
/// negatives, then hard negatives up to C. Where the loss allows it an item has one shared column, however often it was drawn; otherwise
/// the first B are the positives. With `training.user_in_audience: drop` the first B are the positives too, as they are without their
/// users, and the other rows meet their items in columns of their own.
pub struct Batch {
    /// Rows of the positives `[B]`.
    pub rows: Vec<u32>,
    pub users: FeatureBatch,
    /// Features of the items `[C]`.
    pub items: FeatureBatch,
    /// ln of how often each shared column is to be expected in a batch, times the correction's strength `[S]`.
    pub log_q: Vec<f32>,
    /// The column of each positive `[B]`, and its own `log_q` `[B]`.
    pub positives: Vec<u32>,
    pub positive_log_q: Vec<f32>,
    /// Whether all shared columns are negatives, but for those of an infinite `log_q`; otherwise those from B on are.
    pub in_batch: bool,
    /// Offsets [B + 1] and columns that must not count as negatives of a row.
    pub masked: (Vec<u32>, Vec<u32>),
    /// Offsets [B + 1] and columns of a row's own hard negatives; both empty in an epoch without.
    pub hard: (Vec<u32>, Vec<u32>),
    /// How many of a row's shared negatives count as its hardest.
    pub hardest: usize,
    /// Sample weights `[B]`.
    pub weights: Option<Vec<f32>>,
}

/// Makes the batches of one epoch after another. A batch is a function of settings, epoch and place alone.
pub struct Batches<'a> {
    data: &'a Data,
    training: &'a Training,
    /// What the last epoch's towers found hard.
    mined: Option<&'a Mined>,
    order: Order<'a>,
    epoch: u32,
    /// By item: 1 + its first column in the batch at hand, 0 for none; and by column: the same of the next one.
    first_column: Vec<u32>,
    next_column: Vec<u32>,
    /// By item a bit, whether it has a column in the batch at hand: small enough to stay in cache while all likes of all users are asked for.
    present: Vec<u64>,
    /// What a user likes of the items of the batch at hand.
    met: Vec<u32>,
    /// By user feature: for lists over the items' own table, the items' rows in it.
    targets: Vec<Option<&'a [u32]>>,
    /// By item feature: for lists over the users' own table, the row of each positive's user in it.
    owners: Vec<Option<&'a [u32]>>,
}

impl<'a> Batches<'a> {
    pub fn new(data: &'a Data, training: &'a Training) -> Self {
        let first_column = vec![0; data.catalogue.rows];
        Batches {
            data,
            training,
            mined: None,
            order: Order::new(&[], 0),
            epoch: 0,
            first_column,
            next_column: Vec::new(),
            present: vec![0; data.catalogue.rows.div_ceil(64)],
            met: Vec::new(),
            targets: targets(data),
            owners: own_rows(&data.spec.item, (&data.spec.user, &data.users, "user_id")),
        }
    }

    /// The same with more hard negatives.
    pub fn with_mined(self, mined: &'a Mined) -> Self {
        Batches { mined: Some(mined), ..self }
    }

    /// Steps of one epoch.
    pub fn steps(data: &Data, training: &Training) -> usize {
        data.training.len().div_ceil(training.batch_size)
    }

    pub fn start_epoch(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.order = Order::new(&self.data.training, random::bits(self.training.seed, &[1, epoch.into()]));
    }

    pub fn batch(&mut self, step: usize) -> Batch {
        let data = self.data;
        let size = self.training.batch_size;
        let places = step * size..((step + 1) * size).min(data.training.len());
        let rows = self.order.rows(places, |parts| data.turn_to(parts));
        let no_hard = self.epoch < self.training.hard_from_epoch;
        let hardest = if no_hard { 0 } else { self.training.online_hard };
        let Columns { mut items, log_q, positives, positive_log_q, in_batch } = self.columns(step, &rows, hardest);
        let first = if in_batch { 0 } else { rows.len() };
        let negative = (first..items.len()).filter(|column| log_q[*column] != f32::INFINITY);
        // all of them first: each lies at a random place of memory, and so they are waited for together
        let users: Vec<usize> = rows.iter().map(|row| data.user_of[*row as usize] as usize).collect();
        let masked = self.masked(&users, &items, &positives, negative);
        let no_hard = no_hard || data.hard.items.is_empty() && data.shown.items.is_empty() && self.mined.is_none();
        let hard = if no_hard { Default::default() } else { self.add_hard(step, &rows, &users, &mut items) };
        let weights = (!data.weights.is_empty()).then(|| rows.iter().map(|row| data.weights[*row as usize]).collect());
        let users = self.users(&rows);
        let items = self.items(&rows, &items);
        Batch { rows, users, items, log_q, positives, positive_log_q, in_batch, masked, hard, hardest, weights }
    }

    /// The shared columns of a batch. The hardest of a row are so many columns, and other losses than the softmax count them, so
    /// there each draw has its own; and so it has where the items of a batch are each other's norm.
    fn columns(&mut self, step: usize, rows: &[u32], hardest: usize) -> Columns {
        let data = self.data;
        let mut items: Vec<u32> = rows.iter().map(|row| data.item_of[*row as usize]).collect();
        let log_batch = (rows.len() as f64).ln();
        let logq = &self.training.logq;
        let in_batch = |item: &u32| match self.training.in_batch_negatives {
            true => (logq.in_batch * (log_batch + f64::from(data.log_share[*item as usize]))) as f32,
            // then a positive is there with certainty, and nowhere else
            false => 0.0,
        };
        let mut log_q: Vec<f32> = items.iter().map(in_batch).collect();
        self.add_random(step, rows, &mut items, &mut log_q);
        let by_batch = |layer: &LayerSpec| matches!(layer.normalization, Some(NormalizationSpec::Batch { .. }));
        let apart =
            self.training.loss.kind != LossKind::Softmax || hardest > 0 || data.spec.item.layers.iter().any(by_batch);
        let own = items[..rows.len()].to_vec();
        let in_batch = self.training.in_batch_negatives;
        let columns = if apart {
            let (positives, positive_log_q) = ((0..rows.len() as u32).collect(), log_q[..rows.len()].to_vec());
            Columns { items, log_q, positives, positive_log_q, in_batch }
        } else {
            merge(&items, &log_q, rows.len(), in_batch, &mut self.first_column)
        };
        match self.training.user_in_audience {
            OwnInList::Keep => columns,
            OwnInList::Drop => columns.after(own),
        }
    }

    /// Draws random negatives from those of the batch's positives, with replacement.
    fn add_random(&self, step: usize, rows: &[u32], items: &mut Vec<u32>, log_q: &mut Vec<f32>) {
        let random = &self.data.random;
        let owners: Vec<u32> = rows.iter().copied().filter(|row| !random.bounds(*row as usize).is_empty()).collect();
        if owners.is_empty() {
            return;
        }
        let wanted = self.training.random_negatives;
        let uniform = 1.0 / self.data.catalogue.rows as f64;
        for at in 0..wanted {
            let draw = random::bits(self.training.seed, &[2, self.epoch.into(), step as u64, at as u64]);
            let bounds = random.bounds(owners[random::below(draw, owners.len())] as usize);
            let entry = bounds.start + random::below(random::splitmix64(draw), bounds.len());
            let probability = random.probabilities.get(entry).map_or(uniform, |probability| f64::from(*probability));
            items.push(random.items[entry]);
            log_q.push((self.training.logq.random * (probability * wanted as f64).ln()) as f32);
        }
    }

    /// For each row the shared columns, of those that are negatives at all, whose item its user likes: his other positives unless these are kept,
    /// and its own item in other columns.
    fn masked(
        &mut self,
        users: &[usize],
        shared: &[u32],
        positives: &[u32],
        negatives: impl DoubleEndedIterator<Item = usize>,
    ) -> (Vec<u32>, Vec<u32>) {
        self.next_column.clear();
        self.next_column.resize(shared.len(), 0);
        // from the last, so that each chain ascends
        for column in negatives.rev() {
            let first = &mut self.first_column[shared[column] as usize];
            self.next_column[column] = *first;
            *first = column as u32 + 1;
            self.present[shared[column] as usize / 64] |= 1 << (shared[column] % 64);
        }
        let (mut offsets, mut columns) = (vec![0], Vec::new());
        let liked: Vec<&[u32]> = match self.training.accidental_hits {
            AccidentalHits::Mask => users.iter().map(|user| self.data.liked.of(*user)).collect(),
            AccidentalHits::Keep => positives.iter().map(|own| &shared[*own as usize..][..1]).collect(),
        };
        for (own, liked) in positives.iter().zip(liked) {
            // each is written, and the next one over it unless it is in the batch: a branch would often be guessed wrong
            self.met.resize(self.met.len().max(liked.len() + 1), 0);
            let mut count = 0;
            for item in liked {
                self.met[count] = *item;
                count += (self.present[*item as usize / 64] >> (*item % 64) & 1) as usize;
            }
            for item in &self.met[..count] {
                let mut at = self.first_column[*item as usize];
                while at > 0 {
                    let column = at - 1;
                    if column != *own {
                        columns.push(column);
                    }
                    at = self.next_column[column as usize];
                }
            }
            offsets.push(columns.len() as u32);
        }
        for item in shared {
            self.first_column[*item as usize] = 0;
            self.present[*item as usize / 64] = 0;
        }
        (offsets, columns)
    }

    /// Some of each row's hard negatives, and of what its user was shown for nothing, but none that he likes.
    fn add_hard(&self, step: usize, rows: &[u32], users: &[usize], items: &mut Vec<u32>) -> (Vec<u32>, Vec<u32>) {
        let (mut offsets, mut columns) = (vec![0], Vec::new());
        for (row, user) in rows.iter().zip(users) {
            let liked = self.data.liked.of(*user);
            let own = self.data.hard.of(*row as usize).iter().copied();
            let mut own: Vec<u32> = own.filter(|item| liked.binary_search(item).is_err()).collect();
            random::shuffle(
                &mut own,
                random::bits(self.training.seed, &[3, self.epoch.into(), step as u64, (*row).into()]),
            );
            own.truncate(self.training.hard_per_positive);
            let shown = self.data.shown.of(*row as usize).iter().copied();
            let mut shown: Vec<u32> =
                shown.filter(|item| liked.binary_search(item).is_err() && !own.contains(item)).collect();
            random::shuffle(
                &mut shown,
                random::bits(self.training.seed, &[5, self.epoch.into(), step as u64, (*row).into()]),
            );
            shown.truncate(self.training.shown_per_positive);
            own.extend(shown);
            if let Some(mined) = self.mined {
                let others: Vec<u32> = mined.of(*row as usize).filter(|item| !own.contains(item)).collect();
                own.extend(others);
            }
            for item in own {
                columns.push(items.len() as u32);
                items.push(item);
            }
            offsets.push(columns.len() as u32);
        }
        (offsets, columns)
    }

    /// The users' features, with the values of lists that training leaves out.
    fn users(&self, rows: &[u32]) -> FeatureBatch {
        let (share, seed, epoch) = (self.training.history_dropout, self.training.seed, self.epoch);
        let drop_target = self.training.target_in_history == OwnInList::Drop;
        if share == 0.0 && !drop_target {
            return self.data.users.select(rows, None);
        }
        let keep = |feature: usize, position: usize, id: u32, at: usize| {
            let row = rows[position] as usize;
            if drop_target
                && self.targets[feature].is_some_and(|targets| targets[self.data.item_of[row] as usize] == id)
            {
                return false;
            }
            let place = [4, epoch.into(), feature as u64, row as u64, at as u64];
            share == 0.0 || random::unit(random::bits(seed, &place)) >= share
        };
        self.data.users.select(rows, Some(&keep))
    }

    /// The items' features; of positives that have columns of their own without their users, where training drops those.
    fn items(&self, rows: &[u32], items: &[u32]) -> FeatureBatch {
        let owner = |feature: usize, position: usize| Some(self.owners[feature]?[*rows.get(position)? as usize]);
        let keep = |feature: usize, position: usize, id: u32, _: usize| owner(feature, position) != Some(id);
        let drop = self.training.user_in_audience == OwnInList::Drop;
        self.data.catalogue.select(items, drop.then_some(&keep as _))
    }
}

/// The shared items of a batch, and what each row has of them.
#[derive(Debug, Default, PartialEq)]
struct Columns {
    items: Vec<u32>,
    log_q: Vec<f32>,
    positives: Vec<u32>,
    positive_log_q: Vec<f32>,
    in_batch: bool,
}

impl Columns {
    /// The same with a column of its own, nobody's negative, for the item of each positive before them; unless they have one.
    fn after(self, mut own: Vec<u32>) -> Columns {
        if !self.in_batch {
            return self;
        }
        let positives = (0..own.len() as u32).collect();
        own.extend(self.items);
        let log_q = [&self.positive_log_q[..], &self.log_q].concat();
        Columns { items: own, log_q, positives, positive_log_q: self.positive_log_q, in_batch: false }
    }
}

/// Gives each item one column, in the order in which they first come, with the sum of `1 / q` of all its draws: the first `positives`
/// of them count as such unless they are no negatives. `first_column`, zeros by item, is left as it was.
fn merge(items: &[u32], log_q: &[f32], positives: usize, in_batch: bool, first_column: &mut [u32]) -> Columns {
    let mut merged = Columns { positive_log_q: log_q[..positives].to_vec(), in_batch: true, ..Columns::default() };
    let mut draws: Vec<f64> = Vec::with_capacity(items.len());
    for (at, (item, &log_q)) in items.iter().zip(log_q).enumerate() {
        let place = &mut first_column[*item as usize];
        if *place == 0 {
            merged.items.push(*item);
            merged.log_q.push(f32::INFINITY);
            draws.push(0.0);
            *place = merged.items.len() as u32;
        }
        let column = *place - 1;
        if at < positives {
            merged.positives.push(column);
        }
        if in_batch || at >= positives {
            let (column, sum) = (column as usize, &mut draws[column as usize]);
            *sum += f64::from(-log_q).exp();
            // what was drawn once keeps its value to the bit
            merged.log_q[column] = if merged.log_q[column] == f32::INFINITY { log_q } else { -sum.ln() as f32 };
        }
    }
    merged.items.iter().for_each(|item| first_column[*item as usize] = 0);
    merged
}

/// Features of the users of some positives, whole but for a target that training drops.
pub fn select_users(data: &Data, training: &Training, targets: &[Option<&[u32]>], rows: &[u32]) -> FeatureBatch {
    let keep = |feature: usize, position: usize, id: u32, _: usize| {
        let item = data.item_of[rows[position] as usize] as usize;
        training.target_in_history == OwnInList::Keep || targets[feature].is_none_or(|targets| targets[item] != id)
    };
    data.users.select(rows, Some(&keep))
}

/// By user feature: for lists over a table that holds the items themselves, the row of each item of the catalogue.
pub fn targets(data: &Data) -> Vec<Option<&[u32]>> {
    own_rows(&data.spec.user, (&data.spec.item, &data.catalogue, "item_id"))
}

/// By feature of a tower: for lists over the table that the other tower's ids, in `column`, have, the row there of each of its rows.
fn own_rows<'a>(tower: &TowerSpec, (other, rows, column): (&TowerSpec, &'a Encoded, &str)) -> Vec<Option<&'a [u32]>> {
    let of = |wanted: &str| {
        other.features.iter().zip(&rows.columns).find_map(|(feature, values)| match (&feature.encoding, values) {
            (Encoding::Id { table }, EncodedColumn::One(rows)) if table == wanted && feature.column == column => {
                Some(&rows[..])
            }
            _ => None,
        })
    };
    let lists = tower.features.iter().map(|feature| match &feature.encoding {
        Encoding::Ids { table, .. } => of(table),
        _ => None,
    });
    lists.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_drawn_more_than_once_has_one_column_with_all_its_draws() {
        let (items, log_q) = ([7, 3, 7, 5, 3, 3, 9], [-1.0, -2.0, -1.0, -3.0, -4.0, -4.0, -5.0f32]);
        let mut scratch = vec![0; 10];
        let all = merge(&items, &log_q, 4, true, &mut scratch);
        assert_eq!((&all.items[..], &all.positives[..]), (&[7, 3, 5, 9][..], &[0, 1, 0, 2][..]));
        assert_eq!(all.positive_log_q, log_q[..4]);
        let sum = |draws: &[f64]| -draws.iter().map(|q| (-q).exp()).sum::<f64>().ln() as f32;
        assert_eq!(all.log_q, [sum(&[-1.0, -1.0]), sum(&[-2.0, -4.0, -4.0]), -3.0, -5.0]);
        let random = merge(&items, &log_q, 4, false, &mut scratch);
        assert_eq!(random.log_q, [f32::INFINITY, sum(&[-4.0, -4.0]), f32::INFINITY, -5.0]);
        assert_eq!(scratch, [0; 10]);
    }
}
