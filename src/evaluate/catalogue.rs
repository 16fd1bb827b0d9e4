//! The items that are searched, in memory.

use futures::StreamExt;

use super::popularity::read_positives;
use crate::artifacts::{Embeddings, Ids, SampleFacts};
use crate::error::Result;
use crate::retrieval::{IdNumbers, item_vectors};
use crate::storage::Store;

/// All items, by position.
pub struct Catalogue {
    pub ids: Ids,
    pub positions: IdNumbers,
    /// `[items, dim]`
    pub vectors: Vec<f32>,
    pub dim: usize,
    /// `[items]`: how often each was liked in the training data.
    pub positives: Vec<u64>,
}

impl Catalogue {
    pub async fn read(store: &Store, samples: &SampleFacts, embeddings: &Embeddings) -> Result<Catalogue> {
        let facts = &embeddings.record.facts;
        let mut ids = Ids::new(facts.item_id_type);
        let mut vectors = Vec::with_capacity(facts.items as usize * facts.dim);
        let mut blocks = item_vectors(store, embeddings, 65_536);
        while let Some(block) = blocks.next().await {
            let mut block = block?;
            vectors.append(&mut block.vectors);
            ids.append(block.ids);
        }
        let positions = IdNumbers::of(&ids);
        let positives = read_positives(store, samples, &positions, ids.len()).await?;
        Ok(Catalogue { ids, positions, vectors, dim: facts.dim, positives })
    }
}
