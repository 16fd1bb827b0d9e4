//! The command line: one command, one file, one `run`. `run` and the commands of its stages are one file: they differ in their
//! scope alone.

mod backfill;
mod check;
mod common;
mod completions;
mod dates;
mod explain;
mod generate;
mod init;
mod man;
mod plan;
mod recommend;
mod release;
mod report;
mod schema;
mod stage;
mod summary;
mod tables;

use clap::{Parser, Subcommand, ValueEnum};

use crate::error::Result;
use crate::job::Stop;
use crate::pipeline::{Scope, Stage};

/// Turn a recommender's impression logs into a published two-tower retrieval release.
#[derive(Debug, Parser)]
#[command(name = "twotower", version, about, propagate_version = true, max_term_width = 110)]
#[command(after_help = "\
Examples:
  twotower check -c job.yaml                         is everything in place?
  twotower run -c job.yaml --date 2026-11-20         logs to release, for one date
  twotower recommend -c job.yaml --user 42 -k 10     ask the published release

Exit codes: 0 done (also when it was done before), 99 no data for the date, 64 usage, 65 a gate refused the release,
70 a fault of this program, 75 try again, 78 config, SQL or data must change, 143 ended by SIGTERM.")]
pub struct Cli {
    #[command(flatten)]
    pub logging: Logging,
    #[command(subcommand)]
    pub command: Command,
}

/// How much is said on standard error, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct Logging {
    /// Say only warnings and errors, draw no bars and print no tables: the summary alone
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more, on a terminal each step beside the bars; twice for the libraries' own logs
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Form of the logs
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,
}

/// Form of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere
    Auto,
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at logs, and write a first config and its SQL
    Init(init::Args),
    /// Run every stage of one date, then publish
    #[command(after_help = "Example:\n  twotower run -c job.yaml --date 2026-11-20")]
    Run(stage::Args),
    /// Build the sample tables of one date
    #[command(after_help = "Example:\n  twotower samples -c job.yaml --date 2026-11-20")]
    Samples(stage::Args),
    /// Train the two towers on the samples of one date
    #[command(after_help = "Example:\n  twotower train -c job.yaml --date 2026-11-20")]
    Train(stage::Args),
    /// Compute the vectors of all items
    #[command(after_help = "Example:\n  twotower embed -c job.yaml --date 2026-11-20")]
    Embed(stage::Args),
    /// Build the nearest-neighbour index over them
    #[command(after_help = "Example:\n  twotower index -c job.yaml --date 2026-11-20")]
    Index(stage::Args),
    /// Measure the candidate on the holdout and write its report
    #[command(after_help = "Example:\n  twotower evaluate -c job.yaml --date 2026-11-20")]
    Evaluate(stage::Args),
    /// Hold the candidate against the gates and publish it
    #[command(after_help = "Example:\n  twotower publish -c job.yaml --date 2026-11-20")]
    Publish(stage::Args),
    /// Run a range of dates, both ends included
    Backfill(backfill::Args),
    /// List the dates of a range, for schedulers that start one task for each
    Dates(dates::Args),
    /// Say what would run for a date or a range, and why; changes nothing
    Plan(plan::Args),
    /// Look at config, SQL, sources and store before anything runs
    Check(check::Args),
    /// Print the bound SQL of the sample tables and their physical plans
    Explain(explain::Args),
    /// Ask the published release for a user's items, as a service would
    Recommend(recommend::Args),
    /// Published releases: list, show, verify, diff, rollback, gc
    Release(release::Args),
    /// Where a candidate's report is, or two releases compared in one page
    Report(report::Args),
    /// Write synthetic logs with a planted taste
    Generate(generate::Args),
    /// Print the JSON Schema of the config
    Schema(schema::Args),
    /// Print a shell's completions
    Completions(completions::Args),
    /// Print the man page, or write one for each command
    Man(man::Args),
}

impl Cli {
    /// Runs the command. `stop` is set when the process is told to end.
    pub async fn run(self, stop: Stop) -> Result<()> {
        let quiet = self.logging.quiet;
        match self.command {
            Command::Init(args) => init::run(args, quiet, stop).await,
            Command::Run(args) => stage::run(args, Scope::UpTo(Stage::Publish), quiet, stop).await,
            Command::Samples(args) => stage::run(args, Scope::Only(Stage::Samples), quiet, stop).await,
            Command::Train(args) => stage::run(args, Scope::Only(Stage::Train), quiet, stop).await,
            Command::Embed(args) => stage::run(args, Scope::Only(Stage::Embed), quiet, stop).await,
            Command::Index(args) => stage::run(args, Scope::Only(Stage::Index), quiet, stop).await,
            Command::Evaluate(args) => stage::run(args, Scope::Only(Stage::Evaluate), quiet, stop).await,
            Command::Publish(args) => stage::run(args, Scope::Only(Stage::Publish), quiet, stop).await,
            Command::Backfill(args) => backfill::run(args, quiet, stop).await,
            Command::Dates(args) => dates::run(args),
            Command::Plan(args) => plan::run(args, quiet, stop).await,
            Command::Check(args) => check::run(args, quiet, stop).await,
            Command::Explain(args) => explain::run(args, quiet, stop).await,
            Command::Recommend(args) => recommend::run(args).await,
            Command::Release(args) => release::run(args, stop).await,
            Command::Report(args) => report::run(args).await,
            Command::Generate(args) => generate::run(args).await,
            Command::Schema(args) => schema::run(args),
            Command::Completions(args) => completions::run(args),
            Command::Man(args) => man::run(args),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use clap::Command;

    /// Commands that print no table: text for people or tools, or JSON as it is.
    const WITHOUT_TABLE: [&str; 6] = ["init", "explain", "generate", "schema", "completions", "man"];

    /// Every command that does something, by its words.
    fn leaves(command: &Command, before: &str) -> Vec<(String, Command)> {
        let subcommands = command.get_subcommands().filter(|sub| sub.get_name() != "help");
        let found: Vec<_> = subcommands.flat_map(|sub| leaves(sub, &format!("{before} {}", sub.get_name()))).collect();
        if found.is_empty() { vec![(before.trim().to_string(), command.clone())] } else { found }
    }

    #[test]
    fn the_definition_is_sound() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_has_an_example_that_it_takes() {
        use clap::Parser;
        for (words, mut command) in leaves(&super::Cli::command(), "") {
            let help = command.render_long_help().to_string();
            let line = help.lines().map(str::trim).find(|line| line.starts_with("twotower "));
            let line = line.unwrap_or_else(|| panic!("`{words} --help` has no example:\n{help}"));
            assert!(line.starts_with(&format!("twotower {words}")), "{line}");
            let line =
                line.split(" > ").next().unwrap().split("  ").next().unwrap().replace("\"worse on tablets\"", "worse");
            if let Err(error) = super::Cli::try_parse_from(line.split(' ')) {
                panic!("{line}\n{error}");
            }
        }
    }

    #[test]
    fn json_is_there_wherever_a_table_is_printed() {
        for (words, command) in leaves(&super::Cli::command(), "") {
            let json = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
            assert!(json != WITHOUT_TABLE.contains(&words.as_str()), "{words}");
        }
    }
}
