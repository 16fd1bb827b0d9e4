use crate::artifacts::RunDate;
use crate::error::{Error, Result};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  twotower dates --from 2026-11-01 --to 2026-11-20 --json")]
pub struct Args {
    /// First date
    #[arg(long)]
    pub from: RunDate,
    /// Last date, included
    #[arg(long)]
    pub to: RunDate,
    /// Print one JSON array, as Argo's `withParam` takes it, instead of one date a line
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: Args) -> Result<()> {
    if args.from > args.to {
        return Err(Error::usage(format!(
            "--from {} is after --to {}; give the earlier date first",
            args.from, args.to
        )));
    }
    print!("{}", listed(args.from, args.to, args.json));
    Ok(())
}

/// The dates from `first` to `last`, both included, as lines or as one line of JSON.
fn listed(first: RunDate, last: RunDate, json: bool) -> String {
    if json {
        let dates: Vec<RunDate> = first.to(last).collect();
        return serde_json::to_string(&dates).expect("dates are JSON") + "\n";
    }
    first.to(last).map(|date| format!("{date}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_listed_over_the_end_of_a_month_as_lines_and_as_json() {
        let (first, last) = ("2028-02-28".parse().unwrap(), "2028-03-01".parse().unwrap());
        assert_eq!(listed(first, last, false), "2028-02-28\n2028-02-29\n2028-03-01\n");
        assert_eq!(listed(first, last, true), "[\"2028-02-28\",\"2028-02-29\",\"2028-03-01\"]\n");
        assert_eq!(listed(first, first, true), "[\"2028-02-28\"]\n");
    }

    #[test]
    fn a_range_that_ends_before_it_begins_says_so() {
        let args = Args { from: "2026-11-20".parse().unwrap(), to: "2026-11-01".parse().unwrap(), json: false };
        assert!(run(args).unwrap_err().message.contains("--from 2026-11-20 is after --to 2026-11-01"));
    }
}
