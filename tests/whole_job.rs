//! The whole job, by its binary: given logs, when a date is run, then there is a release that answers.

mod common;

use common::World;

const DATE: &str = "2026-11-20";

#[test]
fn a_week_of_logs_becomes_a_release_that_answers() {
    let world = World::local().with_logs(7, &[]);
    let ran = world.job(&["run"], &["--date", DATE, "--result-file", "result.json"]).expect(0);
    let summary = ran.summary();
    assert_eq!((&summary["status"], &summary["release"]), (&"published".into(), &1.into()), "{summary}");
    let file = std::fs::read_to_string(world.folder.path().join("result.json")).unwrap();
    assert_eq!(file.trim(), ran.stdout.lines().last().unwrap());

    let recall = |of: &str| summary[of]["recall@20"].as_f64().unwrap();
    assert!(recall("recall") > recall("popularity"), "{summary}");

    let verified = world.job(&["release", "verify"], &[]).expect(0);
    assert!(verified.stdout.contains("all as in the manifest"), "{}", verified.stdout);

    let answer = world.job(&["recommend"], &["--user", "1001", "-k", "10", "--json"]).expect(0);
    let answer: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    let scores: Vec<f64> = answer["items"].as_array().unwrap().iter().map(|i| i["score"].as_f64().unwrap()).collect();
    assert_eq!(scores.len(), 10);
    assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]), "{scores:?}");
}

#[test]
fn an_item_bias_is_added_to_the_scores_and_can_be_changed_from_day_to_day() {
    let world = World::local().with_logs(8, &[]);
    let lacks = "model.item_bias={column: prise, weight: 3}";
    let told = world.job(&["check"], &["--date", DATE, "--set", lacks]).expect(78).stderr;
    assert!(told.contains("model.item_bias") && told.contains("did you mean `price`"), "{told}");

    // beside scores of at most 1, a weight of 3 leaves the order to the price alone
    let bias = |weight: &str| format!("model.item_bias={{column: price, weight: {weight}}}");
    let best = |date: &str, weight: &str| {
        world
            .job(&["run"], &["--date", date, "--set", &bias(weight), "--set", "gates.min_recall_over_popularity=0"])
            .expect(0);
        let answer = world.job(&["recommend"], &["--user", "1001", "-k", "1", "--json"]).expect(0);
        let answer: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
        answer["items"][0]["score"].as_f64().unwrap()
    };
    let (dearest, cheapest) = (best(DATE, "3"), best("2026-11-21", "-3"));
    // one in ten has no price, which adds nothing
    assert!(dearest > 10.0 && cheapest <= 1.0, "{dearest} {cheapest}");
    let shown = world.job(&["release", "show"], &[]).expect(0);
    let release: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(release["parent"], 1, "another weight asks for no cold start");
}

#[test]
fn a_second_run_skips_every_stage_and_publishes_nothing() {
    let world = World::local().with_logs(7, &[]);
    world.job(&["run"], &["--date", DATE]).expect(0);
    let again = world.job(&["run"], &["--date", DATE]).expect(0);
    let summary = again.summary();
    assert_eq!((&summary["status"], &summary["release"]), (&"done before".into(), &1.into()));
    assert!(summary["stages"].as_object().unwrap().values().all(|stage| stage == "skipped"), "{summary}");
    assert!(again.stderr.contains("done before for the same inputs"), "{}", again.stderr);
}

#[test]
fn one_command_per_stage_ends_in_the_same_release_as_one_run() {
    let world = World::local().with_logs(7, &[]);
    let early = world.job(&["train"], &["--date", DATE]).expect(78);
    assert!(early.stderr.contains("run `twotower samples` first"), "{}", early.stderr);
    for stage in ["samples", "train", "embed", "index", "evaluate", "publish"] {
        world.job(&[stage], &["--date", DATE]).expect(0);
    }
    let one = files_of_release(&world);
    let other = World::local().with_logs(7, &[]);
    other.job(&["run"], &["--date", DATE, "--set", "samples.threads=1", "--set", "training.threads=1"]).expect(0);
    assert_eq!(one, files_of_release(&other), "the same logs gave another release");
}

