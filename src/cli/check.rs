use crate::artifacts::RunDate;
use crate::error::Result;
use crate::job::Stop;
use crate::recommend::LastRelease;
use crate::storage::{Created, Store};
use crate::{index, model, rankers, samples};

use super::common::ConfigArgs;

/// Example: twotower check -c job.yaml --date 2026-11-20
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Date whose partitions are looked at; yesterday (UTC) when not given
    #[arg(long)]
    pub date: Option<RunDate>,
}

/// Looks at everything a run would need, and says what it found; the first thing that cannot work is an error.
pub async fn run(args: Args, quiet: bool, stop: Stop) -> Result<()> {
    let date = args.date.unwrap_or_else(|| RunDate(chrono::Utc::now().date_naive()).offset(-1));
    let job = args.config.job(date, quiet, stop)?;
    println!("config    {} is valid", args.config.config.display());
    model::device(&job.config.training.device)?;
    index::check(&job.config)?;
    println!(
        "model     device {}, index factory {}",
        job.config.training.device,
        job.config.index.factory.as_deref().unwrap_or("by item count")
    );
    println!("output    {}", probe(&job.output).await?);
    for ranker in rankers::load(&job.config).await? {
        println!("ranker    {} from {}", ranker.signature(), ranker.url);
    }
    let warnings = samples::check(&job, &LastRelease::shared()).await?;
    println!("samples   sources and SQL fit together for {date}");
    for warning in &warnings {
        println!("warning   {warning}");
    }
    println!("ok, {} warnings", warnings.len());
    Ok(())
}

/// Writes, creates twice and removes one small object: a release needs a store that refuses the second create.
async fn probe(output: &Store) -> Result<String> {
    let key = format!("releases/.probe-{}-{}", std::process::id(), chrono::Utc::now().timestamp_micros());
    output.put_new(&key, "probe").await?;
    let again = output.put_new(&key, "probe").await;
    output.delete(&key).await?;
    Ok(match again? {
        Created::AlreadyThere => format!("{} can be written, and refuses to create an object twice", output.url()),
        Created::Yes => format!(
            "{} can be written, and creates an object twice (it ignores If-None-Match): never run two jobs on it at once",
            output.url()
        ),
    })
}
