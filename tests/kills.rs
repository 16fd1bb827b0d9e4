//! Given a job that is killed before or after any change of the store, when it is started again, then it finishes, nothing in between
//! shows a part of a release, and the release equals that of a job that was left alone.
//!
//! The points come from a run that writes them down, so that a new write is a new point. `TWOTOWER_KILLS=all` kills at every
//! one of them; otherwise it is all those of publishing, rollback and gc, and some of the stages'.

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::World;
use serde_json::Value;

const DATE: &str = "2026-11-16";
const STAGES: [&str; 6] = ["samples", "train", "embed", "index", "evaluate", "publish"];

/// A job over few logs, whose output is a folder on this machine even where it goes through S3.
struct Site {
    world: World,
    config: String,
    /// Where a folder named like the output lies on disk, and what goes before its name in its URL.
    disk: PathBuf,
    url: String,
}

/// One command that is to be killed, and where it starts from.
struct Scene {
    name: &'static str,
    command: Vec<&'static str>,
    before: String,
    points: Vec<String>,
}

impl Site {
    fn new(world: World, disk: PathBuf) -> Site {
        let world = world.with_logs_of(3, 120, 80, &[]);
        let config = world.config_with(|text| text.replace("days: -6..0", "days: -2..0"));
        let url = world.base.clone();
        Site { config: config.to_string_lossy().into_owned(), world, disk, url }
    }

    /// Runs a command on the output `out`; returns its exit code, or 137 when it was killed.
    fn run(&self, out: &str, command: &[&str], envs: &[(&str, &str)]) -> (i32, String) {
        let output = format!("output={}/{out}", self.url);
        let mut args = command.to_vec();
        args.extend(["-c", &self.config, "--set", &output, "--set", "gates.min_recall_over_popularity=0"]);
        args.extend(["--set", "training.epochs=1", "--set", "training.batch_size=64", "--set", "model.dim=8"]);
        args.extend(["--set", "samples.threads=1", "--set", "training.threads=1", "--set", "retention.grace=1ms"]);
        if !envs.iter().any(|(name, _)| *name == "TWOTOWER_FAIL_LOG") {
            // a job that is killed keeps the next one waiting for this long
            args.extend(["--set", if self.url.starts_with("s3") { "lease.ttl=1s" } else { "lease.ttl=400ms" }]);
        }
        let mut child = self.world.command(&args);
        let ended = child.envs(envs.iter().copied()).stdin(Stdio::null()).output().unwrap();
        let code = ended.status.code().unwrap_or(128 + ended.status.signal().unwrap_or(0));
        (code, String::from_utf8_lossy(&ended.stderr).into_owned())
    }

    fn done(&self, out: &str, command: &[&str]) {
        let (code, stderr) = self.run(out, command, &[]);
        assert_eq!(code, 0, "{command:?} on {out}:\n{stderr}");
    }

    fn copy(&self, from: &str, to: &str) {
        copy(&self.disk.join(from), &self.disk.join(to));
    }

    /// Runs `command` from the output `before` without killing it, and learns the points that it passes.
    fn scene(&self, name: &'static str, command: Vec<&'static str>, before: &str) -> Scene {
        let log = self.world.folder.path().join(format!("{name}.points"));
        let out = format!("{}l", short(name));
        self.copy(before, &out);
        let (code, stderr) = self.run(&out, &command, &[("TWOTOWER_FAIL_LOG", log.to_str().unwrap())]);
        assert_eq!(code, 0, "{stderr}");
        let points = std::fs::read_to_string(log).unwrap().lines().map(str::to_string).collect();
        Scene { name, command, before: before.into(), points }
    }

    /// Every release that a reader sees, after a look at all of its files.
    fn releases(&self, out: &str) -> Vec<Value> {
        let folder = self.disk.join(out).join("releases");
        let mut names: Vec<PathBuf> =
            std::fs::read_dir(folder).map(|all| all.map(|e| e.unwrap().path()).collect()).unwrap_or_default();
        names.sort();
        let mut floors = names.iter().filter(|path| path.extension().is_some_and(|e| e == "floor"));
        let floor = floors.next_back().map(|path| path.with_extension("json"));
        names.retain(|path| path.extension().is_some_and(|e| e == "json") && floor.as_ref().is_none_or(|f| path >= f));
        let releases = names.iter().map(|path| -> Value {
            serde_json::from_slice(&std::fs::read(path).unwrap()).expect("a release is whole")
        });
        let releases: Vec<Value> = releases.collect();
        for release in &releases {
            let report = release["publication"]["report"].as_array().expect("a release has its report");
            for file in release["files"].as_array().unwrap().iter().chain(report) {
                let path = self.disk.join(out).join(file["key"].as_str().unwrap());
                let size = std::fs::metadata(&path).map(|meta| meta.len()).ok();
                assert_eq!(size, file["bytes"].as_u64(), "{} of release {}", path.display(), release["release"]);
            }
        }
        releases
    }

    /// The releases without what differs between two runs: ids and times.
    fn content(&self, out: &str) -> Vec<Value> {
        let mut releases = self.releases(out);
        for release in &mut releases {
            let fields = release.as_object_mut().unwrap();
            fields.remove("created");
            fields.remove("run_id");
            fields.remove("sha256");
            // the config names the output
            fields.remove("config_digest");
            let publication = fields["publication"].as_object_mut().unwrap();
            publication.remove("fence");
            // the page tells times
            publication.remove("report");
            without_ids(release);
        }
        releases
    }

