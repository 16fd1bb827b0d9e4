//! Given rows, what the encoder makes of them.

mod kinds;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float32Array, Int32Array, Int64Array, ListArray, RecordBatch,
};
use arrow::datatypes::{Int32Type, Int64Type};

use super::*;
use crate::artifacts::IdType;
use crate::config::{Config, Overrides};
use crate::features::{Learned, Learner};

const CONFIG: &str = "
version: 1
name: encode
output: out
sources: {impressions: {path: logs}}
features:
  user:
    history: {kind: ids, table: item_id, max_length: 2}
    country: {kind: categorical, min_count: 2}
    plan: {kind: categorical}
    visits: {kind: numeric, transform: log1p}
    age: {kind: bucketized, boundaries: [20, 40]}
    paying: {kind: boolean}
  item:
    item_id: {kind: id}
";

fn positives() -> RecordBatch {
    let lists = [Some(vec![Some(5), Some(6), Some(5)]), None, Some(vec![Some(77), None, Some(6)])];
    let country: DictionaryArray<Int32Type> = vec![Some("de"), Some("de"), None].into_iter().collect();
    let columns: [(&str, ArrayRef); 7] = [
        ("item_id", Arc::new(Int32Array::from(vec![6, 5, 6]))),
        ("history", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))),
        ("country", Arc::new(country)),
        ("plan", Arc::new(Float32Array::from(vec![2.0, 1.0, 2.0]))),
        ("visits", Arc::new(Int64Array::from(vec![Some(0), None, Some(2)]))),
        ("age", Arc::new(Float32Array::from(vec![Some(20.0), Some(19.9), None]))),
        ("paying", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn encoded() -> (Learned, Encoded) {
    let config = Config::parse(CONFIG, "encode.yaml", &Overrides::default()).unwrap();
    let items: ArrayRef = Arc::new(Int64Array::from(vec![5, 6, 7]));
    let mut learner = Learner::new(&config);
    learner.positives(&positives()).unwrap();
    learner.items(&RecordBatch::try_from_iter([("item_id", items)]).unwrap()).unwrap();
    let learned = learner.finish(IdType::Bigint, IdType::Bigint, 20_000).unwrap();
    let mut encoded = Encoded::default();
    let encoder = Encoder::new(&learned.spec, Side::User, &learned.vocabularies);
    encoder.encode("positives", &positives(), &mut encoded).unwrap();
    (learned, encoded)
}

#[test]
fn every_kind_is_encoded_as_the_spec_says() {
    let (learned, encoded) = encoded();
    let one = |at: usize| match &encoded.columns[at] {
        EncodedColumn::One(rows) => rows.to_vec(),
        other => panic!("{other:?}"),
    };
    let numbers = |at: usize| match &encoded.columns[at] {
        EncodedColumn::Numbers { values, .. } => values.to_vec(),
        other => panic!("{other:?}"),
    };
    // item 6 was liked twice and stands first, 7 never and is not there; of a list the first two count, and 77 is unknown
    let EncodedColumn::Bag { offsets, ids, .. } = &encoded.columns[0] else { panic!("a list is a bag") };
    assert_eq!((&offsets[..], &ids[..]), ([0u64, 2, 2, 3].as_slice(), [2u32, 1, 0].as_slice()));
    assert_eq!(one(1), [1, 1, 0]);
    assert_eq!(one(2), [1, 2, 1]);
    let visits = numbers(3);
    assert_eq!((visits[0], visits[4]), (-1.0, 1.0));
    assert_eq!(visits[2..4], [0.0, 1.0]);
    assert_eq!(one(4), [2, 1, 0]);
    assert_eq!(numbers(5), [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    assert_eq!(learned.spec.tables["item_id"].rows, 3);
    assert_eq!(learned.spec.user.features.iter().map(|f| f.offset).collect::<Vec<_>>(), [0, 64, 72, 80, 82, 90]);
    assert_eq!(learned.spec.user.width, 92);
}

#[test]
fn a_batch_takes_the_rows_asked_for_and_leaves_out_what_it_is_told_to() {
    let (_, encoded) = encoded();
    let keep = |_: usize, position: usize, row: u32, _: usize| !(position == 1 && row == 1);
    let batch = encoded.select(&[1, 0, 0], Some(&keep));
    let BatchColumn::Bag { offsets, ids, .. } = &batch.columns[0] else { panic!("a list is a bag") };
    assert_eq!((&offsets[..], &ids[..]), ([0u32, 0, 1, 3].as_slice(), [2u32, 2, 1].as_slice()));
}

#[test]
fn numbers_that_are_not_finite_or_too_large_to_square_leave_the_others_usable() {
    let config = CONFIG.replace("{kind: bucketized, boundaries: [20, 40]}", "{kind: numeric}");
    let config = Config::parse(&config, "encode.yaml", &Overrides::default()).unwrap();
    let items: ArrayRef = Arc::new(Int64Array::from(vec![5, 6, 7]));
    let numbers: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![f64::NAN, f64::INFINITY, 3.0]));
    let huge: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![1e300, -1e300, 0.0]));
    let given = positives();
    let schema = given.schema();
    let columns = schema.fields().iter().map(|field| field.name().clone()).zip(given.columns().to_vec());
    let columns = columns.map(|(name, column)| match &name[..] {
        "visits" => (name, numbers.clone()),
        "age" => (name, huge.clone()),
        _ => (name, column),
    });
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut learner = Learner::new(&config);
    learner.positives(&batch).unwrap();
    learner.items(&RecordBatch::try_from_iter([("item_id", items)]).unwrap()).unwrap();
    let learned = learner.finish(IdType::Bigint, IdType::Bigint, 20_000).unwrap();
    let text = serde_json::to_string(&learned.spec).unwrap();
    assert!(serde_json::from_str::<FeatureSpec>(&text).is_ok(), "an infinite deviation would be null: {text}");
    let mut encoded = Encoded::default();
    Encoder::new(&learned.spec, Side::User, &learned.vocabularies).encode("positives", &batch, &mut encoded).unwrap();
    let numbers = |at: usize| match &encoded.columns[at] {
        EncodedColumn::Numbers { values, .. } => values.to_vec(),
        other => panic!("{other:?}"),
    };
    // the mean is that of the only number there is
    assert_eq!(numbers(3), [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    let huge = numbers(4);
    assert!((huge[0] - 1.5f32.sqrt()).abs() < 1e-6 && huge[2] == -huge[0] && huge[4] == 0.0, "{huge:?}");
}

#[test]
fn a_spec_reads_back_as_written() {
    let (learned, _) = encoded();
    let text = serde_json::to_string(&learned.spec).unwrap();
    assert_eq!(serde_json::from_str::<FeatureSpec>(&text).unwrap(), learned.spec);
}
