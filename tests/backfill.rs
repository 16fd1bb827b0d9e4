//! A range of dates: planned, sampled side by side, stopped at a broken link, gone on with, and run again.

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use common::proxy::Fault;
use common::{Ran, S3, World};
use serde_json::{Value, json};

/// The first date with a whole window.
const FROM: &str = "2026-11-16";
const TO: &str = "2026-11-19";
const QUICK: [&str; 3] = ["training.epochs=1", "model.dim=8", "gates.min_recall_over_popularity=0"];

/// Six days of logs of few users, and windows of three days.
fn world() -> World {
    let world = World::local().with_logs_of(6, 120, 80, &[]);
    world.config_with(|text| text.replace("days: -6..0", "days: -2..0").replace("missing: skip", "missing: fail"));
    world
}

fn job(world: &World, command: &str, range: [&str; 2], more: &[&str]) -> Ran {
    let mut args = vec!["--from", range[0], "--to", range[1]];
    QUICK.iter().for_each(|setting| args.extend(["--set", setting]));
    args.extend(more);
    world.job(&[command], &args)
}

fn backfill(world: &World, range: [&str; 2], more: &[&str]) -> Ran {
    job(world, "backfill", range, more)
}

fn plan(world: &World, range: [&str; 2], more: &[&str]) -> Value {
    serde_json::from_str(&job(world, "plan", range, &[more, &["--json"]].concat()).expect(0).stdout).unwrap()
}

/// `field` of each day of a plan.
fn of_days(plan: &Value, field: &str) -> Vec<Value> {
    plan["days"].as_array().unwrap().iter().map(|day| day[field].clone()).collect()
}

fn states(world: &World, more: &[&str]) -> Vec<Value> {
    of_days(&plan(world, [FROM, TO], more), "state")
}

/// The dates and states of the lines that a backfill prints.
fn told(ran: &Ran) -> Vec<String> {
    let days = ran.stdout.lines().filter(|line| line.starts_with("2026-"));
    days.map(|line| line.split("  ").filter(|part| !part.is_empty()).take(2).collect::<Vec<_>>().join(" ")).collect()
}

fn releases(world: &World) -> Vec<Value> {
    serde_json::from_str(&world.job(&["release", "list"], &["--json"]).expect(0).stdout).unwrap()
}

fn logs(world: &World, partition: &str) -> PathBuf {
    world.folder.path().join("logs").join(partition)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { walk(&entry, found) } else { found.push(entry) }
    }
}

/// When each file below a folder was written.
fn times(folder: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let mut found = Vec::new();
    walk(folder, &mut found);
    found.into_iter().map(|path| (path.clone(), path.metadata().unwrap().modified().unwrap())).collect()
}

/// Every file below a folder by its path without the ids of attempts and runs, manifests left out: they know times.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = Vec::new();
    walk(folder, &mut found);
    found.retain(|path| !path.ends_with("manifest.json"));
    let is_id = |part: &str| part.len() == 23 && part.as_bytes()[16] == b'-';
    let name = |path: &Path| {
        let parts = path.strip_prefix(folder).unwrap().iter().map(|part| part.to_str().unwrap());
        parts.map(|part| if is_id(part) { "ID" } else { part }).collect::<Vec<_>>().join("/")
    };
    found.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