/// Every file of the release with its checksum, without the run's id in its key.
fn files_of_release(world: &World) -> Vec<(String, String)> {
    let shown = world.job(&["release", "show"], &[]).expect(0);
    let release: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    let run_id = release["run_id"].as_str().unwrap();
    let samples = release["samples"].as_str().unwrap();
    let files = release["files"].as_array().unwrap().iter();
    files
        .map(|file| {
            let key = file["key"].as_str().unwrap().replace(run_id, "RUN").replace(samples, "SAMPLES");
            (key, file["sha256"].as_str().unwrap().to_string())
        })
        .collect()
}

#[test]
fn the_whole_job_runs_on_s3_over_http() {
    let world = World::s3().with_logs(7, &[]);
    let summary = world.job(&["run"], &["--date", DATE]).expect(0).summary();
    assert_eq!(summary["status"], "published", "{summary}");
    world.job(&["release", "verify"], &[]).expect(0);
    world.job(&["recommend"], &["--user", "1001"]).expect(0);
    let checked = world.job(&["check"], &["--date", DATE]).expect(0);
    assert!(checked.stdout.contains("refuses to create an object twice"), "{}", checked.stdout);
}

#[test]
fn ids_may_be_text() {
    let world = World::local().with_logs(7, &["--string-ids"]);
    world.config_with(|text| {
        text.replace("user_id: bigint", "user_id: varchar").replace("item_id: bigint", "item_id: varchar")
    });
    world.job(&["run"], &["--date", DATE]).expect(0);
    let listed = world.job(&["release", "list"], &["--json"]).expect(0);
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed[0]["item_id_type"], "varchar");
}

#[test]
fn a_past_date_does_not_replace_a_newer_release_unless_told() {
    let world = World::local().with_logs(8, &[]);
    world.job(&["run"], &["--date", "2026-11-21"]).expect(0);
    let past = world.job(&["run"], &["--date", DATE]).expect(0).summary();
    assert!(past["status"].as_str().unwrap().starts_with("not published"), "{past}");
    let told = world.job(&["run"], &["--date", DATE, "--publish"]).expect(0).summary();
    assert_eq!((&told["status"], &told["release"]), (&"published".into(), &2.into()));
}

