use clap::CommandFactory;

use crate::error::Result;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twotower completions bash > /etc/bash_completion.d/twotower")]
pub struct Args {
    pub shell: clap_complete::Shell,
}

pub fn run(args: Args) -> Result<()> {
    clap_complete::generate(args.shell, &mut super::Cli::command(), "twotower", &mut std::io::stdout());
    Ok(())
}
