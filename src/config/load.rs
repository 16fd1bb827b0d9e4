//! Reading a config: file, overrides, then the rules that types alone cannot hold.

use std::path::{Path, PathBuf};

use serde_yaml::Value;

use super::{Config, Feature, VERSION};
use crate::error::{Error, Result, nearest};

/// Largest dimension of vectors, embeddings and layers.
pub(super) const MOST_DIM: usize = 65_536;
/// Most positives, and most random negatives, of one step.
const MOST_IN_A_STEP: usize = 16_777_216;
const MOST_THREADS: usize = 1024;
/// Most minutes between two checkpoints.
const MOST_MINUTES: f64 = 10_080.0;

/// `--set a.b=c`, in the order given.
#[derive(Debug, Clone, Default)]
pub struct Overrides(pub Vec<String>);

impl Config {
    /// Reads `path`, applies `overrides`, checks everything that needs no store.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Config> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::usage(format!("cannot read config {}; give the file with -c", path.display())).caused_by(error)
        })?;
        let mut config = Config::parse(&text, &path.display().to_string(), overrides)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        config.base = folder.canonicalize().unwrap_or_else(|_| PathBuf::from(folder));
        Ok(config)
    }

    /// Parses a config's text; `file` names it in errors.
    pub fn parse(text: &str, file: &str, overrides: &Overrides) -> Result<Config> {
        check_version(text, file)?;
        // parsed from the text first, so that errors have a line
        let mut config: Config = serde_yaml::from_str(text).map_err(|error| explain(&error, file))?;
        if !overrides.0.is_empty() {
            let mut value: Value = serde_yaml::from_str(text).map_err(|error| explain(&error, file))?;
            let before = value.clone();
            for setting in &overrides.0 {
                apply(&mut value, setting)?;
            }
            config = serde_yaml::from_value(value.clone())
                .map_err(|error| explain_override(&error, &value, at_fault(before, &overrides.0)))?;
        }
        config.validate().map_err(|error| Error { message: format!("{file}: {}", error.message), ..error })?;
        Ok(config)
    }

    fn validate(&self) -> Result<()> {
        require(!self.name.is_empty(), "name", "empty", "a name for logs and manifests")?;
        require(!self.sources.is_empty(), "sources", "empty", "at least one source")?;
        for (name, source) in &self.sources {
            require(is_identifier(name), &format!("sources.{name}"), "not a table name", "letters, digits and _")?;
            let windowed = source.snapshot || source.days != Default::default();
            require(
                source.partition.is_some() || !windowed,
                &format!("sources.{name}"),
                "`days` or `snapshot` without `partition`",
                "`partition: dt` for folders named dt=2026-11-20",
            )?;
        }
        for (name, ranker) in &self.rankers {
            ranker.validate(name)?;
        }
        require(!self.features.user.is_empty(), "features.user", "empty", "at least one feature")?;
        require(!self.features.item.is_empty(), "features.item", "empty", "at least one feature")?;
        self.validate_features()?;
        self.validate_numbers()?;
        self.validate_negatives()?;
        self.metrics.validate()?;
        self.lineage.validate()?;
        self.validate_loss()
    }

    fn validate_numbers(&self) -> Result<()> {
        let share = |key: &str, value: f64| {
            require((0.0..1.0).contains(&value), key, &value.to_string(), "a share of at least 0 and below 1")
        };
        share("samples.holdout_share", self.samples.holdout_share)?;
        share("training.validation.share", self.training.validation.share)?;
        let rest = self.training.learning_rate.final_share;
        require((0.0..=1.0).contains(&rest), "training.learning_rate.final", &rest.to_string(), "a share from 0 to 1")?;
        share("training.history_dropout", self.training.history_dropout)?;
        share("model.user_tower.dropout", self.model.user_tower.dropout)?;
        share("model.item_tower.dropout", self.model.item_tower.dropout)?;
        for (side, tower) in [("user", &self.model.user_tower), ("item", &self.model.item_tower)] {
            let (key, found) = (format!("model.{side}_tower.layers"), format!("{:?}", tower.layers));
            require(tower.layers.iter().all(|width| *width > 0), &key, &found, "widths of at least 1")?;
            at_most(&key, tower.layers.iter().copied().max().unwrap_or_default(), MOST_DIM)?;
        }
        let limits = &self.samples.audit_limits;
        let null_share = limits.null_share;
        require(
            (0.0..=1.0).contains(&null_share),
            "samples.audit_limits.null_share",
            &null_share.to_string(),
            "a share from 0 to 1",
        )?;
        let positive = |key: &str, value: f64| {
            require(value > 0.0 && value.is_finite(), key, &value.to_string(), "a number above 0")
        };
        positive("model.dim", self.model.dim as f64)?;
        at_most("model.dim", self.model.dim, MOST_DIM)?;
        positive("model.temperature", self.model.temperature)?;
        if let Some(bias) = &self.model.item_bias {
            let (key, found) = ("model.item_bias.weight", bias.weight.to_string());
            require(bias.weight.is_finite(), key, &found, "a finite number")?;
        }
        positive("training.epochs", f64::from(self.training.epochs))?;
        positive("warm_start.epochs", f64::from(self.warm_start.epochs))?;
        positive("warm_start.max_parent_age_days", f64::from(self.warm_start.max_parent_age_days))?;
        positive("training.batch_size", self.training.batch_size as f64)?;
        at_most("training.batch_size", self.training.batch_size, MOST_IN_A_STEP)?;
        at_most("training.random_negatives", self.training.random_negatives, MOST_IN_A_STEP)?;
        at_most("training.threads", self.training.threads, MOST_THREADS)?;
        positive("training.hard_weight", self.training.hard_weight)?;
        positive("training.learning_rate.dense", self.training.learning_rate.dense)?;
        positive("training.learning_rate.tables", self.training.learning_rate.tables)?;
        positive("training.validation.k", self.training.validation.k as f64)?;
        positive("embedding.shards", self.embedding.shards as f64)?;
        positive("embedding.probe_users", self.embedding.probe_users as f64)?;
        positive("embedding.probe_items", self.embedding.probe_items as f64)?;
        positive("index.drift.max_error_growth", self.index.drift.max_error_growth)?;
        positive("index.drift.max_imbalance_growth", self.index.drift.max_imbalance_growth)?;
        positive("index.k", self.index.k as f64)?;
        positive("index.training_vectors", self.index.training_vectors as f64)?;
        positive("index.queries", self.index.queries as f64)?;
        positive("samples.rows_per_file", self.samples.rows_per_file as f64)?;
        let not_negative = |key: &str, value: f64| {
            require(value >= 0.0 && value.is_finite(), key, &value.to_string(), "a number of at least 0")
        };
        not_negative("embedding.min_refresh_recall", self.embedding.min_refresh_recall)?;
        not_negative("index.drift.max_recall_loss", self.index.drift.max_recall_loss)?;
        not_negative("samples.audit_limits.ratio_change", limits.ratio_change)?;
        not_negative("samples.audit_limits.day_change", limits.day_change)?;
        not_negative("training.clip", self.training.clip)?;
        let minutes = self.training.checkpoint.minutes;
        not_negative("training.checkpoint.minutes", minutes)?;
        let expected = format!("at most {MOST_MINUTES}, a week; 0 writes none by time");
        require(minutes <= MOST_MINUTES, "training.checkpoint.minutes", &minutes.to_string(), &expected)?;
        not_negative("training.weight_decay", self.training.weight_decay)?;
        not_negative("training.table_decay", self.training.table_decay)?;
        not_negative("training.vector_decay", self.training.vector_decay)?;
        not_negative("training.logq.in_batch", self.training.logq.in_batch)?;
        not_negative("training.logq.random", self.training.logq.random)?;
        positive("lease.ttl", self.lease.ttl.0.as_secs_f64())?;
        positive("retention.keep", self.retention.keep as f64)?;
        let target = self.index.recall_target;
        require(
            target > 0.0 && target <= 1.0,
            "index.recall_target",
            &target.to_string(),
            "a share above 0 and at most 1",
        )?;
        require(
            !self.evaluation.k.is_empty() && self.evaluation.k.iter().all(|k| *k > 0),
            "evaluation.k",
            &format!("{:?}", self.evaluation.k),
            "at least one cut-off, all above 0",
        )?;
        if let Some(path) = &self.training.tensorboard {
            let local = !path.is_empty() && !path.contains("://");
            require(
                local,
                "training.tensorboard",
                &format!("`{path}`"),
                "a local folder, because curves grow as they are drawn",
            )?;
        }
        let device = &self.training.device;
        let known = device == "cpu" || device.strip_prefix("cuda:").is_some_and(|n| n.parse::<usize>().is_ok());
        require(known, "training.device", device, "`cpu` or `cuda:0`")
    }

    /// Every feature as (side, name, feature), user first.
    pub fn all_features(&self) -> impl Iterator<Item = (&'static str, &str, &Feature)> {
        let user = self.features.user.iter().map(|(name, feature)| ("user", name.as_str(), feature));
        user.chain(self.features.item.iter().map(|(name, feature)| ("item", name.as_str(), feature)))
    }

    /// A path of the config as a URL or absolute path: relative ones count from the config's folder.
    pub fn resolve(&self, path: &str) -> String {
        if path.contains("://") || Path::new(path).is_absolute() {
            path.to_string()
        } else {
            self.base.join(path).to_string_lossy().into_owned()
        }
    }
}

