//! A folder of one's own with generated logs, the real binary, and a real S3 server.
#![allow(dead_code)] // each test binary takes what it needs

pub mod proxy;
mod s3;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Where a test's logs and releases live.
pub struct World {
    pub folder: TempDir,
    /// Folder or URL that sources and output are below.
    pub base: String,
    envs: Vec<(String, String)>,
    server: Option<S3>,
    pub proxy: Option<proxy::Proxy>,
}

/// What a run of the binary left behind.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn expect(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The summary that schedulers read: the last line of standard output.
    pub fn summary(&self) -> serde_json::Value {
        let line = self.stdout.lines().last().expect("something was printed");
        assert!(line.len() <= 4096, "the summary is {} bytes", line.len());
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

pub const FIRST: &str = "2026-11-14";

/// Steps small enough for few rows.
pub const SMALL: [&str; 4] = ["--set", "training.epochs=4", "--set", "training.batch_size=64"];

impl World {
    /// A world on local files.
    pub fn local() -> World {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().to_string_lossy().into_owned();
        World { folder, base, envs: Vec::new(), server: None, proxy: None }
    }

    /// A world whose logs and releases lie on an S3 server over HTTP.
    pub fn s3() -> World {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("s3");
        std::fs::create_dir_all(root.join("bucket")).unwrap();
        let server = S3::start(&root);
        let envs = [
            ("AWS_ENDPOINT_URL", server.url.as_str()),
            ("AWS_ACCESS_KEY_ID", S3::KEY),
            ("AWS_SECRET_ACCESS_KEY", S3::SECRET),
            ("AWS_REGION", "us-east-1"),
        ];
        let envs = envs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        World { folder, base: "s3://bucket/team".into(), envs, server: Some(server), proxy: None }
    }

    /// From now on every request to the store passes a proxy with this plan of faults.
    pub fn through(mut self, plan: impl Fn(&proxy::Asked<'_>) -> proxy::Fault + Send + Sync + 'static) -> World {
        let server = self.server.as_ref().expect("a world on S3");
        let proxy = proxy::Proxy::start(&server.url, plan);
        for (name, value) in &mut self.envs {
            if name == "AWS_ENDPOINT_URL" {
                value.clone_from(&proxy.url);
            }
        }
        World { proxy: Some(proxy), ..self }
    }

    /// The logs of three days of few users, and a config over them whose run takes about a second.
    pub fn tiny(self) -> World {
        let world = self.with_logs_of(3, 120, 80, &[]);
        world.config_with(|text| text.replace("days: -6..0", "days: -2..0"));
        world
    }

    /// The arguments of a command of a tiny world.
    pub fn tiny_args(&self, command: &[&str], more: &[&str]) -> Vec<String> {
        let config = self.folder.path().join("job.yaml").to_string_lossy().into_owned();
        let settings =
            ["gates.min_recall_over_popularity=0", "training.epochs=1", "training.batch_size=64", "model.dim=8"];
        let settings = settings.into_iter().chain(["samples.threads=1", "training.threads=1"]);
        let mut args: Vec<String> = command.iter().map(|word| word.to_string()).collect();
        args.extend(["-c".to_string(), config]);
        args.extend(settings.flat_map(|setting| ["--set".to_string(), setting.to_string()]));
        args.extend(more.iter().map(|word| word.to_string()));
        args
    }

    /// Runs a command of a tiny world.
    pub fn tiny_job(&self, command: &[&str], more: &[&str]) -> Ran {
        self.tiny_job_with(command, more, &[])
    }

    pub fn tiny_job_with(&self, command: &[&str], more: &[&str], envs: &[(&str, &str)]) -> Ran {
        Ran::of(self.start_with(command, more, envs).wait_with_output().unwrap())
    }

    /// Starts a command of a tiny world.
    pub fn start_with(&self, command: &[&str], more: &[&str], envs: &[(&str, &str)]) -> Child {
        let args = self.tiny_args(command, more);
        let mut command = self.command(&args.iter().map(String::as_str).collect::<Vec<_>>());
        command.envs(envs.iter().copied()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// The folder on this machine that a name below the output's parent stands for.
    pub fn disk(&self) -> PathBuf {
        self.folder.path().join(if self.server.is_some() { "s3/bucket/team" } else { "" })
    }

    /// Every release that a reader of a tiny world sees, by the program itself, after a look at every byte of the newest.
    pub fn releases(&self) -> Vec<serde_json::Value> {
        let listed = self.tiny_job(&["release", "list"], &["--json"]).expect(0);
        let releases: Vec<serde_json::Value> = serde_json::from_str(&listed.stdout).unwrap();
        if !releases.is_empty() {
            self.tiny_job(&["release", "verify"], &[]).expect(0);
        }
        releases
    }

    /// Writes `days` of synthetic logs that begin on [`FIRST`].
    pub fn with_logs(self, days: u32, more: &[&str]) -> World {
        self.with_logs_of(days, 400, 300, more)
    }

    /// The same of so many users and items.
    pub fn with_logs_of(self, days: u32, users: u32, items: u32, more: &[&str]) -> World {
        let out = format!("{}/logs", self.base);
        let [days, users, items] = [days, users, items].map(|number| number.to_string());
        let mut args = vec!["generate", "--out", &out, "--days", &days, "--seed", "7", "--start", FIRST];
        args.extend(["--users", &users, "--items", &items]);
        args.extend(more);
        self.run(&args).expect(0);
        self
    }

    /// The demo's config over this world's logs, cut down to seconds.
    pub fn config(&self) -> PathBuf {
        self.config_with(|text| text)
    }

    pub fn config_with(&self, edit: impl Fn(String) -> String) -> PathBuf {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/demo.yaml");
        let text = std::fs::read_to_string(demo).unwrap();
        let text = text
            .replace("../demo/logs", &format!("{}/logs", self.base))
            .replace("../demo/out", &format!("{}/out", self.base));
        assert!(text.contains(&self.base), "the demo's config has other paths now");
        let path = self.folder.path().join("job.yaml");
        std::fs::write(&path, edit(text)).unwrap();
        path
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twotower"));
        command.args(args).env_remove("TWOTOWER_CONFIG").env_remove("RUST_LOG");
        command.env_remove("AWS_PROFILE").current_dir(self.folder.path());
        command.envs(self.envs.iter().map(|(k, v)| (k, v)));
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Runs a command of the job with its config, made to fit the small logs.
    pub fn job(&self, command: &[&str], args: &[&str]) -> Ran {
        let config = self.folder.path().join("job.yaml");
        if !config.exists() {
            self.config();
        }
        let config = config.to_string_lossy().into_owned();
        let mut all = command.to_vec();
        all.extend(["-c", &config]);
        all.extend(SMALL);
        all.extend(args);
        self.run(&all)
    }
}

/// An S3 server in this process, over HTTP.
pub struct S3 {
    pub url: String,
    _runtime: tokio::runtime::Runtime,
}

impl S3 {
    pub const KEY: &str = "test-key";
    pub const SECRET: &str = "test-secret";

    pub fn start(root: &Path) -> S3 {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(s3::serve(listener, s3::service(root, S3::KEY, S3::SECRET)));
        S3 { url, _runtime: runtime }
    }
}

/// What differs by nature between two runs left out: SHA-256 of each file of a release, by its name without ids.
pub fn content(release: &serde_json::Value) -> Vec<(String, String)> {
    let files = release["files"].as_array().unwrap();
    let name = |key: &str| key.rsplitn(3, '/').take(2).collect::<Vec<_>>().join(" of ");
    // a report shows its run's id
    let kept = files.iter().filter(|file| !file["key"].as_str().unwrap().contains("/report/"));
    kept.map(|file| (name(file["key"].as_str().unwrap()), file["sha256"].as_str().unwrap().to_string())).collect()
}

/// Waits until `found`, at most a minute.
pub fn wait_until(what: &str, mut found: impl FnMut() -> bool) {
    let started = Instant::now();
    while !found() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How often, where the environment does not say it.
pub fn rounds(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().map_or(usual, |text| text.parse().expect("a number"))
}
