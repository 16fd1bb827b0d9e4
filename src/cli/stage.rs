use crate::error::Result;
use crate::job::Stop;
use crate::pipeline::{self, Scope};

use super::{common::JobArgs, summary};

/// Example: twotower run -c job.yaml --date 2026-11-20
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub job: JobArgs,
    /// Publish although a release of a later date is out
    #[arg(long)]
    pub publish: bool,
}

pub async fn run(args: Args, scope: Scope, quiet: bool, stop: Stop) -> Result<()> {
    let job = args.job.job(quiet, stop)?;
    let outcome = pipeline::run(&job, scope, args.publish).await;
    summary::finish(&job, outcome, args.job.result_file.as_deref())
}
