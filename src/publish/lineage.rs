//! What a later day can go on from: releases, and candidates that passed their gates while a later date was published.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};

use super::releases::{AT_ONCE, list, note};
use crate::artifacts::{Parent, Release, RunDate, keys};
use crate::error::{Error, Result};
use crate::storage::Store;

/// A candidate that passed its gates.
#[derive(Debug, Clone)]
pub struct Made {
    pub as_parent: Parent,
    /// False when every release of it was rolled away from.
    pub good: bool,
    /// What it went on from itself.
    pub started_from: Option<Parent>,
    /// None for one that is not yet made.
    pub manifest: Option<Box<Release>>,
}

/// Every release, and what was made for the dates from `first` to `last` and never became one; in the order of date and run id.
pub async fn lineage(output: &Store, first: RunDate, last: RunDate) -> Result<Vec<Made>> {
    let releases = list(output).await?;
    let mut made: BTreeMap<(RunDate, String), Made> = BTreeMap::new();
    for (release, good) in judged(&releases) {
        let place = (release.date, release.run_id.clone());
        // a rollback's files are those of the release it went back to: one good number is enough
        if made.get(&place).is_none_or(|known| good && !known.good) {
            made.insert(place, as_made(release.clone(), Some(release.release), good));
        }
    }
    let (days, _) = output.list_level(keys::RUNS).await?;
    let dates = days.iter().filter_map(|day| day.strip_prefix("dt=")?.parse::<RunDate>().ok());
    let dates = dates.filter(|date| first <= *date && *date <= last);
    let published = &made;
    let withheld: Vec<Vec<Release>> = futures::stream::iter(dates)
        .map(|date| async move {
            let (runs, _) = output.list_level(&keys::runs(date)).await?;
            let mut withheld = Vec::new();
            for run_id in runs.into_iter().filter(|run_id| !published.contains_key(&(date, run_id.clone()))) {
                withheld.extend(note(output, date, &run_id).await?.filter(|note| note.release == 0));
            }
            Ok::<_, Error>(withheld)
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    for candidate in withheld.into_iter().flatten() {
        let place = (candidate.date, candidate.run_id.clone());
        made.insert(place, as_made(candidate, None, true));
    }
    Ok(made.into_values().collect())
}

/// Every release, and whether it is still thought to be good: a rollback takes that from the release it left and from all between that
/// and the one it went back to, which was passed over.
fn judged(releases: &[Release]) -> Vec<(&Release, bool)> {
    let rollbacks: Vec<_> = releases.iter().filter_map(|release| release.publication.rollback.as_ref()).collect();
    let left = |number: u64| rollbacks.iter().any(|rollback| rollback.to < number && number <= rollback.from);
    releases.iter().map(|release| (release, !left(release.release))).collect()
}

fn as_made(release: Release, number: Option<u64>, good: bool) -> Made {
    let as_parent = Parent {
        release: number,
        date: release.date,
        run_id: release.run_id.clone(),
        digests: release.digests.clone(),
    };
    Made { as_parent, good, started_from: release.started_from.clone(), manifest: Some(Box::new(release)) }
}
