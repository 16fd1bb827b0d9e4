//! Where the SQL comes from: files inside the program, replaced and joined by those in `samples.sql`.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{NEGATIVES, Names, hard_from};
use super::parse::{SqlFile, parse};
use super::placeholders::{histories, name_column, set_flag, users_time};
use crate::artifacts::contracts;
use crate::config::Config;
use crate::error::{Error, Result, did_you_mean};
use crate::storage::open;

macro_rules! embedded {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../sql/", $path)))),*]
    };
}

/// The built-in files by path below `sql/`.
const BUILT_IN: &[(&str, &str)] = &embedded![
    "liked.sql",
    "positives.sql",
    "positives_as_of.sql",
    "item_frequency.sql",
    "random_negatives.sql",
    "hard_negatives.sql",
    "hard_positives.sql",
    "ranked_candidates.sql",
    "shown_negatives.sql",
    "item_features.sql",
    "user_features.sql",
    "user_features_as_of.sql",
    "holdout.sql",
    "holdout_future.sql",
    "seen.sql",
    "audits/duplicate_samples.sql",
    "audits/negatives_liked_by_the_user.sql",
    "audits/negatives_held_out_for_the_user.sql",
    "audits/negatives_outside_the_corpus.sql",
    "audits/positives_outside_the_corpus.sql",
    "audits/class_ratio.sql",
    "audits/hard_negatives_ratio.sql",
    "audits/null_features.sql",
    "audits/holdout_inside_training.sql",
    "audits/held_out_clicks_inside_training.sql",
    "audits/holdout_users_inside_training.sql",
    "audits/held_out_item_in_the_history.sql",
    "audits/held_out_item_in_a_past_history.sql",
    "audits/history_after_the_event.sql",
    "audits/features_after_the_event.sql",
    "audits/positives_after_the_date.sql",
    "audits/day_far_from_the_last_seven.sql",
];

/// Stands for the name of a column with a history, in audits.
const HISTORY: &str = "$history";
/// The source whose presence makes `holdout` what happened after the date.
const FUTURE_SOURCE: &str = "future_impressions";

/// As errors name it, the text, and whether it is built in; by path.
type Texts = BTreeMap<String, (String, String, bool)>;

/// Every table that may be built, and every audit.
pub struct Files {
    pub tables: BTreeMap<String, SqlFile>,
    /// Tables that are built whether or not another reads them.
    pub wanted: Vec<String>,
    pub audits: Vec<SqlFile>,
}

/// Whether held-out positives come from after the date.
pub fn has_future(config: &Config) -> bool {
    config.sources.contains_key(FUTURE_SOURCE)
}

