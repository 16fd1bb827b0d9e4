//! What a row of a batch loses, and which negatives it meets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::{at_most, require};
use super::{Config, LEARNED_TEMPERATURES, LogQ, Model};
use crate::error::Result;

/// Most mined negatives of one positive.
const MOST_MINED: usize = 10_000;

/// The loss of one positive, with `s+` for its inner product and `s-` for that of a negative; `mean` is over its negatives, each
/// as often as it counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Loss {
    /// `softmax`: cross entropy of the positive among all its negatives, with `logq` and temperature; the usual choice.
    /// `cosine_contrastive`: `1 - s+ + negative_weight * mean max(0, s- - margin)` (SimpleX, CIKM 2021); wants many negatives.
    /// `bpr`: `mean -ln sigmoid((s+ - s-) / temperature)`. `triplet`: `mean max(0, s- - s+ + margin)`. `binary_cross_entropy`:
    /// `-ln sigmoid(s+ / temperature) + negative_weight * mean -ln(1 - sigmoid(s- / temperature))`.
    pub kind: LossKind,
    /// `cosine_contrastive`: negatives below it cost nothing (0.4 when not given); higher forgives more, and wants more
    /// negatives. `triplet`: by how much a positive must lead (0.2 when not given).
    pub margin: Option<f64>,
    /// Weight of the mean over the negatives beside the positive (`cosine_contrastive`: 100 when not given;
    /// `binary_cross_entropy`: 1). Higher pushes negatives away harder; too high pushes everything apart.
    pub negative_weight: Option<f64>,
}

/// Which loss; [`Loss::kind`] has the formulas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    #[default]
    Softmax,
    CosineContrastive,
    Bpr,
    Triplet,
    BinaryCrossEntropy,
}

impl LossKind {
    /// As the config writes it.
    pub fn name(self) -> &'static str {
        match self {
            LossKind::Softmax => "softmax",
            LossKind::CosineContrastive => "cosine_contrastive",
            LossKind::Bpr => "bpr",
            LossKind::Triplet => "triplet",
            LossKind::BinaryCrossEntropy => "binary_cross_entropy",
        }
    }

    /// Whether inner products are divided by a temperature.
    pub fn has_temperature(self) -> bool {
        !matches!(self, LossKind::CosineContrastive | LossKind::Triplet)
    }
}

impl Loss {
    /// The margin, or its default for this loss.
    pub fn margin(&self) -> f64 {
        self.margin.unwrap_or(if self.kind == LossKind::Triplet { 0.2 } else { 0.4 })
    }

    /// The weight of the negatives, or its default for this loss.
    pub fn negative_weight(&self) -> f64 {
        self.negative_weight.unwrap_or(if self.kind == LossKind::CosineContrastive { 100.0 } else { 1.0 })
    }
}

/// Hard negatives of an epoch: items that the towers of the epoch before put at middling ranks for a user, by exact inner
/// product over the catalogue and without what he liked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SelfMined {
    /// Epoch after which the first search is made: its negatives are those of the next one. Towers that know little find
    /// little. A training that goes on from a parent (`warm_start`) knows enough: there the first search is made before its first
    /// epoch.
    pub from_epoch: u32,
    /// First rank that is taken. The first ones hold the items that the user would like and was never shown.
    pub rank_from: usize,
    /// Last rank that is taken.
    pub rank_to: usize,
    /// Mined negatives of one positive in a step, beside those of `hard_per_positive`; at most 10,000, and 0 mines none.
    pub per_positive: usize,
    /// Share of the users that are searched for, other ones in each epoch. A search over users times items that would cost
    /// more than the epoch's steps is refused.
    pub share: f64,
}

impl Default for SelfMined {
    fn default() -> Self {
        // the ranks that Facebook's EBR (arXiv 2006.11632) found best
        SelfMined { from_epoch: 1, rank_from: 101, rank_to: 500, per_positive: 0, share: 1.0 }
    }
}

impl SelfMined {
    fn validate(&self, epochs: u32) -> Result<()> {
        if self.per_positive == 0 {
            return require(
                *self == SelfMined::default(),
                "training.self_mined.per_positive",
                "0 beside other keys",
                "at least 1, or none of them",
            );
        }
        let key = |name: &str| format!("training.self_mined.{name}");
        at_most(&key("per_positive"), self.per_positive, MOST_MINED)?;
        let from = self.from_epoch;
        let expected = format!("at least 1 and below training.epochs, {epochs}");
        require((1..epochs).contains(&from), &key("from_epoch"), &from.to_string(), &expected)?;
        let (first, last) = (self.rank_from, self.rank_to);
        let found = format!("ranks {first}..{last}");
        let ranks = first >= 1 && first <= last && last <= u32::MAX as usize;
        require(ranks, "training.self_mined", &found, "1 <= rank_from <= rank_to < 2^32")?;
        let share = self.share;
        require(share > 0.0 && share <= 1.0, &key("share"), &share.to_string(), "a share above 0 and at most 1")
    }
}