#[test]
fn hard_negatives_come_from_what_the_release_of_the_day_before_would_have_retrieved() {
    let world = World::local().with_logs(9, &[]);
    let mine = [
        "samples.hard_negatives.from=previous",
        "samples.hard_negatives.rank_from=11",
        "samples.hard_negatives.rank_to=100",
        "samples.previous_candidates.per_user=100",
    ];
    let run = |date: &str| {
        let mut args = vec!["--date", date];
        mine.iter().for_each(|setting| args.extend(["--set", setting]));
        let ran = world.job(&["run"], &args).expect(0);
        let shown = world.job(&["release", "show"], &[]).expect(0);
        let release: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
        let manifest = format!("{}/out/{}/manifest.json", world.base, release["samples"].as_str().unwrap());
        let samples: serde_json::Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
        (ran, samples["facts"].clone())
    };
    let (first, facts) = run(DATE);
    assert!(first.stderr.contains("no good release of a date before 2026-11-20"), "{}", first.stderr);
    assert_eq!(
        (&facts["tables"]["hard_negatives"]["rows"], &facts["origins"]["previous_release"]),
        (&0.into(), &serde_json::Value::Null)
    );

    let (_, facts) = run("2026-11-21");
    let origins = &facts["origins"];
    assert_eq!(
        (&origins["previous_release"]["release"], &origins["previous_release"]["date"]),
        (&1.into(), &DATE.into())
    );
    assert_eq!(origins["hard_negatives"], "`previous_candidates`");
    let rows = |table: &str| facts["tables"][table]["rows"].as_u64().unwrap();
    assert_eq!(rows("previous_candidates"), 100 * rows("user_features"));
    let dropped = |rule: &str| facts["statistics"]["dropped"][rule].as_u64().unwrap();
    assert!(rows("hard_negatives") > 0 && dropped("rank") > 0 && dropped("liked") > 0, "{facts}");

    let (again, _) = run("2026-11-21");
    assert_eq!(again.summary()["status"], "done before");

    // the same candidates, in the order that a model inside the SQL gives them
    let ranker = format!(
        "rankers.mine={{path: '{}/tests/rankers/lightgbm_ranker.onnx', inputs: {{input: {{columns: [c.score, c.rank, c.item_id, u.user_id]}}}}}}",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut args = vec!["--date", "2026-11-22", "--set", "samples.hard_negatives.from=ranker", "--set", &ranker];
    mine[1..].iter().for_each(|setting| args.extend(["--set", setting]));
    world.job(&["samples"], &args).expect(0);
    let newest = walk(&world.folder.path().join("out/samples/dt=2026-11-22"));
    let manifest = newest.iter().find(|path| path.ends_with("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    let facts = &manifest["facts"];
    assert_eq!(facts["origins"]["previous_release"]["release"], 2);
    let rows = |table: &str| facts["tables"][table]["rows"].as_u64().unwrap();
    assert_eq!(rows("ranked_candidates"), rows("previous_candidates"));
    assert!(rows("hard_negatives") > 0 && facts["statistics"]["dropped"]["rank"].as_u64().unwrap() > 0, "{facts}");
}

#[test]
fn late_rows_make_a_date_stale_by_their_partition_and_are_built_in() {
    let world = World::local().with_logs(7, &[]);
    world.job(&["run"], &["--date", DATE]).expect(0);
    let positives = |ran: common::Ran| {
        let folder = world.folder.path().join("out/samples");
        let mut manifests: Vec<_> = walk(&folder).into_iter().filter(|path| path.ends_with("manifest.json")).collect();
        manifests.sort_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap());
        let text = std::fs::read_to_string(manifests.last().unwrap()).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        (
            ran.summary()["stages"]["samples"] != "skipped",
            manifest["facts"]["tables"]["positives"]["rows"].as_u64().unwrap(),
        )
    };
    let (built, before) = positives(world.job(&["samples"], &["--date", DATE]).expect(0));
    assert!(!built, "the same inputs were built twice");

    // the same day of another world comes in late
    let late = format!("{}/late", world.base);
    let others = ["--days", "4", "--seed", "8", "--start", common::FIRST, "--users", "400", "--items", "300"];
    world.run(&[&["generate", "--out", &late][..], &others].concat()).expect(0);
    let file = |root: &str, name: &str| format!("{}/{root}/impressions/dt=2026-11-17/{name}.parquet", world.base);
    std::fs::copy(file("late", "part-00000"), file("logs", "part-late")).unwrap();

    let plan = world.job(&["plan"], &["--date", DATE]).expect(0).stdout;
    assert!(plan.contains("stale") && plan.contains("impressions dt=2026-11-17 changed"), "{plan}");
    let (built, after) = positives(world.job(&["samples"], &["--date", DATE]).expect(0));
    assert!(built && after > before, "{before} rows, then {after}");
    assert!(!positives(world.job(&["samples"], &["--date", DATE]).expect(0)).0);
}

#[test]
fn a_flipped_byte_is_found() {
    let world = World::local().with_logs(7, &[]);
    world.job(&["run"], &["--date", DATE]).expect(0);
    let shown = world.job(&["release", "show"], &[]).expect(0);
    let release: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    let index = format!("{}/out/{}/items.faiss", world.base, release["index"].as_str().unwrap());
    let mut bytes = std::fs::read(&index).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&index, bytes).unwrap();
    let verified = world.job(&["release", "verify"], &[]).expect(78);
    assert!(verified.stderr.contains("items.faiss"), "{}", verified.stderr);
    let asked = world.job(&["recommend"], &["--user", "1001"]).expect(78);
    assert!(asked.stderr.contains("items.faiss"), "{}", asked.stderr);
}

#[test]
fn a_gate_refuses_and_the_published_release_stays() {
    let world = World::local().with_logs(7, &[]);
    world.job(&["run"], &["--date", DATE]).expect(0);
    let refused = world
        .job(&["run"], &["--date", DATE, "--set", "gates.min_recall=0.999", "--set", "training.seed=3"])
        .expect(65);
    assert!(refused.stderr.contains("release 1 stays published"), "{}", refused.stderr);
    let listed = world.job(&["release", "list"], &["--json"]).expect(0);
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
