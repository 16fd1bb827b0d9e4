//! What is different between two releases.

use std::collections::{BTreeMap, HashSet};

use futures::StreamExt;
use serde::Serialize;
use serde_json::Value;

use crate::artifacts::{Id, Ids, Release, RunDate, keys};
use crate::error::{Error, Result};
use crate::storage::{FileEntry, Store, read_parquet_stream, unseal};

/// Items named as examples.
const EXAMPLES: usize = 5;

/// Two releases side by side: pairs are (of `a`, of `b`).
#[derive(Debug, Serialize)]
pub struct Difference {
    pub a: u64,
    pub b: u64,
    pub date: (RunDate, RunDate),
    pub data_window: ((RunDate, RunDate), (RunDate, RunDate)),
    pub items: (u64, u64),
    /// Items of `b` that `a` lacks, and the other way round.
    pub items_added: u64,
    pub items_removed: u64,
    /// The first few of each, by id.
    pub added: Vec<Id>,
    pub removed: Vec<Id>,
    pub dim: (usize, usize),
    pub index: (String, String),
    /// Every number among the metrics, by its path (`exact.100.recall`).
    pub metrics: BTreeMap<String, (Option<f64>, Option<f64>)>,
    /// Which digests are others: `config`, `sql`, `inputs`.
    pub digests: Vec<String>,
    /// Tables whose SQL is another, where the samples of both are still there.
    pub sql_tables: Vec<String>,
    /// Bytes of all files, by part: `samples`, `model`, `embeddings`, `index`, `report`.
    pub bytes: BTreeMap<String, (u64, u64)>,
}

/// Compares the two releases; reads both lists of item ids.
pub async fn diff(output: &Store, a: &Release, b: &Release) -> Result<Difference> {
    let (before, after) = (ids(output, a).await?, ids(output, b).await?);
    let (items_added, added) = without(&after, &before);
    let (items_removed, removed) = without(&before, &after);
    let digests = [
        ("config", a.config_digest != b.config_digest),
        ("sql", a.sql_digest != b.sql_digest),
        ("inputs", a.inputs_digest != b.inputs_digest),
    ];
    let (sql_a, sql_b) = (sql(output, a).await?, sql(output, b).await?);
    let sql_tables = match (sql_a, sql_b) {
        (Some(a), Some(b)) => {
            let names: HashSet<&String> = a.keys().chain(b.keys()).collect();
            let mut changed: Vec<String> =
                names.into_iter().filter(|name| a.get(*name) != b.get(*name)).cloned().collect();
            changed.sort();
            changed
        }
        _ => Vec::new(),
    };
    let mut metrics: BTreeMap<String, (Option<f64>, Option<f64>)> = BTreeMap::new();
    numbers(&a.metrics, "", &mut |path, value| metrics.entry(path).or_default().0 = Some(value));
    numbers(&b.metrics, "", &mut |path, value| metrics.entry(path).or_default().1 = Some(value));
    let mut bytes: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    sizes(a, |part, size| bytes.entry(part).or_default().0 += size);
    sizes(b, |part, size| bytes.entry(part).or_default().1 += size);
    let index =
        |release: &Release| format!("{} {}", release.index_factory, release.search_parameters).trim_end().to_string();
    Ok(Difference {
        a: a.release,
        b: b.release,
        date: (a.date, b.date),
        data_window: (a.data_window, b.data_window),
        items: (a.items, b.items),
        items_added,
        items_removed,
        added,
        removed,
        dim: (a.dim, b.dim),
        index: (index(a), index(b)),
        metrics,
        digests: digests.iter().filter(|(_, other)| *other).map(|(name, _)| name.to_string()).collect(),
        sql_tables,
        bytes,
    })
}

async fn ids(output: &Store, release: &Release) -> Result<HashSet<Id>> {
    let key = format!("{}/{}", release.index, keys::ITEM_IDS);
    let file = FileEntry::find(&release.files, output, &key, "the release is damaged")?;
    let mut rows = read_parquet_stream(output, vec![file.clone()], Some(vec!["item_id".into()]), 65_536);
    let mut found = HashSet::with_capacity(release.items as usize);
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let column = batch
            .column_by_name("item_id")
            .ok_or_else(|| Error::config(format!("{} has no column `item_id`", output.url_of(&key))))?;
        let mut ids = Ids::new(release.item_id_type);
        ids.extend_from(column, "item_ids.item_id")?;
        found.extend(ids.iter());
    }
    Ok(found)
}

fn without(of: &HashSet<Id>, others: &HashSet<Id>) -> (u64, Vec<Id>) {
    let mut left: Vec<Id> = of.difference(others).cloned().collect();
    left.sort();
    let count = left.len() as u64;
    left.truncate(EXAMPLES);
    (count, left)
}

/// Digest of each sample table's SQL, or `None` when the samples' manifest is gone.
async fn sql(output: &Store, release: &Release) -> Result<Option<BTreeMap<String, Value>>> {
    let Some(bytes) = output.get(&format!("{}/{}", release.samples, keys::MANIFEST)).await? else { return Ok(None) };
    let manifest: Value = unseal(&bytes).unwrap_or_default();
    Ok(manifest["facts"]["sql"].as_object().map(|sql| sql.iter().map(|(k, v)| (k.clone(), v.clone())).collect()))
}

fn numbers(value: &Value, path: &str, found: &mut impl FnMut(String, f64)) {
    match value {
        Value::Number(number) => found(path.to_string(), number.as_f64().unwrap_or(f64::NAN)),
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                numbers(value, &path, found);
            }
        }
        _ => {}
    }
}

fn sizes(release: &Release, mut add: impl FnMut(String, u64)) {
    let parts = [
        ("samples", &release.samples),
        ("model", &release.model),
        ("embeddings", &release.embeddings),
        ("index", &release.index),
        ("report", &release.report),
    ];
    for file in &release.files {
        let part = parts.iter().find(|(_, folder)| file.key.starts_with(&format!("{folder}/")));
        add(part.map_or("other", |(name, _)| name).to_string(), file.bytes);
    }
}
