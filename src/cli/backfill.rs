use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::artifacts::RunDate;
use crate::error::{Error, Result};
use crate::job::Stop;
use crate::pipeline::{self, Backfill, Became, Stage, Stages, Told, Which};

use super::common::{ConfigArgs, TelemetryArgs};
use super::summary;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  twotower backfill -c job.yaml --from 2026-11-01 --to 2026-11-20            what is missing
  twotower backfill -c job.yaml --from 2026-11-01 --to 2026-11-20 --jobs 4   samples of four dates at a time
  twotower backfill -c job.yaml --from 2026-11-01 --to 2026-11-20 --stale    and what changed data, SQL or config made stale
  twotower backfill -c job.yaml --from 2026-11-03 --to 2026-11-03 --force    one date once more
  twotower backfill -c job.yaml --from 2026-11-01 --to 2026-11-20 --stages samples

First the samples that are missing are built, then the dates are trained in order, because each goes on from the one before. The first
date that fails ends it, with the dates before it done; the same command goes on from there. `twotower plan` says what would run.

Of a past date comes a candidate: kept, and gone on from by the next date, but not published while a release of a later date is, unless
--publish is given.")]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// First date
    #[arg(long)]
    pub from: RunDate,
    /// Last date, included
    #[arg(long)]
    pub to: RunDate,
    /// Dates whose samples are built at the same time; memory and cores of the SQL engine (samples.memory, samples.threads) are
    /// divided among them
    #[arg(long, value_name = "N", default_value = "1")]
    pub jobs: NonZeroUsize,
    /// Run dates that were never run or not to their end; stale ones are listed and left as they are. This is the default
    #[arg(long, conflicts_with_all = ["stale", "force"])]
    pub only_missing: bool,
    /// Run stale dates too, and those that become stale because an earlier one is run again
    #[arg(long, conflicts_with = "force")]
    pub stale: bool,
    /// Run all dates, whatever was done before: new attempts in new folders, nothing is overwritten
    #[arg(long)]
    pub force: bool,
    /// Only these stages, like --stages samples,train
    #[arg(long, value_name = "STAGES", value_delimiter = ',')]
    pub stages: Vec<Stage>,
    /// Start the first date from nothing; the others go on from it
    #[arg(long)]
    pub cold: bool,
    /// Publish although a release of a later date is out
    #[arg(long)]
    pub publish: bool,
    /// Write the summary, which the last line of standard output also carries, to this file as one line of JSON
    #[arg(long, value_name = "FILE")]
    pub result_file: Option<PathBuf>,
    /// Print the summary alone, as one line of JSON
    #[arg(long)]
    pub json: bool,
}

pub async fn run(args: Args, quiet: bool, stop: Stop) -> Result<()> {
    if args.from > args.to {
        return Err(Error::usage(format!(
            "--from {} is after --to {}; give the earlier date first",
            args.from, args.to
        )));
    }
    let job = args.config.job(args.from, quiet, stop)?;
    let range = Backfill {
        first: args.from,
        last: args.to,
        stages: Stages::of(&args.stages).unwrap_or(Stages::ALL),
        which: match (args.force, args.stale) {
            (true, _) => Which::All,
            (false, true) => Which::Stale,
            (false, false) => Which::Missing,
        },
        jobs: args.jobs,
        publish: args.publish,
        cold: args.cold,
    };
    let telling = args.telemetry.begin(&job, "backfill", (args.from, args.to));
    let mut count = summary::Counted::default();
    let ended = pipeline::backfill(&job, &range, |told| {
        count.add(told);
        if !args.json {
            println!("{}", line(told));
        }
    });
    let ended = ended.await;
    telling.end_without_figures(ended.as_ref().copied()).await;
    if count.stale > 0 && !args.json {
        println!("{} stale, left as they are: --stale runs them again, `twotower plan` says why", count.stale);
    }
    if count.not_published > 0 && !args.json {
        println!(
            "{} kept and not published, because a later date is: --publish makes them releases",
            count.not_published
        );
    }
    summary::write(&count.summary(args.from, args.to, ended.as_ref().err()), args.result_file.as_deref())?;
    ended
}

/// Date, what became of it, seconds, recall, release, and what else there is to say.
fn line(told: &Told) -> String {
    let (mut seconds, mut recall, mut release, mut why) = (None, None, None, "");
    let became = match &told.became {
        Became::Ran(outcome) => {
            seconds = Some(outcome.seconds());
            recall = outcome.evaluation.as_ref().and_then(|facts| {
                let (k, at) = facts.exact.at.iter().next_back()?;
                Some(format!("recall@{k} {:.4}", at.recall))
            });
            release = outcome.release.as_ref().map(|release| release.release);
            outcome.status.split(':').next().unwrap_or_default()
        }
        Became::Done(day) => {
            release = day.release;
            "done before"
        }
        Became::Stale(day) => {
            (release, why) = (day.release, day.why.as_str());
            "stale"
        }
        Became::Kept(day) => {
            (release, why) = (day.release, day.why.as_str());
            "kept"
        }
        Became::NoData(error) => {
            why = error.as_str();
            "no data"
        }
    };
    let seconds = seconds.map(|seconds| format!("{seconds:.1} s")).unwrap_or_default();
    let release = release.map(|release| format!("release {release}")).unwrap_or_default();
    let (date, recall) = (told.date, recall.unwrap_or_default());
    let line = format!("{date}  {became:<21}  {seconds:>9}  {recall:<18}  {release:<12}  {why}");
    line.trim_end().to_string()
}
