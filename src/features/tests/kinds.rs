//! The kinds without a vocabulary, on few rows each: values, null, empty, unknown, and what is refused.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;

use super::*;
use crate::error::Result;

type Columns = Vec<(&'static str, ArrayRef)>;

/// A learner's outcome for user features over `columns`, beside an item tower that has `item_id` alone.
fn learn(user: &str, columns: &Columns) -> Result<Learned> {
    let text = format!(
        "version: 1\nname: kinds\noutput: out\nsources: {{impressions: {{path: logs}}}}\nfeatures:\n  user:\n    {user}\n  item:\n    item_id: {{kind: id}}\n"
    );
    let config = Config::parse(&text, "kinds.yaml", &Overrides::default())?;
    let mut learner = Learner::new(&config);
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..columns[0].1.len() as i64));
    let mut positives = columns.clone();
    positives.push(("item_id", ids.clone()));
    learner.positives(&RecordBatch::try_from_iter(positives).unwrap())?;
    learner.items(&RecordBatch::try_from_iter([("item_id", ids)]).unwrap())?;
    learner.finish(IdType::Bigint, IdType::Bigint)
}

fn encode(learned: &Learned, columns: &Columns) -> Result<FeatureBatch> {
    let mut encoded = Encoded::default();
    let batch = RecordBatch::try_from_iter(columns.clone()).unwrap();
    Encoder::new(&learned.spec, Side::User, &learned.vocabularies).encode("user_features", &batch, &mut encoded)?;
    let rows: Vec<u32> = (0..encoded.rows as u32).collect();
    let text = serde_json::to_string(&learned.spec).unwrap();
    assert_eq!(serde_json::from_str::<FeatureSpec>(&text).unwrap(), learned.spec, "the spec reads back as written");
    Ok(encoded.select(&rows, None))
}

/// The bags of a feature.
fn bags(batch: &FeatureBatch, feature: usize) -> Vec<Vec<u32>> {
    let BatchColumn::Bag { offsets, ids, .. } = &batch.columns[feature] else { panic!("feature {feature} is no bag") };
    offsets.windows(2).map(|w| ids[w[0] as usize..w[1] as usize].to_vec()).collect()
}

fn error_of<T>(result: Result<T>) -> String {
    result.err().expect("it is refused").to_string()
}

#[test]
fn hashed_ids_need_no_vocabulary_and_know_values_never_seen() {
    let ids: Columns = vec![
        ("user_id", Arc::new(Int64Array::from(vec![Some(3), None, Some(3)]))),
        ("city", Arc::new(StringArray::from(vec![Some("Riga"), Some(""), None]))),
        (
            "tags",
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([
                Some(vec![Some(3), None, Some(4), Some(5)]),
                None,
                Some(vec![]),
            ])),
        ),
    ];
    let features = "user_id: {kind: id, hash_rows: 1000}\n    city: {kind: categorical, hash_rows: 50, dim: 4}\n    tags: {kind: ids, table: user_id, max_length: 3}";
    let learned = learn(features, &ids).unwrap();
    assert!(!learned.vocabularies.contains_key("user_id") && !learned.vocabularies.contains_key("city"));
    let table = &learned.spec.tables["user_id"];
    assert_eq!((table.rows, table.unknown_rows, table.value_type), (1000, 0, ValueType::Bigint));
    let batch = encode(&learned, &ids).unwrap();
    let users = bags(&batch, 0);
    assert_eq!((users[0].len(), users[1].len()), (1, 0), "null has no row");
    assert_eq!(users[0], users[2]);
    assert_eq!(bags(&batch, 1)[1].len(), 1, "an empty text is a value");
    let tags = bags(&batch, 2);
    assert_eq!(tags.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0, 0], "null counts to max_length and has no row");
    assert_eq!(tags[0][0], users[0][0], "one table, one row for a value");
    let unseen: Columns = vec![
        ("user_id", Arc::new(Int64Array::from(vec![999_999_999]))),
        ("city", Arc::new(StringArray::from(vec!["Oslo"]))),
        ("tags", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(7)])]))),
    ];
    let batch = encode(&learned, &unseen).unwrap();
    assert!((0..3).all(|feature| bags(&batch, feature)[0].len() == 1));
}

#[test]
fn a_hashed_table_refuses_values_of_another_type() {
    let given: Columns = vec![("user_id", Arc::new(Int64Array::from(vec![1, 2])))];
    let learned = learn("user_id: {kind: id, hash_rows: 10}", &given).unwrap();
    let text: Columns = vec![("user_id", Arc::new(StringArray::from(vec!["1"])))];
    assert_eq!(
        error_of(encode(&learned, &text)),
        "features.user.user_id: column `user_id` of table `user_features` holds Varchar, and the embedding table `user_id` holds Bigint; cast it in the SQL"
    );
    for (feature, said) in [
        ("user_id: {kind: id, hash_rows: 0}", "hash_rows: found 0, expected at least 1"),
        ("user_id: {kind: id, hash_rows: 9, min_count: 2}", "beside `hash_rows`"),
        ("user_id: {kind: numeric, hash_rows: 9}", "given for kind `numeric`"),
        ("user_id: {kind: id, table: item_id, hash_rows: 9}", "beside `table`"),
    ] {
        let text = error_of(learn(feature, &given));
        assert!(text.contains(said), "{feature}: {text}");
    }
}
