use serde_json::json;

use crate::artifacts::RunDate;
use crate::error::{Error, Result};
use crate::job::Stop;
use crate::recommend::LastRelease;
use crate::storage::{Created, Store};
use crate::{index, model, samples};

use super::common::ConfigArgs;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  twotower check -c job.yaml --date 2026-11-20\n  twotower check -c job.yaml --cases sql/cases"
)]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Date whose partitions are looked at; yesterday (UTC) when not given
    #[arg(long, conflicts_with = "cases")]
    pub date: Option<RunDate>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Run the cases in this folder on the config's SQL, and nothing else: files YAML with `given` and `expect`ed rows. Reads no
    /// source and no output
    #[arg(long, value_name = "DIR")]
    pub cases: Option<String>,
}

/// Looks at everything a run would need, and says what it found; the first thing that cannot work is an error.
pub async fn run(args: Args, quiet: bool, stop: Stop) -> Result<()> {
    if let Some(folder) = &args.cases {
        return cases(&args.config, folder, args.json).await;
    }
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

/// Runs every case, and then says which do not hold.
async fn cases(args: &ConfigArgs, folder: &str, as_json: bool) -> Result<()> {
    args.load()?;
    let (mut held, mut failed) = (0, Vec::new());
    for (number, file) in samples::cases::read_cases(folder).await?.iter().enumerate() {
        for (at, case) in file.cases.iter().enumerate() {
            let named = |text: &str| format!("{}: case `{}`: {text}", file.shown, case.name);
            let mut set = args.clone();
            set.set.extend(case.set.iter().cloned());
            let config = set.load().map_err(|error| Error { message: named(&error.message), ..error })?;
            match samples::cases::hold(config, case, &format!("case-{number}-{at}")).await {
                Ok(differences) if differences.is_empty() => held += 1,
                Ok(differences) => failed.extend(differences.iter().map(|text| named(text))),
                // a case that cannot be built is one that does not hold: the others are told of, too
                Err(error) => failed.push(named(&error.to_string())),
            }
        }
    }
    if failed.is_empty() {
        match as_json {
            true => println!("{}", json!({ "status": "ok", "cases": held })),
            false => println!("cases     {held} of {held} hold"),
        }
        return Ok(());
    }
    Err(Error::config(format!("{held} cases hold, these do not:\n{}", failed.join("\n"))))
}

/// Writes, creates twice and removes one small object: a release needs a store that refuses the second create.
async fn probe(output: &Store) -> Result<Created> {
    let key = format!("releases/.probe-{}-{}", std::process::id(), chrono::Utc::now().timestamp_micros());
    output.put_new(&key, "probe").await?;
    let again = output.put_new(&key, "probe").await;
    output.delete(&key).await?;
    again
}
