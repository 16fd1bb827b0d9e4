//! An index from nothing: its training, and all vectors into it; and what it is measured with.

use futures::StreamExt;
use tracing::{info, warn};

use super::faiss::{Faiss, on_threads};
use super::tune::Truth;
use super::{BLOCK, BUILD_THREADS, factory};
use crate::artifacts::{BuildFacts, Embeddings, Ids, SampleSet};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::retrieval::{ExactSearch, Hit, UserTower, each_user_block, item_vectors, seeded_hash, smallest, user_ids};

/// An index with all vectors.
pub struct Built {
    pub index: Faiss,
    /// By place in the index.
    pub ids: Ids,
    /// What exact search finds for each query, as rows of the vectors.
    pub found: Vec<Vec<Hit>>,
    /// By row, its place in the index; none where they are the same.
    pub rows: Option<Vec<u32>>,
    pub facts: BuildFacts,
}

/// What an index is measured with.
pub struct Queries {
    /// `[n, dim]`.
    pub vectors: Vec<f32>,
    dim: usize,
    pub k: usize,
}

impl Queries {
    /// An exact search for them, to be shown all vectors.
    pub fn exact(&self) -> ExactSearch<'_> {
        let count = self.vectors.len() / self.dim;
        ExactSearch::new(&self.vectors, self.dim, std::iter::repeat_n(Truth::kept(self.k), count))
    }
}

/// Vectors of users; of items, where there are no users.
pub async fn queries(
    job: &Job,
    samples: &SampleSet,
    tower: &impl UserTower,
    embeddings: &Embeddings,
) -> Result<Queries> {
    let (config, facts) = (&job.config.index, &embeddings.record.facts);
    let (items, dim) = (facts.items as usize, facts.dim);
    let mut vectors = user_queries(job, samples, tower).await?;
    if vectors.is_empty() {
        warn!("user_features has no rows: the index is measured with item vectors as queries");
        let wanted = choose_positions(config.seed, items, config.queries.max(1));
        [vectors, _] = pick(job, embeddings, [&wanted, &[]]).await?;
    }
    Ok(Queries { vectors, dim, k: config.k.clamp(1, items) })
}

/// Builds all of it, for the reason `why`.
pub async fn built(job: &Job, embeddings: &Embeddings, name: &str, queries: &Queries, why: String) -> Result<Built> {
    let (config, facts) = (&job.config.index, &embeddings.record.facts);
    let (items, dim) = (facts.items as usize, facts.dim);
    let mut index = factory::create(dim, name)?;
    if index.needs_training() {
        let wanted = choose_positions(config.seed ^ 1, items, config.training_vectors.max(1));
        let [training, _] = pick(job, embeddings, [&wanted, &[]]).await?;
        let count = training.len() / dim;
        info!(factory = name, vectors = count, "training the index");
        let bar = job.progress.spinner("index");
        bar.message(format!("{name} learns from {count} vectors"));
        let trained;
        (index, trained) = aside(move || {
            let trained = on_threads(BUILD_THREADS, || index.train(&training));
            (index, trained)
        })
        .await?;
        trained.map_err(|error| {
            factory::refused(name, dim, &format!("cannot train it on {count} vectors")).caused_by(error)
        })?;
    }
    let mut exact = queries.exact();
    let (index, ids) = fill(job, embeddings, index, name, &mut exact).await?;
    let facts = BuildFacts { why, added: facts.items, ..BuildFacts::default() };
    Ok(Built { index, ids, found: exact.finish(), rows: None, facts })
}

/// Runs `work` on a thread that nobody has to wait for: faiss cannot be interrupted, and a job that is told to stop leaves while it
/// computes.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let span = tracing::Span::current();
    let done = tokio::task::spawn_blocking(move || span.in_scope(work)).await;
    done.map_err(|error| Error::internal("a thread that built the index has failed").caused_by(error))
}

