//! Synthetic logs with a planted taste, for the demo, the tests and a first look at the job without data of one's own.
//!
//! Users and items are points in a hidden space, in clusters; a user clicks what lies near him, and his interests drift over
//! weeks. The policy that fills the pages mixes personal, popular, fresh and arbitrary items, so what is shown is not only
//! what is popular. All of it is a function of the options, and a longer run begins with the very files of a shorter one.

mod day;
mod random;
mod tables;
mod world;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tracing::info;

use self::day::{Clicked, Day, Impression};
use self::tables::Tables;
use self::world::World;
use crate::artifacts::{IdType, RunDate};
use crate::error::{Error, Result};
use crate::storage::{Created, ShardWriter, Store};

/// Users whose day is made at once: bounds the memory.
const USERS_AT_ONCE: usize = 4096;
/// Rows of one file.
const ROWS_PER_FILE: u64 = 2_000_000;
/// What the folder was made with; other options must not write over it.
const OPTIONS: &str = "generated.json";
/// Written into a partition last.
pub const READY: &str = "_SUCCESS";

/// What is generated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerateOptions {
    pub days: u32,
    pub seed: u64,
    pub users: u32,
    /// Items on the first day.
    pub items: u32,
    /// Items that each later day adds; one in a hundred of the first ones where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_items: Option<u32>,
    /// Days that an interest of a user lasts until another takes its place. Not given, interests stay, and only trade places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<u32>,
    /// The first day.
    pub start: RunDate,
    /// Ids as text (`u000042`) in place of integers.
    pub string_ids: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        let start = chrono::NaiveDate::from_ymd_opt(2026, 11, 14).expect("it is a date");
        GenerateOptions {
            days: 8,
            seed: 17,
            users: 3000,
            items: 2000,
            new_items: None,
            drift: None,
            start: RunDate(start),
            string_ids: false,
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GenerateFacts {
    pub first: RunDate,
    pub last: RunDate,
    pub users: u64,
    /// Items on the last day.
    pub items: u64,
    pub impressions: u64,
    pub clicks: u64,
    pub ranker_scores: u64,
}

/// Writes `impressions`, `items`, `users` and `ranker_scores` below `out`, each as `dt=…/part-00000.parquet` and a `_SUCCESS`.
///
/// Run again with the same options it writes the same bytes; with more days it adds them. Other options are refused.
pub async fn run(out: &Store, options: &GenerateOptions) -> Result<GenerateFacts> {
    check(options)?;
    claim(out, options).await?;
    let world = World::new(options);
    let tables = Tables(if options.string_ids { IdType::Varchar } else { IdType::Bigint });
    let mut clicked = vec![Clicked::default(); options.users as usize];
    let mut facts = GenerateFacts {
        first: options.start,
        last: options.start.offset(options.days as i32 - 1),
        users: options.users.into(),
        items: world.items.len() as u64,
        impressions: 0,
        clicks: 0,
        ranker_scores: 0,
    };
    for day in 0..options.days {
        let date = options.start.offset(day as i32);
        write_catalogue(out, tables, &world, day, date).await?;
        write_visits(out, tables, &world, day, date, &mut clicked, &mut facts).await?;
        info!(%date, impressions = facts.impressions, clicks = facts.clicks, "day generated");
    }
    Ok(facts)
}

fn check(options: &GenerateOptions) -> Result<()> {
    let limits = [
        ("--days", options.days, 1, 3660),
        ("--users", options.users, 1, 100_000_000),
        ("--items", options.items, 10, 10_000_000),
        ("--new-items", options.new_items.unwrap_or(0), 0, 1_000_000),
        ("--drift", options.drift.unwrap_or(1), 1, 36_600),
    ];
    for (flag, found, least, most) in limits {
        if !(least..=most).contains(&found) {
            return Err(Error::usage(format!("{flag} {found}: expected {least} to {most}")));
        }
    }
    Ok(())
}

/// Takes the folder for these options, or finds that it was taken for them before.
async fn claim(out: &Store, options: &GenerateOptions) -> Result<()> {
    let wanted = GenerateOptions { days: 0, ..options.clone() };
    let text =
        serde_json::to_string(&wanted).map_err(|error| Error::internal("options are not JSON").caused_by(error))?;
    if out.put_new(OPTIONS, text.clone() + "\n").await? == Created::Yes {
        return Ok(());
    }
    let found = out.get_existing(OPTIONS).await?;
    if serde_json::from_slice::<GenerateOptions>(&found).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{} holds logs that were generated with other options: {}; give another --out, or remove that folder",
        out.url(),
        String::from_utf8_lossy(&found).trim()
    )))
}

