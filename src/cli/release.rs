use chrono::Utc;
use clap::Subcommand;
use serde::Serialize;

use crate::artifacts::{Release, keys};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::job::Stop;
use crate::publish::{self, Difference};
use crate::storage::{Holder, Lease, Store};

use super::common::ConfigArgs;
use super::tables::table;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

/// What every one of these commands takes.
#[derive(Debug, clap::Args)]
pub struct Common {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Every release, oldest first
    #[command(after_help = "Example:\n  twotower release list -c job.yaml --last 10")]
    List {
        #[command(flatten)]
        common: Common,
        /// Only so many of the newest
        #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
        last: usize,
    },
    /// One release's manifest
    #[command(after_help = "Example:\n  twotower release show 42 -c job.yaml")]
    Show {
        #[command(flatten)]
        common: Common,
        /// Its number; the newest when not given
        release: Option<u64>,
    },
    /// Read every file of a release and compare size and SHA-256 with its manifest
    #[command(after_help = "Example:\n  twotower release verify -c job.yaml")]
    Verify {
        #[command(flatten)]
        common: Common,
        /// Its number; the newest when not given
        release: Option<u64>,
    },
    /// Compare two releases: data, metrics, items, SQL, sizes
    #[command(after_help = "Example:\n  twotower release diff 41 42 -c job.yaml")]
    Diff {
        #[command(flatten)]
        common: Common,
        /// Number of the first
        a: u64,
        /// Number of the second; the newest when not given
        b: Option<u64>,
    },
    /// Publish an earlier release's files again, under a new number
    #[command(after_help = "Example:\n  twotower release rollback 41 -c job.yaml --reason \"worse on tablets\"")]
    Rollback {
        #[command(flatten)]
        common: Common,
        /// Number of the release to go back to
        release: u64,
        /// Why, for the manifest
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Remove old releases, and the candidates and sample tables that no kept release refers to
    #[command(after_help = "Example:\n  twotower release gc -c job.yaml --dry-run")]
    Gc {
        #[command(flatten)]
        common: Common,
        /// Newest releases that are kept [default: retention.keep]
        #[arg(long, value_name = "N")]
        keep: Option<usize>,
        /// Releases of the last days are kept too [default: retention.keep_days]
        #[arg(long, value_name = "D")]
        keep_days: Option<u32>,
        /// Say what would be removed; change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

pub async fn run(args: Args, stop: Stop) -> Result<()> {
    match args.command {
        Command::List { common, last } => list(&common.config.open()?.1, last, common.json).await,
        Command::Show { common, release } => {
            print_json(&find(&common.config.open()?.1, release).await?);
            Ok(())
        }
        Command::Verify { common, release } => verify(&common.config.open()?.1, release, common.json).await,
        Command::Diff { common, a, b } => {
            let output = common.config.open()?.1;
            let (a, b) = (find(&output, Some(a)).await?, find(&output, b).await?);
            let difference = publish::diff(&output, &a, &b).await?;
            if common.json {
                print_json(&difference)
            } else {
                print_difference(&difference)
            }
            Ok(())
        }
        Command::Rollback { common, release, reason } => {
            let (config, output) = common.config.open()?;
            if reason.trim().is_empty() {
                return Err(Error::usage("--reason is empty; say why, the release's manifest keeps it"));
            }
            let lease = lease(&config, &output, "release rollback", &stop).await?;
            let done = publish::rollback(&output, &lease, release, &reason).await;
            lease.release().await;
            let done = done?;
            if common.json {
                print_json(&done);
            } else {
                println!("release {} has the files of release {release}", done.release);
            }
            Ok(())
        }
        Command::Gc { common, keep, keep_days, dry_run } => {
            let (mut config, output) = common.config.open()?;
            config.retention.keep = keep.unwrap_or(config.retention.keep);
            config.retention.keep_days = keep_days.unwrap_or(config.retention.keep_days);
            if config.retention.keep == 0 {
                return Err(Error::usage("--keep 0 would delete the published release; give at least 1"));
            }
            gc(&config, &output, dry_run, common.json, &stop).await
        }
    }
}

async fn lease(config: &Config, output: &Store, doing: &str, stop: &Stop) -> Result<std::sync::Arc<Lease>> {
    let holder = Holder::new(doing, config.lease.ttl.0);
    Lease::take(&output.folder(keys::LEASES), &holder, config.lease.wait.0, || stop.check()).await
}

async fn list(output: &Store, last: usize, json: bool) -> Result<()> {
    let releases = publish::newest_ones(output, last).await?;
    if json {
        print_json(&releases);
        return Ok(());
    }
    let rows = releases.iter().map(|release| {
        let recall = release.metrics["exact"].as_object().and_then(|at| at.iter().next_back());
        let recall =
            recall.map(|(k, at)| format!("{:.4} @{k}", at["recall"].as_f64().unwrap_or(0.0))).unwrap_or_default();
        let note = match (&release.publication.rollback, &release.publication.forced) {
            (Some(rollback), _) => format!("rollback to {} from {}: {}", rollback.to, rollback.from, rollback.reason),
            (None, Some(forced)) => format!("forced: {}", forced.reason),
            (None, None) => String::new(),
        };
        vec![
            release.release.to_string(),
            release.date.to_string(),
            release.created.format("%Y-%m-%d %H:%M:%S").to_string(),
            release.items.to_string(),
            recall,
            release.index_factory.clone(),
            release.run_id.clone(),
            note,
        ]
    });
    print!("{}", table(&["release", "date", "created (UTC)", "items", "recall", "index", "run", "note"], rows));
    Ok(())
}

async fn verify(output: &Store, number: Option<u64>, json: bool) -> Result<()> {
    let release = find(output, number).await?;
    let faults = publish::verify(output, &release).await?;
    let files = release.all_files().count();
    let bytes: u64 = release.all_files().map(|file| file.bytes).sum();
    if json {
        print_json(
            &serde_json::json!({ "release": release.release, "files": files, "bytes": bytes, "faults": faults }),
        );
    } else if faults.is_empty() {
        println!("release {}: {files} files, {bytes} bytes, all as in the manifest", release.release);
    }
    if faults.is_empty() {
        return Ok(());
    }
    let listed: Vec<String> = faults
        .iter()
        .map(|f| format!("{}: found {}, expected {}", output.url_of(&f.key), f.found, f.expected))
        .collect();
    Err(Error::new(
        Kind::Config,
        format!(
            "release {} is damaged; restore these files, roll back, or publish the date again:\n  {}",
            release.release,
            listed.join("\n  ")
        ),
    ))
}

async fn gc(config: &Config, output: &Store, dry_run: bool, json: bool, stop: &Stop) -> Result<()> {
    let found = if dry_run {
        publish::garbage(output, &config.retention, Utc::now()).await?
    } else {
        let lease = lease(config, output, "release gc", stop).await?;
        let done = publish::gc(output, &lease, &config.retention).await;
        lease.release().await;
        done?
    };
    if json {
        print_json(&found);
        return Ok(());
    }
    for number in &found.releases {
        println!("release {number}");
    }
    for folder in &found.folders {
        println!("{} ({} objects, {} bytes)", folder.key, folder.objects, folder.bytes);
    }
    for half in &found.half_written {
        println!("{} (left half-written, {} bytes)", half.file.display(), half.bytes);
    }
    let bytes: u64 = found.folders.iter().map(|folder| folder.bytes).sum();
    println!(
        "{} {} releases, {} folders, {bytes} bytes",
        if dry_run { "would remove" } else { "removed" },
        found.releases.len(),
        found.folders.len()
    );
    Ok(())
}

fn print_difference(d: &Difference) {
    let window = |(from, to): (crate::artifacts::RunDate, crate::artifacts::RunDate)| format!("{from} to {to}");
    let row = |name: &str, a: String, b: String| vec![name.to_string(), a, b];
    let mut rows = vec![
        row("date", d.date.0.to_string(), d.date.1.to_string()),
        row("data", window(d.data_window.0), window(d.data_window.1)),
        row("items", d.items.0.to_string(), d.items.1.to_string()),
        row("dimension", d.dim.0.to_string(), d.dim.1.to_string()),
        row("index", d.index.0.clone(), d.index.1.clone()),
    ];
    let number = |value: Option<f64>| match value {
        Some(value) if value.fract() == 0.0 => format!("{value}"),
        Some(value) => format!("{value:.4}"),
        None => "none".into(),
    };
    rows.extend(d.metrics.iter().map(|(name, (a, b))| row(name, number(*a), number(*b))));
    rows.extend(d.bytes.iter().map(|(part, (a, b))| row(&format!("bytes of {part}"), a.to_string(), b.to_string())));
    print!("{}", table(&["", &format!("release {}", d.a), &format!("release {}", d.b)], rows));
    let examples = |ids: &[crate::artifacts::Id]| ids.iter().map(|id| id.to_string()).collect::<Vec<_>>().join(", ");
    println!("\n{} items added {}", d.items_added, examples(&d.added));
    println!("{} items removed {}", d.items_removed, examples(&d.removed));
    println!("other digests: {}", if d.digests.is_empty() { "none".into() } else { d.digests.join(", ") });
    if !d.sql_tables.is_empty() {
        println!("other SQL: {}", d.sql_tables.join(", "));
    }
}

async fn find(output: &Store, number: Option<u64>) -> Result<Release> {
    let Some(number) = number else { return publish::current(output).await };
    publish::find(output, number).await?.ok_or_else(|| {
        Error::usage(format!("there is no release {number}; `twotower release list` shows those there are"))
    })
}

fn print_json(value: &impl Serialize) {
    println!("{}", serde_json::to_string_pretty(value).expect("it is JSON"));
}