pub(super) fn require(holds: bool, key: &str, found: &str, expected: &str) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::config(format!("{key}: found {found}, expected {expected}")))
}

/// Bounds of sizes: far beyond what anyone wants, so that a slip of the pen is told here and not by a machine without memory.
pub(super) fn at_most(key: &str, value: usize, most: usize) -> Result<()> {
    require(value <= most, key, &value.to_string(), &format!("at most {most}"))
}

pub(super) fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// A config of another version gets told so before its keys are called unknown.
fn check_version(text: &str, file: &str) -> Result<()> {
    let value: Value = serde_yaml::from_str(text).map_err(|error| explain(&error, file))?;
    match value.get("version") {
        Some(Value::Number(number)) if number.as_u64() == Some(u64::from(VERSION)) => Ok(()),
        Some(other) => {
            let advice = match other.as_u64() {
                Some(number) if number > u64::from(VERSION) => {
                    format!(
                        "it was written for a newer twotower than this one ({}): update the program",
                        env!("CARGO_PKG_VERSION")
                    )
                }
                Some(_) => {
                    "it was written for an older twotower: CHANGELOG.md says what changed, key by key".to_string()
                }
                None => format!("write `version: {VERSION}`"),
            };
            let found = serde_yaml::to_string(other).unwrap_or_default();
            Err(Error::config(format!("{file}: version: found {}, expected {VERSION}; {advice}", found.trim())))
        }
        None => Err(Error::config(format!("{file}: no key `version`; write `version: {VERSION}` at the top"))),
    }
}

