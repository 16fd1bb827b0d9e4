//! What people and machines who watch a job get: the first config, log lines, figures, lineage.

mod common;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use common::{Ran, SMALL, World};
use serde_json::Value;

const DATE: &str = "2026-11-20";

/// Logs of another shop: CSV, other names, text ids, times in milliseconds, days in `log_date`.
fn write_other_logs(folder: &Path) {
    // 2026-11-14 in milliseconds
    let first = 1_794_614_400_000_u64;
    for day in 0..7_u64 {
        let partition = folder.join(format!("shown/log_date=2026-11-{}", 14 + day));
        fs::create_dir_all(&partition).unwrap();
        let mut text = String::from("Uid,sku,tsMs,event,page\n");
        for user in 0..120_u64 {
            for shown in 0..12_u64 {
                let item = (user * 7 + shown * 13 + day * 5) % 60;
                // a user likes the items of his own third
                let event = if item % 3 == user % 3 { "click" } else { "view" };
                let time = first + day * 86_400_000 + user * 60_000 + shown * 1000;
                writeln!(text, "u{user},s{item},{time},{event},{shown}").unwrap();
            }
        }
        fs::write(partition.join("part-0.csv"), text).unwrap();
    }
    let mut items = String::from("sku,category,price,labels,email\n");
    for item in 0..60 {
        writeln!(items, "s{item},c{},{}.5,a{}|b{},x{item}@y", item % 3, item * 100, item % 25, item % 30).unwrap();
    }
    fs::write(folder.join("catalogue.csv"), items).unwrap();
    let mut users = String::from("Uid,age,country,history\n");
    for user in 0..120 {
        writeln!(users, "u{user},{},{},{}", 18 + user % 50, ["de", "fr"][user % 2], user % 40).unwrap();
    }
    fs::write(folder.join("people.csv"), users).unwrap();
}

#[test]
fn init_writes_a_config_for_other_names_and_types_and_the_job_runs_with_it() {
    let world = World::local();
    write_other_logs(world.folder.path());
    let init = [
        "init",
        "--yes",
        "--impressions",
        "shown",
        "--items",
        "catalogue.csv",
        "--users",
        "people.csv",
        "--out",
        "job",
    ];
    let made = world.run(&init).expect(0);
    assert!(made.stdout.contains("\nok, ") && made.stdout.contains("twotower run -c job/job.yaml"), "{}", made.stdout);
    let read = |name: &str| fs::read_to_string(world.folder.path().join("job").join(name)).unwrap();
    let folder = world.folder.path().canonicalize().unwrap().to_string_lossy().into_owned();
    let written = ["job.yaml", "sql/impressions.sql", "sql/items.sql", "sql/users.sql"].map(read).join("---\n");
    insta::assert_snapshot!(written.replace(&folder, "FOLDER").replace(&world.base, "FOLDER"));
    let again = world.run(&init).expect(64);
    assert!(again.stderr.contains("job.yaml is there already and is not written over"), "{}", again.stderr);
    let mut args = vec!["run", "-q", "-c", "job/job.yaml", "--date", DATE];
    args.extend(SMALL);
    let ran = world.run(&args).expect(0);
    assert_eq!(ran.stdout.lines().count(), 1, "-q prints the summary alone: {}", ran.stdout);
    assert_eq!(ran.summary()["release"], 1);
    assert!(ran.summary()["recall"]["recall@20"].as_f64() > Some(0.1), "{}", ran.stdout);
}

#[test]
fn init_says_what_it_needs() {
    let world = World::local();
    let nothing = world.run(&["init"]).expect(64);
    assert!(nothing.stderr.contains("give --impressions PATH"), "{}", nothing.stderr);
    fs::write(world.folder.path().join("a.csv"), "who,what\n1,2\n").unwrap();
    let unclear = world.run(&["init", "--impressions", "a.csv"]).expect(64);
    assert!(unclear.stderr.contains("--map user_id=COLUMN"), "{}", unclear.stderr);
    let wrong = world.run(&["init", "--impressions", "a.csv", "--map", "usr_id=who"]).expect(64);
    assert!(wrong.stderr.contains("did you mean `user_id`?"), "{}", wrong.stderr);
    assert!(!world.folder.path().join("job.yaml").exists());
}

