//! A day that goes on from the day before: given a release, when the next date is run, then its model is that release's, taught
//! on the new day.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use common::World;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

const DATE: &str = "2026-11-20";
const NEXT: &str = "2026-11-21";
const LATER: &str = "2026-11-22";

fn run(world: &World, date: &str, settings: &[&str]) -> Value {
    world.job(&["run"], &[&["--date", date], settings].concat()).expect(0).summary()
}

/// The published release.
fn release(world: &World) -> Value {
    serde_json::from_str(&world.job(&["release", "show"], &["--json"]).expect(0).stdout).unwrap()
}

fn path(world: &World, release: &Value, stage: &str, file: &str) -> PathBuf {
    world.folder.path().join("out").join(release[stage].as_str().unwrap()).join(file)
}

/// What a stage of a release found out.
fn facts(world: &World, release: &Value, stage: &str) -> Value {
    let text = std::fs::read_to_string(path(world, release, stage, "manifest.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["facts"].clone()
}

fn digest(release: &Value, stage: &str, file: &str) -> Value {
    let key = format!("{}/{file}", release[stage].as_str().unwrap());
    let files = release["files"].as_array().unwrap();
    files.iter().find(|entry| entry["key"] == key).unwrap_or_else(|| panic!("no {key}"))["sha256"].clone()
}

/// Row by item id.
fn rows_of_items(world: &World, release: &Value) -> BTreeMap<i64, i64> {
    let file = std::fs::File::open(path(world, release, "model", "vocabulary.parquet")).unwrap();
    let batches = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let mut rows = BTreeMap::new();
    for batch in batches.map(Result::unwrap) {
        let tables = batch["table"].as_string::<i32>();
        let (values, places) =
            (batch["value_int"].as_primitive::<Int64Type>(), batch["row"].as_primitive::<Int64Type>());
        let items = (0..batch.num_rows()).filter(|at| tables.value(*at) == "item_id" && values.is_valid(*at));
        rows.extend(items.map(|at| (values.value(at), places.value(at))));
    }
    rows
}

#[test]
fn a_day_goes_on_from_the_one_before_and_cold_starts_over() {
    let world = World::local().with_logs(9, &[]);
    run(&world, DATE, &[]);
    let first = release(&world);
    assert_eq!(
        (&first["parent"], &facts(&world, &first, "model")["start"]["taught_before"]),
        (&Value::Null, &json!(0))
    );
    let ran = world.job(&["run"], &["--date", NEXT]).expect(0);
    assert!(ran.stderr.contains("from release 1 of 2026-11-20"), "{}", ran.stderr);
    let second = release(&world);
    assert_eq!((&second["parent"], &second["started_from"]["date"]), (&json!(1), &json!(DATE)));
    let warm = facts(&world, &second, "model");
    assert_eq!(warm["start"]["parent"]["run_id"], first["run_id"]);
    assert_eq!(warm["epochs"].as_array().unwrap().len(), 3, "warm_start.epochs");

    // values keep their rows, and new ones stand behind them
    let (before, after) = (rows_of_items(&world, &first), rows_of_items(&world, &second));
    assert!(before.iter().all(|(item, row)| after[item] == *row));
    let new: Vec<i64> = after.iter().filter(|(item, _)| !before.contains_key(item)).map(|(_, row)| *row).collect();
    assert!(!new.is_empty() && new.iter().all(|row| before.values().all(|known| row > known)), "{new:?}");
    assert_eq!(warm["start"]["added"]["item_id"], new.len());

    // done before, and again under another name without the parent
    assert_eq!(run(&world, NEXT, &[])["status"], "done before");
    assert_eq!(run(&world, NEXT, &["--cold"])["release"], 3);
    let third = release(&world);
    let cold = facts(&world, &third, "model");
    assert_eq!((&third["parent"], &cold["start"]["taught_before"]), (&Value::Null, &json!(0)));
    assert!(cold["start"]["why"].as_str().unwrap().contains("--cold"), "{cold}");
    let rows = |facts: &Value| facts["examples"].as_u64().unwrap() + facts["validation_examples"].as_u64().unwrap();
    assert_eq!(rows(&cold), rows(&warm) + warm["start"]["taught_before"].as_u64().unwrap(), "each row once");
    assert!(rows(&warm) < rows(&cold) / 2);
    let again = run(&world, NEXT, &[]);
    assert_eq!((&again["status"], &again["release"]), (&json!("done before"), &json!(2)));

    // of the two of one date the later one would be the next parent, had it not been rolled away from
    world.job(&["release", "rollback"], &["2", "--reason", "the cold one is worse"]).expect(0);
    run(&world, LATER, &[]);
    let last = release(&world);
    assert_eq!((&last["release"], &last["parent"]), (&json!(5), &json!(2)));
    assert_eq!(last["started_from"]["run_id"], second["run_id"]);
}

#[test]
fn a_changed_feature_or_tower_asks_for_cold_and_names_what_changed() {
    let world = World::local().with_logs(8, &[]);
    run(&world, DATE, &[]);
    for (setting, told) in [
        ("features.user.age.buckets=10", "features.user.age.buckets: 8 before, 10 now"),
        ("features.item.quality={kind: numeric, column: price}", "features.item.quality: not there before"),
        ("model.item_tower.layers=[48]", "model.item_tower.layers: [64] before, [48] now"),
        ("model.item_bias={column: price, weight: 0.01}", "model.item_bias: not there before, \\\"given\\\" now"),
        ("training.table_optimizer=adam", "training.table_optimizer: \\\"adagrad\\\" before"),
    ] {
        let ran = world.job(&["run"], &["--date", NEXT, "--set", setting]).expect(78);
        assert!(ran.stderr.contains(told) && ran.stderr.contains("--cold"), "{setting}: {}", ran.stderr);
    }
    run(&world, NEXT, &["--cold", "--set", "features.user.age.buckets=10"]);
    assert_eq!(release(&world)["parent"], Value::Null);
}

#[test]
fn a_parent_that_is_too_old_or_damaged_is_told() {
    let world = World::local().with_logs(9, &[]);
    run(&world, DATE, &[]);
    let first = release(&world);
    run(&world, LATER, &["--set", "warm_start.max_parent_age_days=1"]);
    let later = release(&world);
    let why = facts(&world, &later, "model")["start"]["why"].as_str().unwrap().to_string();
    assert_eq!(later["parent"], Value::Null);
    assert!(why.starts_with("release 1 of 2026-11-20 is 2 days old"), "{why}");

    for file in ["tables.safetensors", "vocabulary.parquet", "optimizer.safetensors"] {
        let damaged = path(&world, &first, "model", file);
        let whole = std::fs::read(&damaged).unwrap();
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&damaged, bytes).unwrap();
        let ran = world.job(&["run"], &["--date", NEXT]).expect(78);
        let told = ran.stderr.contains(file) && ran.stderr.contains("going on from release 1 of 2026-11-20");
        assert!(told && ran.stderr.contains("SHA-256"), "{}", ran.stderr);
        std::fs::write(&damaged, whole).unwrap();
    }
    assert!(run(&world, NEXT, &[])["status"].as_str().unwrap().starts_with("not published"));
}

#[test]
fn without_a_positive_after_the_parent_its_weights_stay_and_new_items_are_embedded() {
    let world = World::local().with_logs(8, &[]);
    let settings = [
        "--set",
        "samples.holdout_share=0",
        "--set",
        "gates.min_recall_over_popularity=null",
        // an item without a positive has no row
        "--set",
        "features.item.item_id.min_count=1",
    ];
    run(&world, DATE, &settings);
    let first = release(&world);
    let ran = world
        .job(&["run"], &[&["--date", NEXT, "--set", "sources.impressions.days=-7..-1"], &settings[..]].concat())
        .expect(0);
    assert!(ran.stderr.contains("no positives after the parent's date"), "{}", ran.stderr);
    let second = release(&world);
    assert_eq!(second["parent"], 1);
    for file in ["towers.safetensors", "tables.safetensors", "optimizer.safetensors"] {
        assert_eq!(digest(&first, "model", file), digest(&second, "model", file), "{file}");
    }
    assert!(second["items"].as_u64() > first["items"].as_u64(), "the catalogue has grown");
}

#[test]
fn vectors_and_index_of_the_parent_are_kept_where_nothing_changed_until_they_serve_users_worse() {
    let world = World::local();
    let logs = format!("{}/logs", world.base);
    let generate = ["generate", "--out", &logs, "--days", "10", "--users", "400", "--items", "1500"];
    world.run(&generate).expect(0);
    let settings = [
        "embedding.refresh=appeared",
        "embedding.min_refresh_recall=0.3",
        "index.factory=IVF8,Flat",
        // all lists: whatever it does not find is not in it
        "index.parameters=nprobe=8",
        "gates.min_recall_over_popularity=null",
    ];
    let with = |more: &[&'static str]| {
        [&settings[..], more].concat().into_iter().flat_map(|s| ["--set", s]).collect::<Vec<_>>()
    };
    run(&world, DATE, &with(&[]));
    let first = release(&world);
    assert_eq!(facts(&world, &first, "embeddings")["refresh"]["kept"], 0);
    assert_eq!(facts(&world, &first, "index")["build"]["updated"], false);

    run(&world, NEXT, &with(&[]));
    let second = release(&world);
    let (vectors, index) = (facts(&world, &second, "embeddings"), facts(&world, &second, "index"));
    let count = |of: &Value, key: &str| of[key].as_u64().unwrap();
    let (kept, fresh) = (count(&vectors["refresh"], "kept"), count(&vectors["refresh"], "fresh"));
    assert!(kept > 100 && fresh > 100 && kept + fresh == count(&vectors, "items"), "{vectors}");
    assert!(vectors["refresh"]["probe"]["ratio"].as_f64().unwrap() > 0.3, "{vectors}");
    let gate = second["gates"].as_array().unwrap().iter().find(|gate| gate["name"] == "refresh_recall").unwrap();
    assert_eq!(gate["value"], vectors["refresh"]["probe"]["ratio"]);
    assert_eq!((&index["build"]["updated"], &index["recall"]), (&json!(true), &json!(1.0)), "{index}");
    assert_eq!(
        count(&index["build"], "added"),
        count(&index["build"], "removed") + count(&second, "items") - count(&first, "items")
    );
    assert_eq!(second["metrics"]["exact"]["20"]["recall"], second["metrics"]["indexed"]["20"]["recall"]);
    world.job(&["recommend"], &["--user", "1001"]).expect(0);
    let page = world.job(&["report"], &[]).expect(0).stdout;
    let page = std::fs::read_to_string(world.folder.path().join(page.trim())).unwrap();
    assert!(
        page.contains(" were made anew, ") && page.contains("index was updated, "),
        "the report says nothing of it"
    );

    // too little recall: all are made anew; too much drift: the index is
    run(&world, LATER, &with(&["embedding.min_refresh_recall=1.5"]));
    let third = release(&world);
    let vectors = facts(&world, &third, "embeddings");
    assert_eq!(vectors["refresh"]["kept"], 0);
    assert!(vectors["refresh"]["why"].as_str().unwrap().contains("min_refresh_recall"), "{vectors}");
    assert_eq!(facts(&world, &third, "index")["build"]["why"], "all vectors are new");
    run(&world, "2026-11-23", &with(&["index.drift.max_error_growth=0.5"]));
    let index = facts(&world, &release(&world), "index");
    assert_eq!(index["build"]["updated"], false);
    assert!(index["build"]["why"].as_str().unwrap().starts_with("the distance from the lists' centres"), "{index}");
}

#[test]
fn a_past_date_goes_on_from_the_past_date_before_it_though_neither_was_published() {
    let world = World::local().with_logs(9, &[]);
    run(&world, LATER, &[]);
    assert!(run(&world, DATE, &[])["status"].as_str().unwrap().starts_with("not published"));
    let next = run(&world, NEXT, &[]);
    let candidate = world.folder.path().join(format!("out/runs/dt={NEXT}/{}", next["run_id"].as_str().unwrap()));
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(candidate.join("manifest.json")).unwrap()).unwrap();
    let parent = &manifest["started_from"];
    assert_eq!((&parent["date"], &parent["release"], &manifest["parent"]), (&json!(DATE), &Value::Null, &Value::Null));
    // its parent is another one now
    assert_eq!(run(&world, LATER, &[])["release"], 2);
    let last = release(&world);
    assert_eq!((&last["started_from"]["date"], &last["started_from"]["run_id"]), (&json!(NEXT), &next["run_id"]));
}

