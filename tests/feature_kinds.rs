//! Every kind of feature and every option of a tower in one config: given logs, when a date is run, then the release answers.

mod common;

use common::World;

const DATE: &str = "2026-11-20";

/// The catalogue with a text, a vector (null for some) and weights of the tags beside it.
const ITEM_FEATURES: &str = "
select
    *,
    category || ' by Publisher-' || publisher_id as title,
    case when price > 1 then make_array(price, ln(price), 1.0) end as image,
    array_repeat(0.5, cast(coalesce(array_length(tags), 0) as bigint)) as tag_weights
from items
";

const USER: &str = "features.user={
  history: {kind: ids, table: item_id, pooling: attention, max_length: 20},
  user_id: {kind: id, hash_rows: 1000, dim: 8},
  age: {kind: bucketized, buckets: 8, dim: 4},
  country: {kind: categorical, hash_rows: 50, dim: 4},
  country_letters: {kind: text, column: country, hash_rows: 500, dim: 4},
  country_premium: {kind: crossed, of: [country, premium], hash_rows: 100, dim: 4},
  premium: {kind: boolean}}";

const ITEM: &str = "features.item={
  item_id: {kind: id, dim: 32},
  category: {kind: categorical, dim: 8},
  title: {kind: text, dim: 16, pooling: sqrtn},
  tags: {kind: ids, weights: tag_weights, dim: 16},
  image: {kind: vector, normalize: true},
  price: {kind: numeric, transform: log1p}}";

const TOWERS: [&str; 2] = [
    "model.user_tower={layers: [48, 48], activation: silu, normalization: layer, residual: true, gating: true}",
    "model.item_tower={layers: [48, 48], activation: leaky_relu, normalization: batch, residual: true, gating: true}",
];

fn world() -> World {
    let world = World::local().with_logs(7, &[]);
    let sql = world.folder.path().join("sql");
    std::fs::create_dir(&sql).unwrap();
    std::fs::write(sql.join("item_features.sql"), ITEM_FEATURES).unwrap();
    world
}

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["--date", DATE, "--set", "samples.sql=./sql", "--set", USER, "--set", ITEM];
    args.extend(TOWERS.iter().flat_map(|tower| ["--set", tower]));
    args.extend(more.iter().flat_map(|change| ["--set", change]));
    args
}

#[test]
fn all_kinds_and_options_together_make_a_release_that_answers() {
    let world = world();
    let summary = world.job(&["run"], &with(&[])).expect(0).summary();
    assert_eq!(summary["status"], "published", "{summary}");
    let recall = |of: &str| summary[of]["recall@20"].as_f64().unwrap();
    assert!(recall("recall") > recall("popularity"), "{summary}");

    let shown = world.job(&["release", "show"], &[]).expect(0);
    let release: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    let spec = format!("{}/out/{}/feature_spec.json", world.base, release["model"].as_str().unwrap());
    let spec: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(spec).unwrap()).unwrap();
    assert_eq!(spec["tables"]["user_id"]["row_hash"], "splitmix64_fnv1a64_mod_rows");
    assert_eq!(spec["user"]["features"][0]["attention"]["positions"], 20);
    assert_eq!(spec["item"]["features"][4]["length"], 3);

    world.job(&["recommend"], &["--user", "1001"]).expect(0);
    let features = world.folder.path().join("new_user.json");
    std::fs::write(&features, r#"{"user_id": 987654321, "country": "atlantis", "premium": true, "history": [1, 2]}"#)
        .unwrap();
    let answer = world.job(&["recommend"], &["--features", features.to_str().unwrap(), "-k", "5", "--json"]).expect(0);
    let answer: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    let items = answer["items"].as_array().unwrap();
    assert!(items.len() == 5 && items.iter().all(|item| item["score"].as_f64().unwrap().is_finite()), "{answer}");
}

#[test]
fn a_column_that_does_not_fit_its_kind_is_named() {
    let world = world();
    for (change, said) in [
        (
            "features.item.title.column=price",
            "features.item.title: column `price` of table `item_features`: found type Float64, expected VARCHAR",
        ),
        (
            "features.item.image.column=tags",
            "features.item.image: column `tags` of table `item_features`: found type List",
        ),
        ("features.item.tags.weights=weight", "features.item.tags: table `item_features` has no column `weight`"),
        (
            "features.user.country_premium.of=[country, plan]",
            "features.user.country_premium: table `positives` has no column `plan`",
        ),
        (
            "features.item.tags.weights=image",
            "features.item.tags.weights: column `image` of table `item_features`: found 3 weights beside",
        ),
    ] {
        let ran = world.job(&["run"], &with(&[change])).expect(78);
        assert!(ran.stderr.contains(said), "{change}: {}", ran.stderr);
    }
}