#[test]
fn samples_that_are_built_side_by_side_are_those_that_are_built_one_after_the_other() {
    let world = world();
    for day in 16..20 {
        world.job(&["samples"], &["--date", &format!("2026-11-{day}"), "--set", "output=one"]).expect(0);
    }
    let ran = backfill(&world, [FROM, TO], &["--jobs", "3", "--stages", "samples", "--set", "output=three"]).expect(0);
    let built = |day: u32| format!("2026-11-{day} samples are built");
    assert_eq!(told(&ran), (16..20).map(built).collect::<Vec<_>>());
    let (one, three) = (contents(&world.folder.path().join("one")), contents(&world.folder.path().join("three")));
    assert!(one.len() > 4 * 8, "{:?}", one.keys());
    assert_eq!(one.keys().collect::<Vec<_>>(), three.keys().collect::<Vec<_>>());
    assert!(one == three, "the bytes differ");
    // and are not built again by what comes after
    let rest = ["--stages", "train,embed", "--set", "output=three"];
    let ran = backfill(&world, [FROM, FROM], &rest).expect(0);
    assert_eq!(told(&ran), ["2026-11-16 the item vectors are written"]);
    let again =
        backfill(&world, [FROM, TO], &["--jobs", "2", "--stages", "samples", "--set", "output=three"]).expect(0);
    assert_eq!(again.summary()["done_before"], 4);
    let small = ["--jobs", "4", "--set", "samples.memory=64MiB", "--set", "output=four"];
    let refused = backfill(&world, [FROM, TO], &small).expect(64);
    assert!(refused.stderr.contains("give at most --jobs 2"), "{}", refused.stderr);
}

#[test]
fn it_stops_at_the_first_day_that_fails_and_goes_on_from_there() {
    let world = world();
    let (place, away) = (logs(&world, "impressions/dt=2026-11-18"), world.folder.path().join("late"));
    std::fs::rename(&place, &away).unwrap();
    // while another writes to the output, samples are built and then it leaves
    let lease = world.folder.path().join("out/leases/00000003.json");
    std::fs::create_dir_all(lease.parent().unwrap()).unwrap();
    let held =
        |ttl: u32| json!({ "holder": "the daily run", "nonce": "x", "ttl_ms": ttl, "released": false }).to_string();
    std::fs::write(&lease, held(600_000)).unwrap();
    let range = [FROM, TO];
    let waits = backfill(&world, range, &["--jobs", "2", "--set", "lease.wait=0s"]).expect(75);
    assert!(waits.stderr.contains("in use by the daily run"), "{}", waits.stderr);
    assert_eq!(states(&world, &[]), ["unfinished", "unfinished", "not_ready", "not_ready"]);
    std::fs::write(&lease, held(1)).unwrap();

    let ran = backfill(&world, range, &["--jobs", "2"]).expect(78);
    assert_eq!(told(&ran), ["2026-11-16 published", "2026-11-17 published"]);
    assert!(ran.stderr.contains("while running 2026-11-18; start the same backfill again"), "{}", ran.stderr);
    let summary = ran.summary();
    assert_eq!(
        (&summary["status"], &summary["kind"], &summary["published"]),
        (&"failed".into(), &"config".into(), &2.into())
    );
    let planned = plan(&world, range, &[]);
    assert_eq!(of_days(&planned, "state"), ["done", "done", "not_ready", "not_ready"]);
    let partition = place.to_string_lossy().into_owned();
    assert_eq!(of_days(&planned, "not_ready")[2..], [json!([partition]), json!([partition])]);
    assert_eq!(planned["reads"]["files"], 0, "what is done or not ready reads nothing");

    std::fs::rename(&away, &place).unwrap();
    let planned = plan(&world, range, &[]);
    assert_eq!(of_days(&planned, "state"), ["done", "done", "missing", "missing"]);
    let reads = &planned["reads"];
    assert!(reads["rows"].as_u64() > Some(1000) && reads["bytes"].as_u64() > Some(10_000), "{reads}");
    let ran = backfill(&world, range, &["--jobs", "2"]).expect(0);
    let expected = ["2026-11-16 done before", "2026-11-17 done before", "2026-11-18 published", "2026-11-19 published"];
    assert_eq!(told(&ran), expected);
    let parents: Vec<Value> = releases(&world).iter().map(|release| release["parent"].clone()).collect();
    assert_eq!(parents, [Value::Null, json!(1), json!(2), json!(3)]);

    stale(&world, range);
}