/// `count` of the positions 0 .. `items`, drawn with `seed`, ascending.
pub fn choose_positions(seed: u64, items: usize, count: usize) -> Vec<usize> {
    let positions = Ids::Int((0..items as i64).collect());
    smallest(&(0..items).map(|at| seeded_hash(seed, &positions, at)).collect::<Vec<_>>(), count)
}

/// The vectors of users drawn by hash of their id, `[n, dim]`.
async fn user_queries(job: &Job, samples: &SampleSet, tower: &impl UserTower) -> Result<Vec<f32>> {
    let (config, facts) = (&job.config.index, &samples.record.facts);
    let mut hashes = Vec::new();
    user_ids(&job.output, facts, |ids| hashes.extend((0..ids.len()).map(|at| seeded_hash(config.seed, ids, at))))
        .await?;
    let chosen = smallest(&hashes, config.queries.max(1));
    let (mut row, mut next) = (0, chosen.iter().copied().peekable());
    let keep = |_: &Ids, _| {
        let kept = next.next_if_eq(&row).is_some();
        row += 1;
        kept
    };
    let mut queries = Vec::with_capacity(chosen.len() * tower.dim());
    each_user_block(&job.output, facts, tower, 4096, keep, |_, vectors| {
        queries.extend_from_slice(vectors);
        Ok(())
    })
    .await?;
    Ok(queries)
}

/// The vectors at two lists of ascending positions, in one pass.
pub async fn pick(job: &Job, embeddings: &Embeddings, wanted: [&[usize]; 2]) -> Result<[Vec<f32>; 2]> {
    let dim = embeddings.record.facts.dim;
    let mut picked = wanted.map(|positions| Vec::with_capacity(positions.len() * dim));
    let mut next = wanted.map(|positions| positions.iter().copied().peekable());
    let (mut blocks, mut first) = (item_vectors(&job.output, embeddings, 8192), 0);
    while let Some(block) = blocks.next().await {
        let block = block?;
        for (picked, next) in picked.iter_mut().zip(&mut next) {
            while let Some(at) = next.next_if(|at| *at < first + block.ids.len()) {
                picked.extend_from_slice(&block.vectors[(at - first) * dim..][..dim]);
            }
        }
        first += block.ids.len();
        job.stop.check()?;
    }
    Ok(picked)
}

/// Adds all vectors to the index and to the exact search, block after block, and returns their ids.
async fn fill(
    job: &Job,
    embeddings: &Embeddings,
    mut index: Faiss,
    factory: &str,
    exact: &mut ExactSearch<'_>,
) -> Result<(Faiss, Ids)> {
    let facts = &embeddings.record.facts;
    let bar = job.progress.bar("index", facts.items);
    let mut ids = Ids::new(facts.item_id_type);
    // a graph links what is added together in random order, so a block should not be small
    let (mut blocks, mut waiting) = (item_vectors(&job.output, embeddings, BLOCK), Vec::new());
    loop {
        let block = blocks.next().await.transpose()?;
        let last = block.is_none();
        if let Some(mut block) = block {
            waiting.append(&mut block.vectors);
            ids.append(block.ids);
        }
        if waiting.len() >= BLOCK * facts.dim || last {
            exact.add(&waiting);
            let (vectors, added) = (std::mem::take(&mut waiting), waiting.len() / facts.dim);
            let done;
            (index, done) = aside(move || {
                let done = on_threads(BUILD_THREADS, || index.add(&vectors));
                (index, done)
            })
            .await?;
            done.map_err(|error| factory::refused(factory, facts.dim, "cannot add vectors to it").caused_by(error))?;
            bar.advance(added as u64);
        }
        job.stop.check()?;
        if last {
            break;
        }
    }
    if ids.len() as u64 != facts.items || index.len() != ids.len() {
        return Err(Error::config(format!(
            "{} has {} vectors, its manifest says {}, the index took {}; run the embed stage again",
            embeddings.folder,
            ids.len(),
            facts.items,
            index.len()
        )));
    }
    Ok((index, ids))
}
