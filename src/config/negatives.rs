//! Negatives: how many of each kind, and by whose word an item is a hard one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;
use super::load::require;
use crate::error::{Error, Result, did_you_mean};

/// Easy negatives: drawn from the whole corpus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RandomNegatives {
    /// Random negatives for each positive: `$random_per_positive`. A batch shares those of all its positives, so few are
    /// needed.
    pub per_positive: u32,
    /// Power of the item's count of positives in the drawing weight: `$random_power`. 0 draws all items alike, 1 by popularity.
    pub power: f64,
}

impl Default for RandomNegatives {
    fn default() -> Self {
        RandomNegatives { per_positive: 10, power: 0.5 }
    }
}

/// Hard negatives: close to the user's taste by a ranker's word, and still not liked. Never an item that the user liked anywhere in
/// the window: before the positive, after it, and also where the click is held out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HardNegatives {
    /// Whose scores make the ranks. SQL reads them as `hard_scores`. When not given: `ranker_scores` where that source is
    /// configured, and no hard negatives where it is not.
    pub from: Option<HardFrom>,
    /// With `from: ranker`: which of `rankers`. Not needed where there is one.
    pub ranker: Option<String>,
    /// First rank taken, by the score: `$hard_rank_from`. Nearer the top are likely items that he would like
    /// (EBR, arXiv 2006.11632, found 101-500 best).
    pub rank_from: u32,
    /// Last rank taken: `$hard_rank_to`.
    pub rank_to: u32,
    /// Lowest score taken: `$hard_min_score`. No limit when not given.
    pub min_score: Option<f64>,
    /// Highest score taken: `$hard_max_score`. No limit when not given. Scores can be compared between users only where the ranker
    /// is calibrated, as a probability is.
    pub max_score: Option<f64>,
    /// How far below its positive's own score a negative must be: `$hard_margin`. What comes nearer, or ranks above a liked item, is
    /// likely to be liked too. A positive without a score of its own then gets no hard negatives. Off when not given.
    pub margin: Option<f64>,
    /// The same as a share of the positive's own score (its absolute value): `$hard_relative_margin`. With 0.05, a positive of 0.8
    /// takes negatives up to 0.76. Where both margins are given, both must hold.
    pub relative_margin: Option<f64>,
    /// Which of a user's candidates are taken: `random` from all of the window, or `top`, its first ones. Top ones are harder and
    /// the same for all of the user's positives.
    pub order: HardOrder,
    /// Random negatives for one hard one: `$random_per_hard`. Reached by giving hard negatives to a share of the positives. EBR
    /// found that more than one in 100 does not help.
    pub random_per_hard: u32,
    /// Hard negatives for each positive that gets any: `$hard_per_positive`.
    pub per_positive: u32,
    /// Most rows in which one item is a hard negative: `$hard_per_item`. Keeps items that rankers love from being pushed away by
    /// everyone. No limit when not given.
    pub per_item: Option<u32>,
}

impl Default for HardNegatives {
    fn default() -> Self {
        HardNegatives {
            from: None,
            ranker: None,
            rank_from: 101,
            rank_to: 500,
            min_score: None,
            max_score: None,
            margin: None,
            relative_margin: None,
            order: HardOrder::Random,
            random_per_hard: 100,
            per_positive: 2,
            per_item: None,
        }
    }
}

/// Whose scores make the ranks of hard negatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HardFrom {
    /// The source `ranker_scores`: what a ranker logged.
    RankerScores,
    /// The table `previous_candidates`: what the last release would have retrieved (EBR's own way).
    Previous,
    /// The table `ranked_candidates`: a model of `rankers` over the source `candidates`, or over `previous_candidates` where there
    /// is no such source.
    Ranker,
}

/// Which candidates of the rank window are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HardOrder {
    #[default]
    Random,
    Top,
}

/// Items that the user was shown and did not click, as negatives of his own positives. An extra source, never a good only one:
/// a model that knows nothing else of the corpus loses most of its recall (EBR: 55 points).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ShownNegatives {
    /// Shown negatives for each positive: `$shown_per_positive`. 0 leaves the table `shown_negatives` out.
    pub per_positive: u32,
}

/// The table `previous_candidates` (user_id, item_id, score, rank): what the last release finds for the users of this date, by its
/// user tower and its index. Filled only where some SQL reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PreviousCandidates {
    /// Items for each user.
    pub per_user: u32,
    /// Looks for them in one of so many parts of the catalogue, drawn by the seed and the date; 1 is all of it. The ranks then go
    /// deeper for the same number of rows. A user gets about `per_user` items.
    pub shards: u32,
    /// What it means that there is no release of an earlier date.
    pub missing: MissingRelease,
}

