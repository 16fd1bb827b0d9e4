use crate::error::{Error, Result};
use crate::job::Stop;
use crate::pipeline::{self, Scope};
use crate::publish::How;

use super::common::{JobArgs, TelemetryArgs};
use super::summary;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// Publish although a release of a later date is out
    #[arg(long)]
    pub publish: bool,
    /// Publish although gates refuse it; the manifest says who did, when and why
    #[arg(long, requires = "reason")]
    pub force_publish: bool,
    /// Why, for --force-publish
    #[arg(long, value_name = "TEXT", requires = "force_publish")]
    pub reason: Option<String>,
}

pub async fn run(args: Args, scope: Scope, quiet: bool, stop: Stop) -> Result<()> {
    let job = args.job.job(quiet, stop)?;
    if args.reason.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
        return Err(Error::usage("--reason is empty; say why, the release's manifest keeps it"));
    }
    let how = How { older: args.publish, force: args.reason.filter(|_| args.force_publish) };
    let command = match scope {
        Scope::Only(stage) => stage.name(),
        _ => "run",
    };
    let telling = args.telemetry.begin(&job, command, (job.date, job.date));
    let outcome = pipeline::run(&job, scope, &how).await;
    telling.end(&outcome).await;
    summary::finish(&job, outcome, args.job.result_file.as_deref(), args.job.no_data_ok)
}
