use crate::error::Result;
use crate::job::Stop;
use crate::recommend::LastRelease;
use crate::samples;

use super::common::ConfigArgs;
use crate::artifacts::RunDate;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twotower explain -c job.yaml --date 2026-11-20 positives")]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Date whose partitions would be read
    #[arg(long)]
    pub date: RunDate,
    /// One table; all of them when not given
    pub table: Option<String>,
}

pub async fn run(args: Args, quiet: bool, stop: Stop) -> Result<()> {
    let job = args.config.job(args.date, quiet, stop)?;
    println!("{}", samples::explain(&job, &LastRelease::shared(), args.table.as_deref()).await?);
    Ok(())
}
