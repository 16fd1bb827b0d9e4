use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Parser;

use crate::artifacts::RunDate;
use crate::error::{Context, Result};
use crate::init::{self, Asker, Wanted};
use crate::job::Stop;

use super::{Cli, Command, check};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  twotower init --impressions s3://bucket/logs/impressions --items s3://bucket/dim/items --out my_shop"
)]
pub struct Args {
    /// The log of what was shown to whom: a folder (with partitions like dt=2026-11-20 or without), a file, or s3://bucket/prefix
    #[arg(long, value_name = "URL")]
    pub impressions: Option<String>,
    /// The catalogue of items with their features
    #[arg(long, value_name = "URL")]
    pub items: Option<String>,
    /// The users with their features
    #[arg(long, value_name = "URL")]
    pub users: Option<String>,
    /// A ranker's scores of users and items, for hard negatives
    #[arg(long, value_name = "URL")]
    pub ranker_scores: Option<String>,
    /// Folder that will take samples, models and releases [default: two-tower]
    #[arg(long, value_name = "URL")]
    pub output: Option<String>,
    /// Name of the job [default: the name of the folder that is written to]
    #[arg(long)]
    pub name: Option<String>,
    /// Date to look at [default: the newest of the impressions]
    #[arg(long)]
    pub date: Option<RunDate>,
    /// Which column is what, where the names do not tell: user_id=uid, items.item_id=sku, or "clicked=event = 'click'"; may be
    /// given many times
    #[arg(long, value_name = "COLUMN=SOURCE")]
    pub map: Vec<String>,
    /// Folder that takes job.yaml and sql/; nothing in it is written over
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Ask nothing: take what the flags say and what the names tell
    #[arg(short, long)]
    pub yes: bool,
}

/// Writes a config and SQL for the logs it is shown, then checks both as `check` does.
pub async fn run(args: Args, quiet: bool, stop: Stop) -> Result<()> {
    let asked = !args.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let mut asker = if asked { Asker::with(std::io::BufReader::new(std::io::stdin())) } else { Asker::silent() };
    let wanted = Wanted {
        impressions: args.impressions,
        items: args.items,
        users: args.users,
        ranker_scores: args.ranker_scores,
        output: args.output,
        name: args.name,
        date: args.date,
        map: args.map,
        out: args.out,
    };
    let made = init::run(&wanted, &mut asker).await?;
    println!("{}", made.told);
    let (config, date) = (made.config.display().to_string(), made.date.to_string());
    // as anyone would call it, so that it does all that `check` does
    let check = Cli::parse_from(["twotower", "check", "-c", &config, "--date", &date]);
    if let Command::Check(args) = check.command {
        check::run(args, quiet, stop)
            .await
            .while_(|| format!("checking {config}, which is written; mend it and check again"))?;
    }
    println!(
        "\nnext:\n  twotower run -c {config} --date {date}\n  twotower explain -c {config} --date {date}   # what would be read, and how"
    );
    Ok(())
}
