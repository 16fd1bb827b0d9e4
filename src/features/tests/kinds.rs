//! The kinds without a vocabulary, on few rows each: values, null, empty, unknown, and what is refused.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::{Float32Type, Float64Type, Int64Type};

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
    learner.finish(IdType::Bigint, IdType::Bigint, 20_000)
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

fn int_lists(lists: Vec<Option<Vec<Option<i64>>>>) -> ArrayRef {
    Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))
}

fn float_lists(lists: Vec<Option<Vec<Option<f64>>>>) -> ArrayRef {
    Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists))
}

#[test]
fn weights_stay_with_their_ids() {
    let ids =
        int_lists(vec![Some(vec![Some(1), Some(99), None, Some(2), Some(1)]), None, Some(vec![]), Some(vec![Some(2)])]);
    let weights = float_lists(vec![
        Some(vec![Some(0.5), Some(7.0), Some(8.0), Some(0.0), Some(9.0)]),
        None,
        None,
        Some(vec![Some(3.0)]),
    ]);
    let given: Columns = vec![("tags", ids), ("tag_weights", weights)];
    let feature = "tags: {kind: ids, weights: tag_weights, pooling: sum, max_length: 4, min_count: 2, unknown_rows: 1}";
    let learned = learn(feature, &given).unwrap();
    assert_eq!(learned.spec.user.columns(), ["tags", "tag_weights"]);
    let mut encoded = Encoded::default();
    let batch = RecordBatch::try_from_iter(given.clone()).unwrap();
    Encoder::new(&learned.spec, Side::User, &learned.vocabularies).encode("positives", &batch, &mut encoded).unwrap();
    let drop_first = |_: usize, position: usize, _: u32, at: usize| position != 1 || at != 0;
    let batch = encoded.select(&[3, 0, 1], Some(&drop_first));
    let BatchColumn::Bag { offsets, ids, weights } = &batch.columns[0] else { panic!("ids are a bag") };
    // 2 is known; 1 within the first four is seen once, as 99 is
    assert_eq!(offsets, &[0, 1, 3, 3]);
    assert_eq!((ids.as_slice(), weights.as_slice()), ([1, 0, 1].as_slice(), [3.0, 7.0, 0.0].as_slice()));
}

#[test]
fn weights_that_cannot_be_are_named() {
    let given = |weights: ArrayRef| -> Columns {
        vec![("tags", int_lists(vec![Some(vec![Some(1), Some(2)]), None])), ("w", weights)]
    };
    let feature = "tags: {kind: ids, weights: w}";
    let learned = learn(feature, &given(float_lists(vec![Some(vec![Some(1.0), Some(1.0)]), None]))).unwrap();
    for (row, said) in [
        (Some(vec![Some(1.0)]), "found 1 weights beside 2 ids in one row, expected as many weights as ids"),
        (None, "found 0 weights beside 2 ids"),
        (Some(vec![Some(1.0), Some(-1.0)]), "found -1, expected finite weights of at least 0"),
        (Some(vec![Some(1.0), Some(f64::NAN)]), "found NaN, expected"),
        (Some(vec![Some(1.0), Some(1e300)]), "found inf, expected"),
        (Some(vec![Some(1.0), None]), "found null, expected"),
    ] {
        let text = error_of(encode(&learned, &given(float_lists(vec![row, None]))));
        assert!(text.starts_with("features.user.tags.weights: column `w` of table `user_features`: "), "{text}");
        assert!(text.contains(said), "{text}");
    }
    let text = error_of(encode(&learned, &given(Arc::new(Int64Array::from(vec![1, 2])))));
    assert!(text.contains("column `w` of table `user_features`: found type Int64, expected DOUBLE[]"), "{text}");
    let missing: Columns = vec![given(float_lists(vec![None, None])).remove(0)];
    assert!(error_of(encode(&learned, &missing)).contains("no column `w`"));
    for pooling in ["max", "attention, max_length: 3"] {
        let text = error_of(learn(&format!("tags: {{kind: ids, weights: w, pooling: {pooling}}}"), &missing));
        assert!(text.contains("expected mean, sum or sqrtn beside `weights`"), "{text}");
    }
}

#[test]
fn texts_are_bags_of_trigrams() {
    let given: Columns =
        vec![("query", Arc::new(StringArray::from(vec![Some("Blue Shoe"), Some(""), None, Some("blue shoe!!")])))];
    let learned = learn("query: {kind: text, dim: 16, pooling: sum}", &given).unwrap();
    let table = &learned.spec.tables["query"];
    assert_eq!((table.rows, table.dim, table.value_type), (30_000, 16, ValueType::Trigram));
    let found = bags(&encode(&learned, &given).unwrap(), 0);
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [8, 0, 0, 8]);
    assert_eq!(found[0], found[3]);
    let learned = learn("query: {kind: text, hash_rows: 100, max_length: 3}", &given).unwrap();
    let found = bags(&encode(&learned, &given).unwrap(), 0);
    assert!(found[0].len() == 3 && found[0].iter().all(|row| *row < 100));
    let numbers: Columns = vec![("query", Arc::new(Int64Array::from(vec![1])))];
    assert_eq!(
        error_of(learn("query: {kind: text}", &numbers)),
        "features.user.query: column `query` of table `positives`: found type Int64, expected VARCHAR; cast it in the table's SQL, or change the feature's kind"
    );
    assert!(error_of(learn("query: {kind: text, pooling: max}", &given)).contains("expected mean, sum or sqrtn"));
}

