//! A first config and its SQL, from what the logs look like: which column is what, and what the towers might see.

mod ask;
mod given;
mod guess;
mod made;
mod names;
mod propose;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use ask::Asker;

use self::guess::{Mapped, Role, map};
use self::propose::{Proposal, propose};
use crate::artifacts::RunDate;
use crate::config::ColumnType;
use crate::error::{Error, Result, did_you_mean};
use crate::warehouse::{Inspected, inspect};

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub impressions: Option<String>,
    pub items: Option<String>,
    pub users: Option<String>,
    pub ranker_scores: Option<String>,
    pub output: Option<String>,
    pub name: Option<String>,
    pub date: Option<RunDate>,
    /// `user_id=uid`, `items.item_id=sku`, `clicked=event = 'click'`.
    pub map: Vec<String>,
    pub out: PathBuf,
}

/// One table of the config.
pub struct Table {
    pub name: &'static str,
    pub seen: Inspected,
    pub mapped: Vec<Mapped>,
    /// Columns that features are made of, for items and users.
    pub proposals: Vec<Proposal>,
    /// What is left out of them, and why.
    pub left_out: Vec<(String, String)>,
}

/// What was made.
pub struct Made {
    pub config: PathBuf,
    pub date: RunDate,
    /// What was found, assumed and written, for people.
    pub told: String,
}

/// The columns that the built-in SQL reads, by table.
fn roles(table: &str) -> &'static [Role] {
    match table {
        "impressions" => &[Role::UserId, Role::ItemId, Role::EventTime, Role::Clicked],
        "items" => &[Role::ItemId],
        "users" => &[Role::UserId],
        _ => &[Role::UserId, Role::ItemId, Role::Score],
    }
}

/// Looks at the logs, asks what it cannot tell, and writes a config with its SQL. Nothing that is there is written over.
pub async fn run(wanted: &Wanted, asker: &mut Asker) -> Result<Made> {
    let config = wanted.out.join("job.yaml");
    refuse_to_overwrite(&wanted.out)?;
    let paths = paths(wanted, asker)?;
    let mut given = overrides(&wanted.map, &paths)?;
    let mut tables = Vec::new();
    for (name, path) in &paths {
        let seen = inspect(name, path, wanted.date).await?;
        let mapped = map(name, roles(name), &seen, given.remove(*name).unwrap_or_default(), asker)?;
        tables.push(Table { name, seen, mapped, proposals: Vec::new(), left_out: Vec::new() });
    }
    same_id_types(&mut tables);
    let mut taken = vec!["history".to_string(), "item_id".to_string()];
    for table in tables.iter_mut().filter(|table| ["items", "users"].contains(&table.name)) {
        (table.proposals, table.left_out) = propose(table, &mut taken);
    }
    let date = wanted.date.or_else(|| newest_date(&tables[0])).unwrap_or_else(yesterday);
    let output = match &wanted.output {
        Some(output) => absolute(output)?,
        None => absolute(&asker.ask("where shall samples, models and releases go", "two-tower")?)?,
    };
    let name = wanted.name.clone().unwrap_or_else(|| job_name(&wanted.out));
    let files = text::files(&text::Job { name: &name, output: &output, date, tables: &tables });
    write(&wanted.out, &files)?;
    Ok(Made { config, date, told: text::told(&tables, date, &wanted.out, &files) })
}

fn refuse_to_overwrite(out: &Path) -> Result<()> {
    let there = ["job.yaml", "sql"].map(|name| out.join(name)).into_iter().find(|path| path.exists());
    match there {
        None => Ok(()),
        Some(path) => Err(Error::usage(format!(
            "{} is there already and is not written over; give another folder with --out, or move it away",
            path.display()
        ))),
    }
}

/// Where each table lies, in the order they are looked at. Local paths become absolute ones.
fn paths(wanted: &Wanted, asker: &mut Asker) -> Result<Vec<(&'static str, String)>> {
    let impressions = match &wanted.impressions {
        Some(path) => path.clone(),
        None if asker.is_on() => asker.need("where is the log of what was shown to whom (a folder or s3:// URL)")?,
        None => {
            return Err(Error::usage(
                "give --impressions PATH, the log of what was shown to whom: a folder like ./logs/impressions or s3://bucket/logs/impressions",
            ));
        }
    };
    let mut paths = vec![("impressions", absolute(&impressions)?)];
    for (name, given, question) in [
        ("items", &wanted.items, "where is the catalogue of items, with their features (empty: none)"),
        ("users", &wanted.users, "where are the users, with their features (empty: none)"),
        ("ranker_scores", &wanted.ranker_scores, "where are a ranker's scores of users and items (empty: none)"),
    ] {
        let path = match given {
            Some(path) => path.clone(),
            None => asker.ask(question, "")?,
        };
        if !path.is_empty() {
            paths.push((name, absolute(&path)?));
        }
    }
    Ok(paths)
}

