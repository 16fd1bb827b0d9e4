//! A training that is ended early: when it is started again, then it goes on, and the model is the same to the byte.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Ran, World, wait_until};

const DATE: &str = "2026-11-20";
const EPOCHS: &str = "training.epochs=6";
/// A checkpoint after nearly every step.
const OFTEN: &str = "training.checkpoint.minutes=0.00001";

fn world() -> World {
    let world = World::local().with_logs(7, &[]);
    world.job(&["samples"], &["--date", DATE]).expect(0);
    world
}

fn set<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    let given = settings.iter().flat_map(|setting| ["--set", *setting]);
    // whoever comes after a killed run waits for its lease
    ["--date", DATE, "--set", EPOCHS, "--set", "lease.ttl=1s"].into_iter().chain(given).collect()
}

fn train(world: &World, settings: &[&str]) -> Ran {
    world.job(&["train"], &set(settings))
}

/// The model of a training that is not ended early, which is then forgotten.
fn expected(world: &World, settings: &[&str]) -> BTreeMap<String, Vec<u8>> {
    train(world, settings).expect(0);
    let found = model(world);
    std::fs::remove_dir_all(runs(world)).unwrap();
    found
}

/// Starts a training and leaves it to itself.
fn start(world: &World, settings: &[&str]) -> Child {
    let config = world.folder.path().join("job.yaml").to_string_lossy().into_owned();
    let mut args = vec!["train", "-c", &config];
    args.extend(common::SMALL);
    args.extend(set(settings));
    let log = std::fs::File::create(world.folder.path().join("log")).unwrap();
    world.command(&args).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// Objects of the store below a folder. A killed process may leave a half-written one as `NAME#1`, which is not an object.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path()).filter(|path| !path.to_string_lossy().contains('#'));
    let mut found: Vec<PathBuf> =
        paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    found.sort();
    found
}

/// Candidates of the date.
fn runs(world: &World) -> PathBuf {
    world.folder.path().join(format!("out/runs/dt={DATE}"))
}

fn checkpoints(world: &World) -> PathBuf {
    world.folder.path().join("out/checkpoints")
}

/// Markers by their place, `00002-000000007`.
fn markers(world: &World) -> Vec<(String, PathBuf)> {
    let found = files(&checkpoints(world)).into_iter().filter(|path| path.ends_with("checkpoint.json"));
    let place = |path: &Path| path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    let mut found: Vec<_> = found.map(|path| (place(&path), path)).collect();
    found.sort();
    found
}

/// Waits until a checkpoint at `place` or later is there.
fn wait_for(world: &World, place: &str) {
    let there = || markers(world).last().is_some_and(|(newest, _)| newest.as_str() >= place);
    wait_until(&format!("a checkpoint at {place}"), there);
}

/// What the training of the date has written, by file name.
fn model(world: &World) -> BTreeMap<String, Vec<u8>> {
    let all = files(&runs(world));
    let manifest = all.iter().find(|path| path.ends_with("model/manifest.json")).expect("a model is there");
    let of = files(manifest.parent().unwrap()).into_iter().filter(|path| !path.ends_with("manifest.json"));
    of.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap())).collect()
}

fn assert_same(world: &World, expected: &BTreeMap<String, Vec<u8>>) {
    let found = model(world);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, bytes) in expected {
        assert!(found[name] == *bytes, "{name} differs from that of a training that was not ended");
    }
    assert_eq!(files(&checkpoints(world)), Vec::<PathBuf>::new(), "checkpoints are left behind");
}

#[test]
fn a_training_that_is_killed_again_and_again_ends_with_the_same_bytes() {
    // with everything that a checkpoint must hold
    let settings = [
        "training.table_optimizer=adam",
        "training.learning_rate={dense: 0.002, tables: 0.002, warmup_steps: 20, schedule: cosine, final: 0.1}",
        "model.learn_temperature=true",
        "model.user_tower.dropout=0.1",
        "training.history_dropout=0.1",
        "training.metrics_steps=3",
        "training.self_mined={per_positive: 2, from_epoch: 1, rank_from: 11, rank_to: 60}",
        // the last kill is in the last epoch
        "training.early_stopping.patience=0",
    ];
    let world = world();
    let expected = expected(&world, &[&settings[..], &["training.checkpoint.per_epoch=false"]].concat());
    // in the middle of an epoch, between two, and late, when the best epoch may lie behind
    for place in ["00001-000000004", "00003-000000000", "00003-000000005", "00006-000000001"] {
        let mut child = start(&world, &[&settings[..], &[OFTEN]].concat());
        wait_for(&world, place);
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None, "it was over before it could be killed");
    }
    // the last of them has written what all have learned, from the first line on
    let logs = || files(&runs(&world)).into_iter().filter(|path| path.ends_with("model/training.jsonl"));
    let newest = logs().max().expect("a training that goes on has its log").canonicalize().unwrap();
    let (log, whole) = (std::fs::read(newest).unwrap(), &expected["training.jsonl"]);
    assert!(log.len() < whole.len() && whole.starts_with(&log), "{}", String::from_utf8_lossy(&log));
    let ran = train(&world, &settings).expect(0);
    assert!(ran.stderr.contains("goes on from a checkpoint"), "{}", ran.stderr);
    assert_same(&world, &expected);
}

