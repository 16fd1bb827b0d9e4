//! The parent's index with today's vectors in it: what is gone or changed is taken out, what is new or changed put in.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use tracing::info;

use super::build::{Built, Queries, aside};
use super::faiss::{Faiss, on_threads};
use super::search::load_files;
use super::{BLOCK, BUILD_THREADS};
use crate::artifacts::{BuildFacts, Done, Embeddings, Ids, ItemIndex, Start};
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
    if embeddings.record.facts.refresh.kept == 0 {
        return Ok(Err("all vectors are new".into()));
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
    async fn new(job: &Job, then: &Embeddings, now: &Embeddings, slots: &Ids) -> Result<Plan> {
        let places = IdNumbers::of(slots);
        let mut hashes = vec![0u64; slots.len()];
        each_vector(job, then, |ids, at, _, vector| {
            if let Some(place) = places.get(ids, at) {
                hashes[place as usize] = hash(vector);
            }
        })
        .await?;
        let items = now.record.facts.items as usize;
        let mut ids = Ids::new(now.record.facts.item_id_type);
        // by place, the row whose vector is there and stays
        let mut stays = vec![None; slots.len()];
        let mut come = Vec::new();
        each_vector(job, now, |ids, at, row, vector| match places.get(ids, at) {
            Some(place) if (place as usize) < items && hashes[place as usize] == hash(vector) => {
                stays[place as usize] = Some(row);
            }
            _ => come.push(row),
        })
        .await?;
        let cleared: BTreeSet<u32> = (0..slots.len() as u32).filter(|place| stays[*place as usize].is_none()).collect();
        let free = cleared.iter().copied().filter(|place| (*place as usize) < items).chain(slots.len() as u32..);
        let put: BTreeMap<u32, u32> = come.into_iter().zip(free).collect();
        let mut row_of = vec![0u32; items];
        stays.iter().enumerate().for_each(|(place, row)| row.iter().for_each(|row| row_of[place] = *row));
        put.iter().for_each(|(row, place)| row_of[*place as usize] = *row);
        let mut by_row = Ids::new(now.record.facts.item_id_type);
        let mut blocks = item_vectors(&job.output, now, BLOCK);
        while let Some(block) = blocks.next().await {
            by_row.append(block?.ids);
        }
        let mut rows = vec![0; items];
        for (place, row) in row_of.iter().enumerate() {
            rows[*row as usize] = place as u32;
        }
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

async fn each_vector(job: &Job, of: &Embeddings, mut visit: impl FnMut(&Ids, usize, u32, &[f32])) -> Result<()> {
    let dim = of.record.facts.dim;
    let (mut blocks, mut row) = (item_vectors(&job.output, of, BLOCK), 0);
    while let Some(block) = blocks.next().await {
        let block = block?;
        for (at, vector) in block.vectors.chunks_exact(dim).enumerate() {
            visit(&block.ids, at, row, vector);
            row += 1;
        }
    }
    Ok(())
}

fn hash(vector: &[f32]) -> u64 {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    fnv1a64(&bytes)
}
