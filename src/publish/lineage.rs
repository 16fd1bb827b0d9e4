//! What a later day can go on from: releases, and candidates that passed their gates while a later date was published.

use std::collections::BTreeMap;

use super::releases::{list, note};
use crate::artifacts::{Parent, Release, RunDate, keys};
use crate::error::Result;
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

/// All that was made for the dates up to `last`, in the order of date and run id; what was never made a release, only from `first` on.
pub async fn lineage(output: &Store, first: RunDate, last: RunDate) -> Result<Vec<Made>> {
    let releases = list(output).await?;
    let mut made: BTreeMap<(RunDate, String), Made> = BTreeMap::new();
    for (release, good) in judged(&releases).into_iter().filter(|(release, _)| release.date <= last) {
        let place = (release.date, release.run_id.clone());
        // a rollback's files are those of the release it went back to: one good number is enough
        if made.get(&place).is_none_or(|known| good && !known.good) {
            made.insert(place, as_made(release.clone(), Some(release.release), good));
        }
    }
    let (days, _) = output.list_level(keys::RUNS).await?;
    let dates = days.iter().filter_map(|day| day.strip_prefix("dt=")?.parse::<RunDate>().ok());
    for date in dates.filter(|date| first <= *date && *date <= last) {
        let (runs, _) = output.list_level(&keys::runs(date)).await?;
        for run_id in runs {
            let place = (date, run_id);
            if !made.contains_key(&place)
                && let Some(withheld) = note(output, date, &place.1).await?.filter(|note| note.release == 0)
            {
                made.insert(place, as_made(withheld, None, true));
            }
        }
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