/// Late data, other SQL, other settings; left as they are, then run again.
fn stale(world: &World, range: [&str; 2]) {
    let late = logs(world, "impressions/dt=2026-11-15");
    let file = std::fs::read_dir(&late).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some()).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::write(late.join("part-late.parquet"), bytes).unwrap();
    let before = times(&world.folder.path().join("out"));
    let planned = plan(world, range, &[]);
    assert_eq!(times(&world.folder.path().join("out")), before, "a plan changes nothing");
    assert_eq!(of_days(&planned, "state"), ["stale", "stale", "done", "done"]);
    let first = &planned["days"][0];
    assert_eq!(first["changed"]["partitions"][0]["source"], "impressions");
    assert_eq!(first["changed"]["partitions"].as_array().unwrap().len(), 1);
    assert_eq!((&first["changed"]["sql"], &first["changed"]["settings"]), (&json!([]), &json!([])));
    let descend: Vec<&Value> = first["descendants"].as_array().unwrap().iter().map(|d| &d["release"]).collect();
    assert_eq!(descend, [&json!(2), &json!(3), &json!(4)]);
    let table = job(world, "plan", range, &[]).expect(0).stdout;
    assert!(table.contains("impressions dt=2026-11-15 changed; releases 2 to 4 went on from it"), "{table}");
    assert!(table.contains("\n2 done, 2 stale; to read: "), "{table}");

    let sql = world.folder.path().join("sql");
    std::fs::create_dir_all(&sql).unwrap();
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/seen.sql");
    let text = std::fs::read_to_string(built_in).unwrap();
    std::fs::write(sql.join("seen.sql"), text + "-- looked at once more\n").unwrap();
    let other = plan(world, [TO, TO], &["--set", &format!("samples.sql={}", sql.display())]);
    assert_eq!(other["days"][0]["changed"]["sql"], json!(["seen"]));
    let other = plan(world, [TO, TO], &["--set", "training.seed=5"]);
    let setting = json!({ "key": "training.seed", "was": 17, "now": 5 });
    assert_eq!(other["days"][0]["changed"]["settings"], json!([setting]));
    assert_eq!(other["days"][0]["to_run"][0], "train", "the samples are there");

    let ran = backfill(world, range, &["--only-missing"]).expect(0);
    assert_eq!(told(&ran)[..2], ["2026-11-16 stale", "2026-11-17 stale"]);
    assert!(ran.stdout.contains("2 stale, left as they are: --stale runs them again"), "{}", ran.stdout);
    let ran = backfill(world, range, &["--stale", "--jobs", "2"]).expect(0);
    let expected =
        ["2026-11-16 not published", "2026-11-17 not published", "2026-11-18 not published", "2026-11-19 published"];
    assert_eq!(told(&ran), expected, "each goes on from the one before, which is another now");
    assert_eq!(states(world, &[]), ["done"; 4]);
    let newest = releases(world).pop().unwrap();
    assert_eq!((&newest["release"], &newest["date"]), (&json!(5), &json!(TO)));
    assert_eq!(newest["started_from"]["date"], "2026-11-18");
    assert_eq!(
        newest["started_from"]["release"],
        Value::Null,
        "the candidate of a past day is no release, and a parent"
    );
    cold(world);
}

/// The first date of a range from nothing: planned, then run.
fn cold(world: &World) {
    let range = ["2026-11-18", TO];
    let planned = plan(world, range, &["--cold"]);
    assert_eq!(of_days(&planned, "state"), ["stale", "done"]);
    let first = &planned["days"][0];
    assert_eq!((&first["to_run"][0], &first["changed"]["parent"]["now"]), (&json!("train"), &Value::Null));
    let table = job(world, "plan", range, &["--cold"]).expect(0).stdout;
    assert!(table.contains("goes on from nothing, was from the candidate"), "{table}");
    let ran = backfill(world, range, &["--cold"]).expect(0);
    assert_eq!(told(&ran), ["2026-11-18 stale", "2026-11-19 done before"]);
    let ran = backfill(world, range, &["--cold", "--stale"]).expect(0);
    assert_eq!(told(&ran), ["2026-11-18 not published", "2026-11-19 published"]);
    let newest = releases(world).pop().unwrap();
    assert_eq!(newest["started_from"]["date"], "2026-11-18");
    assert_eq!(of_days(&plan(world, range, &["--cold"]), "state"), ["done", "done"]);
}

