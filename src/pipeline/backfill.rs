//! A range of dates: their samples side by side, then everything after them one date after the other, because each goes on from the one
//! before.

use std::collections::BTreeMap;
use std::future::ready;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::plan::{Day, Question, State, plan};
use super::run::{Outcome, run};
use super::{Scope, Stage, Stages};
use crate::artifacts::RunDate;
use crate::config::{ByteSize, Config};
use crate::error::{Error, Kind, Result};
use crate::job::{Job, threads};
use crate::publish::How;
use crate::recommend::LastRelease;
use crate::samples::Recipe;

/// Least memory of the SQL engine for one date; with less, joins of a few thousand rows would spill.
const LEAST_MEMORY: usize = 32 << 20;

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Backfill {
    pub first: RunDate,
    /// Included.
    pub last: RunDate,
    pub stages: Stages,
    pub which: Which,
    /// Dates whose samples are built at the same time.
    pub jobs: NonZeroUsize,
    /// Publish although a release of a later date is out.
    pub publish: bool,
    /// Start the first date from nothing; the others go on from it.
    pub cold: bool,
}

/// Which dates are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that have no candidate yet, or are unfinished.
    Missing,
    /// Stale ones too, and those that become so because an earlier one was run again.
    Stale,
    /// All of them, whatever was done before: a new attempt in folders of its own.
    All,
}

/// What became of one date.
pub struct Told {
    pub date: RunDate,
    pub became: Became,
}

pub enum Became {
    /// It was run, or found done on the way.
    Ran(Box<Outcome>),
    /// Done before, for the inputs, SQL and config of now.
    Done(Day),
    /// Left as it is, although it would come out otherwise now.
    Stale(Day),
    /// Left as it is: it cannot be made again, because partitions are gone.
    Kept(Day),
    NoData(String),
}

/// Runs the dates, and tells what became of each as soon as all before it are told.
///
/// # Errors
/// That of the first date that fails. Those before it are done, and the same backfill goes on from there.
pub async fn backfill(job: &Job, range: &Backfill, mut tell: impl FnMut(&Told)) -> Result<()> {
    let question = Question {
        first: range.first,
        last: range.last,
        scope: Scope::These(range.stages),
        publish: range.publish,
        cold: range.cold,
    };
    let days = plan(job, &question).await?.days;
    let mut first = job.at(range.first);
    Arc::make_mut(&mut first.config).warm_start = question.warm_start(job, range.first);
    let job_of = |date: RunDate| if date == range.first { first.clone() } else { job.at(date) };
    let mut sampled = sample_ahead(&days, range, job_of).await?;
    let how = How { older: range.publish, force: None };
    for day in days {
        let date = day.date;
        job.stop.check()?;
        if let Some(became) = left_alone(&day, range.which) {
            tell(&Told { date, became });
            continue;
        }
        let built = match sampled.remove(&date) {
            Some(Err(error)) if error.kind != Kind::NoData => return Err(broken(error, date, range.which)),
            Some(Ok(outcome)) => Some(outcome),
            Some(Err(_)) | None => None,
        };
        let rest = range.stages.without(Stage::Samples).filter(|_| built.is_some());
        let outcome = match (built, rest) {
            (Some(built), None) => Ok(built),
            (built, rest) => {
                let stages = rest.unwrap_or(range.stages);
                let scope = match range.which {
                    Which::All => Scope::Again(stages),
                    // samples that were just built are found
                    Which::Missing | Which::Stale => Scope::These(range.stages),
                };
                let ran = run(&job_of(date), scope, &how).await;
                ran.map(|outcome| outcome.after(built))
            }
        };
        match outcome {
            Ok(outcome) => tell(&Told { date, became: Became::Ran(Box::new(outcome)) }),
            Err(error) if error.kind == Kind::NoData => tell(&Told { date, became: Became::NoData(error.message) }),
            Err(error) => return Err(broken(error, date, range.which)),
        }
    }
    Ok(())
}

