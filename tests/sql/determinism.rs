//! The same inputs give the same bytes, whatever the number of threads and the memory.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use twotower::recommend::LastRelease;

use crate::support::World;

fn mix(a: u64, b: u64) -> u64 {
    a.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_add(b).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
}

/// User, item, score.
fn scores() -> Vec<Vec<Value>> {
    let of = |user: u64| (0..200u64).map(move |item| vec![json!(user), json!(item), json!(mix(user, item) % 1000)]);
    (0..300u64).flat_map(of).collect()
}

/// So many impressions, one in `one_in` clicked.
async fn busy(name: &str, rows: u64, one_in: u64) -> World {
    let mut impressions: Vec<Vec<Value>> = Vec::new();
    for n in 0..rows {
        let (user, item) = (mix(n, 1) % 300, mix(n, 2) % 400);
        let time = format!("2026-11-{:02} {:02}:{:02}:00", 17 + mix(n, 3) % 4, mix(n, 4) % 24, mix(n, 5) % 60);
        impressions.push(vec![json!(user), json!(item), json!(time), json!(mix(n, 6).is_multiple_of(one_in))]);
    }
    let items: Vec<Vec<Value>> = (0..500u64).map(|item| vec![json!(item), json!(format!("t{}", item % 7))]).collect();
    let users: Vec<Vec<Value>> = (0..320u64).map(|user| vec![json!(user), json!("de")]).collect();
    let scores = scores();
    let world = World::new(name).given("impressions", &impressions).await.given("items", &items).await;
    let world = world.given("users", &users).await.given("ranker_scores", &scores).await;
    world.set("samples.hard_negatives.rank_from=20").set("samples.hard_negatives.rank_to=100")
}

/// Several rows for each user, and a day after the date.
async fn with_versions(world: World) -> World {
    let mut world = world.source("users", "format: csv, partition: dt, days: -3..0");
    for day in 17..=20u64 {
        let rows: String =
            (0..320).filter(|user| user % 4 != day % 4).map(|user| format!("{user},c{}\n", user % day)).collect();
        world = world.put(&format!("own/users/dt=2026-11-{day}/a.csv"), format!("user_id,country\n{rows}")).await;
    }
    let future: Vec<Vec<Value>> = (0..300u64)
        .map(|user| vec![json!(user), json!(user % 400), json!("2026-11-21 08:00:00"), json!(true)])
        .collect();
    world.given("future_impressions", &future).await
}

