//! The nearest-neighbour index over the item vectors, with search parameters measured against exact search.
//!
//! The only place that calls faiss.

mod factory;
mod faiss;
mod search;
#[cfg(test)]
mod tests;
mod tune;

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use futures::StreamExt;
use tracing::{info, warn};

pub use search::SearchIndex;

/// Whether faiss knows the configured factory, before anything is trained for it.
pub fn check(config: &Config) -> Result<()> {
    config.index.factory.as_ref().map_or(Ok(()), |factory| factory::create(config.model.dim, factory).map(drop))
}

use self::faiss::{Faiss, on_threads};
use crate::artifacts::{Embeddings, Ids, IndexFacts, SampleSet, TrainedModel, Written, keys};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::job::Job;
use crate::model::Towers;
use crate::retrieval::{ExactSearch, UserTower, each_user_block, item_vectors, seeded_hash, smallest, user_ids};
use crate::storage::{FileEntry, encode_parquet};
use tune::Truth;

/// Item vectors held at a time beside the index.
const BLOCK: usize = 65_536;
/// Threads that faiss trains and adds with. A graph comes out differently with each order of insertion, and BLAS rounds
/// differently with each number of threads, which moves k-means; with one thread the bytes depend on the vectors alone. Clustering
/// half a million vectors into 4096 lists takes about a minute so; searching and measuring use all cores.
const BUILD_THREADS: usize = 1;

/// Builds the index of `embeddings` in `folder` and chooses its search parameters.
///
/// The same vectors and settings give the same bytes on one machine, with any number of threads.
pub async fn run(
    job: &Job,
    samples: &SampleSet,
    model: &TrainedModel,
    embeddings: &Embeddings,
    folder: &str,
) -> Result<Written<IndexFacts>> {
    let towers = Towers::load(&job.output, &model.folder, &model.record.files).await?;
    build(job, samples, &towers, embeddings, folder).await
}

async fn build(
    job: &Job,
    samples: &SampleSet,
    tower: &impl UserTower,
    embeddings: &Embeddings,
    folder: &str,
) -> Result<Written<IndexFacts>> {
    let (config, facts) = (&job.config.index, &embeddings.record.facts);
    refuse_bad_vectors(embeddings)?;
    let (items, dim) = (facts.items as usize, facts.dim);
    let name =
        config.factory.clone().unwrap_or_else(|| factory::default_factory(facts.items, config.training_vectors as u64));
    let k = config.k.clamp(1, items);

    let mut index = factory::create(dim, &name)?;
    let mut queries = user_queries(job, samples, tower).await?;
    let mut wanted = Vec::new();
    if queries.is_empty() {
        warn!("user_features has no rows: the index is measured with item vectors as queries");
        wanted = choose_positions(config.seed, items, config.queries.max(1));
    }
    if index.needs_training() || !wanted.is_empty() {
        let training = if index.needs_training() {
            choose_positions(config.seed ^ 1, items, config.training_vectors.max(1))
        } else {
            vec![]
        };
        let [training, drawn] = pick(job, embeddings, [&training, &wanted]).await?;
        if !wanted.is_empty() {
            queries = drawn;
        }
        if index.needs_training() {
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
                factory::refused(&name, dim, &format!("cannot train it on {count} vectors")).caused_by(error)
            })?;
        }
    }

    let mut exact = ExactSearch::new(&queries, dim, std::iter::repeat_n(Truth::kept(k), queries.len() / dim));
    let (index, ids) = fill(job, embeddings, index, &name, &mut exact).await?;
    let truth = Truth::new(exact, k);
    let candidates = match &config.parameters {
        Some(given) => vec![given.clone()],
        None => factory::search_parameters(&name, k),
    };
    job.stop.check()?;
    let bar = job.progress.spinner("index");
    bar.message("measures search parameters against exact search");
    let (target, stop) = (config.recall_target, job.stop.clone());
    let measured = aside(move || {
        let mut index = index;
        tune::choose(&mut index, &candidates, &queries, &truth, target, &stop).map(|chosen| (index, chosen))
    });
    let (index, (trials, chosen)) = measured.await??;
    drop(bar);

    let files = write(job, folder, index, &ids).await?;
    let (parameters, recall) = (trials[chosen].parameters.clone(), trials[chosen].recall);
    info!(items, dim, factory = name, parameters, recall, bytes = files[0].bytes, "built the index");
    let facts = IndexFacts {
        items: facts.items,
        dim,
        metric: "inner_product".into(),
        factory: name,
        parameters,
        k,
        recall,
        trials,
        bytes: files[0].bytes,
        build: Default::default(),
    };
    Ok(Written { files, facts })
}

