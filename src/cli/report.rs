use std::path::{Path, PathBuf};
use std::process::Command;

use crate::artifacts::{Release, RunDate};
use crate::error::{Error, Result};
use crate::publish;
use crate::report::{self, Found};
use crate::storage::Store;

use super::common::ConfigArgs;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twotower report -c job.yaml --compare 41 42 --open")]
#[command(group(clap::ArgGroup::new("which").args(["release", "date", "run", "compare"])))]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Of this release; of the newest when nothing is given
    #[arg(long, value_name = "N")]
    pub release: Option<u64>,
    /// Of the newest candidate of this date, published or not
    #[arg(long)]
    pub date: Option<RunDate>,
    /// Of this run, published or not
    #[arg(long, value_name = "ID")]
    pub run: Option<String>,
    /// Two releases side by side: measures, curves, samples, items, index, gates, sizes
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    pub compare: Option<Vec<u64>>,
    /// Write the page to this file
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Show the page in a browser
    #[arg(long)]
    pub open: bool,
    /// Print the figures as JSON in place of where the page is
    #[arg(long)]
    pub json: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let (_, output) = args.config.open()?;
    let page = match &args.compare {
        Some(numbers) => compare(&args, &output, numbers).await?,
        None => one(&args, &output).await?,
    };
    let Some(page) = page else { return Ok(()) };
    if !args.json {
        println!("{page}");
    }
    if args.open { open(&page) } else { Ok(()) }
}

/// Where the page is.
async fn one(args: &Args, output: &Store) -> Result<Option<String>> {
    let Found { report, page } = match (&args.run, args.date) {
        (Some(run_id), _) => report::of_run(output, run_id).await?,
        (None, Some(date)) => report::of_date(output, date).await?,
        (None, None) => report::of_release(output, &release(output, args.release).await?).await?,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("a report is JSON"));
    }
    if let Some(file) = &args.out {
        return write(file, &report::page(&report)).map(Some);
    }
    match local(output, &page) {
        // a browser cannot ask an object store
        None if args.open => temporary(&report::page(&report)).map(Some),
        None => Ok(Some(output.url_of(&page))),
        Some(file) => Ok(Some(file)),
    }
}

async fn compare(args: &Args, output: &Store, numbers: &[u64]) -> Result<Option<String>> {
    let (a, b) = (release(output, Some(numbers[0])).await?, release(output, Some(numbers[1])).await?);
    let comparison = report::compare(output, &a, &b).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&comparison).expect("a comparison is JSON"));
        if args.out.is_none() && !args.open {
            return Ok(None);
        }
    }
    let page = comparison.page();
    match &args.out {
        Some(file) => write(file, &page).map(Some),
        None if args.open => temporary(&page).map(Some),
        None => write(Path::new(&format!("compare-{}-{}.html", a.release, b.release)), &page).map(Some),
    }
}

async fn release(output: &Store, number: Option<u64>) -> Result<Release> {
    let Some(number) = number else { return publish::current(output).await };
    publish::find(output, number).await?.ok_or_else(|| {
        Error::usage(format!("there is no release {number}; `twotower release list` shows those there are"))
    })
}

/// The object as a file of this machine, if it is one.
fn local(output: &Store, key: &str) -> Option<String> {
    let url = output.url_of(key);
    (output.root().scheme() == "file").then(|| url.strip_prefix("file://").unwrap_or(&url).to_string())
}

fn write(file: &Path, page: &str) -> Result<String> {
    std::fs::write(file, page).map_err(|error| {
        let text =
            format!("cannot write {}; give --out a file in a folder that exists and may be written", file.display());
        Error::usage(text).caused_by(error)
    })?;
    Ok(file.display().to_string())
}

/// A file of its own that stays, since a browser reads it after this program has ended.
fn temporary(page: &str) -> Result<String> {
    let failed = |error: std::io::Error| {
        Error::usage("cannot write a temporary file; give --out FILE, or set TMPDIR to a folder that may be written")
            .caused_by(error)
    };
    let file = tempfile::Builder::new().prefix("twotower-").suffix(".html").tempfile().map_err(failed)?;
    let (_, path) = file.keep().map_err(|error| failed(error.error))?;
    write(&path, page)
}

/// Hands the page to what shows pages on this machine.
fn open(page: &str) -> Result<()> {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let advice = |what: &str| format!("--open: {what}; open {page} in a browser yourself");
    match Command::new(opener).arg(page).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::usage(advice(&format!("`{opener}` found no browser ({status})")))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::usage(advice(&format!("there is no `{opener}` on this machine (package xdg-utils)"))))
        }
        Err(error) => Err(Error::usage(advice(&format!("`{opener}` did not start"))).caused_by(error)),
    }
}