fn folder(table: &str, date: RunDate) -> String {
    format!("{table}/dt={date}")
}

async fn finish(out: &Store, writer: ShardWriter, folder: &str) -> Result<()> {
    writer.finish().await?;
    out.put(&format!("{folder}/{READY}"), "").await
}

/// The snapshots of a day: every item and every user known on it.
async fn write_catalogue(out: &Store, tables: Tables, world: &World, day: u32, date: RunDate) -> Result<()> {
    let items_folder = folder("items", date);
    let mut items = ShardWriter::new(out, &items_folder, tables.items_schema(), ROWS_PER_FILE);
    let catalogue = world.catalogue(day);
    for from in (0..catalogue).step_by(65_536) {
        items.write(&tables.items(world, from..catalogue.min(from + 65_536))?).await?;
    }
    finish(out, items, &items_folder).await?;

    let users_folder = folder("users", date);
    let mut users = ShardWriter::new(out, &users_folder, tables.users_schema(), ROWS_PER_FILE);
    let known: Vec<usize> = (0..world.users.len()).filter(|user| world.users[*user].first_day <= day).collect();
    for some in known.chunks(65_536) {
        users.write(&tables.users(world, some)?).await?;
    }
    finish(out, users, &users_folder).await
}

/// The impressions and ranker lists of a day.
async fn write_visits(
    out: &Store,
    tables: Tables,
    world: &World,
    day: u32,
    date: RunDate,
    clicked: &mut [Clicked],
    facts: &mut GenerateFacts,
) -> Result<()> {
    let (impressions_folder, ranker_folder) = (folder("impressions", date), folder("ranker_scores", date));
    let mut impressions = ShardWriter::new(out, &impressions_folder, tables.impressions_schema(), ROWS_PER_FILE);
    let mut ranker = ShardWriter::new(out, &ranker_folder, tables.ranker_scores_schema(), ROWS_PER_FILE);
    let day_start = date.0.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros();
    let policy = Day::new(world, day);
    for (at, some) in clicked.chunks_mut(USERS_AT_ONCE).enumerate() {
        let visits: Vec<_> = some
            .par_iter_mut()
            .enumerate()
            .filter_map(|(n, clicked)| {
                let user = at * USERS_AT_ONCE + n;
                policy.visit(user, clicked).map(|visit| (user, visit))
            })
            .collect();
        let ranked: Vec<_> = visits
            .iter()
            .flat_map(|(user, visit)| visit.ranked.iter().map(|(item, score)| (*user, *item, *score)))
            .collect();
        let mut shown: Vec<Impression> = visits.into_iter().flat_map(|(_, visit)| visit.impressions).collect();
        shown.sort_by_key(|row| (row.micros, row.user, row.position));
        facts.impressions += shown.len() as u64;
        facts.clicks += shown.iter().filter(|row| row.clicked).count() as u64;
        facts.ranker_scores += ranked.len() as u64;
        impressions.write(&tables.impressions(&shown, day_start)?).await?;
        ranker.write(&tables.ranker_scores(&ranked)?).await?;
    }
    finish(out, impressions, &impressions_folder).await?;
    finish(out, ranker, &ranker_folder).await
}

#[cfg(test)]
mod tests;