/// `--map`, by table.
fn overrides(map: &[String], paths: &[(&'static str, String)]) -> Result<BTreeMap<String, Vec<(Role, String)>>> {
    let mut by_table: BTreeMap<String, Vec<(Role, String)>> = BTreeMap::new();
    for setting in map {
        let bad = |why: &str| Error::usage(format!("--map {setting}: {why}"));
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| bad("no `=`; write it like --map user_id=uid or --map items.item_id=sku"))?;
        let (table, column) = key.trim().split_once('.').unwrap_or(("impressions", key.trim()));
        let known = paths.iter().map(|(name, _)| *name);
        if !paths.iter().any(|(name, _)| *name == table) {
            let there = known.clone().collect::<Vec<_>>().join(", ");
            return Err(bad(&format!("no table `{table}`{}; there are {there}", did_you_mean(table, known))));
        }
        let names = roles(table).iter().map(|role| role.name());
        let role = roles(table).iter().find(|role| role.name() == column).ok_or_else(|| {
            let there = names.clone().collect::<Vec<_>>().join(", ");
            bad(&format!("`{table}` has no `{column}`{}; there are {there}", did_you_mean(column, names)))
        })?;
        by_table.entry(table.to_string()).or_default().push((*role, value.trim().to_string()));
    }
    Ok(by_table)
}

/// Ids that are integers in one table and text in another become text in all.
fn same_id_types(tables: &mut [Table]) {
    for role in [Role::UserId, Role::ItemId] {
        let types: Vec<ColumnType> =
            tables.iter().flat_map(|table| table.mapped.iter().filter(|m| m.role == role).map(|m| m.becomes)).collect();
        if types.windows(2).all(|pair| pair[0] == pair[1]) {
            continue;
        }
        let mapped = tables.iter_mut().flat_map(|table| table.mapped.iter_mut());
        for mapped in mapped.filter(|mapped| mapped.role == role && mapped.becomes != ColumnType::Varchar) {
            mapped.expression = format!("cast({} as varchar)", mapped.expression);
            mapped.becomes = ColumnType::Varchar;
            mapped.note = "an integer here and text elsewhere, so text".into();
        }
    }
}

/// The day that the logs end with.
fn newest_date(impressions: &Table) -> Option<RunDate> {
    if let Some(partitions) = &impressions.seen.partitions {
        return partitions.dates.last().copied();
    }
    impressions.mapped.iter().find(|mapped| mapped.role == Role::EventTime)?.newest
}

fn yesterday() -> RunDate {
    RunDate(chrono::Utc::now().date_naive()).offset(-1)
}

/// A local path as an absolute one, since paths of a config count from its own folder.
fn absolute(path: &str) -> Result<String> {
    if path.contains("://") {
        return Ok(path.trim_end_matches('/').to_string());
    }
    let absolute = std::path::absolute(path)
        .map_err(|error| Error::usage(format!("`{path}` is not a usable path")).caused_by(error))?;
    Ok(absolute.to_string_lossy().trim_end_matches('/').to_string())
}

/// The folder's name, as far as it can be one.
fn job_name(out: &Path) -> String {
    let folder =
        std::path::absolute(out).ok().and_then(|path| path.file_name().map(|n| n.to_string_lossy().into_owned()));
    let plain: String = folder.unwrap_or_default().chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    if plain.trim_matches('_').is_empty() { "my_job".into() } else { plain.trim_matches('_').to_lowercase() }
}

fn write(out: &Path, files: &[(String, String)]) -> Result<()> {
    for (name, text) in files {
        let path = out.join(name);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
        written.map_err(|error| {
            Error::usage(format!("cannot write {}; give a folder that may be written with --out", path.display()))
                .caused_by(error)
        })?;
    }
    Ok(())
}