impl Config {
    /// A setting that the loss does not use is refused: it would look as if it did something.
    pub(super) fn validate_loss(&self) -> Result<()> {
        use LossKind::{BinaryCrossEntropy, CosineContrastive, Triplet};
        let (training, loss) = (&self.training, &self.training.loss);
        let kind = loss.kind.name();
        let only_for = |given: bool, key: &str, kinds: &[LossKind]| {
            let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            let (found, expected) = (format!("it with kind `{kind}`"), format!("it only for {}", names.join(", ")));
            require(!given || kinds.contains(&loss.kind), &format!("training.loss.{key}"), &found, &expected)
        };
        only_for(loss.margin.is_some(), "margin", &[CosineContrastive, Triplet])?;
        only_for(loss.negative_weight.is_some(), "negative_weight", &[CosineContrastive, BinaryCrossEntropy])?;
        let normalize = self.model.normalize;
        require(
            normalize || loss.kind != CosineContrastive,
            "model.normalize",
            &format!("false with training.loss.kind `{kind}`, which falls without end as vectors grow"),
            "true, or another loss",
        )?;
        let decay = training.vector_decay;
        require(
            decay == 0.0 || !normalize,
            "training.vector_decay",
            &format!("{decay} beside model.normalize true, which gives all vectors the length 1"),
            "0, or `model.normalize: false`",
        )?;
        let (from, to) = match (loss.kind, normalize) {
            (Triplet, true) => (0.0, 2.0),
            (Triplet, false) => (0.0, f64::INFINITY),
            _ => (-1.0, 1.0),
        };
        let expected = match normalize {
            true => format!("at least {from} and below {to}, as vectors have length 1"),
            false => format!("at least {from} and finite"),
        };
        let margin = loss.margin();
        require((from..to).contains(&margin), "training.loss.margin", &margin.to_string(), &expected)?;
        let weight = loss.negative_weight();
        let weighs = weight > 0.0 && weight.is_finite();
        require(weighs, "training.loss.negative_weight", &weight.to_string(), "a number above 0")?;
        let logq = &training.logq;
        require(
            loss.kind == LossKind::Softmax || *logq == LogQ::default(),
            "training.logq",
            &format!("in_batch {}, random {} with training.loss.kind `{kind}`", logq.in_batch, logq.random),
            "it only for softmax: no other loss corrects by logQ; leave the key out",
        )?;
        let without = format!("with training.loss.kind `{kind}`, which has no temperature");
        require(
            loss.kind.has_temperature() || !self.model.learn_temperature,
            "model.learn_temperature",
            &format!("true {without}"),
            "false",
        )?;
        let (temperature, usual) = (self.model.temperature, Model::default().temperature);
        require(
            loss.kind.has_temperature() || temperature == usual,
            "model.temperature",
            &format!("{temperature} {without}"),
            &format!("no such key, or its default {usual}"),
        )?;
        let (least, most) = (LEARNED_TEMPERATURES.start(), LEARNED_TEMPERATURES.end());
        require(
            !self.model.learn_temperature || LEARNED_TEMPERATURES.contains(&temperature),
            "model.temperature",
            &format!("{temperature} beside learn_temperature true"),
            &format!("a start from {least} to {most}, where a learned temperature stays"),
        )?;
        let objectives = &training.objectives;
        let count = objectives.len().to_string();
        require(objectives.len() <= 32, "training.objectives", &format!("{count} columns"), "at most 32")?;
        for (name, weight) in objectives {
            let (key, weighs) = (format!("training.objectives.{name}"), *weight > 0.0 && weight.is_finite());
            require(weighs, &key, &weight.to_string(), "a number above 0")?;
        }
        let most = "at most 2: each takes the place of easy negatives, and more are mostly wrong labels";
        require(training.online_hard <= 2, "training.online_hard", &training.online_hard.to_string(), most)?;
        let weight = training.online_hard_weight;
        let counts = weight >= 1.0 && weight.is_finite();
        require(counts, "training.online_hard_weight", &weight.to_string(), "a number of at least 1")?;
        training.self_mined.validate(training.epochs)?;
        let from = training.hard_from_epoch;
        require(from > 0, "training.hard_from_epoch", "0", "at least 1, the first epoch")?;
        require(
            from <= training.epochs,
            "training.hard_from_epoch",
            &from.to_string(),
            &format!("at most training.epochs, {}: no epoch would have hard negatives", training.epochs),
        )?;
        require(
            self.has_negatives(),
            "training.in_batch_negatives",
            &format!(
                "{} with batch_size {}, random_negatives 0, and nothing that makes hard, shown or self-mined negatives",
                training.in_batch_negatives, training.batch_size
            ),
            "some negatives: the loss of a positive alone is 0, and nothing is learned",
        )
    }

    /// Whether some kind of negatives can come of the settings. A team's own SQL may make any table.
    fn has_negatives(&self) -> bool {
        let (training, samples) = (&self.training, &self.samples);
        let hard = samples.hard_negatives.from.is_some() || self.sources.contains_key("ranker_scores");
        let made = |each: usize, built_in: bool| each > 0 && (built_in || samples.sql.is_some());
        training.has_in_batch_negatives()
            || training.random_negatives > 0
            || training.self_mined.per_positive > 0
            || made(training.hard_per_positive, hard)
            || made(training.shown_per_positive, samples.shown_negatives.per_positive > 0)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Overrides};