/// What becomes of a date that is not run, by what was planned.
fn left_alone(day: &Day, which: Which) -> Option<Became> {
    match (day.state, which) {
        (State::NoData, _) => Some(Became::NoData(day.why.clone())),
        (_, Which::All) | (State::Missing | State::Unfinished, _) => None,
        (State::Done, Which::Missing) => Some(Became::Done(day.clone())),
        (State::Stale, Which::Missing) => Some(Became::Stale(day.clone())),
        (State::NotReady, Which::Missing) if day.run_id.is_some() => Some(Became::Kept(day.clone())),
        // when its turn comes: an earlier date may have made it stale, a partition may have come
        (State::Done | State::Stale | State::NotReady, _) => None,
    }
}

/// Builds the samples of the dates that need them, `jobs` at the same time; with one job each date builds its own when its turn comes.
/// Returns what became of each. After a failure no later date is begun.
async fn sample_ahead(
    days: &[Day],
    range: &Backfill,
    job_of: impl Fn(RunDate) -> Job,
) -> Result<BTreeMap<RunDate, Result<Outcome>>> {
    let due = days.iter().filter(|day| left_alone(day, range.which).is_none());
    let due = due.take_while(|day| day.state != State::NotReady);
    let again = range.which == Which::All && range.stages.contains(Stage::Samples);
    let dates: Vec<RunDate> =
        due.filter(|day| again || day.to_run.contains(&Stage::Samples)).map(|day| day.date).collect();
    let side_by_side = range.jobs.get().min(dates.len());
    if side_by_side < 2 || wait_for_releases(&job_of(dates[0])).await? {
        return Ok(BTreeMap::new());
    }
    let scope = if again { Scope::Again(Stages::SAMPLES) } else { Scope::These(Stages::SAMPLES) };
    let config = share(&job_of(dates[0]).config, side_by_side)?;
    let failed = AtomicBool::new(false);
    let mut all = futures::stream::iter(dates)
        .take_while(|_| ready(!failed.load(Ordering::SeqCst)))
        .map(|date| {
            let job = Job { config: config.clone(), ..job_of(date) };
            // a thread for each: writing a table keeps one core busy
            let runtime = Handle::current();
            let built = tokio::task::spawn_blocking(move || runtime.block_on(run(&job, scope, &How::default())));
            async move { (date, built.await) }
        })
        .buffer_unordered(side_by_side);
    let mut sampled = BTreeMap::new();
    while let Some((date, ended)) = all.next().await {
        let ended = ended.map_err(|error| Error::internal("a thread that built samples has died").caused_by(error))?;
        if ended.as_ref().is_err_and(|error| error.kind != Kind::NoData) {
            failed.store(true, Ordering::SeqCst);
            warn!(%date, "the samples of this date cannot be built; those before it are finished first");
        }
        sampled.insert(date, ended);
    }
    Ok(sampled)
}

/// Whether the samples of a date hold what the release of the date before it would have retrieved: then they come after it.
async fn wait_for_releases(job: &Job) -> Result<bool> {
    let waits = Recipe::open(job, &LastRelease::shared(), job.date, job.date).await?.reads_previous();
    if waits {
        info!(
            "SQL reads `previous_candidates`, so the samples of each date are built after the release of the one before"
        );
    }
    Ok(waits)
}

/// What one of several that build samples at the same time may use: memory and cores of the SQL engine are divided, so that all of
/// them together stay within what the config grants. The rows depend on neither.
fn share(config: &Config, among: usize) -> Result<Arc<Config>> {
    let mut config = config.clone();
    let memory = config.samples.memory.bytes();
    if memory / among < LEAST_MEMORY {
        return Err(Error::usage(format!(
            "--jobs {among} would leave each date {} MiB of samples.memory ({}); give at most --jobs {}, or raise samples.memory",
            (memory / among) >> 20,
            config.samples.memory,
            (memory / LEAST_MEMORY).max(1)
        )));
    }
    config.samples.memory = ByteSize((memory / among) as u64);
    config.samples.threads = (threads(config.samples.threads) / among).max(1);
    Ok(Arc::new(config))
}

fn broken(error: Error, date: RunDate, which: Which) -> Error {
    let go_on = match which {
        Which::Missing | Which::Stale => "start the same backfill again to go on from there".to_string(),
        // dates that were run again cannot be told from those that were not
        Which::All => format!("start it again with --from {date} to go on from there"),
    };
    error.context(format!("running {date}; {go_on}"))
}
