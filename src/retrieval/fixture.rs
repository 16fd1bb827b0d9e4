//! A small world in a memory store: what the stages before index, evaluation and `recommend` would have left.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type, Schema};

use super::UserTower;
use crate::artifacts::{
    Done, EmbedFacts, Embeddings, IdType, Ids, IndexFacts, ItemIndex, Measured, RunDate, SCHEMA_VERSION, SampleFacts,
    SampleSet, StageRecord, TableFacts, Written, keys,
};
use crate::config::{Config, Overrides};
use crate::error::Result;
use crate::job::{Job, Stop};
use crate::progress::Progress;
use crate::storage::{FileEntry, ShardWriter, Store, open, seal};

pub struct World {
    pub job: Job,
    pub samples: SampleSet,
    pub embeddings: Embeddings,
    pub tower: PlainTower,
    pub user_ids: Ids,
    pub item_ids: Ids,
    /// `[users, dim]` and `[items, dim]`
    pub users: Vec<f32>,
    pub items: Vec<f32>,
}

/// A user tower that takes columns `f0`, `f1` … (null is 0) as they are, and normalises.
pub struct PlainTower {
    pub dim: usize,
}

impl UserTower for PlainTower {
    fn columns(&self) -> Vec<String> {
        (0..self.dim).map(|at| format!("f{at}")).collect()
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn vectors(&self, rows: &[RecordBatch]) -> Result<Vec<f32>> {
        let mut vectors = Vec::new();
        for batch in rows {
            for row in 0..batch.num_rows() {
                let value =
                    |name: &String| batch[name.as_str()].as_primitive::<Float32Type>().iter().nth(row).flatten();
                let vector: Vec<f32> = self.columns().iter().map(|name| value(name).unwrap_or(0.0)).collect();
                vectors.extend(normalised(vector));
            }
        }
        Ok(vectors)
    }
}

fn normalised(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|x| *x /= norm);
    vector
}

/// `rows` normalised vectors around a few centres, so that neighbourhoods mean something.
pub fn clustered(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let centre = |at: usize, d: usize| ((at * 31 + d * 17 + (at * d) % 7) as f32 * 1.37).sin();
    let mut vectors = Vec::with_capacity(rows * dim);
    for row in 0..rows {
        let vector = (0..dim).map(|d| centre(row % 50, d) + 0.9 * next()).collect();
        vectors.extend(normalised(vector));
    }
    vectors
}

pub fn ids(id_type: IdType, prefix: &str, rows: usize) -> Ids {
    match id_type {
        IdType::Bigint => Ids::Int((0..rows as i64).map(|at| at * 3 + 5).collect()),
        IdType::Varchar => Ids::Str((0..rows).map(|at| format!("{prefix}-{at}").into()).collect()),
    }
}

fn config(extra: &[&str]) -> Config {
    let text = "version: 1\nname: test\noutput: memory://test\nsources:\n  impressions: {path: memory://test/logs}\nfeatures:\n  user:\n    f0: {kind: numeric}\n  item:\n    f0: {kind: numeric}\n";
    let overrides = Overrides(extra.iter().map(|text| text.to_string()).collect());
    Config::parse(text, "test.yaml", &overrides).unwrap()
}

