//! The item tower over the catalogue: one vector an item, in files of like size. Where told so, items that have not changed since
//! the parent keep its vectors.

mod probe;
mod refresh;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use futures::StreamExt;
use tracing::info;

use crate::artifacts::{EmbedFacts, Id, Ids, SampleSet, Start, TrainedModel, Written};
use crate::error::{Error, Result};
use crate::features::Side;
use crate::job::{Job, thread_pool};
use crate::model::Towers;
use crate::storage::{ShardWriter, read_parquet_stream, sorted_parts};

/// Rows that go through the tower together.
const BATCH_ROWS: usize = 8192;

/// Writes `part-00000-of-N.parquet …` with `item_id` and `vector` to `folder`.
pub async fn run(
    job: &Job,
    samples: &SampleSet,
    model: &TrainedModel,
    start: &Start,
    folder: &str,
) -> Result<Written<EmbedFacts>> {
    let towers = Towers::load(&job.output, &model.folder, &model.record.files).await?;
    let facts = &samples.record.facts;
    let table = facts
        .tables
        .get("item_features")
        .ok_or_else(|| Error::config("the samples have no table `item_features`; run the samples stage again"))?;
    let (kept, refresh) = refresh::plan(job, samples, &towers, start).await?;
    let pool = thread_pool(job.config.training.threads)?;
    let shards = job.config.embedding.shards.min(table.rows.max(1) as usize);
    let vector =
        Field::new_fixed_size_list("vector", Field::new("item", DataType::Float32, false), towers.dim() as i32, false);
    let schema = Arc::new(Schema::new(vec![Field::new("item_id", facts.item_id_type.arrow(), false), vector]));
    let mut writer = ShardWriter::new(&job.output, folder, schema.clone(), u64::MAX).of(shards);
    let mut columns = towers.feature_columns(Side::Item);
    columns.push("item_id".into());
    let mut found = EmbedFacts {
        items: 0,
        dim: towers.dim(),
        item_id_type: facts.item_id_type,
        non_finite: 0,
        zero: 0,
        duplicate_ids: 0,
        norm_error: towers.spec().normalize.then_some(0.0),
        refresh,
    };
    let mut seen: HashSet<Id> = HashSet::with_capacity(table.rows as usize);
    let bar = job.progress.bar("embed", table.rows);
    let mut stream = read_parquet_stream(&job.output, sorted_parts(&table.files), Some(columns), BATCH_ROWS);
    while let Some(batch) = stream.next().await {
        job.stop.check()?;
        let batch = batch?;
        let ids = refresh::ids_of(&batch, facts)?;
        found.duplicate_ids += ids.iter().filter(|id| !seen.insert(id.clone())).count() as u64;
        let (vectors, fresh) = pool.install(|| match &kept {
            Some(kept) => kept.mixed(&towers, &ids, &batch),
            None => towers.items(std::slice::from_ref(&batch)).map(|vectors| (vectors, ids.len() as u64)),
        })?;
        found.refresh.fresh += fresh;
        found.refresh.kept += ids.len() as u64 - fresh;
        for vector in vectors.chunks_exact(towers.dim()) {
            found.non_finite += u64::from(vector.iter().any(|value| !value.is_finite()));
            let learned = &vector[..towers.learned_dim()];
            let norm = learned.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            found.zero += u64::from(norm == 0.0);
            if norm > 0.0 && norm.is_finite() {
                found.norm_error = found.norm_error.map(|error| error.max((norm - 1.0).abs()));
            }
        }
        let rows = table_of(&schema, &ids, vectors, towers.dim())?;
        write(&mut writer, &rows, found.items, table.rows, shards as u64).await?;
        found.items += batch.num_rows() as u64;
        bar.advance(batch.num_rows() as u64);
    }
    // few digits: a float of seventeen may come back from a manifest as its neighbour
    found.norm_error = found.norm_error.map(|error| (error * 1e9).round() / 1e9);
    info!(
        refresh = found.refresh.why,
        fresh = found.refresh.fresh,
        kept = found.refresh.kept,
        "which vectors are made anew"
    );
    info!(items = found.items, dim = found.dim, files = shards, "embedded the catalogue");
    Ok(Written { files: writer.finish().await?, facts: found })
}

fn table_of(schema: &Arc<Schema>, ids: &Ids, vectors: Vec<f32>, dim: usize) -> Result<RecordBatch> {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let vectors = FixedSizeListArray::try_new(item, dim as i32, Arc::new(Float32Array::from(vectors)), None);
    let vectors: ArrayRef = Arc::new(vectors.map_err(|error| Error::internal("cannot make vectors").caused_by(error))?);
    RecordBatch::try_new(schema.clone(), vec![ids.to_arrow(), vectors])
        .map_err(|error| Error::internal("cannot make the table of vectors").caused_by(error))
}

/// Writes rows from `start` on; file `i` of `shards` ends before row `(i + 1) * total / shards`.
async fn write(writer: &mut ShardWriter, rows: &RecordBatch, start: u64, total: u64, shards: u64) -> Result<()> {
    let mut at = 0;
    while at < rows.num_rows() {
        let row = start + at as u64;
        let shard = ((row + 1) * shards - 1) / total.max(1);
        let end = (shard + 1) * total / shards;
        let take = ((end - row) as usize).min(rows.num_rows() - at);
        writer.write(&rows.slice(at, take)).await?;
        at += take;
        if start + at as u64 == end {
            writer.close_file().await?;
        }
    }
    Ok(())
}
