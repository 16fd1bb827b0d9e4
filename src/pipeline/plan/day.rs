//! One date of a plan.

use serde::Serialize;

use super::Question;
use super::changed::{Changed, changed};
use super::cost::Reads;
use super::left::Left;
use crate::artifacts::{Digests, Parent, RunDate, Start};
use crate::config::WarmStart;
use crate::job::Job;
use crate::pipeline::{Stage, digests, parent};
use crate::publish::Made;
use crate::samples::{SamplePlan, Unlisted};

/// Stands for the run id of what is yet to be made.
const TO_COME: &str = "~";

/// How things stand with a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// For the inputs, SQL and config of now.
    Done,
    /// Done from other inputs, SQL or config, or from another parent.
    Stale,
    /// Begun, or refused by a gate.
    Unfinished,
    Missing,
    /// Partitions are missing, empty, or without their marker.
    NotReady,
    /// None will come: the policy is to skip it.
    NoData,
}

impl State {
    pub fn in_words(self) -> &'static str {
        match self {
            State::Done => "done",
            State::Stale => "stale",
            State::Unfinished => "unfinished",
            State::Missing => "missing",
            State::NotReady => "not ready",
            State::NoData => "no data",
        }
    }
}

/// What would become of one date.
#[derive(Debug, Clone, Serialize)]
pub struct Day {
    pub date: RunDate,
    pub state: State,
    /// In words.
    pub why: String,
    /// In the order in which they would run.
    pub to_run: Vec<Stage>,
    /// What the newest candidate that passed its gates has become.
    pub run_id: Option<String>,
    pub release: Option<u64>,
    /// For a stale one: what has changed since that candidate was made.
    pub changed: Changed,
    /// Partitions that are.
    pub not_ready: Vec<String>,
    pub reads: Reads,
    /// For a stale one: what went on from its candidates, at first hand or through others.
    pub descendants: Vec<Descendant>,
}

/// A candidate that has a stale date among its ancestors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Descendant {
    pub date: RunDate,
    pub run_id: String,
    pub release: Option<u64>,
}

/// A date whose sources were listed.
pub(super) struct Draft<'a> {
    pub date: RunDate,
    pub samples: Result<SamplePlan, Unlisted>,
    /// Digests of the stages' results, in their order, where samples can be made.
    digests: Option<[String; 6]>,
    warm_start: WarmStart,
    start: Start,
    /// Its candidates that passed their gates, and of them the newest, or one of the inputs of now.
    pub own: Vec<&'a Made>,
    pub candidate: Option<&'a Made>,
    done: bool,
}

impl<'a> Draft<'a> {
    pub fn new(
        job: &Job,
        question: &Question,
        date: RunDate,
        samples: Result<SamplePlan, Unlisted>,
        made: &'a [Made],
    ) -> Self {
        let warm_start = question.warm_start(job, date);
        let start = parent::choose(&warm_start, date, made);
        let digests = samples.as_ref().ok().map(|samples| chain(job, &samples.digest, &start));
        let own: Vec<&Made> = made.iter().filter(|made| made.as_parent.date == date).collect();
        let wanted = digests.as_ref().map(|digests| digests[5].as_str());
        let is_same = |made: &&&Made| {
            wanted.is_some() && made.manifest.as_ref().map(|manifest| manifest.inputs_digest.as_str()) == wanted
        };
        let same = own.iter().filter(is_same).max_by_key(|made| made.turn()).copied();
        let done = same.is_some_and(|same| same.as_parent.release.is_some() || !question.publish)
            || same.is_some() && question.scope.last() < Stage::Publish;
        let candidate = same.or_else(|| own.iter().max_by_key(|made| made.turn()).copied());
        Draft { date, samples, digests, warm_start, start, own, candidate, done }
    }

    /// Whether there is a candidate of the same inputs, SQL and config.
    pub fn is_done(&self) -> bool {
        self.done
    }

    pub fn samples_digest(&self) -> Option<&str> {
        self.digests.as_ref().map(|digests| digests[0].as_str())
    }

    pub fn index_digest(&self) -> Option<&String> {
        self.digests.as_ref().map(|digests| &digests[3])
    }

    /// The candidate that it would make, as the parent of later dates.
    pub fn to_come(&self, job: &Job, made: &[Made]) -> Option<Made> {
        let start = parent::choose(&self.warm_start, self.date, made);
        let [_, model, embeddings, index, ..] = chain(job, self.samples_digest()?, &start);
        let digests = Digests { model, embeddings, index };
        let as_parent = Parent { release: None, date: self.date, run_id: TO_COME.into(), digests };
        Some(Made { as_parent, good: true, started_from: start.parent, manifest: None })
    }