async fn write(store: &Store, folder: &str, batch: RecordBatch, rows_per_file: u64) -> Vec<FileEntry> {
    let mut writer = ShardWriter::new(store, folder, batch.schema(), rows_per_file);
    writer.write(&batch).await.unwrap();
    writer.finish().await.unwrap()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

fn done<T>(folder: &str, files: Vec<FileEntry>, facts: T) -> Done<T> {
    let record = StageRecord {
        schema_version: SCHEMA_VERSION,
        stage: folder.into(),
        run_id: "run".into(),
        inputs_digest: "digest".into(),
        files,
        measured: Measured::default(),
        facts,
    };
    Done { folder: folder.into(), record }
}

impl World {
    /// `name` keeps the stores of tests apart.
    pub async fn new(name: &str, id_type: IdType, items: usize, users: usize, dim: usize) -> World {
        World::of(name, id_type, clustered(items, dim, 1), clustered(users, dim, 2), dim).await
    }

    pub async fn of(name: &str, id_type: IdType, items: Vec<f32>, users: Vec<f32>, dim: usize) -> World {
        let output = open(&format!("memory://{name}/out")).unwrap();
        let (item_ids, user_ids) = (ids(id_type, "item", items.len() / dim), ids(id_type, "user", users.len() / dim));
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let values = Arc::new(Float32Array::from(items.clone()));
        let vectors = FixedSizeListArray::new(item, dim as i32, values, None);
        let table = batch(vec![("item_id", item_ids.to_arrow()), ("vector", Arc::new(vectors))]);
        let files = write(&output, keys::EMBEDDINGS, table, items.len().div_ceil(dim).div_ceil(3).max(1) as u64).await;
        let facts = EmbedFacts {
            items: item_ids.len() as u64,
            dim,
            item_id_type: id_type,
            non_finite: items.iter().filter(|x| !x.is_finite()).count() as u64,
            zero: 0,
            duplicate_ids: 0,
            norm_error: Some(0.0),
            refresh: Default::default(),
        };
        let empty = SampleFacts {
            user_id_type: id_type,
            item_id_type: id_type,
            tables: BTreeMap::new(),
            inputs: vec![],
            sql: BTreeMap::new(),
            audits: vec![],
            statistics: Default::default(),
            origins: Default::default(),
        };
        let job = Job {
            config: Arc::new(config(&[])),
            output,
            date: "2026-11-20".parse::<RunDate>().unwrap(),
            progress: Progress::new(true),
            stop: Stop::default(),
        };
        let embeddings = done(keys::EMBEDDINGS, files, facts);
        let samples = done("samples", vec![], empty);
        let tower = PlainTower { dim };
        let mut world = World { job, samples, embeddings, tower, user_ids, item_ids, users, items };
        world.put_users().await;
        world
    }

    async fn put_users(&mut self) {
        let (dim, count) = (self.tower.dim, self.user_ids.len());
        let mut schema = vec![Field::new("user_id", self.user_ids.id_type().arrow(), false)];
        let mut columns = vec![self.user_ids.to_arrow()];
        for (at, name) in self.tower.columns().into_iter().enumerate() {
            schema.push(Field::new(name, DataType::Float32, true));
            columns.push(Arc::new(Float32Array::from_iter_values((0..count).map(|row| self.users[row * dim + at]))));
        }
        let table = RecordBatch::try_new(Arc::new(Schema::new(schema)), columns).unwrap();
        self.put("user_features", table).await;
    }

    async fn put(&mut self, name: &str, table: RecordBatch) {
        let rows = table.num_rows() as u64;
        let files = write(&self.job.output, &keys::sample_table("samples", name), table, rows.div_ceil(2).max(1)).await;
        let facts = TableFacts { rows, columns: vec![], files, seconds: 0.0 };
        self.samples.record.facts.tables.insert(name.into(), facts);
    }

    /// `holdout` or `seen` from (user row, item row); a row past the end is an id that nothing else knows.
    pub async fn pairs(mut self, name: &str, pairs: &[(usize, usize)]) -> World {
        let id_type = self.user_ids.id_type();
        let (all_users, all_items) = (ids(id_type, "user", 100_000), ids(id_type, "item", 100_000));
        let take = |all: &Ids, rows: Vec<usize>| match all {
            Ids::Int(ids) => Ids::Int(rows.iter().map(|row| ids[*row]).collect()).to_arrow(),
            Ids::Str(ids) => Ids::Str(rows.iter().map(|row| ids[*row].clone()).collect()).to_arrow(),
        };
        let users = take(&all_users, pairs.iter().map(|pair| pair.0).collect());
        let items = take(&all_items, pairs.iter().map(|pair| pair.1).collect());
        self.put(name, batch(vec![("user_id", users), ("item_id", items)])).await;
        self
    }

    /// `item_frequency` with these positives for the first items.
    pub async fn positives(mut self, positives: &[i64]) -> World {
        let ids = ids(self.item_ids.id_type(), "item", positives.len());
        let counts: ArrayRef = Arc::new(Int64Array::from(positives.to_vec()));
        let table = batch(vec![("item_id", ids.to_arrow()), ("positives", counts.clone()), ("impressions", counts)]);
        self.put("item_frequency", table).await;
        self
    }

    /// `key=value` as on the command line.
    pub fn set(mut self, settings: &[&str]) -> World {
        self.job.config = Arc::new(config(settings));
        self
    }

    pub fn as_index(&self, written: Written<IndexFacts>) -> ItemIndex {
        done(keys::INDEX, written.files, written.facts)
    }

    /// The samples' manifest, where readers of a release look for it.
    pub async fn publish_samples(&self) {
        let text = seal(&self.samples.record);
        self.job.output.put(&format!("samples/{}", keys::MANIFEST), text).await.unwrap();
    }
}
