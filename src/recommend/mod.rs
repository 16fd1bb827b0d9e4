//! Answers a user from a published release alone, as a service would.

mod candidates;
mod features;
#[cfg(test)]
mod tests;

pub use candidates::LastRelease;

use arrow::array::RecordBatch;
use futures::StreamExt;

use crate::artifacts::{Id, Ids, Release, SampleFacts, StageRecord, keys};
use crate::error::{Context, Error, Result};
use crate::index::SearchIndex;
use crate::model::Towers;
use crate::retrieval::{IdNumbers, UserTower, id_pairs, table};
use crate::storage::{FileEntry, Store, parquet_schema, read_parquet_stream, sorted_parts, unseal};

/// Whom to recommend to.
#[derive(Debug, Clone, PartialEq)]
pub enum Who {
    /// A user with a row in the release's `user_features`.
    User(Id),
    /// The features of any user: a JSON object of columns of `user_features`. What is left out is null.
    Features(serde_json::Value),
}

/// The best `k` items with their scores (inner products as the index computes them), best first. `exclude_seen` leaves out what
/// the release's table `seen` lists for the user.
pub async fn recommend(
    store: &Store,
    release: &Release,
    who: Who,
    k: usize,
    exclude_seen: bool,
) -> Result<Vec<(Id, f32)>> {
    let towers = Towers::load(store, &release.model, &release.files).await?;
    answer(store, release, &towers, who, k, exclude_seen).await
}

async fn answer(
    store: &Store,
    release: &Release,
    tower: &impl UserTower,
    who: Who,
    k: usize,
    exclude_seen: bool,
) -> Result<Vec<(Id, f32)>> {
    let samples = read_samples(store, release).await?;
    let (row, user) = match who {
        Who::User(id) => (find_user(store, release, &samples, tower, &id).await?, Some(id)),
        Who::Features(given) => (build_row(store, &samples, tower, &given).await?, None),
    };
    let vector = tower.vectors(&[row])?;
    let index = SearchIndex::load(store, &release.index, &release.files, &release.search_parameters).await?;
    let seen = match user {
        Some(user) if exclude_seen => seen_by(store, &samples, &user, index.item_ids()).await?,
        _ => Vec::new(),
    };
    let wanted = k.saturating_add(seen.len()).min(index.item_ids().len());
    let (scores, positions) = index.search(&vector, wanted)?;
    let found = positions.iter().zip(scores).filter_map(|(at, score)| Some((u32::try_from(*at).ok()?, score)));
    let kept = found.filter(|(at, _)| seen.binary_search(at).is_err()).take(k);
    Ok(kept.map(|(at, score)| (index.item_ids().get(at as usize), score)).collect())
}

async fn read_samples(store: &Store, release: &Release) -> Result<SampleFacts> {
    let key = format!("{}/{}", release.samples, keys::MANIFEST);
    let text =
        store.get_existing(&key).await.while_(|| format!("reading the samples of release {}", release.release))?;
    let record: StageRecord<SampleFacts> = unseal(&text).map_err(|why| {
        let url = store.url_of(&key);
        Error::config(format!("{url} is not a manifest that this version reads: {why}; restore it, or roll back"))
    })?;
    Ok(record.facts)
}

fn user_features(samples: &SampleFacts) -> Result<Vec<FileEntry>> {
    let table = samples.tables.get("user_features").map(|table| sorted_parts(&table.files)).unwrap_or_default();
    if table.is_empty() { Err(Error::config("the release's samples have no table `user_features`")) } else { Ok(table) }
}

/// The user's row, with the columns that the tower reads.
async fn find_user(
    store: &Store,
    release: &Release,
    samples: &SampleFacts,
    tower: &impl UserTower,
    user: &Id,
) -> Result<RecordBatch> {
    for file in user_features(samples)? {
        // ids first: they are a small part of the file
        let Some(row) = find_row(store, samples, &file, user).await? else { continue };
        let mut batches = read_parquet_stream(store, vec![file], Some(tower.columns()), 8192);
        let mut first = 0;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            if row < first + batch.num_rows() {
                return Ok(batch.slice(row - first, 1));
            }
            first += batch.num_rows();
        }
    }
    Err(Error::usage(format!(
        "user `{user}` is not in `user_features` of release {} ({}); give the features of a new user with --features FILE",
        release.release, release.date
    )))
}

async fn find_row(store: &Store, samples: &SampleFacts, file: &FileEntry, user: &Id) -> Result<Option<usize>> {
    let mut batches = read_parquet_stream(store, vec![file.clone()], Some(vec!["user_id".into()]), 65_536);
    let mut first = 0;
    while let Some(batch) = batches.next().await {
        let mut ids = Ids::new(samples.user_id_type);
        ids.extend_from(table::column(&batch?, "user_features", "user_id")?, "user_features.user_id")?;
        if let Some(at) = IdNumbers::of(&ids).of_id(user) {
            return Ok(Some(first + at as usize));
        }
        first += ids.len();
    }
    Ok(None)
}

async fn build_row(
    store: &Store,
    samples: &SampleFacts,
    tower: &impl UserTower,
    given: &serde_json::Value,
) -> Result<RecordBatch> {
    let schema = parquet_schema(store, &user_features(samples)?[0]).await?;
    features::row(given, &schema, &tower.columns())
}

/// Ascending positions of the items that the user has had.
async fn seen_by(store: &Store, samples: &SampleFacts, user: &Id, items: &Ids) -> Result<Vec<u32>> {
    let positions = IdNumbers::of(items);
    let mut seen = Vec::new();
    let mut batches = id_pairs(store, samples, "seen");
    while let Some(batch) = batches.next().await {
        let (users, items) = batch?;
        let same = |at: &usize| match (&users, user) {
            (Ids::Int(users), Id::Int(user)) => users[*at] == *user,
            (Ids::Str(users), Id::Str(user)) => users[*at] == *user,
            _ => false,
        };
        seen.extend((0..users.len()).filter(same).filter_map(|at| positions.get(&items, at)));
    }
    seen.sort_unstable();
    seen.dedup();
    Ok(seen)
}
