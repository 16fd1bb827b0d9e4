//! `embedding.refresh: appeared`: which of the parent's vectors stay, and whether users can be served with a mixture.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::row::{RowConverter, SortField};
use chrono::NaiveTime;
use futures::StreamExt;
use tracing::info;

use super::probe;
use crate::artifacts::{Done, Embeddings, Ids, Parent, RefreshFacts, Release, SampleFacts, SampleSet, Start};
use crate::config::Refresh;
use crate::error::{Context, Error, Result};
use crate::features::{Side, integers};
use crate::job::Job;
use crate::kernels::random::fnv1a64;
use crate::model::Towers;
use crate::retrieval::{IdNumbers, item_vectors, table};
use crate::storage::{Store, read_parquet_stream, sorted_parts};

/// Vectors of the parent, and which of them stay.
pub struct Kept {
    items: IdNumbers,
    /// By number of the item.
    stays: Vec<bool>,
    vectors: Vec<f32>,
    dim: usize,
}

impl Kept {
    /// The vector that the item at `at` keeps.
    pub fn of(&self, ids: &Ids, at: usize) -> Option<&[f32]> {
        let number = self.items.get(ids, at)? as usize;
        self.stays[number].then(|| &self.vectors[number * self.dim..(number + 1) * self.dim])
    }

    /// Vectors `[rows, dim]` of rows of `item_features`, and how many of them are fresh.
    pub fn mixed(&self, towers: &Towers, ids: &Ids, batch: &RecordBatch) -> Result<(Vec<f32>, u64)> {
        let anew: Vec<bool> = (0..ids.len()).map(|at| self.of(ids, at).is_none()).collect();
        let fresh = towers.items(&[only(batch, anew.clone())?])?;
        let count = (fresh.len() / self.dim) as u64;
        let mut fresh = fresh.chunks_exact(self.dim);
        let mut vectors = Vec::with_capacity(ids.len() * self.dim);
        for (at, anew) in anew.into_iter().enumerate() {
            let vector = if anew { fresh.next() } else { self.of(ids, at) };
            vectors.extend_from_slice(vector.ok_or_else(|| Error::internal("an item has no vector"))?);
        }
        Ok((vectors, count))
    }
}

/// The rows of a batch for which `keep` says so.
pub fn only(batch: &RecordBatch, keep: Vec<bool>) -> Result<RecordBatch> {
    filter_record_batch(batch, &BooleanArray::from(keep))
        .map_err(|error| Error::internal("cannot filter item_features").caused_by(error))
}

/// The ids of a batch of `item_features`.
pub fn ids_of(batch: &RecordBatch, samples: &SampleFacts) -> Result<Ids> {
    let mut ids = Ids::new(samples.item_id_type);
    ids.extend_from(table::column(batch, "item_features", "item_id")?, "item_features.item_id")?;
    Ok(ids)
}

/// What stays of the parent's vectors. None, with the reason, where all items are embedded: as configured, for want of a parent, or because
/// users would find less.
pub async fn plan(
    job: &Job,
    samples: &SampleSet,
    towers: &Towers,
    start: &Start,
) -> Result<(Option<Kept>, RefreshFacts)> {
    let all = |why: String| (None, RefreshFacts { why, ..RefreshFacts::default() });
    if job.config.embedding.refresh == Refresh::All {
        return Ok(all("embedding.refresh is `all`".into()));
    }
    let (Some(parent), Some(manifest)) = (&start.parent, &start.manifest) else {
        return Ok(all(format!("there is no parent to keep vectors of: {}", start.why)));
    };
    let kept = keep(job, samples, towers, parent, manifest).await;
    let kept = kept.while_(|| format!("keeping vectors of {}", parent.in_words()))?;
    let Some(probe) = probe::measure(job, samples, towers, &kept).await? else {
        return Ok(all("`holdout` has nothing to measure mixed vectors on".into()));
    };
    info!(
        ratio = probe.ratio,
        threshold = probe.threshold,
        users = probe.users,
        "measured mixed vectors against fresh ones"
    );
    let (sure, ratio, threshold) = (probe.ratio >= probe.threshold, probe.ratio, probe.threshold);
    let why = match sure {
        true => format!("what has not changed keeps its vector of {}", parent.in_words()),
        false => format!(
            "with vectors of {} users find {ratio:.4} of what they find with fresh ones, less than embedding.min_refresh_recall: {threshold}",
            parent.in_words()
        ),
    };
    Ok((sure.then_some(kept), RefreshFacts { why, probe: Some(probe), ..RefreshFacts::default() }))
}

