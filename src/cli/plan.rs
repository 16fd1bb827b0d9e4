use crate::artifacts::RunDate;
use crate::error::{Error, Result};
use crate::job::Stop;
use crate::pipeline;

use super::common::ConfigArgs;
use super::tables::table;

/// Example: twotower plan -c job.yaml --from 2026-11-01 --to 2026-11-20
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("dates").required(true).args(["date", "from"])))]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// One date
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub date: Option<RunDate>,
    /// First date of a range
    #[arg(long, requires = "to")]
    pub from: Option<RunDate>,
    /// Last date of a range, included
    #[arg(long, requires = "from")]
    pub to: Option<RunDate>,
    /// As with `run --cold`
    #[arg(long)]
    pub cold: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub async fn run(args: Args, quiet: bool, stop: Stop) -> Result<()> {
    let (Some(first), Some(last)) = (args.from.or(args.date), args.to.or(args.date)) else {
        return Err(Error::usage("give --date, or --from and --to"));
    };
    let job = args.config.starting(args.cold).job(first, quiet, stop)?;
    let mut days = Vec::new();
    for date in first.to(last) {
        days.push(pipeline::plan(&job.at(date)).await?);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&days).expect("a plan is JSON"));
        return Ok(());
    }
    let rows = days.iter().map(|day| {
        vec![
            day.date.to_string(),
            day.state.clone(),
            day.to_run.join(" "),
            day.input_files.to_string(),
            day.input_bytes.to_string(),
            day.why.clone(),
        ]
    });
    print!("{}", table(&["date", "state", "would run", "files", "bytes", "why"], rows));
    Ok(())
}
