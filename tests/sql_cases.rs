//! The default SQL through the public API: YAML cases with `given` rows and `expect`ed ones, error texts, and the same bytes
//! for any number of threads. Everything lives in memory stores.

#[path = "sql/determinism.rs"]
mod determinism;
#[path = "sql/errors.rs"]
mod errors;
#[path = "sql/formats.rs"]
mod formats;
#[path = "sql/support.rs"]
mod support;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use support::World;

/// One case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// `--set` of the config.
    #[serde(default)]
    set: Vec<String>,
    /// Rows of the sources, by position of the columns.
    given: BTreeMap<String, Vec<Vec<Value>>>,
    expect: BTreeMap<String, Expected>,
}

/// What a table must hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// The columns that are compared.
    #[serde(default)]
    columns: Vec<String>,
    /// All rows, in any order.
    rows: Option<Vec<Vec<Value>>>,
    /// How many rows.
    count: Option<usize>,
    /// Rows that must not be there.
    #[serde(default)]
    never: Vec<Vec<Value>>,
    /// The only rows that may be there, any number of times.
    only: Option<Vec<Vec<Value>>>,
}

async fn hold(file: &str) {
    let path = format!("{}/tests/cases/{file}.yaml", env!("CARGO_MANIFEST_DIR"));
    let cases: Vec<Case> = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for (at, case) in cases.into_iter().enumerate() {
        let mut world = World::new(&format!("{file}-{at}"));
        for (source, rows) in &case.given {
            world = world.given(source, rows).await;
        }
        world.set = case.set;
        let built = world.build().await.unwrap_or_else(|error| panic!("{file}, {}: {error}", case.name));
        for (table, expected) in case.expect {
            let what = format!("{file}, {}: table {table}", case.name);
            let found = built.rows(&table, &expected.columns).await;
            if let Some(rows) = expected.rows {
                assert_eq!(sorted(found.clone()), sorted(rows), "{what}");
            }
            if let Some(count) = expected.count {
                assert_eq!(found.len(), count, "{what}: {found:?}");
            }
            for row in expected.never {
                assert!(!found.contains(&row), "{what} holds {row:?}");
            }
            if let Some(only) = expected.only {
                assert!(found.iter().all(|row| only.contains(row)), "{what}: {found:?}");
            }
        }
    }
}

fn sorted(mut rows: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
    rows.sort_by_key(|row| Value::from(row.clone()).to_string());
    rows
}

#[tokio::test]
async fn positives_have_strict_histories_and_the_features_of_their_users() {
    hold("positives").await;
}

#[tokio::test]
async fn random_negatives_come_from_the_catalogue_without_what_was_shown() {
    hold("random_negatives").await;
}

#[tokio::test]
async fn hard_negatives_come_from_the_rank_window_in_the_configured_ratio() {
    hold("hard_negatives").await;
}

#[tokio::test]
async fn shown_negatives_are_what_the_user_saw_and_left() {
    hold("shown_negatives").await;
}

#[tokio::test]
async fn features_and_frequencies_have_one_row_an_item_and_a_user() {
    hold("features").await;
}

#[tokio::test]
async fn holdout_is_what_training_did_not_see() {
    hold("holdout").await;
}
