//! The nearest-neighbour index over the item vectors, with search parameters measured against exact search.
//!
//! The only place that calls faiss.

mod build;
mod factory;
mod faiss;
mod search;
#[cfg(test)]
mod tests;
mod tune;
mod update;

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use tracing::info;

pub use search::SearchIndex;

/// Whether faiss knows the configured factory, before anything is trained for it.
pub fn check(config: &Config) -> Result<()> {
    config.index.factory.as_ref().map_or(Ok(()), |factory| factory::create(config.model.dim, factory).map(drop))
}

use self::build::{Built, Queries, aside, built, choose_positions, pick, queries};
use self::faiss::Faiss;
use self::tune::Truth;
use crate::artifacts::{
    Embeddings, Ids, IndexFacts, ListFacts, SampleSet, SearchTrial, Start, TrainedModel, Written, keys,
};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::job::Job;
use crate::model::Towers;
use crate::retrieval::UserTower;
use crate::storage::{FileEntry, encode_parquet};

/// Vectors that the fit of the lists is measured on.
const FITTED: usize = 10_000;
/// Item vectors held at a time beside the index.
const BLOCK: usize = 65_536;
/// Threads that faiss trains and adds with. A graph comes out differently with each order of insertion, and BLAS rounds
/// differently with each number of threads, which moves k-means; with one thread the bytes depend on the vectors alone. Clustering
/// half a million vectors into 4096 lists takes about a minute so; searching and measuring use all cores.
const BUILD_THREADS: usize = 1;

/// Builds the index of `embeddings` in `folder`, or updates that of the parent, and chooses its search parameters.
///
/// The same vectors and settings give the same bytes on one machine, with any number of threads.
pub async fn run(
    job: &Job,
    samples: &SampleSet,
    model: &TrainedModel,
    embeddings: &Embeddings,
    start: &Start,
    folder: &str,
) -> Result<Written<IndexFacts>> {
    let towers = Towers::load(&job.output, &model.folder, &model.record.files).await?;
    build(job, samples, &towers, embeddings, start, folder).await
}

async fn build(
    job: &Job,
    samples: &SampleSet,
    tower: &impl UserTower,
    embeddings: &Embeddings,
    start: &Start,
    folder: &str,
) -> Result<Written<IndexFacts>> {
    let (config, facts) = (&job.config.index, &embeddings.record.facts);
    refuse_bad_vectors(embeddings)?;
    let name =
        config.factory.clone().unwrap_or_else(|| factory::default_factory(facts.items, config.training_vectors as u64));
    let queries = queries(job, samples, tower, embeddings).await?;
    let mut ready = match update::updated(job, embeddings, &name, start, &queries).await? {
        Ok(built) => Ok(measured(job, embeddings, built, &name, &queries).await?),
        Err(why) => Err(why),
    };
    if let Ok(updated) = &ready
        && let Some(drift) = update::drift(&updated.built.facts, &config.drift, config.recall_target)
    {
        info!(drift, "the updated index has drifted too far and is built anew");
        ready = Err(drift);
    }
    let ready = match ready {
        Ok(ready) => ready,
        Err(why) => {
            let built = built(job, embeddings, &name, &queries, why).await?;
            measured(job, embeddings, built, &name, &queries).await?
        }
    };
    let Ready { built, trials, chosen, k } = ready;
    let files = write(job, folder, built.index, &built.ids).await?;
    let (parameters, recall) = (trials[chosen].parameters.clone(), trials[chosen].recall);
    info!(
        items = facts.items,
        dim = facts.dim,
        factory = name,
        parameters,
        recall,
        bytes = files[0].bytes,
        updated = built.facts.updated,
        why = built.facts.why,
        "built the index"
    );
    let facts = IndexFacts {
        items: facts.items,
        dim: facts.dim,
        metric: "inner_product".into(),
        factory: name,
        parameters,
        k,
        recall,
        trials,
        bytes: files[0].bytes,
        build: built.facts,
    };
    Ok(Written { files, facts })
}

/// An index with all vectors, and the search parameters it is to have.
struct Ready {
    built: Built,
    trials: Vec<SearchTrial>,
    chosen: usize,
    k: usize,
}

/// Chooses search parameters against exact search, and looks how the lists fit, where there are any.
async fn measured(job: &Job, embeddings: &Embeddings, built: Built, name: &str, queries: &Queries) -> Result<Ready> {
    let (config, facts) = (&job.config.index, &embeddings.record.facts);
    let Built { index, ids, found, rows, facts: mut build } = built;
    let truth = Truth::new(found, queries.k).at(rows.as_deref());
    let candidates = match &config.parameters {
        Some(given) => vec![given.clone()],
        None => factory::search_parameters(name, queries.k),
    };
    job.stop.check()?;
    let bar = job.progress.spinner("index");
    bar.message("measures search parameters against exact search");
    let (target, stop, vectors) = (config.recall_target, job.stop.clone(), queries.vectors.clone());
    let measured = aside(move || {
        let mut index = index;
        tune::choose(&mut index, &candidates, &vectors, &truth, target, &stop).map(|chosen| (index, chosen))
    });
    let (index, (trials, chosen)) = measured.await??;
    drop(bar);
    if index.has_lists() {
        let drawn = choose_positions(config.seed ^ 2, facts.items as usize, FITTED);
        let [drawn, _] = pick(job, embeddings, [&drawn, &[]]).await?;
        let (error, imbalance) = index.fit(&drawn)?;
        let lists = ListFacts { error, imbalance, recall: trials[chosen].recall };
        build.lists = Some(lists);
        build.lists_when_built = build.lists_when_built.filter(|_| build.updated).or(Some(lists));
    }
    Ok(Ready { built: Built { index, ids, found: Vec::new(), rows, facts: build }, trials, chosen, k: queries.k })
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
        build(&world.job, &world.samples, &world.tower, &world.embeddings, &Start::cold("a test"), keys::INDEX).await
    }
}