#[test]
fn the_same_days_give_the_same_bytes_run_at_once_or_by_stages_on_any_number_of_threads() {
    let settings = [
        "embedding.refresh=appeared",
        "embedding.min_refresh_recall=0.3",
        "index.factory=IVF8,SQ8",
        "gates.min_recall_over_popularity=null",
        "warm_start.evict_after_days=1",
    ];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
    let files = |stages: &[&str], threads: &[&str]| {
        let world = World::local().with_logs(9, &[]);
        for date in [DATE, NEXT, LATER] {
            for stage in stages {
                world.job(&[*stage], &[&["--date", date], &settings[..], threads].concat()).expect(0);
            }
        }
        let last = release(&world);
        assert_eq!((&last["parent"], &facts(&world, &last, "index")["build"]["updated"]), (&json!(2), &json!(true)));
        let stages = ["model", "embeddings", "index"].map(|stage| last[stage].as_str().unwrap().to_string());
        let files = last["files"].as_array().unwrap().iter().filter_map(|file| {
            let key = file["key"].as_str()?;
            let stage = stages.iter().find(|stage| key.starts_with(*stage))?;
            Some((stage.rsplit('/').next()?.to_string() + &key[stage.len()..], file["sha256"].as_str()?.to_string()))
        });
        files.collect::<BTreeMap<_, _>>()
    };
    let at_once = files(&["run"], &[]);
    let threads = ["--set", "training.threads=1", "--set", "samples.threads=1"];
    let by_stages = files(&["samples", "train", "embed", "index", "evaluate", "publish"], &threads);
    assert!(at_once.len() > 8, "{at_once:?}");
    assert_eq!(at_once, by_stages);
}