#[test]
fn a_training_that_goes_on_from_a_parent_and_is_killed_ends_with_the_same_bytes() {
    let world = World::local().with_logs(7, &[]);
    let settings = [
        "training.table_optimizer=adam",
        "training.learning_rate={dense: 0.002, tables: 0.002, warmup_steps: 20, schedule: cosine, final: 0.1}",
        "model.learn_temperature=true",
        "model.user_tower.dropout=0.1",
        "warm_start.epochs=6",
        // from the parent's towers, before the first epoch
        "training.self_mined={per_positive: 1, from_epoch: 3, rank_from: 11, rank_to: 60}",
        // recall falls from the second epoch on
        "training.early_stopping.patience=0",
    ];
    let given: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
    let parent = ["--date", "2026-11-19", "--set", "sources.impressions.days=-5..0"];
    world.job(&["run"], &[&parent[..], &given].concat()).expect(0);
    world.job(&["samples"], &["--date", DATE]).expect(0);
    let expected = expected(&world, &settings);
    for place in ["00001-000000004", "00004-000000002"] {
        let mut child = start(&world, &[&settings[..], &[OFTEN]].concat());
        wait_for(&world, place);
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None, "it was over before it could be killed");
        let log = std::fs::read_to_string(world.folder.path().join("log")).unwrap();
        assert!(log.contains("mined hard negatives"), "{log}");
    }
    let ran = train(&world, &settings).expect(0);
    assert!(ran.stderr.contains("goes on from a checkpoint"), "{}", ran.stderr);
    assert!(ran.stderr.contains("from release 1 of 2026-11-19"), "{}", ran.stderr);
    assert_same(&world, &expected);
}

#[test]
fn on_sigterm_a_checkpoint_is_written_and_the_next_start_goes_on_from_it() {
    // neither time nor the end of an epoch would make one
    let never = [
        "training.checkpoint.minutes=0",
        "training.checkpoint.per_epoch=false",
        "training.validation.share=0",
        "training.epochs=60",
    ];
    let world = world();
    let expected = expected(&world, &never);
    let mut child = start(&world, &never);
    let log = || std::fs::read_to_string(world.folder.path().join("log")).unwrap();
    wait_until("an epoch", || log().contains("trained an epoch"));
    assert_eq!(markers(&world), []);
    let told = Instant::now();
    // SAFETY: the child is ours and has not been waited for
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(told.elapsed() < Duration::from_secs(25));
    assert!(log().contains("a checkpoint is written, run it again to go on from there"), "{}", log());
    assert_eq!(markers(&world).len(), 1);
    let ran = train(&world, &never).expect(0);
    assert!(ran.stderr.contains("goes on from a checkpoint"), "{}", ran.stderr);
    assert_same(&world, &expected);
}

#[test]
fn a_damaged_checkpoint_is_told_and_the_one_before_is_taken() {
    let world = world();
    let expected = expected(&world, &[]);
    let mut child = start(&world, &[OFTEN]);
    wait_for(&world, "00002-000000003");
    child.kill().unwrap();
    child.wait().unwrap();
    let (_, newest) = markers(&world).pop().unwrap();
    let tables = newest.with_file_name("tables.safetensors");
    let mut bytes = std::fs::read(&tables).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&tables, bytes).unwrap();
    let ran = train(&world, &[]).expect(0);
    let told = ran.stderr.find("a checkpoint cannot be used").expect("a warning");
    let gone_on = ran.stderr.find("goes on from a checkpoint").expect("the one before is taken");
    assert!(told < gone_on && ran.stderr.contains("tables.safetensors is not the file that its"), "{}", ran.stderr);
    assert_same(&world, &expected);
}

#[test]
fn when_every_checkpoint_is_damaged_training_starts_anew() {
    let world = world();
    let expected = expected(&world, &[]);
    let mut child = start(&world, &[OFTEN]);
    wait_for(&world, "00001-000000003");
    child.kill().unwrap();
    child.wait().unwrap();
    for (_, marker) in markers(&world) {
        std::fs::write(marker, "{\"format\": 1, \"of\": ").unwrap();
    }
    let ran = train(&world, &[]).expect(0);
    assert!(ran.stderr.contains("a checkpoint cannot be used"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("goes on from a checkpoint"), "{}", ran.stderr);
    assert_same(&world, &expected);
}

#[test]
fn a_checkpoint_of_other_settings_is_not_taken() {
    let world = world();
    let mut child = start(&world, &[OFTEN]);
    wait_for(&world, "00001-000000003");
    child.kill().unwrap();
    child.wait().unwrap();
    let ran = train(&world, &["training.learning_rate.dense=0.002"]).expect(0);
    assert!(!ran.stderr.contains("checkpoint cannot") && !ran.stderr.contains("goes on from"), "{}", ran.stderr);
    assert!(!markers(&world).is_empty(), "the other training's checkpoints are its own");
}
