//! The parent's index with today's vectors in it: what is gone or changed is taken out, what is new or changed put in.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use tracing::info;

use super::build::{Built, Queries, aside};
use super::faiss::{Faiss, on_threads};
use super::search::load_files;
use super::{BLOCK, BUILD_THREADS};
use crate::artifacts::{BuildFacts, Done, Embeddings, Ids, ItemIndex, Start};
use crate::config::IndexDrift;
use crate::error::{Context, Error, Result};
use crate::job::Job;
use crate::kernels::random::fnv1a64;
use crate::retrieval::{IdNumbers, item_vectors};

/// What is done instead of an update, and why not one.
pub type Refused = String;

/// Updates the parent's index where most of its vectors are today's too.
///
/// # Errors
/// A damaged parent. A parent that is whole and cannot be updated is the inner error.
pub async fn updated(
    job: &Job,
    embeddings: &Embeddings,
    factory: &str,
    start: &Start,
    queries: &Queries,
) -> Result<Result<Built, Refused>> {
    let (Some(parent), Some(manifest)) = (&start.parent, &start.manifest) else {
        return Ok(Err(start.why.clone()));
    };
    let vectors = &embeddings.record.facts;
    if vectors.refresh.kept == 0 {
        return Ok(Err("all vectors are new".into()));
    }
    if vectors.duplicate_ids > 0 {
        return Ok(Err(format!("{} item ids stand twice", vectors.duplicate_ids)));
    }
    let run = async {
        let before: ItemIndex = Done::read(&job.output, &manifest.index).await?;
        let facts = &before.record.facts;
        if facts.factory != factory {
            return Ok(Err(format!(
                "{} has a {} index, and this is to be {factory}",
                parent.in_words(),
                facts.factory
            )));
        }
        if !factory.starts_with("IVF") {
            return Ok(Err(format!("faiss takes nothing out of a {factory} index, or only by copying it")));
        }
        let (index, slots) = load_files(&job.output, &manifest.index, &before.record.files).await?;
        if !index.has_lists() {
            return Ok(Err(format!("faiss does not know the lists of {factory}")));
        }
        let then: Embeddings = Done::read(&job.output, &manifest.embeddings).await?;
        let plan = Plan::new(job, &then, embeddings, &slots).await?;
        let lists_when_built = facts.build.lists_when_built.or(facts.build.lists);
        let why = format!("{} is updated", parent.in_words());
        Ok(Ok(plan
            .carry_out(job, embeddings, index, queries, BuildFacts { why, lists_when_built, ..Default::default() })
            .await?))
    };
    run.await.while_(|| format!("updating the index of {}", parent.in_words()))
}

/// Places in the index. They are dense: what comes takes the place of what goes, and where fewer come, the last ones move.
struct Plan {
    /// Places that lose their vector.
    cleared: BTreeSet<u32>,
    /// By row of today's vectors: the place that it takes. The rest stay where they are.
    put: BTreeMap<u32, u32>,
    /// Ids by place, and places by row, afterwards.
    ids: Ids,
    rows: Vec<u32>,
}

impl Plan {
    async fn new(job: &Job, then: &Embeddings, now: &Embeddings, places: &Ids) -> Result<Plan> {
        let place_of = IdNumbers::of(places);
        let mut hashes = vec![0u64; places.len()];
        each_vector(job, then, |ids, at, vector| {
            if let Some(place) = place_of.get(ids, at) {
                hashes[place as usize] = hash(vector);
            }
        })
        .await?;
        let mut by_row = Ids::new(now.record.facts.item_id_type);
        let mut unchanged = Vec::with_capacity(now.record.facts.items as usize);
        each_vector(job, now, |ids, at, vector| {
            unchanged.push(place_of.get(ids, at).filter(|place| hashes[*place as usize] == hash(vector)));
            by_row.push(ids.get(at));
        })
        .await?;
        let (cleared, put) = assign(places.len() as u32, &unchanged);
        let rows: Vec<u32> =
            (0u32..).zip(&unchanged).map(|(row, stays)| put.get(&row).copied().or(*stays).unwrap_or(row)).collect();
        let mut row_of = vec![0; rows.len()];
        rows.iter().zip(0u32..).for_each(|(place, row)| row_of[*place as usize] = row);
        let mut ids = Ids::new(now.record.facts.item_id_type);
        row_of.iter().for_each(|row| ids.push(by_row.get(*row as usize)));
        Ok(Plan { cleared, put, ids, rows })
    }

    async fn carry_out(
        self,
        job: &Job,
        embeddings: &Embeddings,
        mut index: Faiss,
        queries: &Queries,
        facts: BuildFacts,
    ) -> Result<Built> {
        let failed = |error| Error::internal("faiss cannot update the index").caused_by(error);
        let cleared: Vec<i64> = self.cleared.iter().map(|place| i64::from(*place)).collect();
        let (wanted, removed);
        (index, wanted, removed) = aside(move || {
            let removed = on_threads(BUILD_THREADS, || index.remove(&cleared));
            (index, cleared.len(), removed)
        })
        .await?;
        let removed = removed.map_err(failed)?;
        if removed != wanted {
            return Err(Error::config(format!("it holds {removed} of {wanted} vectors that its ids say")));
        }
        let mut exact = queries.exact();
        let dim = embeddings.record.facts.dim;
        let (mut blocks, mut first) = (item_vectors(&job.output, embeddings, BLOCK), 0u32);
        while let Some(block) = blocks.next().await {
            let block = block?;
            exact.add(&block.vectors);
            let rows = first..first + block.ids.len() as u32;
            let (mut vectors, mut places) = (Vec::new(), Vec::new());
            for (row, place) in self.put.range(rows.clone()) {
                vectors.extend_from_slice(&block.vectors[(row - first) as usize * dim..][..dim]);
                places.push(i64::from(*place));
            }
            let added;
            (index, added) = aside(move || {
                let added = on_threads(BUILD_THREADS, || index.add_at(&vectors, &places));
                (index, added)
            })
            .await?;
            added.map_err(failed)?;
            first = rows.end;
            job.stop.check()?;
        }
        if index.len() != self.ids.len() {
            return Err(Error::internal(format!("the index has {} vectors of {}", index.len(), self.ids.len())));
        }
        let facts =
            BuildFacts { updated: true, removed: self.cleared.len() as u64, added: self.put.len() as u64, ..facts };
        info!(removed = facts.removed, added = facts.added, "updated the parent's index");
        Ok(Built { index, ids: self.ids, found: exact.finish(), rows: Some(self.rows), facts })
    }
}

