use clap::Subcommand;

use crate::artifacts::Release;
use crate::error::{Error, Kind, Result};
use crate::publish;
use crate::storage::Store;

use super::common::ConfigArgs;
use super::tables::table;

/// Example: twotower release list -c job.yaml
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Every release, oldest first
    List {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One release's manifest
    Show {
        #[command(flatten)]
        config: ConfigArgs,
        /// Its number; the newest when not given
        release: Option<u64>,
    },
    /// Read every file of a release and compare size and SHA-256 with its manifest
    Verify {
        #[command(flatten)]
        config: ConfigArgs,
        /// Its number; the newest when not given
        release: Option<u64>,
    },
}

pub async fn run(args: Args) -> Result<()> {
    match args.command {
        Command::List { config, json } => list(&config.open()?.1, json).await,
        Command::Show { config, release } => {
            let release = find(&config.open()?.1, release).await?;
            println!("{}", serde_json::to_string_pretty(&release).expect("a release is JSON"));
            Ok(())
        }
        Command::Verify { config, release } => verify(&config.open()?.1, release).await,
    }
}

async fn list(output: &Store, json: bool) -> Result<()> {
    let releases = publish::list(output).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&releases).expect("releases are JSON"));
        return Ok(());
    }
    let rows = releases.iter().map(|release| {
        let recall = release.metrics["exact"].as_object().and_then(|at| at.iter().next_back());
        let recall =
            recall.map(|(k, at)| format!("{:.4} @{k}", at["recall"].as_f64().unwrap_or(0.0))).unwrap_or_default();
        vec![
            release.release.to_string(),
            release.date.to_string(),
            release.created.format("%Y-%m-%d %H:%M:%S").to_string(),
            release.items.to_string(),
            recall,
            release.index_factory.clone(),
            release.run_id.clone(),
        ]
    });
    print!("{}", table(&["release", "date", "created (UTC)", "items", "recall", "index", "run"], rows));
    Ok(())
}

async fn verify(output: &Store, number: Option<u64>) -> Result<()> {
    let release = find(output, number).await?;
    let faults = publish::verify(output, &release).await?;
    if faults.is_empty() {
        let bytes: u64 = release.files.iter().map(|file| file.bytes).sum();
        println!("release {}: {} files, {bytes} bytes, all as in the manifest", release.release, release.files.len());
        return Ok(());
    }
    let listed: Vec<String> = faults
        .iter()
        .map(|f| format!("{}: found {}, expected {}", output.url_of(&f.key), f.found, f.expected))
        .collect();
    Err(Error::new(
        Kind::Config,
        format!(
            "release {} is damaged; restore these files or publish the date again:\n  {}",
            release.release,
            listed.join("\n  ")
        ),
    ))
}

async fn find(output: &Store, number: Option<u64>) -> Result<Release> {
    let Some(number) = number else { return publish::current(output).await };
    publish::read(output, number).await?.ok_or_else(|| {
        Error::usage(format!("there is no release {number}; `twotower release list` shows those there are"))
    })
}
