use std::path::PathBuf;

use serde_json::json;

use crate::artifacts::Id;
use crate::error::{Error, Result};
use crate::publish;
use crate::recommend::{self, Who};

use super::common::ConfigArgs;
use super::tables::table;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twotower recommend -c job.yaml --user 42 -k 10")]
#[command(group(clap::ArgGroup::new("who").required(true).args(["user", "features"])))]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Id of a user in the release's user_features
    #[arg(long, allow_hyphen_values = true)]
    pub user: Option<String>,
    /// JSON file with the features of a user the release has never seen: {"age": 30, "history": [1, 2]}
    #[arg(long, value_name = "FILE")]
    pub features: Option<PathBuf>,
    /// Number of items
    #[arg(short, default_value_t = 20)]
    pub k: usize,
    /// Also items that the user has had
    #[arg(long)]
    pub with_seen: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub async fn run(args: Args) -> Result<()> {
    if args.k == 0 {
        return Err(Error::usage("-k: found 0, expected at least 1"));
    }
    let (_, output) = args.config.open()?;
    let release = publish::current(&output).await?;
    let who = match (&args.user, &args.features) {
        (Some(user), _) => Who::User(Id::parse(user, release.user_id_type)?),
        (None, Some(file)) => Who::Features(read_features(file)?),
        (None, None) => return Err(Error::usage("give --user or --features")),
    };
    let items = recommend::recommend(&output, &release, who, args.k, !args.with_seen).await?;
    if args.json {
        let items: Vec<_> = items.iter().map(|(item, score)| json!({ "item_id": item, "score": score })).collect();
        println!("{}", json!({ "release": release.release, "date": release.date, "user": args.user, "items": items }));
        return Ok(());
    }
    let rows = items
        .iter()
        .enumerate()
        .map(|(at, (item, score))| vec![(at + 1).to_string(), item.to_string(), format!("{score:.4}")]);
    println!("release {} of {}", release.release, release.date);
    print!("{}", table(&["rank", "item_id", "score"], rows));
    Ok(())
}

fn read_features(file: &std::path::Path) -> Result<serde_json::Value> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::usage(format!("cannot read --features {}", file.display())).caused_by(error))?;
    serde_json::from_str(&text)
        .map_err(|error| Error::usage(format!("--features {}: not JSON", file.display())).caused_by(error))
}