    const SMALL: &str = "version: 1\nname: a\noutput: out\nsources: {impressions: {path: logs}}\nfeatures: {user: {age: {kind: numeric}}, item: {item_id: {kind: id}}}\n";

    #[test]
    fn a_setting_that_means_nothing_to_the_loss_is_refused() {
        let cases: [&[&str]; 31] = [
            &["training.loss.kind=hinge"],
            &["training.loss.margin=0.1"],
            &["training.loss={kind: bpr, negative_weight: 2}"],
            &["training.loss={kind: cosine_contrastive, margin: 1.5}"],
            &["training.loss={kind: triplet, margin: -0.1}"],
            &["training.loss={kind: binary_cross_entropy, negative_weight: 0}"],
            &["training.loss={kind: cosine_contrastive, negative_weight: .inf}"],
            &["training.loss.kind=bpr", "training.logq.in_batch=0"],
            &["training.loss.kind=triplet", "model.learn_temperature=true"],
            &["training.loss.kind=cosine_contrastive", "model.temperature=0.1"],
            &["training.in_batch_negatives=false", "training.random_negatives=0", "training.hard_per_positive=0"],
            &["training.loss=bpr"],
            &["training.online_hard=3"],
            &["training.online_hard_weight=0.5"],
            &["training.hard_from_epoch=0"],
            &["training.objectives={clicked: 1, purchased: 0}"],
            &["training.self_mined={per_positive: 1, from_epoch: 10}"],
            &["training.self_mined={per_positive: 1, rank_from: 0}"],
            &["training.self_mined={rank_to: 400}"],
            &["training.self_mined={per_positive: 1, share: 0}"],
            &["model.normalize=false", "training.loss.kind=cosine_contrastive"],
            &["model.normalize=false", "training.loss={kind: triplet, margin: .inf}"],
            &["training.vector_decay=0.01"],
            &["training.hard_from_epoch=11"],
            &["training.self_mined={per_positive: 10001}"],
            &["training.self_mined={per_positive: 1, rank_to: 4294967296}"],
            &["model.learn_temperature=true", "model.temperature=2"],
            &["model.learn_temperature=true", "model.temperature=0.004"],
            &["training.in_batch_negatives=false", "training.random_negatives=0"],
            &["training.batch_size=1", "training.random_negatives=0"],
            &[
                "training.in_batch_negatives=false",
                "training.random_negatives=0",
                "samples.shown_negatives.per_positive=1",
                "training.shown_per_positive=0",
            ],
        ];
        let error = |set: &&[&str]| {
            let overrides = Overrides(set.iter().map(|set| set.to_string()).collect());
            Config::parse(SMALL, "job.yaml", &overrides).expect_err(&set.join(" ")).message
        };
        insta::assert_snapshot!(cases.iter().map(error).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn any_kind_of_negatives_is_enough_where_something_makes_it() {
        let none = ["training.in_batch_negatives=false", "training.random_negatives=0"];
        for kind in [
            "sources.ranker_scores={path: scores}",
            "samples.hard_negatives.from=previous",
            "samples.shown_negatives.per_positive=1",
            "training.self_mined.per_positive=1",
            "samples.sql=sql",
            "training.in_batch_negatives=true",
            "training.random_negatives=1",
        ] {
            let overrides = Overrides([none[0], none[1], kind].map(str::to_string).to_vec());
            Config::parse(SMALL, "job.yaml", &overrides).unwrap_or_else(|error| panic!("{kind}: {error}"));
        }
    }

    #[test]
    fn the_ends_of_a_range_are_within_it() {
        for set in [
            &["training.hard_from_epoch=10"][..],
            &["training.self_mined={per_positive: 10000}"],
            &["model.learn_temperature=true", "model.temperature=1"],
            &["model.learn_temperature=true", "model.temperature=0.005"],
            &["model.temperature=2"],
            &["training.checkpoint.minutes=10080", "training.threads=1024", "model.dim=65536"],
        ] {
            let overrides = Overrides(set.iter().map(|set| set.to_string()).collect());
            Config::parse(SMALL, "job.yaml", &overrides).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn every_loss_is_read_with_its_defaults() {
        for (kind, margin, negative_weight) in [
            ("softmax", 0.4, 1.0),
            ("cosine_contrastive", 0.4, 100.0),
            ("bpr", 0.4, 1.0),
            ("triplet", 0.2, 1.0),
            ("binary_cross_entropy", 0.4, 1.0),
        ] {
            let config =
                Config::parse(SMALL, "job.yaml", &Overrides(vec![format!("training.loss.kind={kind}")])).unwrap();
            let loss = &config.training.loss;
            assert_eq!((loss.kind.name(), loss.margin(), loss.negative_weight()), (kind, margin, negative_weight));
        }
    }
}