/// The parent's vectors; those stay whose item has the same features as then and was not liked since the parent's date.
async fn keep(job: &Job, samples: &SampleSet, towers: &Towers, parent: &Parent, manifest: &Release) -> Result<Kept> {
    let store = &job.output;
    let before: Embeddings = Done::read(store, &manifest.embeddings).await?;
    let facts = &before.record.facts;
    if facts.dim != towers.dim() {
        return Err(Error::config(format!("its vectors have dimension {}, today's {}", facts.dim, towers.dim())));
    }
    let mut items = IdNumbers::new(facts.item_id_type);
    let mut vectors = Vec::with_capacity(facts.items as usize * facts.dim);
    let mut blocks = item_vectors(store, &before, 65_536);
    while let Some(block) = blocks.next().await {
        let mut block = block?;
        for at in 0..block.ids.len() {
            items.number(&block.ids, at)?;
        }
        vectors.append(&mut block.vectors);
    }
    let mut kept = Kept { stays: vec![false; items.len()], items, vectors, dim: facts.dim };
    let then: SampleSet = Done::read(store, &manifest.samples).await?;
    let columns = towers.feature_columns(Side::Item);
    let mut hashes: Vec<Option<u64>> = vec![None; kept.stays.len()];
    features(store, &then.record.facts, &columns, |ids, at, hash| {
        if let Some(number) = kept.items.get(ids, at) {
            hashes[number as usize] = Some(hash);
        }
    })
    .await?;
    features(store, &samples.record.facts, &columns, |ids, at, hash| {
        if let Some(number) = kept.items.get(ids, at) {
            kept.stays[number as usize] = hashes[number as usize] == Some(hash);
        }
    })
    .await?;
    liked_since(job, samples, parent, &mut kept).await?;
    Ok(kept)
}

/// Calls `visit` with a hash of each item's features.
async fn features(
    store: &Store,
    samples: &SampleFacts,
    columns: &[String],
    mut visit: impl FnMut(&Ids, usize, u64),
) -> Result<()> {
    let files = samples.tables.get("item_features").map(|table| sorted_parts(&table.files)).unwrap_or_default();
    let mut wanted = columns.to_vec();
    wanted.push("item_id".into());
    let mut stream = read_parquet_stream(store, files, Some(wanted), 16_384);
    let failed = |error| Error::internal("cannot compare item_features").caused_by(error);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let values = columns.iter().map(|name| table::column(&batch, "item_features", name).cloned());
        let values = values.collect::<Result<Vec<_>>>()?;
        let fields = values.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        // a converter of its own for each batch: the bytes depend on types and values alone
        let rows =
            RowConverter::new(fields).and_then(|converter| converter.convert_columns(&values)).map_err(failed)?;
        let ids = ids_of(&batch, samples)?;
        rows.iter().enumerate().for_each(|(at, row)| visit(&ids, at, fnv1a64(row.as_ref())));
    }
    Ok(())
}

/// Items that were liked on the parent's date or later do not stay: training has moved them.
async fn liked_since(job: &Job, samples: &SampleSet, parent: &Parent, kept: &mut Kept) -> Result<()> {
    let facts = &samples.record.facts;
    let files = facts.tables.get("positives").map(|table| sorted_parts(&table.files)).unwrap_or_default();
    let columns = vec!["item_id".to_string(), "event_time".to_string()];
    let from = parent.date.0.and_time(NaiveTime::MIN).and_utc().timestamp_micros();
    let mut stream = read_parquet_stream(&job.output, files, Some(columns), 65_536);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let times = integers(&batch, "positives", "event_time")?;
        let mut ids = Ids::new(facts.item_id_type);
        ids.extend_from(table::column(&batch, "positives", "item_id")?, "positives.item_id")?;
        for at in (0..ids.len()).filter(|at| times.value(*at) >= from) {
            if let Some(number) = kept.items.get(&ids, at) {
                kept.stays[number as usize] = false;
            }
        }
    }
    Ok(())
}
