//! The same inputs give the same bytes, whatever the number of threads and the memory.

use serde_json::{Value, json};
use twotower::recommend::LastRelease;

use crate::support::World;

/// A few thousand rows, enough for several batches and partitions.
async fn busy(name: &str) -> World {
    let mix = |a: u64, b: u64| {
        a.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_add(b).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
    };
    let mut impressions: Vec<Vec<Value>> = Vec::new();
    for n in 0..20_000u64 {
        let (user, item) = (mix(n, 1) % 300, mix(n, 2) % 400);
        let time = format!("2026-11-{:02} {:02}:{:02}:00", 17 + mix(n, 3) % 4, mix(n, 4) % 24, mix(n, 5) % 60);
        impressions.push(vec![json!(user), json!(item), json!(time), json!(mix(n, 6) % 3 == 0)]);
    }
    let items: Vec<Vec<Value>> = (0..500u64).map(|item| vec![json!(item), json!(format!("t{}", item % 7))]).collect();
    let users: Vec<Vec<Value>> = (0..320u64).map(|user| vec![json!(user), json!("de")]).collect();
    let scores: Vec<Vec<Value>> = (0..300u64)
        .flat_map(|user| (0..200u64).map(move |item| vec![json!(user), json!(item), json!(mix(user, item) % 1000)]))
        .collect();
    let world = World::new(name).given("impressions", &impressions).await.given("items", &items).await;
    let world = world.given("users", &users).await.given("ranker_scores", &scores).await;
    world.set("samples.hard_negatives.rank_from=20").set("samples.hard_negatives.rank_to=100")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn files_do_not_depend_on_threads_or_memory() {
    let mut digests = Vec::new();
    let mut files = Vec::new();
    for (name, settings) in [
        ("one-thread", ["samples.threads=1", "samples.memory=1GiB"]),
        ("four-threads", ["samples.threads=4", "samples.memory=1GiB"]),
        ("little-memory", ["samples.threads=2", "samples.memory=24MiB"]),
    ] {
        let world = settings.iter().fold(busy(name).await, |world, setting| world.set(setting));
        let plan = twotower::samples::plan(&world.job(), &LastRelease::shared()).await.unwrap();
        digests.push((plan.sql_digest, plan.order));
        files.push(world.build().await.unwrap().written.files);
    }
    assert!(files[0].len() >= 9);
    assert_eq!(files[0], files[1]);
    assert_eq!(files[0], files[2]);
    assert_eq!(digests[0], digests[1]);
}

#[tokio::test]
async fn the_digest_follows_inputs_sql_and_params_and_not_threads() {
    let digest =
        async |world: World| twotower::samples::plan(&world.job(), &LastRelease::shared()).await.unwrap().digest;
    let world = World::new("digest").usual().await;
    let usual = digest(world.again()).await;
    assert_eq!(digest(world.again().set("samples.threads=1").set("samples.memory=2GiB")).await, usual);
    assert_ne!(digest(world.again().set("samples.seed=18")).await, usual);
    assert_ne!(digest(world.again().set("samples.params.min=3")).await, usual);
    assert_ne!(digest(world.put("items/part-0.csv", "item_id,topic\n10,a\n").await).await, usual);
}