impl Default for PreviousCandidates {
    fn default() -> Self {
        PreviousCandidates { per_user: 500, shards: 1, missing: MissingRelease::Empty }
    }
}

/// What a missing release means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MissingRelease {
    /// `previous_candidates` has no rows, and a warning says so: a first day must be possible.
    #[default]
    Empty,
    /// The job stops.
    Fail,
}

impl Config {
    /// The ranker behind `from: ranker`: its name.
    pub fn hard_ranker(&self) -> Result<&str> {
        let refuse = |found: String, expected: &str| {
            let key = "samples.hard_negatives.ranker";
            Err(Error::config(format!("{key}: found {found}, expected {expected}")))
        };
        match (&self.samples.hard_negatives.ranker, self.rankers.keys().collect::<Vec<_>>().as_slice()) {
            (Some(name), names) if names.contains(&name) => Ok(name),
            (Some(name), names) => {
                let near = did_you_mean(name, names.iter().map(|name| name.as_str()));
                refuse(format!("`{name}`{near}"), "a name of `rankers`")
            }
            (None, [only]) => Ok(only),
            (None, []) => refuse("none, and no `rankers`".into(), "a model in `rankers` for `from: ranker`"),
            (None, _) => refuse("none of several `rankers`".into(), "the name of one"),
        }
    }

    pub(super) fn validate_negatives(&self) -> Result<()> {
        let hard = &self.samples.hard_negatives;
        let key = |name: &str| format!("samples.hard_negatives.{name}");
        require(
            hard.rank_from >= 1 && hard.rank_from <= hard.rank_to,
            "samples.hard_negatives",
            &format!("ranks {}..{}", hard.rank_from, hard.rank_to),
            "1 <= rank_from <= rank_to",
        )?;
        for (name, value) in [("random_per_hard", hard.random_per_hard), ("per_positive", hard.per_positive)] {
            require(value > 0, &key(name), &value.to_string(), "a number above 0")?;
        }
        require(hard.per_item != Some(0), &key("per_item"), "0", "at least 1, or nothing for no limit")?;
        for (name, value) in [("min_score", hard.min_score), ("max_score", hard.max_score)] {
            let found = format!("{value:?}");
            require(value.is_none_or(f64::is_finite), &key(name), &found, "a finite number")?;
        }
        for (name, value) in [("margin", hard.margin), ("relative_margin", hard.relative_margin)] {
            let found = value.map_or(String::new(), |value| value.to_string());
            require(value.is_none_or(|v| v >= 0.0 && v.is_finite()), &key(name), &found, "a number of at least 0")?;
        }
        let window = hard.min_score.zip(hard.max_score);
        let found = window.map_or(String::new(), |(min, max)| format!("scores {min}..{max}"));
        require(
            window.is_none_or(|(min, max)| min <= max),
            "samples.hard_negatives",
            &found,
            "min_score <= max_score",
        )?;
        let previous = &self.samples.previous_candidates;
        for (name, value) in [("per_user", previous.per_user), ("shards", previous.shards)] {
            require(value > 0, &format!("samples.previous_candidates.{name}"), "0", "at least 1")?;
        }
        if hard.from == Some(HardFrom::Ranker) {
            self.hard_ranker()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Overrides};

    #[test]
    fn hard_negatives_by_a_ranker_need_one_that_is_there() {
        let text = "version: 1\nname: a\noutput: out\nsources:\n  impressions: {path: logs}\nfeatures:\n  user:\n    history: {kind: ids, table: item_id}\n  item:\n    item_id: {kind: id}\n";
        let model = |name: &str| format!("rankers.{name}={{path: a.onnx, inputs: {{x: {{columns: [a, b]}}}}}}");
        let parse = |settings: &[&str]| {
            let set = settings.iter().map(|setting| setting.to_string()).collect();
            let config = Config::parse(text, "job.yaml", &Overrides(set));
            config.and_then(|config| config.hard_ranker().map(str::to_string)).map_err(|error| error.to_string())
        };
        let from = "samples.hard_negatives.from=ranker";
        assert_eq!(parse(&[from, &model("one")]), Ok("one".into()));
        let named = "samples.hard_negatives.ranker=two";
        assert_eq!(parse(&[from, named, &model("one"), &model("two")]), Ok("two".into()));
        let refused = |settings: &[&str], found: &str| {
            let error = parse(settings).unwrap_err();
            assert!(error.contains(&format!("samples.hard_negatives.ranker: found {found}")), "{error}");
        };
        refused(&[from], "none, and no `rankers`");
        refused(&[from, &model("one"), &model("three")], "none of several");
        refused(&[from, named, &model("too")], "`two`, did you mean `too`?");
    }
}