/// A run with every place to leave word at, and secrets in the environment.
fn watched(world: &World, date: &str, file: &str) -> Ran {
    let config = world.config_with(|text| format!("{text}\nlineage: {{file: lineage.jsonl}}\n"));
    let mut args = vec!["run", "-vv", "-c", config.to_str().unwrap(), "--date", date, "--metrics-file", file];
    args.extend(SMALL);
    let mut command = world.command(&args);
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", SECRETS[0]),
        ("AWS_SESSION_TOKEN", SECRETS[1]),
        ("OPENLINEAGE_API_KEY", SECRETS[2]),
        // discard: nothing listens there
        ("OPENLINEAGE_URL", "http://127.0.0.1:9"),
        ("TWOTOWER_PUSHGATEWAY", "http://watcher:hush-hush-4@127.0.0.1:9"),
        ("OPENLINEAGE_PARENT_ID", "airflow/daily.two_tower/01890000-0000-7000-8000-000000000000"),
    ] {
        command.env(name, value);
    }
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

const SECRETS: [&str; 4] = ["hush-hush-1", "hush-hush-2", "hush-hush-3", "hush-hush-4"];

#[test]
fn a_run_tells_people_and_machines_where_it_is_and_keeps_its_secrets() {
    let world = World::local().with_logs(7, &[]);
    let file = world.folder.path().join("twotower.prom");
    let ran = watched(&world, DATE, file.to_str().unwrap()).expect(0);
    for secret in SECRETS {
        assert!(!ran.stderr.contains(secret) && !ran.stdout.contains(secret), "{secret} stands in the log");
    }
    let lines: Vec<Value> = ran.stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let of_stage = |stage: &str| lines.iter().filter(|line| line["stage"] == stage).collect::<Vec<_>>();
    for stage in ["samples", "train", "embed", "index", "evaluate", "publish"] {
        let lines = of_stage(stage);
        assert!(!lines.is_empty(), "no line of {stage}");
        for line in lines {
            assert_eq!(line["date"], DATE, "{line}");
            assert!(line["run_id"].as_str().is_some_and(|id| !id.is_empty()) && line["elapsed"].is_number(), "{line}");
        }
    }
    // what a training says comes from the threads of its pool
    assert!(of_stage("train").iter().any(|line| line["message"] == "trained an epoch"));
    // neither server is there: two warnings for the events, one for the figures, and the run went well
    let warned = |text: &str| {
        lines.iter().filter(|line| line["level"] == "WARN" && line["message"].to_string().contains(text)).count()
    };
    assert_eq!((warned("the lineage event is not sent"), warned("metrics are not pushed")), (2, 1));

    let figures = fs::read_to_string(&file).unwrap();
    for said in [
        "twotower_last_run_exit_code{name=\"demo\",command=\"run\"} 0",
        "twotower_release_number{name=\"demo\",command=\"run\"} 1",
        "twotower_stage_rows{name=\"demo\",command=\"run\",stage=\"embed\"} 3",
        "twotower_recall{name=\"demo\",command=\"run\",by=\"index\",k=\"20\"} ",
    ] {
        assert!(figures.contains(said), "no `{said}` in\n{figures}");
    }
    let success = |figures: &str| {
        let line = figures.lines().find(|line| line.starts_with("twotower_last_success_timestamp_seconds{"));
        line.map(str::to_string).expect("the time of the last success")
    };
    // a date without data: the policy of the demo is to skip it
    watched(&world, "2027-01-01", file.to_str().unwrap()).expect(99);
    let later = fs::read_to_string(&file).unwrap();
    assert!(later.contains("twotower_last_run_exit_code{name=\"demo\",command=\"run\"} 99"), "{later}");
    assert_eq!(success(&later), success(&figures));

    let lineage = fs::read_to_string(world.folder.path().join("lineage.jsonl")).unwrap();
    let events: Vec<Value> = lineage.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["eventType"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["START", "COMPLETE", "START", "COMPLETE"]);
    assert_eq!(events[1]["outputs"][0]["facets"]["version"]["datasetVersion"], "1");
    assert_eq!(events[1]["run"]["facets"]["parent"]["job"]["name"], "daily.two_tower");
    assert_eq!(events[3]["outputs"], serde_json::json!([]));
}
