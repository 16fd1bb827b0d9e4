//! Who must find what: `holdout`, `seen` and `holdout_candidates` as sets of item positions by user.

use futures::StreamExt;

use crate::artifacts::{Ids, SampleFacts};
use crate::error::Result;
use crate::retrieval::{IdNumbers, id_pairs, seeded_hash, smallest};
use crate::storage::Store;

/// A sorted set of item positions for each user number, in one block of memory.
pub struct ItemSets {
    offsets: Vec<usize>,
    items: Vec<u32>,
}

impl ItemSets {
    /// From (user number, item position) pairs; repeated pairs count once.
    pub fn new(users: usize, mut pairs: Vec<(u32, u32)>) -> Self {
        pairs.sort_unstable();
        pairs.dedup();
        let mut offsets = vec![0; users + 1];
        pairs.iter().for_each(|(user, _)| offsets[*user as usize + 1] += 1);
        (0..users).for_each(|user| offsets[user + 1] += offsets[user]);
        ItemSets { offsets, items: pairs.into_iter().map(|(_, item)| item).collect() }
    }

    /// The positions of a user, ascending.
    pub fn of(&self, user: u32) -> &[u32] {
        &self.items[self.offsets[user as usize]..self.offsets[user as usize + 1]]
    }
}

/// What the users of `holdout` must find.
pub struct Targets {
    /// Users by number, in order of first appearance.
    pub users: IdNumbers,
    /// Whether a user is measured.
    pub chosen: Vec<bool>,
    /// Targets that are in the catalogue.
    pub sets: ItemSets,
    /// All targets by user number, also those outside the catalogue, which nothing can find.
    pub total: Vec<u32>,
}

impl Targets {
    /// Reads `holdout`. At most `most` users are measured (0: all), those with the smallest hash of their id.
    pub async fn read(
        store: &Store,
        samples: &SampleFacts,
        catalogue: &IdNumbers,
        most: usize,
        seed: u64,
    ) -> Result<Self> {
        let mut users = IdNumbers::new(samples.user_id_type);
        let (mut hashes, mut total, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
        let mut batches = id_pairs(store, samples, "holdout");
        while let Some(batch) = batches.next().await {
            let (user_ids, item_ids) = batch?;
            for at in 0..user_ids.len() {
                let user = users.number(&user_ids, at)?;
                if user as usize == total.len() {
                    hashes.push(seeded_hash(seed, &user_ids, at));
                    total.push(0);
                }
                total[user as usize] += 1;
                pairs.extend(catalogue.get(&item_ids, at).map(|item| (user, item)));
            }
        }
        let mut chosen = vec![most == 0; total.len()];
        if most > 0 {
            smallest(&hashes, most).into_iter().for_each(|user| chosen[user] = true);
        }
        Ok(Targets { users, chosen, sets: ItemSets::new(total.len(), pairs), total })
    }

    /// Users who have nothing to find.
    pub fn none_for(ids: &Ids) -> Self {
        let count = ids.len();
        Targets {
            users: IdNumbers::of(ids),
            chosen: vec![true; count],
            sets: ItemSets::new(count, Vec::new()),
            total: vec![0; count],
        }
    }

    /// The number of the user at `at`, if he is measured.
    pub fn measured(&self, ids: &Ids, at: usize) -> Option<u32> {
        self.users.get(ids, at).filter(|user| self.chosen[*user as usize])
    }
}

/// Items by measured user from a table of pairs, such as what they have had (`seen`). Empty without that table.
pub async fn read_items(
    store: &Store,
    samples: &SampleFacts,
    table: &str,
    targets: &Targets,
    catalogue: &IdNumbers,
) -> Result<ItemSets> {
    let mut pairs = Vec::new();
    let mut batches = id_pairs(store, samples, table);
    while let Some(batch) = batches.next().await {
        let (user_ids, item_ids) = batch?;
        for at in 0..user_ids.len() {
            if let Some(user) = targets.measured(&user_ids, at) {
                pairs.extend(catalogue.get(&item_ids, at).map(|item| (user, item)));
            }
        }
    }
    Ok(ItemSets::new(targets.total.len(), pairs))
}