#[test]
fn the_past_is_filled_in_below_what_is_published() {
    let world = world();
    backfill(&world, [TO, TO], &[]).expect(0);
    let before = contents(&world.folder.path().join("out/runs"));
    let past = [FROM, "2026-11-18"];
    let ran = backfill(&world, past, &[]).expect(0);
    assert_eq!(told(&ran), [16, 17, 18].map(|day| format!("2026-11-{day} not published")));
    assert!(ran.stdout.contains("3 kept and not published, because a later date is: --publish"), "{}", ran.stdout);
    assert_eq!(releases(&world).len(), 1);
    let planned = plan(&world, [FROM, TO], &[]);
    assert_eq!(of_days(&planned, "state"), ["done", "done", "done", "stale"]);
    let parent = planned["days"][3]["changed"]["parent"]["now"].as_str().unwrap().to_string();
    assert!(parent.starts_with("the candidate ") && parent.ends_with(" of 2026-11-18"), "{parent}");
    assert_eq!(backfill(&world, past, &[]).expect(0).summary()["done_before"], 3);

    // once more: another attempt of the same bytes, and nothing of the first is touched
    let forced = backfill(&world, [TO, TO], &["--force", "--set", "warm_start.from=nothing", "--jobs", "2"]).expect(0);
    assert_eq!(told(&forced), ["2026-11-19 published"]);
    let [first, second] = &releases(&world)[..] else { panic!("two releases") };
    assert_ne!(first["run_id"], second["run_id"]);
    let sums = |release: &Value| {
        let files = release["files"].as_array().unwrap().iter();
        // the report tells times
        let files = files.filter(|file| !file["key"].as_str().unwrap().contains("/report/"));
        files.map(|file| file["sha256"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(sums(first), sums(second));
    let after = contents(&world.folder.path().join("out/runs"));
    assert!(before.iter().all(|(name, bytes)| after[name] == *bytes || name.contains("/report/")));
    world.job(&["release", "verify"], &["1"]).expect(0);

    let ran = backfill(&world, past, &["--publish"]).expect(0);
    assert_eq!(told(&ran), [16, 17, 18].map(|day| format!("2026-11-{day} published")));
    assert_eq!(releases(&world).pop().unwrap()["date"], "2026-11-18", "as it was told to");
    assert_eq!(backfill(&world, past, &["--publish"]).expect(0).summary()["done_before"], 3);
    job(&world, "backfill", past, &["--stages", "sample"]).expect(64);
    job(&world, "plan", [TO, FROM], &[]).expect(64);
}

/// A proxy before a server that counts the requests.
fn counting(upstream: &str) -> (String, Arc<AtomicUsize>) {
    const LINE: &[u8] = b" HTTP/1.1\r\n";
    fn pass(mut from: TcpStream, mut to: TcpStream, mut see: impl FnMut(&[u8])) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read) = from.read(&mut buffer) {
            see(&buffer[..read]);
            if read == 0 || to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }
    let (listener, count) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(AtomicUsize::new(0)));
    let (url, upstream) = (format!("http://{}", listener.local_addr().unwrap()), upstream.replace("http://", ""));
    let counted = count.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (server, count) = (TcpStream::connect(&upstream).unwrap(), counted.clone());
            let (back, forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || pass(back, forth, |_| ()));
            std::thread::spawn(move || {
                let mut seen: Vec<u8> = Vec::new();
                pass(client, server, |bytes| {
                    seen.extend(bytes);
                    count.fetch_add(seen.windows(LINE.len()).filter(|part| *part == LINE).count(), Ordering::SeqCst);
                    // a line may come in two pieces
                    seen.drain(..seen.len().saturating_sub(LINE.len() - 1));
                });
            });
        }
    });
    (url, count)
}

