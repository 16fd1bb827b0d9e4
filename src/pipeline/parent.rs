//! Which earlier model a date goes on from.

use serde_json::Value;

use super::{Stage, digests, records};
use crate::artifacts::{Done, RunDate, SampleSet, Start};
use crate::config::{StartFrom, WarmStart};
use crate::error::Result;
use crate::job::Job;
use crate::publish::{self, Lineage, Made};
use crate::samples::{Change, changes};

/// What the job's date starts from, given what lies in the output, and the digest of its training.
pub async fn find(job: &Job, samples: &str) -> Result<(Start, String)> {
    let rule = &job.config.warm_start;
    let made = match rule.from {
        StartFrom::Nothing => Vec::new(),
        StartFrom::Parent => lineage(job, job.date, job.date).await?.made,
    };
    let mut start = choose(rule, job.date, &made);
    let mut digest = digests::train(&job.config, samples, &start);
    let removed = start.parent.is_some() && start.manifest.is_none();
    if removed && records::find::<Value>(&job.output, job.date, Stage::Train, &digest).await?.is_none() {
        start = choose_anew(rule, job.date, &made);
        digest = digests::train(&job.config, samples, &start);
    }
    Ok((start, digest))
}

/// All that the dates from `first` to `last` may have gone on from, or may go on from.
pub async fn lineage(job: &Job, first: RunDate, last: RunDate) -> Result<Lineage> {
    let oldest = first.offset(-(job.config.warm_start.max_parent_age_days.min(36_500) as i32));
    publish::lineage(&job.output, oldest, last).await
}

/// The newest good candidate of an earlier date among `made`, which may also hold some that are yet to be made (as `plan` does).
///
/// A day that was done keeps the parent it had when that one was removed since (`release gc`): its result is still the
/// right one, and a rerun finds it done.
pub fn choose(rule: &WarmStart, date: RunDate, made: &[Made]) -> Start {
    if rule.from == StartFrom::Nothing {
        return Start::cold("told to start from nothing (--cold, or warm_start.from)");
    }
    if let Some(removed) = removed_parent(date, made) {
        return removed;
    }
    choose_anew(rule, date, made)
}

/// The same for a day that must be trained, whatever it was made from before.
pub fn choose_anew(rule: &WarmStart, date: RunDate, made: &[Made]) -> Start {
    let usable = |made: &&Made| made.good && made.as_parent.date < date && !made.as_parent.digests.model.is_empty();
    // of one date the last that was made
    let newest = made.iter().filter(usable).max_by_key(|made| (made.as_parent.date, made.turn()));
    let Some(newest) = newest else {
        return Start::cold(format!("there is no good release of a date before {date}"));
    };
    let parent = newest.as_parent.clone();
    let days = (date.0 - parent.date.0).num_days();
    if days > i64::from(rule.max_parent_age_days) {
        return Start::cold(format!(
            "{} is {days} days old, more than warm_start.max_parent_age_days: {}",
            parent.in_words(),
            rule.max_parent_age_days
        ));
    }
    let why = format!("from {}", parent.in_words());
    Start { why, manifest: newest.manifest.clone(), parent: Some(parent), late: Vec::new() }
}

/// The parent of the date's newest candidate, when that parent is no longer there.
fn removed_parent(date: RunDate, made: &[Made]) -> Option<Start> {
    let own = made.iter().filter(|made| made.as_parent.date == date);
    let parent = own.max_by_key(|made| made.turn())?.started_from.clone()?;
    let there = made.iter().any(|made| made.as_parent.run_id == parent.run_id && made.as_parent.date == parent.date);
    (!there).then(|| Start {
        why: format!("from {}, which was removed since", parent.in_words()),
        manifest: None,
        parent: Some(parent),
        late: Vec::new(),
    })
}

/// The partitions of the parent's window whose files, among the inputs of `samples`, are not those that the parent was taught from: rows
/// came late. Training leaves out what is dated up to the parent, so nobody would learn them.
pub async fn late(job: &Job, start: &Start, samples: &SampleSet) -> Result<Vec<String>> {
    let (Some(parent), Some(manifest)) = (&start.parent, &start.manifest) else { return Ok(Vec::new()) };
    let then: SampleSet = Done::read(&job.output, &manifest.samples).await?;
    let windowed = |source: &str| job.config.sources.get(source).is_some_and(|source| !source.snapshot);
    let changes = changes(&then.record.facts.inputs, &samples.record.facts.inputs).into_iter();
    let late = changes.filter(|change| {
        let taught =
            date_of(&change.partition).is_some_and(|date| (manifest.data_window.0..=parent.date).contains(&date));
        taught && matches!(change.change, Change::Added | Change::Changed) && windowed(&change.source)
    });
    Ok(late.map(|change| change.partition).collect())
}

/// The date that a partition's folder names: `…/dt=2026-11-20`.
fn date_of(partition: &str) -> Option<RunDate> {
    partition.rsplit(['/', '=']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::{Digests, Parent};

    fn parent(date: &str, run_id: &str, release: Option<u64>) -> Parent {
        let digests = Digests { model: format!("model of {run_id}"), ..Default::default() };
        Parent { release, date: date.parse().unwrap(), run_id: run_id.into(), digests }
    }

    fn made(date: &str, run_id: &str, release: Option<u64>) -> Made {
        Made { as_parent: parent(date, run_id, release), good: true, started_from: None, manifest: None }
    }

    fn of(date: &str, made: &[Made]) -> Result<String, String> {
        let start = choose(&WarmStart::default(), date.parse().unwrap(), made);
        start.parent.map(|parent| parent.run_id).ok_or(start.why)
    }

    #[test]
    fn the_newest_date_before_counts_whatever_its_number_and_of_a_date_the_last_run() {
        let all = [
            made("2026-11-17", "d", Some(9)),
            made("2026-11-18", "a", Some(3)),
            made("2026-11-18", "b", None),
            made("2026-11-20", "c", Some(4)),
        ];
        assert_eq!(of("2026-11-20", &all).unwrap(), "b");
        assert_eq!(of("2026-11-21", &all).unwrap(), "c");
        assert_eq!(of("2026-11-18", &all).unwrap(), "d");
        assert_eq!(of("2026-11-17", &all).unwrap_err(), "there is no good release of a date before 2026-11-17");
    }

    #[test]
    fn what_was_rolled_away_from_or_is_too_old_is_no_parent() {
        let mut all = [made("2026-11-01", "a", Some(1)), made("2026-11-10", "b", Some(2))];
        assert_eq!(of("2026-11-16", &all).unwrap(), "b");
        all[1].good = false;
        let why = of("2026-11-16", &all).unwrap_err();
        assert_eq!(why, "release 1 of 2026-11-01 is 15 days old, more than warm_start.max_parent_age_days: 14");
    }

    #[test]
    fn a_day_that_is_done_keeps_a_parent_that_was_removed_but_not_one_that_was_rolled_away_from() {
        let (gone, other) = (parent("2026-11-18", "gone", Some(1)), made("2026-11-17", "other", Some(7)));
        let own = Made { started_from: Some(gone), ..made("2026-11-19", "own", Some(2)) };
        assert_eq!(of("2026-11-19", &[other.clone(), own.clone()]).unwrap(), "gone");
        let left = Made { good: false, ..made("2026-11-18", "gone", Some(1)) };
        assert_eq!(of("2026-11-19", &[other.clone(), left, own.clone()]).unwrap(), "other");
        let anew = choose_anew(&WarmStart::default(), own.as_parent.date, &[other, own]);
        assert_eq!(anew.parent.unwrap().run_id, "other");
    }
}
