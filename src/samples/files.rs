//! Where the SQL comes from: files inside the program, replaced and joined by those in `samples.sql`.

use std::collections::BTreeMap;

use super::names::{Names, hard_from};
use super::parse::{SqlFile, parse};
use crate::artifacts::contracts;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::storage::open;

macro_rules! embedded {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../sql/", $path)))),*]
    };
}

/// The built-in files by path below `sql/`.
const BUILT_IN: [(&str, &str); 17] = embedded![
    "liked.sql",
    "positives.sql",
    "item_frequency.sql",
    "random_negatives.sql",
    "hard_negatives.sql",
    "ranked_candidates.sql",
    "shown_negatives.sql",
    "item_features.sql",
    "user_features.sql",
    "holdout.sql",
    "holdout_future.sql",
    "seen.sql",
    "audits/duplicate_samples.sql",
    "audits/negatives_liked_by_the_user.sql",
    "audits/hard_negatives_liked_by_the_user.sql",
    "audits/negatives_outside_the_corpus.sql",
    "audits/holdout_inside_training.sql",
];

/// The source whose presence makes `holdout` what happened after the date.
const FUTURE_SOURCE: &str = "future_impressions";

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
    let mut texts: BTreeMap<String, (String, String, bool)> = BUILT_IN
        .iter()
        .map(|(path, text)| (path.to_string(), (format!("built-in sql/{path}"), text.to_string(), true)))
        .collect();
    if let Some(folder) = &config.samples.sql {
        for (path, text) in read_folder(config, folder).await? {
            texts.insert(path.clone(), (format!("{}/{path}", folder.trim_end_matches('/')), text, false));
        }
    }
    // one table, two built-in ways to make it
    let unused = if has_future(config) { "holdout.sql" } else { "holdout_future.sql" };
    let own_holdout = texts.get("holdout.sql").is_some_and(|(.., built_in)| !built_in);
    if own_holdout {
        texts.remove("holdout_future.sql");
    } else {
        texts.remove(unused);
    }
    let left_out = |path: &str| match path {
        "hard_negatives.sql" => hard_from(config).is_none(),
        "shown_negatives.sql" => config.samples.shown_negatives.per_positive == 0,
        _ => false,
    };
    texts.retain(|path, (.., built_in)| !(*built_in && left_out(path)));
    let names = Names::new(config)?;
    let mut files = Files { tables: BTreeMap::new(), wanted: Vec::new(), audits: Vec::new() };
    for (path, (shown, text, built_in)) in texts {
        let stem = path.trim_end_matches(".sql");
        let name = stem.strip_prefix("audits/").unwrap_or(if stem == "holdout_future" { "holdout" } else { stem });
        let file = names.resolve(parse(name, &shown, text, built_in)?)?;
        if path.starts_with("audits/") {
            files.audits.push(file);
            continue;
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
