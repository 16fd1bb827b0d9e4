use serde_json::json;

use crate::artifacts::RunDate;
use crate::error::Result;
use crate::job::Stop;
use crate::recommend::LastRelease;
use crate::storage::{Created, Store};
use crate::{index, model, samples};

use super::common::ConfigArgs;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twotower check -c job.yaml --date 2026-11-20")]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Date whose partitions are looked at; yesterday (UTC) when not given
    #[arg(long)]
    pub date: Option<RunDate>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Looks at everything a run would need, and says what it found; the first thing that cannot work is an error.
pub async fn run(args: Args, quiet: bool, stop: Stop) -> Result<()> {
    let date = args.date.unwrap_or_else(|| RunDate(chrono::Utc::now().date_naive()).offset(-1));
    // line by line, so that it is seen what was found in order before the one that is not
    let say = |line: String| {
        if !args.json {
            println!("{line}");
        }
    };
    let job = args.config.job(date, quiet, stop)?;
    let (config, device) = (args.config.config.display(), &job.config.training.device);
    say(format!("config    {config} is valid"));
    model::device(device)?;
    index::check(&job.config)?;
    let factory = job.config.index.factory.as_deref().unwrap_or("by item count");
    say(format!("model     device {device}, index factory {factory}"));
    let created = probe(&job.output).await?;
    let output = job.output.url();
    say(match created {
        Created::AlreadyThere => format!("output    {output} can be written, and refuses to create an object twice"),
        Created::Yes => format!(
            "output    {output} can be written, and creates an object twice (it ignores If-None-Match): never run two jobs on it at once"
        ),
    });
    let mut rankers = Vec::new();
    for ranker in crate::rankers::load(&job.config).await? {
        say(format!("ranker    {} from {}", ranker.signature(), ranker.url));
        rankers.push(ranker.signature());
    }
    let warnings = samples::check(&job, &LastRelease::shared()).await?;
    say(format!("samples   sources and SQL fit together for {date}"));
    for warning in &warnings {
        say(format!("warning   {warning}"));
    }
    say(format!("ok, {} warnings", warnings.len()));
    if args.json {
        let found = json!({
            "status": "ok",
            "config": config.to_string(),
            "date": date,
            "device": device,
            "index": factory,
            "output": output,
            "creates_once": created == Created::AlreadyThere,
            "rankers": rankers,
            "warnings": warnings,
        });
        println!("{found}");
    }
    Ok(())
}

/// Writes, creates twice and removes one small object: a release needs a store that refuses the second create.
async fn probe(output: &Store) -> Result<Created> {
    let key = format!("releases/.probe-{}-{}", std::process::id(), chrono::Utc::now().timestamp_micros());
    output.put_new(&key, "probe").await?;
    let again = output.put_new(&key, "probe").await;
    output.delete(&key).await?;
    again
}
