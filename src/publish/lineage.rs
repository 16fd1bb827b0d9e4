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

impl Made {
    /// Ascends with the order in which candidates were made: that of their leases, since clocks may be set back. One that is yet to be
    /// made is the last.
    pub fn turn(&self) -> (u64, &str) {
        let fence = self.manifest.as_ref().map_or(u64::MAX, |manifest| manifest.publication.fence);
        (fence, &self.as_parent.run_id)
    }
}

/// What the runs of some dates have come to.
pub struct Lineage {
    /// Every release, and what passed its gates for the dates that were asked for and never became one; in the order of date and run id.
    pub made: Vec<Made>,
    /// The other runs of these dates: begun, refused, or ended before their publication.
    pub begun: BTreeMap<RunDate, Vec<String>>,
}

/// For the dates from `first` to `last`.
pub async fn lineage(output: &Store, first: RunDate, last: RunDate) -> Result<Lineage> {
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
    let others: Vec<(RunDate, String, Option<Release>)> = futures::stream::iter(dates)
        .map(|date| async move {
            let (runs, _) = output.list_level(&keys::runs(date)).await?;
            let mut found = Vec::new();
            for run_id in runs.into_iter().filter(|run_id| !published.contains_key(&(date, run_id.clone()))) {
                let withheld = note(output, date, &run_id).await?.filter(|note| note.release == 0);
                found.push((date, run_id, withheld));
            }
            Ok::<_, Error>(found)
        })
        .buffered(AT_ONCE)
        .try_concat()
        .await?;
    let mut begun: BTreeMap<RunDate, Vec<String>> = BTreeMap::new();
    for (date, run_id, withheld) in others {
        match withheld {
            Some(candidate) => drop(made.insert((date, run_id), as_made(candidate, None, true))),
            None => begun.entry(date).or_default().push(run_id),
        }
    }
    Ok(Lineage { made: made.into_values().collect(), begun })
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