    /// How things stand, given what the date's stages `left`; `made` with what is yet to come as `and_to_come`.
    pub fn day(&self, job: &Job, question: &Question, left: Option<&Left>, and_to_come: &[Made], made: &[Made]) -> Day {
        let mut day = Day {
            date: self.date,
            state: State::Done,
            why: String::new(),
            to_run: Vec::new(),
            run_id: self.candidate.map(|made| made.as_parent.run_id.clone()),
            release: self.candidate.and_then(|made| made.as_parent.release),
            changed: Changed::default(),
            not_ready: Vec::new(),
            reads: Reads::default(),
            descendants: Vec::new(),
        };
        let candidate = || self.candidate.map(|made| made.as_parent.in_words()).unwrap_or_default();
        let samples = match &self.samples {
            Ok(samples) => samples,
            Err(Unlisted::NotReady { partitions, .. }) => {
                day.state = State::NotReady;
                day.not_ready.clone_from(partitions);
                day.to_run = question.scope.stages().collect();
                day.why = format!("not there, empty or without marker: {}", first_of(partitions, "more"));
                if self.candidate.is_some() {
                    day.why += &format!("; {} was made before", candidate());
                }
                return day;
            }
            Err(Unlisted::NoData(error) | Unlisted::Failed(error)) => {
                day.state = State::NoData;
                day.why.clone_from(&error.message);
                return day;
            }
        };
        let Some(left) = left else {
            day.why = match day.release {
                Some(_) => candidate(),
                None => "passed its gates; a release of a later date is published".into(),
            };
            return day;
        };
        // with the parents that there will be
        let start = parent::choose(&self.warm_start, self.date, and_to_come);
        let digests = chain(job, &samples.digest, &start);
        let is_finished = |stage: Stage, digests: &[String; 6]| match stage {
            Stage::Publish => false,
            stage => left.finished.contains(&(stage, digests[stage as usize].clone())),
        };
        day.to_run = question.scope.stages().filter(|stage| !is_finished(*stage, &digests)).collect();
        let last = question.scope.last();
        if day.to_run.is_empty() {
            day.why = format!("{last} is done");
        } else if left.has_result(last) && (last < Stage::Publish || self.made_otherwise()) {
            day.state = State::Stale;
            day.changed = changed(job, samples, self.candidate, left, &self.start);
            day.why = format!("since {}: {}", self.candidate.map_or("then".into(), |_| candidate()), day.changed);
            day.descendants = descendants(self.date, made);
        } else if day.to_run.len() < question.scope.count() {
            day.state = State::Unfinished;
            day.why = left.refused.clone().unwrap_or_else(|| "goes on where it stopped".into());
        } else {
            day.state = State::Missing;
            day.why = "never run".into();
        }
        day
    }

    /// Whether its candidate is of other inputs, SQL or config.
    fn made_otherwise(&self) -> bool {
        let same = |made: &Made| match (&made.manifest, &self.digests) {
            (Some(manifest), Some(digests)) => manifest.inputs_digest == digests[5],
            _ => false,
        };
        self.candidate.is_some_and(|candidate| !same(candidate))
    }
}

/// The digests of all stages.
fn chain(job: &Job, samples: &str, start: &Start) -> [String; 6] {
    let config = &job.config;
    let train = digests::train(config, samples, start);
    let embed = digests::embed(config, &train, start);
    let index = digests::index(config, &embed, start);
    let evaluate = digests::evaluate(config, &index);
    let publish = digests::publish(config, &evaluate);
    [samples.into(), train, embed, index, evaluate, publish]
}

/// What went on from any candidate of `date`.
fn descendants(date: RunDate, made: &[Made]) -> Vec<Descendant> {
    let mut ancestors: Vec<(RunDate, &str)> = made
        .iter()
        .filter(|made| made.as_parent.date == date)
        .map(|made| (date, made.as_parent.run_id.as_str()))
        .collect();
    let mut found = Vec::new();
    // a parent is of an earlier date, and `made` ascends
    for made in made.iter().filter(|made| made.as_parent.date > date) {
        let Some(parent) = &made.started_from else { continue };
        if ancestors.contains(&(parent.date, parent.run_id.as_str())) {
            let own = &made.as_parent;
            ancestors.push((own.date, own.run_id.as_str()));
            found.push(Descendant { date: own.date, run_id: own.run_id.clone(), release: own.release });
        }
    }
    found
}

/// The first ones, and how many more there are.
pub(super) fn first_of(all: &[String], more: &str) -> String {
    const SHOWN: usize = 3;
    let mut text = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > SHOWN {
        text += &format!(" and {} {more}", all.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_on_from_a_date_is_followed_through_candidates_without_a_number() {
        let made = |date: &str, run_id: &str, release: Option<u64>, from: Option<&Made>| Made {
            as_parent: Parent {
                release,
                date: date.parse().unwrap(),
                run_id: run_id.into(),
                digests: Digests::default(),
            },
            good: true,
            started_from: from.map(|made| made.as_parent.clone()),
            manifest: None,
        };
        let first = made("2026-11-16", "a", Some(1), None);
        let withheld = made("2026-11-17", "b", None, Some(&first));
        let cold = made("2026-11-18", "c", Some(2), None);
        let last = made("2026-11-19", "d", Some(3), Some(&withheld));
        let all = [first, withheld, cold, last];
        let numbers = |date: &str| {
            let found = descendants(date.parse().unwrap(), &all);
            found.into_iter().map(|d| (d.run_id, d.release)).collect::<Vec<_>>()
        };
        assert_eq!(numbers("2026-11-16"), [("b".into(), None), ("d".into(), Some(3))]);
        assert_eq!(numbers("2026-11-18"), []);
    }
}