/// Reads and parses the SQL of a job.
pub async fn load(config: &Config) -> Result<Files> {
    let mut texts: Texts = BUILT_IN
        .iter()
        .flat_map(|&(path, text)| {
            let text = (format!("built-in sql/{path}"), text.to_string(), true);
            names_of(path).into_iter().map(move |path| (path, text.clone()))
        })
        .collect();
    if let Some(folder) = &config.samples.sql {
        for (path, text) in read_folder(config, folder).await? {
            texts.insert(path.clone(), (format!("{}/{path}", folder.trim_end_matches('/')), text, false));
        }
    }
    let is_built_in = |texts: &Texts, path: &str| texts.get(path).is_some_and(|(.., built_in)| *built_in);
    let users_time = users_time(config);
    // one table, two built-in ways to make it
    for (usual, other, wanted) in [
        ("holdout.sql", "holdout_future.sql", has_future(config)),
        ("positives.sql", "positives_as_of.sql", users_time.is_some()),
        ("user_features.sql", "user_features_as_of.sql", users_time.is_some()),
    ] {
        if let Some(text) = texts.remove(other).filter(|_| wanted && is_built_in(&texts, usual)) {
            texts.insert(usual.into(), text);
        }
    }
    let left_out = |path: &str| match path {
        "hard_negatives.sql" => hard_from(config).is_none(),
        "shown_negatives.sql" => config.samples.shown_negatives.per_positive == 0,
        // what these two hold out is what the audit knows
        "audits/holdout_users_inside_training.sql" => {
            !["liked.sql", "holdout.sql"].iter().all(|path| is_built_in(&texts, path)) || has_future(config)
        }
        _ => false,
    };
    let left_out: Vec<String> = texts
        .iter()
        .filter(|(path, (.., built_in))| *built_in && left_out(path))
        .map(|(path, _)| path.clone())
        .collect();
    check_audit_names(config, &texts)?;
    texts.retain(|path, _| !left_out.contains(path));
    let names = Names::new(config)?;
    let mut files = Files { tables: BTreeMap::new(), wanted: Vec::new(), audits: Vec::new() };
    for (path, (shown, text, built_in)) in texts {
        let stem = path.trim_end_matches(".sql");
        let name = stem.strip_prefix("audits/").unwrap_or(stem);
        let mut file = names.resolve(parse(name, &shown, text, built_in)?)?;
        if path.starts_with("audits/") {
            files.audits.extend(for_each_history(config, file));
            continue;
        }
        if let Some(time) = users_time.as_ref().filter(|_| built_in) {
            name_column(&mut file, "$users_time", &time.column);
            set_flag(&mut file, "$users_by_day", time.by_day);
        }
        if config.sources.contains_key(name) {
            return Err(Error::config(format!(
                "{shown}: table `{name}` has the name of a source; rename the file or `sources.{name}`"
            )));
        }
        let in_contract = contracts().iter().any(|contract| contract.table == name);
        // built-in helpers are built where something reads them
        if in_contract || !built_in {
            files.wanted.push(name.to_string());
        }
        files.tables.insert(name.to_string(), file);
    }
    Ok(files)
}

/// Where a built-in file stands among the job's own, which may take its place: an audit of negatives once for each kind of them.
fn names_of(path: &str) -> Vec<String> {
    match path.strip_prefix("audits/negatives_") {
        Some(audit) => NEGATIVES.iter().map(|(begins, _)| format!("audits/{begins}{audit}")).collect(),
        None => vec![path.to_string()],
    }
}

/// An audit of histories, `$history`, becomes one for each column with a history: none where the config has none.
fn for_each_history(config: &Config, audit: SqlFile) -> Vec<SqlFile> {
    if !audit.references.params.contains_key(HISTORY) {
        return vec![audit];
    }
    let columns = histories(config);
    let several = columns.len() > 1;
    let named = columns.into_iter().map(|column| {
        let mut one = audit.clone();
        name_column(&mut one, HISTORY, &column);
        if several {
            one.name = format!("{}:{column}", audit.name);
        }
        one.history = Some(column);
        one
    });
    named.collect()
}

/// A level for an audit that is not there does nothing, which is not what was meant.
fn check_audit_names(config: &Config, texts: &Texts) -> Result<()> {
    let audits = texts.keys().filter_map(|path| path.strip_prefix("audits/"));
    let known: BTreeSet<&str> = audits.map(|file| file.trim_end_matches(".sql")).collect();
    let Some(name) = config.samples.audits.keys().find(|name| !known.contains(name.as_str())) else { return Ok(()) };
    Err(Error::config(format!(
        "samples.audits.{name}: no audit has this name{}; there are {}",
        did_you_mean(name, known.iter().copied()),
        known.iter().copied().collect::<Vec<_>>().join(", ")
    )))
}

/// `*.sql` and `audits/*.sql` in a folder.
async fn read_folder(config: &Config, folder: &str) -> Result<Vec<(String, String)>> {
    let store = open(&config.resolve(folder))?;
    let (_, mut objects) = store.list_level("").await?;
    objects.extend(store.list_level("audits").await?.1);
    objects.retain(|object| object.key.ends_with(".sql"));
    if objects.is_empty() {
        return Err(Error::config(format!("samples.sql: {} holds no file that ends with .sql", store.url())));
    }
    let mut texts = Vec::new();
    for object in objects {
        let bytes = store.get_existing(&object.key).await?;
        let text = String::from_utf8(bytes.to_vec()).map_err(|error| {
            Error::config(format!("{} is not UTF-8 text", store.url_of(&object.key))).caused_by(error)
        })?;
        texts.push((object.key, text));
    }
    Ok(texts)
}
