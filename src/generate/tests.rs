use std::collections::HashMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use super::*;
use crate::storage::{FileEntry, open, read_parquet};

fn small() -> GenerateOptions {
    GenerateOptions { days: 3, users: 300, items: 200, ..Default::default() }
}

async fn generated(name: &str, options: &GenerateOptions) -> (Store, GenerateFacts) {
    let store = open(&format!("memory://generate-{name}")).unwrap();
    let facts = run(&store, options).await.unwrap();
    (store, facts)
}

/// All rows of one file.
async fn rows(store: &Store, key: &str) -> Vec<RecordBatch> {
    let (bytes, sha256) = store.checksum(key).await.unwrap().unwrap();
    read_parquet(store, vec![FileEntry { key: key.into(), bytes, sha256, rows: None }], None).await.unwrap()
}

/// Every file as (key, SHA-256).
async fn digests(store: &Store) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for object in store.list("").await.unwrap() {
        let (_, sha256) = store.checksum(&object.key).await.unwrap().unwrap();
        all.push((object.key, sha256));
    }
    all
}

// more threads than one: it waits for another that needs the runtime too
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_options_write_the_same_bytes_on_any_number_of_threads() {
    let (first, facts) = generated("same-a", &small()).await;
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let second = open("memory://generate-same-b").unwrap();
    let runtime = tokio::runtime::Handle::current();
    let again = std::thread::scope(|scope| {
        scope.spawn(|| one_thread.install(|| runtime.block_on(run(&second, &small())))).join().unwrap().unwrap()
    });
    assert_eq!(facts, again);
    assert_eq!(digests(&first).await, digests(&second).await);
    let (other, _) = generated("same-c", &GenerateOptions { seed: 18, ..small() }).await;
    assert_ne!(digests(&first).await, digests(&other).await);
}

#[tokio::test]
async fn a_longer_run_adds_days_and_leaves_the_first_ones_as_they_were() {
    let (store, _) = generated("longer", &small()).await;
    let before = digests(&store).await;
    run(&store, &GenerateOptions { days: 4, ..small() }).await.unwrap();
    let after = digests(&store).await;
    assert!(before.iter().all(|file| after.contains(file)));
    let added: Vec<&str> = after
        .iter()
        .filter(|file| !before.contains(file))
        .map(|(key, _)| key.as_str())
        .filter(|key| key.ends_with(READY))
        .collect();
    assert_eq!(
        added,
        [
            "impressions/dt=2026-11-17/_SUCCESS",
            "items/dt=2026-11-17/_SUCCESS",
            "ranker_scores/dt=2026-11-17/_SUCCESS",
            "users/dt=2026-11-17/_SUCCESS"
        ]
    );
}

#[tokio::test]
async fn a_folder_with_logs_of_other_options_is_refused() {
    let (store, _) = generated("refused", &small()).await;
    let error = run(&store, &GenerateOptions { users: 301, ..small() }).await.unwrap_err().to_string();
    assert!(error.contains("other options") && error.contains("\"users\":300"), "{error}");
    let error = run(&store, &GenerateOptions { items: 1, ..small() }).await.unwrap_err().to_string();
    assert_eq!(error, "--items 1: expected 10 to 10000000");
}

#[tokio::test]
async fn with_drift_interests_give_way_to_others_and_the_catalogue_grows_as_told() {
    let options = GenerateOptions { days: 61, drift: Some(20), new_items: Some(7), ..small() };
    let world = World::new(&options);
    assert_eq!((world.catalogue(0), world.catalogue(60)), (200, 620));
    let steady = World::new(&GenerateOptions { drift: None, ..options });
    // what one liked most: still near the top a day later, and for most users no longer after two months
    let likes = |world: &World, user: usize, then: u32, later: u32| {
        let before = world.taste(user, then);
        let best = (0..200).max_by(|a, b| world.appeal(&before, *a).total_cmp(&world.appeal(&before, *b))).unwrap();
        let after = world.taste(user, later);
        (0..200).filter(|item| world.appeal(&after, *item) > world.appeal(&after, best)).count() < 20
    };
    let share = |world: &World, later: u32| (0..300).filter(|user| likes(world, *user, 0, later)).count();
    assert!(share(&world, 1) > 250 && share(&world, 60) < 120, "{} {}", share(&world, 1), share(&world, 60));
    assert!(share(&steady, 60) > 200, "{}", share(&steady, 60));
}

#[tokio::test]
async fn clicks_follow_taste_and_not_only_popularity() {
    let (store, facts) = generated("taste", &small()).await;
    let rate = facts.clicks as f64 / facts.impressions as f64;
    assert!((0.1..0.5).contains(&rate), "click rate {rate}");

    // the share of a user's clicks that fall on his most clicked category, against that of everybody's
    let mut category = HashMap::new();
    for batch in rows(&store, "items/dt=2026-11-16/part-00000.parquet").await {
        let (ids, names) = (batch["item_id"].as_primitive::<Int64Type>(), batch["category"].as_string::<i32>());
        category.extend(ids.values().iter().copied().zip(names.iter().map(|name| name.unwrap().to_string())));
    }
    let mut by_user: HashMap<i64, HashMap<String, f64>> = HashMap::new();
    let mut all: HashMap<String, f64> = HashMap::new();
    for day in 14..17 {
        let key = format!("impressions/dt=2026-11-{day}/part-00000.parquet");
        for batch in rows(&store, &key).await {
            let (users, items) =
                (batch["user_id"].as_primitive::<Int64Type>(), batch["item_id"].as_primitive::<Int64Type>());
            let clicked = batch["clicked"].as_boolean();
            for row in (0..batch.num_rows()).filter(|row| clicked.value(*row)) {
                let name = category[&items.value(row)].clone();
                *by_user.entry(users.value(row)).or_default().entry(name.clone()).or_default() += 1.0;
                *all.entry(name).or_default() += 1.0;
            }
        }
    }
    let top_share =
        |counts: &HashMap<String, f64>| counts.values().fold(0.0, |a: f64, b| a.max(*b)) / counts.values().sum::<f64>();
    let frequent: Vec<f64> =
        by_user.values().filter(|counts| counts.values().sum::<f64>() >= 8.0).map(top_share).collect();
    let own = frequent.iter().sum::<f64>() / frequent.len() as f64;
    assert!(
        frequent.len() > 30 && own > top_share(&all) + 0.1,
        "{} users, own {own}, all {}",
        frequent.len(),
        top_share(&all)
    );
}

#[tokio::test]
async fn ids_can_be_text_and_attributes_have_gaps() {
    let (store, _) = generated("text", &GenerateOptions { string_ids: true, ..small() }).await;
    let users = rows(&store, "users/dt=2026-11-14/part-00000.parquet").await;
    assert_eq!(users[0]["user_id"].as_string::<i32>().value(0), "u000000");
    assert!(users[0]["age"].null_count() > 0 && users[0]["premium"].null_count() > 0);
    let items = rows(&store, "items/dt=2026-11-14/part-00000.parquet").await;
    assert!(items[0]["price"].null_count() > 0);
    let ranked = rows(&store, "ranker_scores/dt=2026-11-14/part-00000.parquet").await;
    assert!(ranked[0]["item_id"].as_string::<i32>().value(0).starts_with('i'));
}