/// What was logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Random negatives as a team may write them: a join that holds every impression.
const DRAWN_BY_A_JOIN: &str = "
    with drawn as (
        select sample_id, user_id, unnest(sample_items(stable_hash($seed, sample_id), $random_per_positive)) as item_id
        from positives
    )
    select d.sample_id, d.item_id
    from impressions as k
    right anti join drawn as d on k.user_id = d.user_id and k.item_id = d.item_id";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn files_do_not_depend_on_threads_or_memory() {
    // enough for several batches and partitions, and for a team's join that does not fit into 16 MiB
    for versions in [false, true] {
        let mut digests = Vec::new();
        let mut files = Vec::new();
        let mut statistics = Vec::new();
        let little = if versions { "samples.memory=16MiB" } else { "samples.memory=32MiB" };
        for (name, settings) in [
            ("two-threads", ["samples.threads=2", "samples.memory=1GiB"]),
            ("four-threads", ["samples.threads=4", "samples.memory=1GiB"]),
            ("little-memory", ["samples.threads=1", little]),
        ] {
            let mut world = busy(&format!("{name}-{versions}"), 400_000, 30).await;
            if versions {
                world = with_versions(world).await.sql("random_negatives.sql", DRAWN_BY_A_JOIN).await;
            }
            let world = world.set("samples.random_negatives.per_positive=21");
            let world = settings.iter().fold(world, |world, setting| world.set(setting));
            let plan = twotower::samples::plan(&world.job(), &LastRelease::shared()).await.unwrap();
            digests.push((plan.sql_digest, plan.order));
            let log = Log::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
            let guard = tracing::subscriber::set_default(subscriber);
            let written = world.build().await.unwrap();
            drop(guard);
            let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
            let started_over = log.contains("starting over with joins that spill");
            assert_eq!(started_over, versions && name == "little-memory", "{log}");
            files.push(written.written.files);
            statistics.push(written.written.facts.statistics);
        }
        // every table of the contract but `holdout_candidates`, which has no built-in file, and `liked`
        assert_eq!(digests[0].1.len(), 10);
        assert_eq!(files[0], files[1]);
        assert_eq!(files[0], files[2]);
        assert_eq!(digests[0], digests[1]);
        assert_eq!((&statistics[0], &statistics[0]), (&statistics[1], &statistics[2]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn neither_do_rankers_rules_and_their_counts() {
    let ranker = format!(
        "rankers.mine={{path: '{}/tests/rankers/lightgbm_ranker.onnx', inputs: {{input: {{columns: [c.score, c.item_id, u.user_id, c.score]}}}}}}",
        env!("CARGO_MANIFEST_DIR")
    );
    let rules = [
        ranker.as_str(),
        "samples.hard_negatives.from=ranker",
        "samples.hard_negatives.margin=0.01",
        "samples.hard_negatives.per_item=1",
        "samples.hard_negatives.random_per_hard=2",
        "samples.shown_negatives.per_positive=2",
    ];
    let mut built = Vec::new();
    for (name, settings) in [
        ("rules-one-thread", ["samples.threads=1", "samples.memory=1GiB"]),
        ("rules-four-threads", ["samples.threads=4", "samples.memory=1GiB"]),
        ("rules-little-memory", ["samples.threads=2", "samples.memory=96MiB"]),
    ] {
        let world = busy(name, 20_000, 3).await.given("candidates", &scores()).await;
        let world = rules.iter().chain(&settings).fold(world, |world, setting| world.set(setting));
        let written = world.build().await.unwrap().written;
        let tables = ["hard_negatives", "ranked_candidates", "shown_negatives"];
        assert!(tables.iter().all(|table| written.facts.tables[*table].rows > 0));
        built.push((written.files, written.facts.statistics.dropped));
    }
    let dropped = &built[0].1;
    let rules: Vec<&str> = dropped.keys().map(String::as_str).collect();
    assert_eq!(rules, ["catalogue", "liked", "margin", "no_score", "per_item", "rank", "score"]);
    assert!(["liked", "margin", "per_item", "rank"].iter().all(|rule| dropped[*rule] > 0), "{dropped:?}");
    assert_eq!((dropped["catalogue"], dropped["score"]), (0, 0));
    assert_eq!(built[0], built[1]);
    assert_eq!(built[0], built[2]);
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

#[tokio::test]
async fn another_model_makes_other_samples_where_sql_calls_it() {
    let model =
        |name: &str| std::fs::read(format!("{}/tests/rankers/{name}.onnx", env!("CARGO_MANIFEST_DIR"))).unwrap();
    for (name, call, changes) in [("called", "mine(1, 2, 3, 4)", true), ("uncalled", "1.0", false)] {
        let mut world = World::new(&format!("digest-{name}")).usual().await;
        world = world.sql("scored.sql", &format!("select item_id, {call} as score from items")).await;
        let setting = format!(
            "rankers.mine={{path: '{}', inputs: {{input: {{columns: [a, b, c, d]}}}}}}",
            world.store.url_of("model.onnx")
        );
        world = world.set(&setting);
        let mut digests = Vec::new();
        for model in [model("lightgbm_ranker"), model("lightgbm_regressor"), model("lightgbm_ranker")] {
            world = world.put("model.onnx", model).await;
            digests.push(twotower::samples::plan(&world.job(), &LastRelease::shared()).await.unwrap().digest);
        }
        assert_eq!(digests[0], digests[2]);
        assert_eq!(digests[0] != digests[1], changes, "{name}");
    }
}
