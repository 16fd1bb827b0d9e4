//! Sample tables with a planted taste.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Float64Builder, Int64Array, Int64Builder, ListArray, ListBuilder,
    RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
};

use crate::artifacts::{
    Column, Done, IdType, Measured, SampleFacts, SampleSet, StageRecord, Start, TableFacts, TrainFacts, Written,
};
use crate::config::{Config, Overrides};
use crate::error::Result;
use crate::job::Job;
use crate::progress::Progress;
use crate::storage::{ShardWriter, Store, open};
use crate::train::random;

const CONFIG: &str = "
version: 1
name: planted
output: out
sources:
  impressions: {path: logs}
features:
  user:
    history: {kind: ids, table: item_id, max_length: 10}
    age: {kind: numeric}
    country: {kind: categorical, dim: 4}
  item:
    item_id: {kind: id, dim: 8}
    price: {kind: bucketized, buckets: 4, dim: 4}
model:
  dim: 8
  user_tower: {layers: [16]}
  item_tower: {layers: [16], activation: tanh}
  temperature: 0.1
training:
  epochs: 12
  batch_size: 128
  random_negatives: 64
  validation: {share: 0.1, k: 10}
  learning_rate: {dense: 0.005, tables: 0.1, warmup_steps: 5}
";

/// Items fall into groups of taste; a user likes those of his own, and his history shows which.
pub const ITEMS: i64 = 200;
pub const TASTES: i64 = 10;

/// What lets items see the users that liked them, each without the one whose positive he is.
pub const AUDIENCE: [&str; 3] = [
    "training.user_in_audience=drop",
    "features.item.visitors={kind: ids, table: user_id}",
    "features.user.user_id={kind: id, dim: 4}",
];

/// Sample tables in memory, ready for a training.
pub struct Planted {
    pub job: Job,
    pub samples: SampleSet,
}

impl Planted {
    pub async fn new(name: &str, rows: i64, changes: &[&str]) -> Planted {
        let overrides = Overrides(changes.iter().map(|change| change.to_string()).collect());
        let config = Config::parse(CONFIG, "planted.yaml", &overrides).unwrap();
        let output = open(&format!("memory://train-{name}")).unwrap();
        let mut tables = BTreeMap::new();
        for (table, batch) in [
            ("positives", positives(rows)),
            ("user_features", users()),
            ("item_features", items()),
            ("random_negatives", negatives(rows, 4, true)),
            ("hard_negatives", negatives(rows, 1, false)),
        ] {
            tables.insert(table.to_string(), write(&output, table, batch).await);
        }
        let facts = SampleFacts {
            user_id_type: IdType::Varchar,
            item_id_type: IdType::Bigint,
            tables,
            inputs: Vec::new(),
            sql: BTreeMap::new(),
            audits: Vec::new(),
            statistics: Default::default(),
            origins: Default::default(),
        };
        let job = Job {
            config: Arc::new(config),
            output,
            date: "2026-11-20".parse().unwrap(),
            progress: Progress::new(true),
            stop: Default::default(),
        };
        Planted { job, samples: done("samples", facts) }
    }

    pub async fn train(&self, folder: &str) -> Result<Written<TrainFacts>> {
        crate::train::run(&self.job, &self.samples, &Start::cold("a test"), "checkpoints", folder).await
    }
}

pub fn done<T>(folder: &str, facts: T) -> Done<T> {
    let record = StageRecord {
        schema_version: 1,
        stage: folder.into(),
        run_id: String::new(),
        inputs_digest: String::new(),
        files: Vec::new(),
        measured: Measured::default(),
        facts,
    };
    Done { folder: folder.into(), record }
}

async fn write(store: &Store, table: &str, batch: RecordBatch) -> TableFacts {
    let mut writer = ShardWriter::new(store, &format!("samples/{table}"), batch.schema(), 700);
    writer.write(&batch).await.unwrap();
    let schema = batch.schema();
    let columns = schema
        .fields()
        .iter()
        .map(|field| Column { name: field.name().clone(), data_type: field.data_type().to_string() });
    TableFacts {
        rows: batch.num_rows() as u64,
        columns: columns.collect(),
        files: writer.finish().await.unwrap(),
        seconds: 0.0,
    }
}

fn draw(place: &[u64], n: i64) -> i64 {
    random::below(random::bits(99, place), n as usize) as i64
}

/// An item of a taste; a few items of each are taken most often.
fn item_of(taste: i64, place: &[u64]) -> i64 {
    let within = ITEMS / TASTES;
    let (a, b) = (draw(&[place, &[0]].concat(), within), draw(&[place, &[1]].concat(), within));
    taste + TASTES * a.min(b)
}

fn histories(rows: impl Iterator<Item = (i64, u64)>) -> ArrayRef {
    let mut lists = ListBuilder::new(Int64Builder::new());
    for (taste, row) in rows {
        (0..row % 7).for_each(|at| lists.values().append_value(item_of(taste, &[7, row, at])));
        lists.append(row % 11 != 0);
    }
    Arc::new(lists.finish())
}

