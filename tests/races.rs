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
