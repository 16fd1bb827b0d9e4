//! Arguments that many commands share, and what they open.

use std::path::PathBuf;
use std::sync::Arc;

use crate::artifacts::RunDate;
use crate::config::{Config, Overrides};
use crate::error::Result;
use crate::job::{Job, Stop};
use crate::progress::Progress;
use crate::storage::{self, Store};
use crate::telemetry::{Given, Places, Telling};

#[derive(Debug, Clone, clap::Args)]
pub struct ConfigArgs {
    /// Config file (YAML); see configs/reference.yaml for every key
    #[arg(short, long, env = "TWOTOWER_CONFIG")]
    pub config: PathBuf,
    /// Override one key, like --set training.epochs=3; may be given many times
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Debug, Clone, clap::Args)]
pub struct JobArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Date D, for the data interval [D, D+1) in UTC: 2026-11-20, RFC 3339, or Argo's `2026-11-20 02:00:00 +0000 UTC`
    #[arg(long)]
    pub date: RunDate,
    /// Start training from nothing, although there is a release to go on from: what a changed feature or tower demands. Give it to
    /// every stage of the day, as it makes another candidate
    #[arg(long)]
    pub cold: bool,
    /// Write the summary, which the last line of standard output also carries, to this file as one line of JSON
    #[arg(long, value_name = "FILE")]
    pub result_file: Option<PathBuf>,
    /// Leave with 0 and not 99 when there is no data for the date and the policy is to skip it; the summary says `no_data`
    #[arg(long)]
    pub no_data_ok: bool,
    /// Print the summary alone, as one line of JSON
    #[arg(long)]
    pub json: bool,
}

impl ConfigArgs {
    pub fn load(&self) -> Result<Config> {
        Config::load(&self.config, &Overrides(self.set.clone()))
    }

    /// The config and its output folder.
    pub fn open(&self) -> Result<(Config, Store)> {
        let config = self.load()?;
        let output = storage::open(&config.resolve(&config.output))?;
        Ok((config, output))
    }

    /// The same, where `cold` for a start from nothing.
    pub fn starting(&self, cold: bool) -> ConfigArgs {
        let mut args = self.clone();
        args.set.extend(cold.then(|| "warm_start.from=nothing".to_string()));
        args
    }

    /// The job for one date.
    pub fn job(&self, date: RunDate, quiet: bool, stop: Stop) -> Result<Job> {
        let (config, output) = self.open()?;
        Ok(Job { config: Arc::new(config), output, date, progress: Progress::new(quiet), stop })
    }
}

impl JobArgs {
    pub fn job(&self, quiet: bool, stop: Stop) -> Result<Job> {
        // bars and tables are for those who read neither JSON nor logs
        self.config.starting(self.cold).job(self.date, quiet || self.json, stop)
    }
}

/// Where a run leaves its figures.
#[derive(Debug, Clone, clap::Args)]
pub struct TelemetryArgs {
    /// Write the run's figures for Prometheus into this file, in place of the config's `metrics.textfile`
    #[arg(long, value_name = "FILE", env = "TWOTOWER_METRICS_FILE")]
    pub metrics_file: Option<PathBuf>,
    /// Push them to this Pushgateway, in place of the config's `metrics.pushgateway`
    #[arg(long, value_name = "URL", env = "TWOTOWER_PUSHGATEWAY", hide_env_values = true)]
    pub pushgateway: Option<String>,
}

impl TelemetryArgs {
    /// Says that `command` begins for `dates`, wherever flags, environment and config want to hear of it.
    pub fn begin(&self, job: &Job, command: &'static str, dates: (RunDate, RunDate)) -> Telling {
        let given = Given {
            textfile: self.metrics_file.clone().filter(|file| !file.as_os_str().is_empty()),
            pushgateway: self.pushgateway.clone().filter(|url| !url.is_empty()),
        };
        let places = Places::new(&job.config, given, |name| std::env::var(name).ok());
        Telling::begin(job, command, dates, places)
    }
}
