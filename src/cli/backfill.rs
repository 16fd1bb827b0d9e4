use std::path::PathBuf;

use crate::artifacts::RunDate;
use crate::error::{Context, Error, Kind, Result};
use crate::job::Stop;
use crate::pipeline::{self, Scope, Stage};
use crate::publish::How;

use super::{common::ConfigArgs, summary};

/// Example: twotower backfill -c job.yaml --from 2026-11-01 --to 2026-11-20
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// First date
    #[arg(long)]
    pub from: RunDate,
    /// Last date, included
    #[arg(long)]
    pub to: RunDate,
    /// Start the first date from nothing; the others go on from it
    #[arg(long)]
    pub cold: bool,
    /// Publish although a release of a later date is out
    #[arg(long)]
    pub publish: bool,
    /// Write the summary, which the last line of standard output also carries, to this file as one line of JSON
    #[arg(long, value_name = "FILE")]
    pub result_file: Option<PathBuf>,
}

/// Runs the dates in order and stops at the first that fails; dates without data (exit 99) are passed over.
pub async fn run(args: Args, quiet: bool, stop: Stop) -> Result<()> {
    if args.from > args.to {
        return Err(Error::usage(format!(
            "--from {} is after --to {}; give the earlier date first",
            args.from, args.to
        )));
    }
    let first = args.config.starting(args.cold).job(args.from, quiet, stop.clone())?;
    let others = args.config.job(args.from, quiet, stop)?;
    let how = How { older: args.publish, force: None };
    let mut days = Vec::new();
    for date in args.from.to(args.to) {
        first.stop.check()?;
        let job = if date == args.from { &first } else { &others };
        match pipeline::run(&job.at(date), Scope::UpTo(Stage::Publish), &how).await {
            Ok(outcome) => days.push(outcome.summary()),
            Err(error) if error.kind == Kind::NoData => {
                tracing::warn!(%date, "no data, passed over: {error}");
                days.push(serde_json::json!({ "status": "no_data", "date": date }));
            }
            Err(error) => {
                return Err(error)
                    .while_(|| format!("running {date}; start the same backfill again to go on from there"));
            }
        }
        println!("{}", days.last().expect("a day was added"));
    }
    summary::write(&summary::of_backfill(args.from, args.to, &days), args.result_file.as_deref())
}