/// serde's message, with the place and the nearest known key.
fn explain(error: &serde_yaml::Error, file: &str) -> Error {
    let place = error.location().map(|l| format!(":{}:{}", l.line(), l.column())).unwrap_or_default();
    Error::config(format!("{file}{place}: {}", in_words(error)))
}

/// The first of the settings after which the config that was right `before` was not right again.
fn at_fault(before: Value, settings: &[String]) -> &str {
    let (mut value, mut at_fault) = (before, None);
    for setting in settings {
        let is_right = apply(&mut value, setting).is_ok() && serde_yaml::from_value::<Config>(value.clone()).is_ok();
        at_fault = if is_right { None } else { at_fault.or(Some(setting)) };
    }
    at_fault.map_or("", String::as_str)
}

/// The same for a config that became wrong by `--set`, and by `setting` first. serde tells the path of a key only of a text, so the config is
/// written as one and read again. A text takes numbers for texts, so that a number in the place of one is told by the setting.
fn explain_override(error: &serde_yaml::Error, value: &Value, setting: &str) -> Error {
    let (key, given) = setting.split_once('=').unwrap_or((setting, ""));
    let again = serde_yaml::to_string(value).and_then(|text| serde_yaml::from_str::<Config>(&text));
    let text = match again.err().filter(|again| again.location().is_some()).map(|again| in_words(&again)) {
        // of a size or a duration the path ends with what is around it
        Some(text) => match text.split_once(": ") {
            Some((path, rest)) if key.starts_with(&format!("{path}.")) && !rest.starts_with("missing field") => {
                format!("{key}: {rest}")
            }
            _ => text,
        },
        None => format!("{key}: {}; write it in quotes, like --set '{key}=\"{given}\"'", in_words(error)),
    };
    Error::config(format!("--set: {text}"))
}