/// Runs `work` on a thread that nobody has to wait for: faiss cannot be interrupted, and a job that is told to stop leaves while it
/// computes.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let span = tracing::Span::current();
    let done = tokio::task::spawn_blocking(move || span.in_scope(work)).await;
    done.map_err(|error| Error::internal("a thread that built the index has failed").caused_by(error))
}

fn refuse_bad_vectors(embeddings: &Embeddings) -> Result<()> {
    let facts = &embeddings.record.facts;
    if facts.items == 0 {
        return Err(Error::config("there are no item vectors to index: `item_features` has no rows"));
    }
    if facts.items > u64::from(u32::MAX) {
        return Err(Error::config(format!("{} items are more than one index takes ({})", facts.items, u32::MAX)));
    }
    if facts.non_finite > 0 {
        // no gate could pass them, and neither clustering nor a graph ends well with them
        return Err(Error::new(
            Kind::GateRefused,
            format!(
                "{} of {} item vectors have values that are not finite: training diverged; lower training's learning rates",
                facts.non_finite, facts.items
            ),
        ));
    }
    Ok(())
}

/// `count` of the positions 0 .. `items`, drawn with `seed`, ascending.
fn choose_positions(seed: u64, items: usize, count: usize) -> Vec<usize> {
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
async fn pick(job: &Job, embeddings: &Embeddings, wanted: [&[usize]; 2]) -> Result<[Vec<f32>; 2]> {
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

/// Writes `items.faiss` and `item_ids.parquet`, in this order.
async fn write(job: &Job, folder: &str, index: Faiss, ids: &Ids) -> Result<Vec<FileEntry>> {
    let local = tempfile::NamedTempFile::new().map_err(|error| {
        Error::config("cannot make a temporary file; set TMPDIR to a writable folder").caused_by(error)
    })?;
    let local = aside(move || index.save(local.path()).map(|()| local)).await??;
    let key = format!("{folder}/{}", keys::FAISS);
    let (bytes, sha256) = job.output.put_from_file(&key, local.path()).await?;
    let vectors = FileEntry { key, bytes, sha256, rows: Some(ids.len() as u64) };

    let key = format!("{folder}/{}", keys::ITEM_IDS);
    let encoded = encode_ids(ids).map_err(|error| Error::internal(format!("cannot encode {key}")).caused_by(error))?;
    Ok(vec![vectors, job.output.put_file(key, encoded, Some(ids.len() as u64)).await?])
}

fn encode_ids(ids: &Ids) -> Result<Vec<u8>, parquet::errors::ParquetError> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("position", DataType::Int64, false),
        Field::new("item_id", ids.id_type().arrow(), false),
    ]));
    let positions = Arc::new(Int64Array::from_iter_values(0..ids.len() as i64));
    let batch = RecordBatch::try_new(schema.clone(), vec![positions, ids.to_arrow()])?;
    encode_parquet(schema, &[batch])
}

/// For the tests of the stages that need an index to be there.
#[cfg(test)]
pub mod tests_support {
    use super::*;
    use crate::retrieval::fixture::World;

    pub async fn build_for(world: &World) -> Result<Written<IndexFacts>> {
        build(&world.job, &world.samples, &world.tower, &world.embeddings, keys::INDEX).await
    }
}