async fn each_vector(job: &Job, of: &Embeddings, mut visit: impl FnMut(&Ids, usize, &[f32])) -> Result<()> {
    let dim = of.record.facts.dim;
    let mut blocks = item_vectors(&job.output, of, BLOCK);
    while let Some(block) = blocks.next().await {
        let block = block?;
        block.vectors.chunks_exact(dim).enumerate().for_each(|(at, vector)| visit(&block.ids, at, vector));
    }
    Ok(())
}

/// In words, how an updated index has come to be too far from one that is built.
pub fn drift(of: &BuildFacts, limits: &IndexDrift, target: f64) -> Option<String> {
    let (now, then) = of.lists.zip(of.lists_when_built)?;
    let grown = |what: &str, now: f64, then: f64, most: f64| {
        (now > then * most).then(|| format!("{what} has grown from {then:.4} to {now:.4}, more than {most} times"))
    };
    // more than the target was never asked for: search parameters are the cheapest that reach it
    let expected = then.recall.min(target);
    let lost = || {
        format!("recall has fallen from {expected:.4} to {:.4}, by more than {}", now.recall, limits.max_recall_loss)
    };
    grown("the distance from the lists' centres", now.error, then.error, limits.max_error_growth)
        .or_else(|| grown("the imbalance of the lists", now.imbalance, then.imbalance, limits.max_imbalance_growth))
        .or_else(|| (expected - now.recall > limits.max_recall_loss).then(lost))
}

/// Which of the `places` are cleared, and which rows take which place, where `unchanged` has for each row the place at which
/// its vector is already. Afterwards the places 0, 1, 2 … are taken, as many as there are rows.
fn assign(places: u32, unchanged: &[Option<u32>]) -> (BTreeSet<u32>, BTreeMap<u32, u32>) {
    let count = unchanged.len() as u32;
    let stays: BTreeSet<u32> = unchanged.iter().flatten().copied().filter(|place| *place < count).collect();
    let cleared: BTreeSet<u32> = (0..places).filter(|place| !stays.contains(place)).collect();
    let come =
        (0u32..).zip(unchanged).filter(|(_, place)| place.is_none_or(|place| place >= count)).map(|(row, _)| row);
    let free = (0..count).filter(|place| !stays.contains(place));
    (cleared, come.zip(free).collect())
}

fn hash(vector: &[f32]) -> u64 {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    fnv1a64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::ListFacts;

    #[test]
    fn each_kind_of_drift_is_told_when_it_passes_its_limit() {
        let then = ListFacts { error: 0.5, imbalance: 1.2, recall: 0.99 };
        let told = |now: ListFacts| {
            let facts = BuildFacts { lists: Some(now), lists_when_built: Some(then), ..Default::default() };
            drift(&facts, &IndexDrift::default(), 0.98)
        };
        assert_eq!(told(ListFacts { error: 0.59, imbalance: 1.79, recall: 0.971 }), None);
        let grown = "the distance from the lists' centres has grown from 0.5000 to 0.6100, more than 1.2 times";
        assert_eq!(told(ListFacts { error: 0.61, ..then }).unwrap(), grown);
        let uneven = "the imbalance of the lists has grown from 1.2000 to 1.9000, more than 1.5 times";
        assert_eq!(told(ListFacts { imbalance: 1.9, ..then }).unwrap(), uneven);
        let lost = "recall has fallen from 0.9800 to 0.9690, by more than 0.01";
        assert_eq!(told(ListFacts { recall: 0.969, ..then }).unwrap(), lost);
        assert_eq!(drift(&BuildFacts::default(), &IndexDrift::default(), 0.98), None, "no lists");
    }

    #[test]
    fn afterwards_all_places_are_taken_once_and_what_stays_has_not_moved() {
        let mut state = 7u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for round in 0..300 {
            let (before, now) = (draw(40) as u32, 1 + draw(40) as usize);
            let mut left: Vec<u32> = (0..before).collect();
            let unchanged: Vec<Option<u32>> = (0..now)
                .map(|_| {
                    let stays = !left.is_empty() && draw(3) > 0;
                    stays.then(|| left.swap_remove(draw(left.len() as u64) as usize))
                })
                .collect();
            let (cleared, put) = assign(before, &unchanged);
            let mut taken: BTreeSet<u32> = (0..before).filter(|place| !cleared.contains(place)).collect();
            for (row, place) in &put {
                assert!(taken.insert(*place), "round {round}: row {row} takes a place that is not free");
            }
            assert_eq!(taken, (0..now as u32).collect(), "round {round}");
            for (row, place) in (0u32..).zip(&unchanged) {
                let moved = put.contains_key(&row);
                assert_eq!(moved, place.is_none_or(|place| place as usize >= now), "round {round}, row {row}");
            }
        }
    }
}
