//! How far the vectors of two releases differ in what is near to what.
//!
//! Two trainings may turn or mirror the whole space, which changes every vector and no answer. So not vectors are compared but
//! neighbourhoods: of an item's nearest neighbours, the share that are others than before.

use std::collections::{BTreeMap, HashSet};

use futures::StreamExt;

use crate::artifacts::{Done, Embeddings, Id, Release};
use crate::error::Result;
use crate::retrieval::{exact_top, item_vectors, seeded_hash};
use crate::storage::Store;

/// Items that are looked at, about: drawn by hash of their id, so that both releases give the same ones.
const ITEMS: u64 = 20_000;
/// Items whose neighbours are compared: the share is then known to about 0.02.
const PROBES: usize = 500;
const NEIGHBOURS: usize = 10;

/// The item vectors of a release, to be read.
pub async fn embeddings_of(output: &Store, release: &Release) -> Result<Embeddings> {
    Done::read(output, &release.embeddings).await
}

/// The drift between two releases.
pub async fn between(output: &Store, before: &Release, after: &Release) -> Result<Option<f64>> {
    drift(output, &embeddings_of(output, before).await?, &embeddings_of(output, after).await?).await
}

/// The share in 0..1 of the nearest neighbours that differ, over items of both; `None` when they share too few.
pub async fn drift(output: &Store, before: &Embeddings, after: &Embeddings) -> Result<Option<f64>> {
    if before.record.facts.item_id_type != after.record.facts.item_id_type {
        return Ok(None);
    }
    let most = before.record.facts.items.max(after.record.facts.items).max(1);
    let limit = if most <= ITEMS { u64::MAX } else { u64::MAX / most * ITEMS };
    let (mut old, mut new) = (drawn(output, before, limit).await?, drawn(output, after, limit).await?);
    old.retain(|key, _| new.contains_key(key));
    new.retain(|key, _| old.contains_key(key));
    if old.len() <= NEIGHBOURS {
        return Ok(None);
    }
    let near = |vectors: BTreeMap<(u64, Id), Vec<f32>>, dim: usize| {
        let flat: Vec<f32> = vectors.into_values().flatten().collect();
        let probes = (flat.len() / dim).min(PROBES);
        // an item is nearest to itself, which says nothing
        exact_top(&flat[..probes * dim], &flat, dim, &vec![NEIGHBOURS + 1; probes])
            .into_iter()
            .enumerate()
            .map(|(probe, hits)| {
                let others = hits.into_iter().map(|(_, item)| item).filter(move |item| *item as usize != probe);
                others.take(NEIGHBOURS).collect::<HashSet<u32>>()
            })
            .collect::<Vec<_>>()
    };
    let (old, new) = (near(old, before.record.facts.dim), near(new, after.record.facts.dim));
    let shared: usize = old.iter().zip(&new).map(|(old, new)| old.intersection(new).count()).sum();
    Ok(Some(1.0 - shared as f64 / (old.len() * NEIGHBOURS) as f64))
}

/// The vectors of the items whose hash is at most `limit`, in the order of the hash.
async fn drawn(output: &Store, embeddings: &Embeddings, limit: u64) -> Result<BTreeMap<(u64, Id), Vec<f32>>> {
    let dim = embeddings.record.facts.dim;
    let mut found = BTreeMap::new();
    let mut blocks = item_vectors(output, embeddings, 8192);
    while let Some(block) = blocks.next().await {
        let block = block?;
        for (at, vector) in block.vectors.chunks_exact(dim).enumerate() {
            let hash = seeded_hash(0, &block.ids, at);
            if hash <= limit {
                found.insert((hash, block.ids.get(at)), vector.to_vec());
            }
        }
    }
    Ok(found)
}
