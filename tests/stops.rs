//! Given a job that is told to stop, in whatever stage it is, then it leaves with 143 within 25 seconds and without its lease, and
//! the next run goes on.
//!
//! `TWOTOWER_STALL_AT` holds a job at a chosen write, so that it is in a chosen stage when the signal comes. That a training
//! writes a checkpoint is shown in tests/resume.rs.

mod common;

use std::process::Child;
use std::time::{Duration, Instant};

use common::{Ran, World, wait_until};
use serde_json::Value;

const DATE: &str = "2026-11-16";
const RUN: [&str; 3] = ["run", "--date", DATE];
/// Where a job is held, stage after stage.
const POINTS: [&str; 7] = [
    "before put N/positives/part-00000",
    "before put N/model/t",
    "before put N/embeddings/part-00000",
    "before put N/index/items",
    "before put N/report/manifest.json",
    "before put pins/",
    "before put releases/N.json",
];

/// Starts a run that is held at `point`, and returns when it has come there. Whoever finds the lease taken leaves at once.
fn held_at(world: &World, variable: &str, point: &str, more: &[(&str, &str)]) -> Child {
    let log = world.folder.path().join("points");
    let _ = std::fs::remove_file(&log);
    let envs = [&[("TWOTOWER_FAIL_LOG", log.to_str().unwrap()), (variable, point)], more].concat();
    let child = world.start_with(&RUN, &["--set", "lease.wait=0s"], &envs);
    let reached = || std::fs::read_to_string(&log).is_ok_and(|text| text.lines().any(|line| line.starts_with(point)));
    wait_until(point, reached);
    child
}

fn terminate(child: Child) -> (Ran, Duration) {
    let told = Instant::now();
    // SAFETY: the child is ours and has not been waited for
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    let ran = Ran::of(child.wait_with_output().unwrap());
    (ran, told.elapsed())
}

/// Whether the newest lease was given back.
fn is_free(world: &World) -> bool {
    let Ok(leases) = std::fs::read_dir(world.disk().join("out/leases")) else { return true };
    let names = leases.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
    let record: Value = serde_json::from_slice(&std::fs::read(names.max().unwrap()).unwrap()).unwrap();
    record["released"] == true
}

/// Each start goes on where the last one was stopped, one stage further.
fn stopped_in_every_stage(world: World) {
    for point in POINTS {
        let (ran, took) = terminate(held_at(&world, "TWOTOWER_STALL_AT", point, &[]));
        assert_eq!(ran.code, 143, "at `{point}`:\n{}", ran.stderr);
        assert!(took < Duration::from_secs(25), "at `{point}` it took {took:?}");
        assert!(ran.stderr.contains("told to stop"), "{}", ran.stderr);
        assert!(is_free(&world), "at `{point}` the lease was kept");
        assert_eq!(world.releases().len(), 0, "at `{point}`");
    }
    let summary = world.tiny_job(&RUN, &["--set", "lease.wait=0s"]).expect(0).summary();
    assert_eq!((&summary["status"], &summary["stages"]["evaluate"]), (&"published".into(), &"skipped".into()));
    assert_eq!(world.releases().len(), 1);
}

#[test]
fn a_job_that_is_told_to_stop_in_any_stage_leaves_and_the_next_one_goes_on_on_local_files() {
    stopped_in_every_stage(World::local().tiny());
}

#[test]
fn a_job_that_is_told_to_stop_in_any_stage_leaves_and_the_next_one_goes_on_on_s3() {
    stopped_in_every_stage(World::s3().tiny());
}

#[test]
fn a_computation_that_cannot_be_interrupted_is_cut_off_and_its_lease_is_given_back_first() {
    let world = World::local().tiny();
    let child =
        held_at(&world, "TWOTOWER_BLOCK_AT", "before put N/embeddings/part-00000", &[("TWOTOWER_GRACE_SECONDS", "1")]);
    let (ran, took) = terminate(child);
    assert_eq!(ran.code, 143, "{}", ran.stderr);
    assert!(ran.stderr.contains("it is cut off"), "{}", ran.stderr);
    assert!((Duration::from_secs(1)..Duration::from_secs(6)).contains(&took), "{took:?}");
    assert!(is_free(&world));
    world.tiny_job(&RUN, &["--set", "lease.wait=0s"]).expect(0);
}

#[test]
fn a_job_does_not_wait_for_faiss_which_cannot_be_interrupted() {
    let world = World::local().with_logs_of(3, 120, 40_000, &[]);
    world.config_with(|text| text.replace("days: -6..0", "days: -2..0"));
    // so many lists learn for the better part of a minute
    let args = world.tiny_args(&RUN, &["--set", "lease.wait=0s", "--set", "index.factory=IVF20000,Flat"]);
    let log = world.folder.path().join("log");
    let mut command = world.command(&args.iter().map(String::as_str).collect::<Vec<_>>());
    command.stdout(std::process::Stdio::piped()).stderr(std::fs::File::create(&log).unwrap());
    let child = command.spawn().unwrap();
    let told = || std::fs::read_to_string(&log).unwrap();
    wait_until("the training of the index", || told().contains("training the index"));
    let (ran, took) = terminate(child);
    assert_eq!(ran.code, 143, "{}", told());
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(told().contains("told to stop") && !told().contains("it is cut off"), "{}", told());
    assert!(is_free(&world));
}
