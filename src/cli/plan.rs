use crate::artifacts::RunDate;
use crate::error::{Error, Result};
use crate::job::Stop;
use crate::pipeline::{self, Day, Plan, Question, Scope, Stage, State};
use crate::progress::{bytes, count};

use super::common::ConfigArgs;
use super::tables::table;

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("dates").required(true).args(["date", "from"])))]
#[command(after_help = "\
Examples:
  twotower plan -c job.yaml --date 2026-11-20
  twotower plan -c job.yaml --from 2026-11-01 --to 2026-11-20
  twotower plan -c job.yaml --date 2026-11-20 --cold
  twotower plan -c job.yaml --from 2025-11-21 --to 2026-11-20 --json | jq '.days[] | select(.state == \"stale\")'

A date is done, stale (done, and inputs, SQL, config or the release that it goes on from have changed since), unfinished, missing, not
ready (partitions are missing, empty or without their marker), or has no data. `would read` is what its samples are made from; a date
whose samples are there reads nothing. Of a stale date it is said what went on from it: that is not wrong, and is not run again by itself.")]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// One date
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub date: Option<RunDate>,
    /// First date of a range
    #[arg(long, requires = "to")]
    pub from: Option<RunDate>,
    /// Last date of a range, included
    #[arg(long, requires = "from")]
    pub to: Option<RunDate>,
    /// Plan what `run --cold` or `backfill --cold` would do: the first date starts from nothing
    #[arg(long)]
    pub cold: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub async fn run(args: Args, quiet: bool, stop: Stop) -> Result<()> {
    let (Some(first), Some(last)) = (args.from.or(args.date), args.to.or(args.date)) else {
        return Err(Error::usage("give --date, or --from and --to"));
    };
    if first > last {
        return Err(Error::usage(format!("--from {first} is after --to {last}; give the earlier date first")));
    }
    let job = args.config.job(first, quiet, stop)?;
    let question = Question { first, last, scope: Scope::UpTo(Stage::Publish), publish: false, cold: args.cold };
    let plan = pipeline::plan(&job, &question).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&plan).expect("a plan is JSON"));
    } else {
        print!("{}", for_people(&plan));
    }
    Ok(())
}

/// A table, and below it what it comes to.
fn for_people(plan: &Plan) -> String {
    let lines = plan.days.iter().map(|day| {
        let reads = day.reads.files > 0;
        vec![
            day.date.to_string(),
            day.state.in_words().into(),
            would_run(day),
            if reads { rows(day.reads.rows) } else { String::new() },
            if reads { bytes(day.reads.bytes) } else { String::new() },
            explained(day),
        ]
    });
    let mut text = table(&["date", "state", "would run", "rows", "would read", "why"], lines);
    let states = [State::Done, State::Stale, State::Unfinished, State::Missing, State::NotReady, State::NoData];
    let counted = states.into_iter().filter_map(|state| {
        let days = plan.days.iter().filter(|day| day.state == state).count();
        (days > 0).then(|| format!("{} {}", count(days as u64), state.in_words()))
    });
    let reads = &plan.reads;
    text += &format!("\n{}; to read: ", counted.collect::<Vec<_>>().join(", "));
    text += &match reads.files {
        0 => "nothing".into(),
        files => format!("{} rows, {} in {} files", rows(reads.rows), bytes(reads.bytes), count(files)),
    };
    text + "\n"
}

/// Stages by name; all those up to the last as such.
fn would_run(day: &Day) -> String {
    let names: Vec<&str> = day.to_run.iter().map(|stage| stage.name()).collect();
    match names[..] {
        [first, .., last] if day.to_run.len() > 2 => format!("{first} to {last}"),
        _ => names.join(", "),
    }
}

fn rows(rows: Option<u64>) -> String {
    rows.map_or("?".into(), count)
}

fn explained(day: &Day) -> String {
    if day.descendants.is_empty() {
        return day.why.clone();
    }
    let mut numbers: Vec<u64> = day.descendants.iter().filter_map(|descendant| descendant.release).collect();
    let others = day.descendants.len() - numbers.len();
    numbers.sort_unstable();
    let mut from_it = Vec::new();
    if !numbers.is_empty() {
        from_it.push(format!("release{} {}", if numbers.len() > 1 { "s" } else { "" }, in_runs(&numbers)));
    }
    if others > 0 {
        from_it.push(format!("{others} unpublished candidate{}", if others > 1 { "s" } else { "" }));
    }
    format!("{}; {} went on from it", day.why, from_it.join(" and "))
}

/// `2, 5 to 9`, of numbers that ascend.
fn in_runs(numbers: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let in_words = |(first, last): &(u64, u64)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first} to {last}"),
    };
    runs.iter().map(in_words).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_that_follow_each_other_are_said_in_one() {
        assert_eq!(in_runs(&[2, 3, 5, 7, 8, 9, 12]), "2, 3, 5, 7 to 9, 12");
        assert_eq!(in_runs(&[]), "");
    }
}