#[test]
fn a_longer_range_asks_the_store_for_little_more() {
    let world = World::local();
    let root = world.folder.path().join("s3");
    let logs = root.join("bucket/logs").to_string_lossy().into_owned();
    let args = ["generate", "--out", &logs, "--days", "46", "--seed", "7", "--start", "2026-10-01"];
    world.run(&[&args[..], &["--users", "40", "--items", "30"]].concat()).expect(0);
    let config = world.config_with(|text| text.replace(&world.base, "s3://bucket")).to_string_lossy().into_owned();
    let server = S3::start(&root);
    let (url, count) = counting(&server.url);
    let asked = |command: &str, range: [&str; 2], more: &[&str]| {
        let before = count.load(Ordering::SeqCst);
        let mut args = vec![command, "-c", &config, "--from", range[0], "--to", range[1]];
        QUICK.iter().for_each(|setting| args.extend(["--set", setting]));
        args.extend(more);
        let mut command = world.command(&args);
        command.envs([("AWS_ENDPOINT_URL", url.as_str()), ("AWS_REGION", "us-east-1")]);
        let ended = command.envs([("AWS_ACCESS_KEY_ID", S3::KEY), ("AWS_SECRET_ACCESS_KEY", S3::SECRET)]).output();
        let ended = ended.unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        (count.load(Ordering::SeqCst) - before, serde_json::from_slice::<Value>(&ended.stdout).unwrap_or_default())
    };
    // windows of seven days: a footer for each new file, and what is asked once
    let (ten, _) = asked("plan", ["2026-10-07", "2026-10-16"], &["--json"]);
    let (forty, planned) = asked("plan", ["2026-10-07", "2026-11-15"], &["--json"]);
    assert!(planned["reads"]["rows"].as_u64() > Some(0), "{}", planned["reads"]);
    assert!(forty - ten <= 30 * 5 && ten < 100, "{ten} requests for ten days, {forty} for forty");
    // days that were done, and would come out otherwise now
    asked("backfill", ["2026-11-12", "2026-11-15"], &[]);
    let stale = ["--json", "--set", "training.seed=5"];
    let (two, planned) = asked("plan", ["2026-11-14", "2026-11-15"], &stale);
    assert_eq!(of_days(&planned, "state"), ["stale", "stale"]);
    let (four, planned) = asked("plan", ["2026-11-12", "2026-11-15"], &stale);
    assert_eq!(of_days(&planned, "state"), ["stale"; 4]);
    assert!(four - two <= 2 * 4 && two < 60, "{two} requests for two days, {four} for four");
}

#[test]
#[ignore = "takes minutes; `make soak` runs it"]
fn a_year_on_s3_is_planned_in_less_than_ten_seconds() {
    let world = World::s3();
    let logs = format!("{}/logs", world.base);
    let args = ["generate", "--out", &logs, "--days", "371", "--seed", "7", "--start", "2025-11-14"];
    world.run(&[&args[..], &["--users", "40", "--items", "30"]].concat()).expect(0);
    world.config();
    let year = ["2025-11-20", "2026-11-19"];
    let first: chrono::NaiveDate = year[0].parse().unwrap();
    let done = common::rounds("TWOTOWER_DAYS_DONE", 20);
    let last = (first + chrono::Days::new(done - 1)).to_string();
    backfill(&world, [year[0], &last], &["--jobs", "2", "--set", "lease.ttl=1h"]).expect(0);
    // each answer takes as long as one of a store in the same region
    let world = world.through(|_| Fault::Stall(Duration::from_millis(20)));
    // what is done as it is, then all of it stale by settings, then by samples
    for (state, more) in [
        ("done", &[][..]),
        ("stale", &["--set", "training.seed=5"]),
        ("stale", &["--set", "samples.holdout_share=0.3"]),
    ] {
        let (began, before) = (Instant::now(), world.proxy.as_ref().unwrap().count(|_| true));
        let planned = plan(&world, year, more);
        let (seconds, asked) = (began.elapsed().as_secs_f64(), world.proxy.as_ref().unwrap().count(|_| true) - before);
        let states = of_days(&planned, "state");
        let of = |state: &str| states.iter().filter(|of| *of == state).count() as u64;
        println!(
            "{} {state} and {} missing days planned in {seconds:.1} s with {asked} requests",
            of(state),
            of("missing")
        );
        assert_eq!((of(state), of("missing")), (done, 365 - done));
        assert!(seconds < 10.0, "{seconds} s");
    }
}
