use crate::artifacts::RunDate;
use crate::error::Result;
use crate::generate::{self, GenerateOptions};
use crate::storage;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twotower generate --out ./demo/logs --days 8 --seed 7")]
pub struct Args {
    /// Folder that takes the logs: a path or s3://bucket/prefix
    #[arg(long, value_name = "URL")]
    pub out: String,
    /// Days of impressions
    #[arg(long, default_value_t = 8)]
    pub days: u32,
    #[arg(long, default_value_t = 17)]
    pub seed: u64,
    /// First day
    #[arg(long, default_value = "2026-11-14")]
    pub start: RunDate,
    #[arg(long, default_value_t = 3000)]
    pub users: u32,
    #[arg(long, default_value_t = 2000)]
    pub items: u32,
    /// Items that each later day adds [default: one in a hundred of the first ones]
    #[arg(long)]
    pub new_items: Option<u32>,
    /// Days that an interest of a user lasts until another takes its place [default: interests stay, and only trade places]
    #[arg(long, value_name = "DAYS")]
    pub drift: Option<u32>,
    /// Write ids as text
    #[arg(long)]
    pub string_ids: bool,
}

pub async fn run(args: Args) -> Result<()> {
    let out = storage::open(&args.out)?;
    let options = GenerateOptions {
        days: args.days,
        seed: args.seed,
        start: args.start,
        users: args.users,
        items: args.items,
        new_items: args.new_items,
        drift: args.drift,
        string_ids: args.string_ids,
    };
    let facts = generate::run(&out, &options).await?;
    println!("{}", serde_json::to_string(&facts).expect("facts are JSON"));
    Ok(())
}
