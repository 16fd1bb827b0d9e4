//! What a release finds for many users at once: `previous_candidates`, for the samples of a later date.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::StreamExt;
use tokio::sync::OnceCell;

use crate::artifacts::{Ids, Release, RunDate};
use crate::error::{Context, Error, Kind, Result};
use crate::index::SearchIndex;
use crate::job::Job;
use crate::model::Towers;
use crate::publish::{self, Made};
use crate::retrieval::{UserTower, seeded_hash, table};
use crate::samples;
use crate::storage::{FileEntry, ShardWriter, Store, read_parquet_stream, sorted_parts};

/// Most users that are asked for at a time, and most results held for them: many items each make fewer users.
const BLOCK: usize = 4096;
const RESULTS: usize = 4_000_000;

/// The last release before a date, as samples know it. What is published is asked once, when it is first needed.
#[derive(Default)]
pub struct LastRelease {
    made: OnceCell<Vec<Made>>,
}

impl LastRelease {
    pub fn shared() -> samples::Releases {
        Arc::new(LastRelease::default())
    }
}

#[async_trait(?Send)]
impl samples::Previous for LastRelease {
    async fn release(&self, output: &Store, date: RunDate) -> Result<Option<Release>> {
        // releases alone: no candidate is of the last of all days
        let last = RunDate(chrono::NaiveDate::MAX);
        let read = async || Ok::<_, Error>(publish::lineage(output, last, last).await?.made);
        let made = self.made.get_or_try_init(read).await?;
        let usable = made.iter().filter(|made| made.good && made.as_parent.release.is_some());
        // of one date the last that was made: run ids ascend with time
        let newest = usable
            .filter(|made| made.as_parent.date < date)
            .max_by_key(|made| (made.as_parent.date, &made.as_parent.run_id));
        Ok(newest.and_then(|made| made.manifest.as_deref()).cloned())
    }

    async fn write(&self, job: &Job, release: &Release, users: &[FileEntry], writer: &mut ShardWriter) -> Result<u64> {
        let written = async {
            let towers = Towers::load(&job.output, &release.model, &release.files).await?;
            write(job, release, &towers, users, writer).await
        };
        match written.await {
            // samples hold no lease
            Err(error)
                if error.kind == Kind::Config && publish::find(&job.output, release.release).await?.is_none() =>
            {
                let number = release.release;
                let gone = format!("release {number} was removed (`release gc`) while it was read; run it again");
                Err(Error::transient(gone).caused_by(error))
            }
            written => written,
        }
    }
}

/// Writes the candidates of `users`, user after user.
pub(super) async fn write(
    job: &Job,
    release: &Release,
    tower: &impl UserTower,
    users: &[FileEntry],
    writer: &mut ShardWriter,
) -> Result<u64> {
    let index = SearchIndex::load(&job.output, &release.index, &release.files, &release.search_parameters).await?;
    let shard = Shard::draw(job, index.item_ids());
    let settings = &job.config.samples.previous_candidates;
    let wanted = (settings.per_user as usize).saturating_mul(settings.shards as usize).min(index.item_ids().len());
    let mut columns = tower.columns();
    if !columns.iter().any(|column| column == "user_id") {
        columns.push("user_id".into());
    }
    let bar = job.progress.bar("previous_candidates", users.iter().filter_map(|file| file.rows).sum());
    let mut batches =
        read_parquet_stream(&job.output, sorted_parts(users), Some(columns), (RESULTS / wanted.max(1)).clamp(1, BLOCK));
    let mut rows = 0;
    while let Some(batch) = batches.next().await {
        job.stop.check()?;
        let batch = batch
            .while_(|| format!("reading what release {}'s user tower reads of `user_features`", release.release))?;
        let mut ids = Ids::new(release.user_id_type);
        ids.extend_from(table::column(&batch, "user_features", "user_id")?, "user_features.user_id")?;
        let vectors = tower.vectors(&[batch])?;
        let (scores, positions) = index.search(&vectors, wanted)?;
        let found = Found::of(&scores, &positions, wanted, &shard, settings.per_user as usize);
        let batch = found.batch(&ids, index.item_ids())?;
        rows += batch.num_rows() as u64;
        writer.write(&batch).await?;
        bar.advance(ids.len() as u64);
    }
    Ok(rows)
}

/// The part of the catalogue that is looked at: one bit an item, or all.
struct Shard(Option<Vec<bool>>);

impl Shard {
    /// Draws one of the parts by seed and date; which item lies in which part depends on the seed alone.
    fn draw(job: &Job, items: &Ids) -> Shard {
        let shards = u64::from(job.config.samples.previous_candidates.shards);
        if shards <= 1 {
            return Shard(None);
        }
        let seed = job.config.samples.seed;
        let day = Ids::Str(vec![job.date.to_string().into()]);
        let chosen = seeded_hash(seed, &day, 0) % shards;
        Shard(Some((0..items.len()).map(|at| seeded_hash(seed, items, at) % shards == chosen).collect()))
    }

    fn has(&self, item: usize) -> bool {
        self.0.as_ref().is_none_or(|inside| inside[item])
    }
}

/// Candidates of a block of users, best first for each.
#[derive(Default)]
struct Found {
    users: Vec<usize>,
    items: Vec<usize>,
    scores: Vec<f64>,
    ranks: Vec<i64>,
}

impl Found {
    fn of(scores: &[f32], positions: &[i64], wanted: usize, shard: &Shard, most: usize) -> Found {
        let mut found = Found::default();
        if wanted == 0 {
            return found;
        }
        for (user, (scores, positions)) in scores.chunks(wanted).zip(positions.chunks(wanted)).enumerate() {
            // below 0: the index found no more
            let own = positions.iter().zip(scores).filter_map(|(at, score)| Some((usize::try_from(*at).ok()?, *score)));
            for (rank, (item, score)) in own.filter(|(item, _)| shard.has(*item)).take(most).enumerate() {
                found.users.push(user);
                found.items.push(item);
                found.scores.push(score.into());
                found.ranks.push(rank as i64 + 1);
            }
        }
        found
    }

    fn batch(self, users: &Ids, items: &Ids) -> Result<RecordBatch> {
        let (users, items) = (pick(users, &self.users), pick(items, &self.items));
        let schema = schema(&users, &items);
        let scores = Arc::new(Float64Array::from(self.scores));
        let ranks = Arc::new(Int64Array::from(self.ranks));
        RecordBatch::try_new(schema, vec![users.to_arrow(), items.to_arrow(), scores, ranks])
            .map_err(|error| Error::internal("cannot make rows of candidates").caused_by(error))
    }
}

/// The columns of the table.
pub(super) fn schema(users: &Ids, items: &Ids) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("user_id", users.id_type().arrow(), true),
        Field::new("item_id", items.id_type().arrow(), true),
        Field::new("score", DataType::Float64, true),
        Field::new("rank", DataType::Int64, true),
    ]))
}

fn pick(ids: &Ids, at: &[usize]) -> Ids {
    match ids {
        Ids::Int(ids) => Ids::Int(at.iter().map(|at| ids[*at]).collect()),
        Ids::Str(ids) => Ids::Str(at.iter().map(|at| ids[*at].clone()).collect()),
    }
}