#[test]
fn rows_that_came_late_for_a_day_that_the_parent_has_seen_are_told_and_learned_when_the_stale_days_are_run_again() {
    let world = World::local().with_logs(8, &[]);
    run(&world, DATE, &[]);
    // rows of one day that nobody has seen
    let other = format!("{}/other", world.base);
    let args = ["generate", "--out", &other, "--days", "8", "--seed", "8", "--start", common::FIRST];
    world.run(&[&args[..], &["--users", "400", "--items", "300"]].concat()).expect(0);
    let folder = |logs: &str| world.folder.path().join(logs).join("impressions/dt=2026-11-18");
    let file = std::fs::read_dir(folder("other")).unwrap().map(|entry| entry.unwrap().path());
    let file = file.filter(|path| path.extension().is_some_and(|end| end == "parquet")).min().unwrap();
    std::fs::copy(file, folder("logs").join("part-late.parquet")).unwrap();
    let range = ["--from", DATE, "--to", NEXT];
    let plan = world.job(&["plan"], &[&range[..], &["--json"]].concat()).expect(0).stdout;
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let day = &plan["days"][0];
    assert_eq!((&day["state"], &plan["days"][1]["state"]), (&json!("stale"), &json!("missing")));
    assert_eq!(day["changed"]["partitions"][0]["files"], json!(["part-late.parquet"]));

    let ran = world.job(&["run"], &["--date", NEXT]).expect(0);
    let told = "rows came late for days that the parent was taught";
    assert!(ran.stderr.contains(told) && ran.stderr.contains("dt=2026-11-18"), "{}", ran.stderr);
    let start = facts(&world, &release(&world), "model")["start"].clone();
    assert!(start["late"][0].as_str().unwrap().ends_with("impressions/dt=2026-11-18"), "{start}");
    assert_eq!(start["late"].as_array().unwrap().len(), 1);

    let ran = world.job(&["backfill"], &[&range[..], &["--stale"]].concat()).expect(0);
    assert!(!ran.stderr.contains(told), "{}", ran.stderr);
    let start = facts(&world, &release(&world), "model")["start"].clone();
    assert_eq!((&start["late"], &start["parent"]["date"]), (&Value::Null, &json!(DATE)));
}

#[test]
fn a_source_whose_folder_was_renamed_moved_and_brings_no_late_rows() {
    let world = World::local().with_logs(8, &[]);
    run(&world, DATE, &[]);
    let folder = |name: &str| world.folder.path().join("logs").join(name);
    std::fs::rename(folder("impressions"), folder("shown")).unwrap();
    world.config_with(|text| text.replace("/logs/impressions", "/logs/shown"));
    let plan = world.job(&["plan"], &["--date", DATE]).expect(0).stdout;
    let moved =
        format!("impressions is read from {}, was {}", folder("shown").display(), folder("impressions").display());
    assert!(plan.contains(&moved) && !plan.contains("is gone") && !plan.contains("was added"), "{plan}");
    let ran = world.job(&["run"], &["--date", NEXT]).expect(0);
    assert!(!ran.stderr.contains("rows came late"), "{}", ran.stderr);
    let start = facts(&world, &release(&world), "model")["start"].clone();
    assert_eq!((&start["late"], &start["parent"]["date"]), (&Value::Null, &json!(DATE)));
}