    fn kill(&self, scene: &Scene, point: &str, number: usize) {
        let out = format!("{}{number}", short(scene.name));
        self.copy(&scene.before, &out);
        let before = self.releases(&out).len();
        let (code, stderr) = self.run(&out, &scene.command, &[("TWOTOWER_FAIL_AT", point)]);
        // how often a lease is renewed depends on the time
        let certain = !point.contains("leases/");
        assert!(code == 137 || code == 0 && !certain, "`{point}` was not reached ({code}):\n{stderr}");
        assert!(self.releases(&out).len() >= before.min(1), "{point}");
        if scene.command[0] == "release" {
            let (code, stderr) = self.run(&out, &scene.command, &[]);
            // a rollback that had been published before the kill is one that need not be done again
            assert!(code == 0, "`{point}`, again:\n{stderr}");
        } else {
            self.done(&out, &["run", "--date", DATE]);
            let (golden, found) = (self.content("gold"), self.content(&out));
            assert_eq!(found.len(), golden.len(), "after a kill at `{point}`");
            for (found, file) in
                found[0]["files"].as_array().unwrap().iter().zip(golden[0]["files"].as_array().unwrap())
            {
                assert_eq!(found, file, "after a kill at `{point}`");
            }
            for (name, value) in golden[0].as_object().unwrap() {
                assert_eq!(&found[0][name], value, "`{name}`, after a kill at `{point}`");
            }
        }
        self.releases(&out);
        std::fs::remove_dir_all(self.disk.join(&out)).unwrap();
    }

    fn kill_everywhere(&self, scenes: &[Scene], every: impl Fn(&Scene) -> usize) -> usize {
        let all = std::env::var("TWOTOWER_KILLS").is_ok_and(|kills| kills == "all");
        let mut kills: Vec<(&Scene, &String, usize)> = Vec::new();
        for scene in scenes {
            let step = if all { 1 } else { every(scene) };
            kills.extend(scene.points.iter().enumerate().step_by(step).map(|(at, point)| (scene, point, at)));
        }
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some((scene, point, at)) = kills.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let kill = std::panic::AssertUnwindSafe(|| self.kill(scene, point, *at));
                        if std::panic::catch_unwind(kill).is_err() {
                            failed.lock().unwrap().push(format!("{}: {point}", scene.name));
                        }
                    }
                });
            }
        });
        let failed = failed.into_inner().unwrap();
        assert!(failed.is_empty(), "{failed:#?}");
        println!("killed at {} of {} points", kills.len(), scenes.iter().map(|s| s.points.len()).sum::<usize>());
        scenes.iter().map(|scene| scene.points.len()).sum()
    }
}

/// The test's S3 server puts whole keys into names of files: with more than four letters in the name of an output, a checkpoint is refused.
fn short(scene: &str) -> &str {
    &scene[..2]
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let Ok(entries) = std::fs::read_dir(from) else { return };
    for entry in entries.map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Puts `ID` for the names of runs and attempts in every text.
fn without_ids(value: &mut Value) {
    match value {
        Value::String(text) => {
            let is_id = |part: &str| part.len() == 23 && part.as_bytes()[8] == b'T' && part.as_bytes()[16] == b'-';
            let parts: Vec<&str> = text.split('/').map(|part| if is_id(part) { "ID" } else { part }).collect();
            *text = parts.join("/");
        }
        Value::Array(values) => values.iter_mut().for_each(without_ids),
        Value::Object(fields) => fields.values_mut().for_each(without_ids),
        _ => {}
    }
}

/// Each stage, from where the one before has left off; and the release at their end, as `golden`.
fn stages(site: &Site) -> Vec<Scene> {
    std::fs::create_dir_all(site.disk.join("gold")).unwrap();
    let mut scenes = Vec::new();
    for stage in STAGES {
        let before = format!("before-{stage}");
        site.copy("gold", &before);
        scenes.push(site.scene(stage, vec![stage, "--date", DATE], &before));
        site.done("gold", &[stage, "--date", DATE]);
    }
    scenes
}

#[test]
fn a_job_that_is_killed_anywhere_on_local_files_ends_as_if_it_had_not_been() {
    let world = World::local();
    let disk = world.folder.path().to_path_buf();
    let site = Site::new(world, disk);
    let mut scenes = stages(&site);
    // a second release, a refused candidate, and one that is left over
    site.copy("gold", "two");
    site.done("two", &["run", "--date", DATE, "--set", "training.seed=5"]);
    let refused = ["run", "--date", DATE, "--set", "training.seed=6", "--set", "gates.min_items=1000"];
    assert_eq!(site.run("two", &refused, &[]).0, 65);
    site.done("two", &["samples", "--date", DATE, "--set", "samples.holdout_share=0.3"]);
    scenes.push(site.scene("rollback", vec!["release", "rollback", "1", "--reason", "test"], "two"));
    scenes.push(site.scene("gc", vec!["release", "gc", "--keep", "1", "--keep-days", "0"], "two"));
    let points = site.kill_everywhere(&scenes, |scene| match scene.name {
        "publish" | "rollback" => 1,
        "gc" => 4,
        _ => 6,
    });
    assert!(points >= 100, "only {points} points");
}

#[test]
fn a_job_that_is_killed_on_s3_ends_as_if_it_had_not_been() {
    let world = World::s3();
    let disk = world.folder.path().join("s3/bucket/team");
    let site = Site::new(world, disk);
    site.kill_everywhere(&stages(&site), |scene| if scene.name == "publish" { 4 } else { 23 });
}
