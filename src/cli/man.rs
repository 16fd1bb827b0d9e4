use std::path::PathBuf;

use clap::CommandFactory;

use crate::error::{Error, Result};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twotower man --out ~/.local/share/man/man1")]
pub struct Args {
    /// Folder that takes a page for each command, twotower-run.1 and so on; without it the main page is printed
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<()> {
    let command = super::Cli::command();
    match args.out {
        None => clap_mangen::Man::new(command)
            .render(&mut std::io::stdout())
            .map_err(|error| Error::transient("the man page cannot be written to standard output").caused_by(error)),
        Some(folder) => {
            let written = std::fs::create_dir_all(&folder).and_then(|()| clap_mangen::generate_to(command, &folder));
            written.map_err(|error| {
                let shown = folder.display();
                Error::config(format!("cannot write man pages to {shown}; give a folder that may be written"))
                    .caused_by(error)
            })
        }
    }
}
