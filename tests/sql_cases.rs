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
#[path = "sql/trust.rs"]
mod trust;

use twotower::config::{Config, Overrides};
use twotower::samples::cases::{hold, read_cases};

/// The usual sources. A case that gives no rows of the last three has none of them.
const CONFIG: &str = "version: 1
name: cases
output: memory://unused
sources:
  impressions: {path: unused, columns: {user_id: bigint, item_id: bigint, event_time: timestamp, clicked: boolean}}
  items: {path: unused, columns: {item_id: bigint, topic: varchar}}
  users: {path: unused, columns: {user_id: bigint, country: varchar}}
  candidates: {path: unused, columns: {user_id: bigint, item_id: bigint, score: double}}
  ranker_scores: {path: unused, columns: {user_id: bigint, item_id: bigint, score: double}}
  future_impressions:
    path: unused
    partition: dt
    days: 1..1
    columns: {user_id: bigint, item_id: bigint, event_time: timestamp, clicked: boolean}
features:
  user:
    history: {kind: ids, table: item_id}
  item:
    item_id: {kind: id}
";
/// Sources whose presence changes what is built.
const OPTIONAL: [&str; 3] = ["candidates", "ranker_scores", "future_impressions"];

/// Runs the cases of one file in `tests/cases`.
async fn run(name: &str) {
    let folder = format!("{}/tests/cases", env!("CARGO_MANIFEST_DIR"));
    let file = format!("{folder}/{name}.yaml");
    let all = read_cases(&folder).await.unwrap();
    let cases = &all.iter().find(|cases| cases.shown == file).unwrap_or_else(|| panic!("{file} is not there")).cases;
    for (at, case) in cases.iter().enumerate() {
        let mut config = Config::parse(CONFIG, "cases.yaml", &Overrides(case.set.clone())).unwrap();
        config.sources.retain(|source, _| !OPTIONAL.contains(&source.as_str()) || case.given.contains_key(source));
        let found = hold(config, case, &format!("sql-case-{name}-{at}")).await;
        let found = found.unwrap_or_else(|error| panic!("{name}, {}: {error}", case.name));
        assert!(found.is_empty(), "{name}, {}: {}", case.name, found.join("\n"));
    }
}

#[test]
fn every_built_in_file_has_a_case() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let texts = std::fs::read_dir(root.join("tests/cases")).unwrap();
    let texts: String = texts.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    for (folder, prefix) in [("sql", ""), ("sql/audits", "audits/")] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let Some(table) = name.strip_suffix(".sql") else { continue };
            // one table, two ways to make it
            let table = table.trim_end_matches("_as_of").trim_end_matches("_future");
            assert!(texts.contains(&format!("    {prefix}{table}:")), "no case expects anything of {folder}/{name}");
        }
    }
}

#[tokio::test]
async fn positives_have_strict_histories_and_the_features_of_their_users() {
    run("positives").await;
}

#[tokio::test]
async fn random_negatives_come_from_the_catalogue_without_what_was_shown() {
    run("random_negatives").await;
}

#[tokio::test]
async fn hard_negatives_come_from_the_rank_window_in_the_configured_ratio() {
    run("hard_negatives").await;
}

#[tokio::test]
async fn shown_negatives_are_what_the_user_saw_and_left() {
    run("shown_negatives").await;
}

#[tokio::test]
async fn features_and_frequencies_have_one_row_an_item_and_a_user() {
    run("features").await;
}

#[tokio::test]
async fn holdout_is_what_training_did_not_see() {
    run("holdout").await;
}

#[tokio::test]
async fn features_are_those_that_were_known_at_the_event() {
    run("as_of").await;
}

#[tokio::test]
async fn audits_find_what_they_look_for_and_nothing_else() {
    run("audits").await;
}
