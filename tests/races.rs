//! Given many processes that run the same date at once, then there is one release, and whoever did not make it leaves with 0 (it
//! was there), 75 (another is at work) or 99 (no data).
//!
//! `TWOTOWER_ROUNDS=n` races n times on each kind of store; `make soak` does so.

mod common;

use std::collections::BTreeMap;

use common::{Ran, World, rounds};

const DATE: &str = "2026-11-16";
const PROCESSES: usize = 8;

/// Runs `command` in eight processes at once; returns how many left with which code.
fn race(world: &World, command: &[&str], more: &[&str]) -> BTreeMap<i32, usize> {
    // some wait for the others, and some leave at once
    let waits = ["lease.wait=0s", "lease.wait=120s"];
    let start = |at: usize| world.start_with(command, &[more, &["--set", waits[at % 2]]].concat(), &[]);
    let children: Vec<_> = (0..PROCESSES).map(start).collect();
    let mut codes = BTreeMap::new();
    for child in children {
        let ran = Ran::of(child.wait_with_output().unwrap());
        assert!([0, 75, 99].contains(&ran.code), "exit {}:\n{}", ran.code, ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        *codes.entry(ran.code).or_default() += 1;
    }
    codes
}

fn races(world: &World, rounds: u64) -> BTreeMap<i32, usize> {
    let mut all = BTreeMap::new();
    for round in 0..rounds {
        let seed = format!("training.seed={round}");
        let codes = race(world, &["run", "--date", DATE], &["--set", &seed]);
        assert!(codes.contains_key(&0), "nobody has made a release: {codes:?}");
        let releases = world.releases();
        assert_eq!(releases.len() as u64, round + 1, "in round {round}: {codes:?}");
        let numbers: Vec<u64> = releases.iter().map(|release| release["release"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=round + 1).collect::<Vec<_>>());
        codes.into_iter().for_each(|(code, count)| *all.entry(code).or_default() += count);
    }
    all
}

#[test]
fn eight_processes_at_once_make_one_release_on_local_files() {
    let world = World::local().tiny();
    let rounds = rounds("TWOTOWER_ROUNDS", 2);
    let codes = races(&world, rounds);
    println!("{rounds} rounds of {PROCESSES} processes on local files left with {codes:?}");
    assert!(!codes.contains_key(&99));

    // a date without data, where that is no failure
    let codes = race(&world, &["run", "--date", "2026-11-19"], &[]);
    assert_eq!(codes, BTreeMap::from([(99, PROCESSES)]));
    assert_eq!(world.releases().len() as u64, rounds);
}

#[test]
fn eight_processes_at_once_make_one_release_on_s3() {
    let world = World::s3().tiny();
    let rounds = rounds("TWOTOWER_ROUNDS", 1);
    let codes = races(&world, rounds);
    println!("{rounds} rounds of {PROCESSES} processes on S3 left with {codes:?}");
}

#[test]
fn a_daily_run_and_a_backfill_overlap_and_all_their_days_are_done() {
    let world = World::local().tiny();
    let (range, wait) = (["--from", "2026-11-14", "--to", DATE], ["--set", "lease.wait=120s"]);
    let started = [
        world.start_with(&[&["backfill"], &range[..]].concat(), &wait, &[]),
        world.start_with(&["run", "--date", DATE], &wait, &[]),
    ];
    for child in started {
        Ran::of(child.wait_with_output().unwrap()).expect(0);
    }
    assert_eq!(world.releases().last().unwrap()["date"], DATE);
    let plan = world.tiny_job(&[&["plan"], &range[..]].concat(), &["--json"]).expect(0).stdout;
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert!(plan["days"].as_array().unwrap().iter().all(|day| day["state"] == "done"), "{plan}");
}

/// A world with releases of two dates, and a run of one between them that is held at `point` while `release gc` removes what it goes on
/// from: the first release, and all that no release names.
fn collected_while_held_at(point: &str, run: &[&str], more: &[&str]) -> Ran {
    let world = World::local().tiny();
    for (date, cold) in [("2026-11-14", false), ("2026-11-16", true)] {
        let cold: &[&str] = if cold { &["--cold"] } else { &[] };
        world.tiny_job(&[&["run", "--date", date], cold].concat(), &[]).expect(0);
    }
    let (log, held) = (world.folder.path().join("points"), world.folder.path().join("held"));
    std::fs::write(&held, "").unwrap();
    let envs = [
        ("TWOTOWER_FAIL_LOG", log.to_str().unwrap()),
        ("TWOTOWER_STALL_AT", point),
        ("TWOTOWER_STALL_WHILE", held.to_str().unwrap()),
    ];
    let child = world.start_with(run, &[&["--set", "lease.ttl=300ms"], more].concat(), &envs);
    let signal = |signal| {
        // SAFETY: the child is ours and has not been waited for
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    };
    let reached = || std::fs::read_to_string(&log).is_ok_and(|text| text.lines().any(|line| line.starts_with(point)));
    common::wait_until(point, reached);
    // as if the machine slept: the lease is not renewed
    signal(libc::SIGSTOP);
    let keep = ["--keep", "1", "--keep-days", "0", "--set", "retention.grace=1ms"];
    let removed = world.tiny_job(&["release", "gc"], &[&keep[..], &["--json"]].concat()).expect(0);
    assert!(removed.stdout.contains("\"releases\": [\n    1\n  ]"), "{}", removed.stdout);
    std::fs::remove_file(&held).unwrap();
    signal(libc::SIGCONT);
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(world.releases().len(), 1);
    ran
}

#[test]
fn samples_whose_earlier_release_is_removed_while_they_read_it_leave_with_75() {
    let previous = ["--set", "samples.hard_negatives.from=previous"];
    let ran = collected_while_held_at(
        "before put N/user_features/part-00000",
        &["samples", "--date", "2026-11-15"],
        &previous,
    );
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("release 1 was removed (`release gc`) while it was read; run it again"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_run_whose_files_and_parent_are_removed_while_it_does_not_hold_the_lease_leaves_with_75() {
    let ran = collected_while_held_at("before put N/embeddings/started.json", &["run", "--date", "2026-11-15"], &[]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(ran.stderr.contains("lost the lease") && ran.stderr.contains("does not exist"), "{}", ran.stderr);
}
