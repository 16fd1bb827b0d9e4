//! The life of releases: published, compared, rolled back, forced, collected.

mod common;

use common::World;
use serde_json::{Value, json};

const DATE: &str = "2026-11-20";
const NEXT: &str = "2026-11-21";

fn released(world: &World, command: &[&str]) -> Value {
    let command = [&["release"], command].concat();
    serde_json::from_str(&world.job(&command, &["--json"]).expect(0).stdout).unwrap()
}

fn folders(world: &World, below: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(format!("{}/out/{below}", world.base))
        .map(|all| all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    names.sort();
    names
}

#[test]
fn releases_are_compared_rolled_back_forced_and_collected() {
    let world = World::local().with_logs(8, &[]);
    world.job(&["run"], &["--date", DATE]).expect(0);
    let against = ["max_drift=1", "min_recall_over_parent=0.01", "max_item_count_change=0.5"];
    let alone = ["min_coverage=0.0001", "max_size=1GiB"];
    let gates: Vec<String> = against.iter().chain(&alone).map(|gate| format!("gates.{gate}")).collect();
    let mut args = vec!["--date", NEXT];
    gates.iter().for_each(|gate| args.extend(["--set", gate]));
    world.job(&["run"], &args).expect(0);

    // every gate that is asked for has a value, in the manifest
    let second = released(&world, &["show"]);
    let value = |name: &str| {
        let gate = second["gates"].as_array().unwrap().iter().find(|gate| gate["name"] == name);
        gate.unwrap_or_else(|| panic!("no gate {name}"))["value"].as_f64()
    };
    let asked = ["drift", "recall_over_parent", "coverage", "size", "item_count_change"];
    let always = ["non_finite_vectors", "zero_vectors", "norm_error", "duplicate_item_ids", "items", "index_recall"];
    for name in asked.into_iter().chain(always) {
        assert!(value(name).is_some_and(|value| value >= 0.0), "{name}");
    }
    assert!((0.05..0.95).contains(&value("drift").unwrap()), "drift is {:?}", value("drift"));
    assert_eq!(second["publication"]["compared_with"], 1);

    reports(&world, &second);
    let difference = released(&world, &["diff", "1", "2"]);
    assert_eq!((&difference["a"], &difference["b"]), (&json!(1), &json!(2)));
    assert_eq!(difference["data_window"][1], json!(["2026-11-15", NEXT]));
    let (before, after) = (difference["items"][0].as_i64().unwrap(), difference["items"][1].as_i64().unwrap());
    let change = difference["items_added"].as_i64().unwrap() - difference["items_removed"].as_i64().unwrap();
    assert_eq!(after - before, change);
    assert_eq!((&difference["digests"], &difference["sql_tables"]), (&json!(["config", "inputs"]), &json!([])));
    assert!(difference["metrics"]["exact.20.recall"][1].is_number() && difference["bytes"]["index"][0].is_number());
    world.job(&["release", "diff"], &["1"]).expect(0);

    let back = released(&world, &["rollback", "1", "--reason", "worse on tablets"]);
    assert_eq!((&back["release"], &back["rollback_of"], &back["date"]), (&json!(3), &json!(1), &json!(DATE)));
    assert_eq!(back["publication"]["rollback"], json!({ "from": 2, "to": 1, "reason": "worse on tablets" }));
    assert!(back["publication"]["by"].as_str().unwrap().contains('@'));
    let listed = world.job(&["release", "list"], &["--last", "1"]).expect(0).stdout;
    assert!(listed.contains("rollback to 1 from 2: worse on tablets") && listed.lines().count() == 2, "{listed}");
    world.job(&["release", "rollback"], &["3", "--reason", "again"]).expect(64);
    world.job(&["release", "rollback"], &["17", "--reason", "none"]).expect(64);
    // a rerun does not undo what a person decided
    let again = world.job(&["run"], &args).expect(0).summary();
    assert_eq!((&again["status"], &again["release"]), (&json!("done before"), &json!(2)));

    // a stricter gate is asked of what was published too
    let strict = ["--date", NEXT, "--set", "gates.min_items=100000"];
    let refused = world.job(&["run"], &strict).expect(65).stderr;
    assert!(refused.contains("items is") && refused.contains("it is release 2 already"), "{refused}");

    // a new candidate is refused and kept, and published by force
    let other = [&strict[..], &["--set", "training.seed=9"]].concat();
    let refused = world.job(&["run"], &other).expect(65).stderr;
    assert!(refused.contains("release 3 stays published"), "{refused}");
    assert_eq!(folders(&world, &format!("rejected/dt={NEXT}")).len(), 1);
    let page = page_of(&world, &["--date", NEXT]);
    assert!(
        page.contains("Refused") && page.contains("Release 3 of"),
        "the candidate that was refused keeps its report"
    );
    world.job(&["publish"], &[&other[..], &["--force-publish"]].concat()).expect(64);
    let forced = [&other[..], &["--force-publish", "--reason", "catalogue was cut"]].concat();
    assert_eq!(world.job(&["publish"], &forced).expect(0).summary()["release"], 4);
    let forced = &released(&world, &["show"])["publication"]["forced"];
    assert_eq!(forced["reason"], "catalogue was cut");
    assert!(forced["gates"][0].as_str().unwrap().starts_with("items is"), "{forced}");
    assert_eq!(world.job(&["run"], &other).expect(0).summary()["status"], "done before");

    collect(&world);
}

/// The page that `twotower report` leads to.
fn page_of(world: &World, args: &[&str]) -> String {
    let path = world.job(&["report"], args).expect(0).stdout;
    std::fs::read_to_string(world.folder.path().join(path.trim())).unwrap()
}

/// Both releases have a report, which needs nothing else, and can be looked at side by side.
fn reports(world: &World, second: &Value) {
    let page = page_of(world, &[]);
    assert!(page.contains("Release 2; it passed"));
    for foreign in ["<script", "http://", "https://", "url(", "@import", "NaN"] {
        assert!(!page.contains(foreign), "the page has {foreign}");
    }
    let charts = [
        "recall-by-k recall-by-popularity trend trend-index trend-items loss validation tables samples-by-day sources-by-day",
        "table-rows popularity ranks picture-popularity picture-group norms similarity search time memory bytes",
    ];
    for chart in charts.iter().flat_map(|names| names.split(' ')) {
        let figure = page.split(&format!("data-chart=\"{chart}\"")).nth(1);
        let figure = figure.unwrap_or_else(|| panic!("no chart {chart}")).split("</figure>").next().unwrap();
        assert!(figure.contains("class=\"mark") && figure.contains("<desc"), "chart {chart} is empty: {figure}");
    }
    let report: Value = serde_json::from_str(&world.job(&["report"], &["--json"]).expect(0).stdout).unwrap();
    assert_eq!((&report["verdict"]["outcome"], &report["published"]["release"]), (&json!("published"), &json!(1)));
    assert_eq!((&report["gates"], report["history"].as_array().unwrap().len()), (&second["gates"], 1));
    assert_eq!(report["portrait"]["users"].as_array().unwrap().len(), 10);
    let same = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-12;
    assert!(same(&report["evaluation"]["exact"]["at"]["100"]["recall"], &second["metrics"]["exact"]["100"]["recall"]));

    // found by run and by date too, and written where one wants it
    let run_id = second["run_id"].as_str().unwrap();
    assert_eq!(page_of(world, &["--run", run_id]), page);
    assert!(page_of(world, &["--date", DATE]).contains("Release 1; it passed"));
    assert_eq!(
        page_of(world, &["--release", "2", "--out", "copy.html"]),
        page,
        "the page is made from report.json alone"
    );
    for (args, said) in [
        (["--run", "nobody"], "there is no run nobody"),
        (["--date", "2026-01-01"], "there is no report for 2026-01-01"),
        (["--release", "9"], "there is no release 9"),
    ] {
        let refused = world.job(&["report"], &args).expect(64).stderr;
        assert!(refused.contains(said), "{refused}");
    }

    let compared = page_of(world, &["--compare", "1", "2"]);
    assert!(compared.contains("Release 2 against 1") && compared.contains("data-chart=\"validation\""));
    let figures = world.job(&["report"], &["--compare", "1", "2", "--json"]).expect(0).stdout;
    let figures: Value = serde_json::from_str(&figures).unwrap();
    assert_eq!(figures["difference"]["b"], 2);
    assert!((0.0..=1.0).contains(&figures["drift"].as_f64().unwrap()) && figures["rows"]["positives"][0].is_number());

    // what shows pages is asked for the page, and missed in words
    let config = world.folder.path().join("job.yaml");
    let opened = |path: &std::path::Path| {
        let mut command = world.command(&["report", "-c", config.to_str().unwrap(), "--open"]);
        command.env("PATH", path).output().unwrap()
    };
    let nowhere = opened(std::path::Path::new("/nonexistent"));
    let stderr = String::from_utf8_lossy(&nowhere.stderr);
    assert!(nowhere.status.code() == Some(64) && stderr.contains("in a browser yourself"), "{stderr}");
    let programs = tempfile::tempdir().unwrap();
    for name in ["xdg-open", "open"] {
        use std::os::unix::fs::PermissionsExt;
        let program = programs.path().join(name);
        std::fs::write(&program, "#!/bin/sh\necho \"opened $1\"\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let shown = opened(programs.path());
    let stdout = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success() && stdout.contains("opened ") && stdout.contains("/report.html"), "{stdout}");
}

fn collect(world: &World) {
    world.job(&["samples"], &["--date", DATE, "--set", "samples.holdout_share=0.4"]).expect(0);
    let left = format!("{}/out/checkpoints/dt={DATE}/abandoned", world.base);
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(format!("{left}/checkpoint.json"), "{}").unwrap();
    // what a killed process leaves of a file that it was writing
    let half = format!("{left}/tables.safetensors#1");
    std::fs::write(&half, "half").unwrap();
    let keep = ["release", "gc", "--keep", "1", "--keep-days", "0"];
    let young: Value = serde_json::from_str(&world.job(&keep, &["--json", "--dry-run"]).expect(0).stdout).unwrap();
    assert_eq!((&young["releases"], &young["folders"]), (&json!([1, 2, 3]), &json!([])), "it is within the grace time");
    let old = ["--json", "--set", "retention.grace=1ms"];
    let planned = world.job(&keep, &[&old[..], &["--dry-run"]].concat()).expect(0).stdout;
    assert_eq!(folders(world, "releases").len(), 4);
    let removed = world.job(&keep, &old).expect(0).stdout;
    assert_eq!(planned, removed);
    let removed: Value = serde_json::from_str(&removed).unwrap();
    assert_eq!(removed["folders"].as_array().unwrap().len(), 5, "two runs, samples of one date, two leftovers");

    assert_eq!(removed["half_written"][0]["file"], half);
    assert!(!std::path::Path::new(&half).exists());

    assert_eq!(folders(world, "releases"), ["00000004.floor", "00000004.json"]);
    assert_eq!(folders(world, "pins").len() + folders(world, "removals").len(), 0);
    world.job(&["release", "verify"], &[]).expect(0);
    world.job(&["release", "show"], &["1"]).expect(64);
    world.job(&["recommend"], &["--user", "1001"]).expect(0);
    assert_eq!(
        world.job(&keep, &old).expect(0).stdout,
        "{\n  \"releases\": [],\n  \"folders\": [],\n  \"rejected\": []\n}\n"
    );
    // and what is run next has the next number
    let next = world.job(&["run"], &["--date", NEXT, "--set", "training.seed=10"]).expect(0).summary();
    assert_eq!(next["release"], 5);
}

#[test]
fn another_writer_is_waited_for_and_then_left_alone() {
    let world = World::local().with_logs(7, &[]);
    std::fs::create_dir_all(format!("{}/out/leases", world.base)).unwrap();
    let held = json!({ "holder": "backfill of ann", "nonce": "x", "ttl_ms": 600_000, "released": false });
    std::fs::write(format!("{}/out/leases/00000007.json", world.base), held.to_string()).unwrap();
    let began = std::time::Instant::now();
    let refused = world.job(&["run"], &["--date", DATE, "--set", "lease.wait=1s"]).expect(75);
    assert!(refused.stderr.contains("in use by backfill of ann"), "{}", refused.stderr);
    assert!(began.elapsed().as_millis() >= 1000, "it did not wait");
    // samples need no lease, so dates can be sampled side by side
    let sampled = world.job(&["samples"], &["--date", DATE, "--set", "lease.wait=0s"]).expect(0).summary();
    assert_eq!(sampled["status"], "done before", "the run that had to leave has built them");
    let gone = json!({ "holder": "backfill of ann", "nonce": "x", "ttl_ms": 1, "released": false });
    std::fs::write(format!("{}/out/leases/00000007.json", world.base), gone.to_string()).unwrap();
    world.job(&["run"], &["--date", DATE]).expect(0);
    let release = released(&world, &["show"]);
    assert_eq!(release["publication"]["fence"], 8);
}

#[test]
fn a_writer_that_was_held_up_and_lost_its_lease_publishes_nothing() {
    let world = World::local().with_logs(7, &[]);
    let config = world.config().to_string_lossy().into_owned();
    let args = ["run", "-c", &config, "--date", DATE, "--set", "lease.ttl=500ms", "--set", "training.epochs=400"];
    let args = [&args[..], &["--set", "training.early_stopping.patience=0"]].concat();
    let child = world.command(&args).stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn();
    let child = child.unwrap();
    let signal = |signal| {
        // SAFETY: the child is ours and has not been waited for
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    };
    // nothing but a stage that holds the lease writes one; a file among the leases may be one that it is only asking with
    common::wait_until("a checkpoint", || !folders(&world, "checkpoints").is_empty());
    signal(libc::SIGSTOP);
    world.job(&["run"], &["--date", DATE]).expect(0);
    signal(libc::SIGCONT);
    let ended = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(75), "{stderr}");
    assert!(stderr.contains("lost the lease"), "{stderr}");
    assert_eq!(folders(&world, "releases"), ["00000001.json"]);
}
