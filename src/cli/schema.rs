use crate::config::{json_schema, reference_yaml};
use crate::error::Result;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twotower schema > twotower.schema.json")]
pub struct Args {
    /// Print a config with every key, its default and its documentation instead
    #[arg(long)]
    pub reference: bool,
}

pub fn run(args: Args) -> Result<()> {
    if args.reference {
        print!("{}", reference_yaml());
    } else {
        println!("{}", serde_json::to_string_pretty(&json_schema()).expect("a schema is JSON"));
    }
    Ok(())
}