/// A weight for each value of the histories of the same rows; some are 0.
fn strengths(rows: impl Iterator<Item = (i64, u64)>) -> ArrayRef {
    let mut lists = ListBuilder::new(Float64Builder::new());
    for (_, row) in rows {
        (0..row % 7).for_each(|at| lists.values().append_value(((row + at) % 4) as f64 * 0.5));
        lists.append(row % 11 != 0);
    }
    Arc::new(lists.finish())
}

fn features(rows: &[(i64, u64)]) -> Vec<(&'static str, ArrayRef)> {
    let age = rows.iter().map(|(_, row)| (row % 5 != 0).then(|| draw(&[8, *row], 60) as f64 + 10.0));
    let country = rows.iter().map(|(_, row)| (row % 13 != 0).then(|| ["de", "fr", "it"][draw(&[9, *row], 3) as usize]));
    vec![
        ("history", histories(rows.iter().copied())),
        ("strengths", strengths(rows.iter().copied())),
        ("age", Arc::new(Float64Array::from_iter(age))),
        ("country", Arc::new(StringArray::from_iter(country))),
    ]
}

/// What followed a positive, by row: two objectives that hold for some.
pub fn clicked(row: u64) -> Option<bool> {
    (row % 5 != 4).then_some(row.is_multiple_of(2))
}

pub fn bought(row: u64) -> i64 {
    (row % 3) as i64 - 1
}

/// Taste, user and item of a positive.
fn positive(row: u64) -> (i64, String, i64) {
    let taste = draw(&[1, row / 3], TASTES);
    (taste, format!("u{}", row / 3), item_of(taste, &[2, row]))
}

/// By item, the users of the first 600 positives that liked it.
fn visitors() -> ListArray {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for item in 0..ITEMS {
        let likes = (0..600).map(positive).filter(|(.., liked)| *liked == item);
        likes.for_each(|(_, user, _)| lists.values().append_value(user));
        lists.append(true);
    }
    lists.finish()
}

fn positives(rows: i64) -> RecordBatch {
    let of: Vec<(i64, u64)> = (0..rows as u64).map(|row| (positive(row).0, row)).collect();
    let user = of.iter().map(|(_, row)| positive(*row).1);
    let item = of.iter().map(|(_, row)| positive(*row).2);
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("sample_id", Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row * 17 - 3)))),
        ("user_id", Arc::new(StringArray::from_iter_values(user))),
        ("item_id", Arc::new(Int64Array::from_iter_values(item))),
        ("event_time", Arc::new(TimestampMicrosecondArray::from_iter_values(0..rows))),
        ("weight", Arc::new(Float64Array::from_iter_values(of.iter().map(|(_, row)| 1.0 + (row % 2) as f64)))),
        ("clicked", Arc::new(BooleanArray::from_iter(of.iter().map(|(_, row)| clicked(*row))))),
        ("bought", Arc::new(Int64Array::from_iter_values(of.iter().map(|(_, row)| bought(*row))))),
    ];
    columns.extend(features(&of));
    RecordBatch::try_from_iter(columns).unwrap()
}

pub fn users() -> RecordBatch {
    let of: Vec<(i64, u64)> = (0..50u64).map(|row| (row as i64 % TASTES, row + 1_000_000)).collect();
    let mut columns: Vec<(&str, ArrayRef)> =
        vec![("user_id", Arc::new(StringArray::from_iter_values(of.iter().map(|(_, row)| format!("new{row}")))))];
    columns.extend(features(&of));
    RecordBatch::try_from_iter(columns).unwrap()
}

pub fn items() -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ITEMS));
    let price: ArrayRef =
        Arc::new(Float64Array::from_iter((0..ITEMS).map(|item| (item % 9 != 0).then_some((item % TASTES) as f64))));
    let visitors: ArrayRef = Arc::new(visitors());
    RecordBatch::try_from_iter([("item_id", ids), ("price", price), ("visitors", visitors)]).unwrap()
}

/// `each` negatives of every positive, in an order of their own.
fn negatives(rows: i64, each: i64, random: bool) -> RecordBatch {
    let place = |at: i64| (at * 7919) % (rows * each);
    let samples: ArrayRef =
        Arc::new(Int64Array::from_iter_values((0..rows * each).map(|at| place(at) / each * 17 - 3)));
    let drawn = (0..rows * each).map(|at| draw(&[u64::from(random) + 3, place(at) as u64], ITEMS));
    let drawn: ArrayRef = Arc::new(Int64Array::from_iter_values(drawn));
    let extra: ArrayRef = Arc::new(Float64Array::from(vec![1.0 / ITEMS as f64; (rows * each) as usize]));
    let extra_name = if random { "sampling_probability" } else { "ranker_score" };
    RecordBatch::try_from_iter([("sample_id", samples), ("item_id", drawn), (extra_name, extra)]).unwrap()
}