#[test]
fn vectors_pass_through_and_null_has_a_flag() {
    let of = |lists| -> Columns { vec![("image", float_lists(lists))] };
    let given = of(vec![None, Some(vec![Some(3.0), Some(4.0)]), Some(vec![Some(0.0), Some(0.0)])]);
    for (normalize, expected) in [(false, [3.0, 4.0]), (true, [0.6, 0.8])] {
        let learned = learn(&format!("image: {{kind: vector, normalize: {normalize}}}"), &given).unwrap();
        assert_eq!((learned.spec.user.width, learned.spec.user.layers[0].inputs), (3, 3));
        let batch = encode(&learned, &given).unwrap();
        let BatchColumn::Numbers { width: 3, values } = &batch.columns[0] else { panic!("three numbers a row") };
        assert_eq!(values, &[0.0, 0.0, 1.0, expected[0], expected[1], 0.0, 0.0, 0.0, 0.0]);
    }
    let learned = learn("image: {kind: vector}", &given).unwrap();
    let fixed =
        FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vec![Some(vec![Some(1.0), Some(2.0)]), None], 2);
    let batch = encode(&learned, &vec![("image", Arc::new(fixed) as ArrayRef)]).unwrap();
    let BatchColumn::Numbers { values, .. } = &batch.columns[0] else { panic!("numbers") };
    assert_eq!(values, &[1.0, 2.0, 0.0, 0.0, 0.0, 1.0]);
    for (row, said) in [
        (vec![Some(1.0)], "found a vector of 1 numbers, expected 2 numbers, as the others have"),
        (vec![], "found a vector of 0 numbers, expected 2"),
        (vec![Some(1.0), None], "found a vector with null or a number that is not finite"),
        (vec![Some(1.0), Some(f64::INFINITY)], "found a vector with null or a number that is not finite"),
    ] {
        let text = error_of(encode(&learned, &of(vec![Some(row)])));
        assert!(text.starts_with("features.user.image: column `image` of table `user_features`: "), "{text}");
        assert!(text.contains(said), "{text}");
    }
    let uneven = of(vec![Some(vec![Some(1.0)]), Some(vec![Some(1.0), Some(2.0)])]);
    assert!(error_of(learn("image: {kind: vector}", &uneven)).contains("found a vector of 2 numbers, expected 1"));
    let unknown = error_of(learn("image: {kind: vector}", &of(vec![None, None])));
    assert!(unknown.contains("features.user.image: column `image` is null in every row"), "{unknown}");
    let text: Columns = vec![("image", Arc::new(StringArray::from(vec!["[1, 2]"])))];
    assert!(error_of(learn("image: {kind: vector}", &text)).contains("found type Utf8, expected a list of floats"));
}

#[test]
fn crossed_columns_are_one_value() {
    let given: Columns = vec![
        ("country", Arc::new(StringArray::from(vec![Some("de"), Some("de"), Some("fr"), None, None]))),
        ("device", Arc::new(Int64Array::from(vec![Some(1), Some(2), Some(1), Some(1), None]))),
    ];
    let feature = "pair: {kind: crossed, of: [country, device], hash_rows: 100000, dim: 4}";
    let learned = learn(feature, &given).unwrap();
    assert_eq!(learned.spec.user.columns(), ["country", "device"]);
    let mut rows = bags(&encode(&learned, &given).unwrap(), 0).concat();
    assert_eq!(rows.len(), 5, "null is a value");
    rows.sort_unstable();
    rows.dedup();
    assert_eq!(rows.len(), 5);
    let other: Columns = vec![given[0].clone(), ("device", Arc::new(StringArray::from(vec!["1"; 5])))];
    assert_eq!(
        error_of(encode(&learned, &other)),
        "features.user.pair: column `device` of table `user_features` holds Varchar, expected Bigint, as elsewhere; cast it in the SQL"
    );
    assert!(error_of(encode(&learned, &vec![given[0].clone()])).contains("no column `device`"));
    for (feature, said) in [
        ("pair: {kind: crossed, of: [country], hash_rows: 9}", "expected two or more different columns"),
        ("pair: {kind: crossed, of: [country, country], hash_rows: 9}", "expected two or more different columns"),
        ("pair: {kind: crossed, hash_rows: 9}", "features.user.pair.of: found []"),
        ("pair: {kind: crossed, of: [country, device]}", "features.user.pair.hash_rows: found none"),
        ("pair: {kind: crossed, of: [country, device], column: a, hash_rows: 9}", "features.user.pair.column"),
        ("country: {kind: categorical, of: [country, device]}", "expected it only for crossed"),
    ] {
        let text = error_of(learn(feature, &given));
        assert!(text.contains(said), "{feature}: {text}");
    }
}