/// serde's message without its place, with our words for types.
fn in_words(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    unknown(text).or_else(|| another_type(text)).unwrap_or_else(|| text.to_string())
}

/// What serde puts before a value, which shows by itself what it is.
const KINDS: [&str; 4] = ["string ", "integer ", "floating point ", "boolean "];

/// serde's words for a value of another type than the key has: `training.epochs: invalid type: string "many", expected u32`.
fn another_type(text: &str) -> Option<String> {
    let (before, rest) = text.split_once("invalid type: ").or_else(|| text.split_once("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let found = match found {
        "unit value" => "nothing",
        "map" => "keys",
        "sequence" => "a list",
        other => KINDS.iter().find_map(|kind| other.strip_prefix(kind)).unwrap_or(other),
    };
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a string" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "keys",
        other if other.starts_with("struct ") => "keys",
        other => other,
    };
    Some(format!("{before}found {found}, expected {expected}"))
}

/// serde's words for a key or a choice that it does not know, with the nearest it knows. Keys are many, so that they are listed
/// only where none is near.
fn unknown(text: &str) -> Option<String> {
    let (before, rest, is_key) = match (text.split_once("unknown field `"), text.split_once("unknown variant `")) {
        (Some((before, rest)), _) => (before, rest, true),
        (None, Some((before, rest))) => (before, rest, false),
        (None, None) => return None,
    };
    let mut quoted = rest.split('`').step_by(2);
    let found = quoted.next()?;
    let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
    let near = nearest(found, known.iter().copied()).map(|name| format!(", did you mean `{name}`?"));
    let what = if is_key { "unknown key" } else { "found" };
    let listed = match (known.is_empty(), is_key, &near) {
        (true, ..) | (_, true, Some(_)) => String::new(),
        (false, _, Some(_)) => format!(" there are {}", known.join(", ")),
        (false, _, None) => format!("; there are {}", known.join(", ")),
    };
    Some(format!("{before}{what} `{found}`{}{listed}", near.unwrap_or_default()))
}

/// Applies `a.b=c`; the value is read as YAML.
fn apply(value: &mut Value, setting: &str) -> Result<()> {
    let (path, text) = setting
        .split_once('=')
        .ok_or_else(|| Error::usage(format!("--set {setting}: no `=`; write it like --set training.epochs=3")))?;
    let new: Value = serde_yaml::from_str(text).map_err(|error| {
        Error::usage(format!("--set {setting}: the value is not YAML")).caused_by(error.to_string())
    })?;
    let mut at = value;
    for part in path.split('.') {
        if at.is_null() {
            *at = Value::Mapping(Default::default());
        }
        let Value::Mapping(map) = at else {
            return Err(Error::usage(format!("--set {setting}: `{part}` is below a key that holds a plain value")));
        };
        at = map.entry(Value::String(part.to_string())).or_insert(Value::Null);
    }
    *at = new;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "version: 1\nname: a\noutput: out\nsources:\n  impressions: {path: logs}\nfeatures:\n  user:\n    history: {kind: ids, table: item_id}\n  item:\n    item_id: {kind: id}\n";

    fn error_of(text: &str, set: &[&str]) -> String {
        let overrides = Overrides(set.iter().map(|s| s.to_string()).collect());
        Config::parse(text, "job.yaml", &overrides).unwrap_err().to_string()
    }

    #[test]
    fn a_small_config_has_defaults_and_takes_overrides() {
        let overrides = Overrides(vec!["training.epochs=3".into(), "samples.params.min_watch=0.5".into()]);
        let config = Config::parse(SMALL, "job.yaml", &overrides).unwrap();
        assert_eq!(config.training.epochs, 3);
        assert_eq!(config.samples.params["min_watch"], 0.5);
        assert_eq!(config.model.dim, 64);
    }

    #[test]
    fn a_number_that_cannot_mean_anything_is_refused_by_its_key() {
        for set in [
            "model.user_tower.layers=[64, 0]",
            "features.user.history.max_length=0",
            "training.clip=-1",
            "training.checkpoint.minutes=.inf",
            "training.checkpoint.minutes=1e300",
            "training.batch_size=16777217",
            "training.random_negatives=18446744073709551615",
            "training.threads=1025",
            "model.dim=65537",
            "model.item_tower.layers=[64, 65537]",
            "features.item.item_id.dim=65537",
            "training.learning_rate.final=1.5",
            "training.tensorboard=s3://bucket/curves",
            "training.weight_decay=-0.1",
            "training.table_decay=.nan",
            "training.vector_decay=-0.1",
            "training.logq.in_batch=.inf",
            "index.recall_target=2",
            "samples.hard_negatives.margin=-1",
            "samples.hard_negatives.per_item=0",
            "samples.previous_candidates.shards=0",
            "index.training_vectors=0",
        ] {
            let (text, key) = (error_of(SMALL, &[set]), set.split('=').next().unwrap());
            assert!(text.starts_with(&format!("job.yaml: {key}: found ")), "{set}: {text}");
        }
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let cases = [
            error_of(&SMALL.replace("output:", "outptu:"), &[]),
            error_of(&SMALL.replace("kind: ids", "kind: idz"), &[]),
            error_of(&SMALL.replace("table: item_id", "table: item"), &[]),
            error_of(&SMALL.replace("version: 1", "version: 0"), &[]),
            error_of(&SMALL.replace("{path: logs}", "{path: logs, days: 0..-6}"), &[]),
            error_of(SMALL, &["training.epochs=many"]),
            error_of(SMALL, &["training.epochs=-1"]),
            error_of(SMALL, &["model.dim=8", "training={epochs: 1.5}"]),
            error_of(SMALL, &["training.validation=[1]", "model.dim=8"]),
            error_of(SMALL, &["evaluation.k=5"]),
            error_of(SMALL, &["training.epoch=3"]),
            error_of(SMALL, &["sources.users.partition=dt"]),
            error_of(SMALL, &["features.item.item_id.dim=big"]),
            error_of(SMALL, &["sources.users.partition=dt", "training.epochs=many", "sources.users.path=users"]),
            error_of(SMALL, &["model.dim=8", "training.device=0", "training.epochs=2"]),
            error_of(SMALL, &["training.epochs"]),
            error_of(SMALL, &["training.validation.share=1.5"]),
            error_of(SMALL, &["samples.memory=lots"]),
            error_of("name: a", &[]),
            error_of("a: [", &[]),
        ];
        insta::assert_snapshot!(cases.join("\n"));
    }

    #[tokio::test]
    async fn a_damaged_config_is_refused_or_read_and_nothing_else() {
        for (name, usual) in [("demo.yaml", 300), ("reference.yaml", 100)] {
            let file = format!("{}/configs/{name}", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read(file).unwrap();
            crate::storage::damage::each(name, usual, &text, async |damaged| {
                let text = String::from_utf8_lossy(&damaged);
                for overrides in [vec![], vec!["training.epochs=3".to_string()]] {
                    if let Ok(config) = Config::parse(&text, "job.yaml", &Overrides(overrides)) {
                        serde_json::to_string(&config).unwrap();
                    }
                }
            })
            .await;
        }
    }
}
