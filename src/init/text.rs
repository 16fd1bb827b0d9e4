//! The files: a config and the SQL that maps names, with the reasons beside what was chosen.

use std::fmt::Write;
use std::path::Path;

use super::Table;
use super::guess::{Mapped, Role};
use super::names::quoted;
use super::propose::Proposal;
use crate::artifacts::RunDate;
use crate::config::{ColumnType, Format};

/// Days of impressions that are read at most.
const WINDOW: i32 = 7;

/// What the files are about.
pub struct Job<'a> {
    pub name: &'a str,
    pub output: &'a str,
    pub date: RunDate,
    pub tables: &'a [Table],
}

/// Every file by its name below the folder.
pub fn files(job: &Job<'_>) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for table in job.tables.iter().filter(|table| needs_sql(table)) {
        files.push((format!("sql/{}.sql", table.name), sql_of(table)));
    }
    for (name, id, what) in [("items", "item_id", "item"), ("users", "user_id", "user")] {
        if !job.tables.iter().any(|table| table.name == name) {
            let text = format!(
                "-- No table of {name} was given: every {what} that was shown, without features of its own.\nselect distinct {id}\nfrom impressions\n"
            );
            files.push((format!("sql/{name}.sql"), text));
        }
    }
    files.insert(0, ("job.yaml".into(), config(job, !files.is_empty())));
    files
}

/// Whether a table needs SQL of its own, because its columns have other names or types than the built-in SQL reads.
fn needs_sql(table: &Table) -> bool {
    let renamed = |mapped: &Mapped| mapped.expression != mapped.role.name();
    let made = |proposal: &Proposal| proposal.expression != proposal.output;
    // `select *` would bring along what no table can have, and what means something else in the samples
    let in_the_way = !table.left_out.is_empty() && table.name != "impressions";
    table.mapped.iter().any(renamed) || table.proposals.iter().any(made) || in_the_way || is_unbounded(table)
}

/// Impressions without partitions hold days after the date too.
fn is_unbounded(table: &Table) -> bool {
    table.name == "impressions" && table.seen.partitions.is_none()
}

/// Name of a table's source: its own, unless a file of that name makes the table.
fn source(table: &Table) -> &'static str {
    match (needs_sql(table), table.name) {
        (false, name) => name,
        (_, "impressions") => "impression_log",
        (_, "items") => "item_list",
        (_, "users") => "user_list",
        _ => "ranker_log",
    }
}

fn sql_of(table: &Table) -> String {
    let comment = match table.name {
        "impressions" => {
            "-- The log of what was shown to whom, under the names that the built-in SQL reads. `clicked` says what a positive is: change it here."
        }
        "items" => {
            "-- The catalogue under the names that the built-in SQL reads: every item here is embedded and can be found."
        }
        "users" => "-- What is known of users, under the names that the built-in SQL reads.",
        _ => "-- A ranker's scores under the names that the built-in SQL reads.",
    };
    let named = |expression: &str, name: &str| match quoted(name) {
        name if name == expression => format!("    {name}"),
        name => format!("    {expression} as {name}"),
    };
    let mut columns: Vec<String> =
        table.mapped.iter().map(|mapped| named(&mapped.expression, mapped.role.name())).collect();
    columns.extend(table.proposals.iter().map(|proposal| named(&proposal.expression, &proposal.output)));
    let mut text = format!("{comment}\nselect\n{}\nfrom {}\n", columns.join(",\n"), source(table));
    let mut conditions: Vec<String> = Vec::new();
    for filter in table.mapped.iter().filter_map(|mapped| mapped.filter.clone()) {
        text += "-- rows whose time cannot be one are left out\n";
        conditions.push(filter);
    }
    if let (true, Some(time)) = (is_unbounded(table), table.mapped.iter().find(|m| m.role == Role::EventTime)) {
        text += "-- the log has no partitions, so that the days after the date are kept out here\n";
        conditions.push(format!("{} < cast($date as timestamp) + interval '1 day'", time.expression));
    }
    if !conditions.is_empty() {
        let _ = writeln!(text, "where {}", conditions.join("\n    and "));
    }
    text
}

fn config(job: &Job<'_>, has_sql: bool) -> String {
    let mut text = String::from(
        "# Written by `twotower init` from what it found. Every key with its default: twotower schema --reference\nversion: 1\n",
    );
    let _ = writeln!(text, "name: {}\noutput: {}\n\nsources:", yaml(job.name), yaml(job.output));
    for table in job.tables {
        text += &source_block(table, job.date);
    }
    if has_sql {
        text += "\nsamples:\n  # one file, one SELECT, one table; they stand before the built-in ones of the same name\n  sql: sql\n";
    }
    if job.tables.iter().any(|table| table.name == "ranker_scores" && needs_sql(table)) {
        text += "  hard_negatives: {from: ranker_scores}\n";
    }
    text += "\nfeatures:\n  user:\n    # the items clicked last; they share the embeddings of the item tower\n    history: {kind: ids, table: item_id, pooling: mean, max_length: 50}\n";
    text += &features(job, "users");
    text += "  item:\n    item_id: {kind: id, dim: 64}\n";
    text += &features(job, "items");
    text += "\n# What a candidate must reach before it is published; look at some runs first.\n# gates: {min_recall_over_popularity: 1.2}\n";
    text
}

fn source_block(table: &Table, date: RunDate) -> String {
    let seen = &table.seen;
    let mut text = format!("  {}:\n    path: {}\n", source(table), yaml(&seen.path));
    match seen.format {
        Format::Parquet => {}
        Format::Csv => text += "    format: csv\n",
        Format::Json => text += "    format: json\n",
    }
    if let Some(partitions) = &seen.partitions {
        let _ = writeln!(text, "    partition: {}", yaml(&partitions.key));
        let days = (0..WINDOW).take_while(|back| partitions.dates.contains(&date.offset(-back))).count() as i32;
        match table.name {
            "impressions" => {
                let _ = writeln!(text, "    days: {}..0", 1 - days.max(1));
            }
            // a log of the day, or else written whole now and then
            "ranker_scores" if days > 0 => {}
            _ => text += "    snapshot: true\n",
        }
    }
    if let Some(marker) = &seen.ready {
        let _ = writeln!(text, "    ready: {}", yaml(marker));
    }
    let of_mapped = table.mapped.iter().filter_map(|mapped| mapped.column.clone());
    let of_mapped = of_mapped.filter_map(|name| {
        let column = seen.columns.iter().find(|column| column.name == name)?;
        Some((name, column.column_type?))
    });
    let of_features = table.proposals.iter().map(|proposal| (proposal.column.clone(), proposal.declared));
    let columns: Vec<String> = of_mapped
        .chain(of_features)
        .map(|(name, kind)| format!("      {}: {}", yaml(&name), type_name(kind)))
        .collect();
    if !columns.is_empty() {
        let _ = writeln!(text, "    columns:\n{}", columns.join("\n"));
    }
    text
}

fn features(job: &Job<'_>, table: &str) -> String {
    let proposals = job.tables.iter().filter(|known| known.name == table).flat_map(|table| &table.proposals);
    let line = |proposal: &Proposal| {
        let settings = match proposal.name == proposal.output {
            true => proposal.settings.clone(),
            false => proposal.settings.replacen('{', &format!("{{column: {}, ", yaml(&proposal.output)), 1),
        };
        format!("    {}: {settings}  # {}\n", yaml(&proposal.name), proposal.why)
    };
    proposals.map(line).collect()
}

/// A text as YAML takes it.
fn yaml(text: &str) -> String {
    let plain = !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:".contains(c))
        && !text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == ':')
        && !text.ends_with(':')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str());
    if plain { text.into() } else { serde_json::to_string(text).expect("a text is JSON") }
}

fn type_name(kind: ColumnType) -> String {
    let name = serde_json::to_value(kind).expect("a type is JSON");
    let name = name.as_str().unwrap_or_default();
    if name.ends_with("[]") { format!("\"{name}\"") } else { name.to_string() }
}

/// What was found, assumed and written, for people.
pub fn told(tables: &[Table], date: RunDate, out: &Path, files: &[(String, String)]) -> String {
    let mut text = String::new();
    for table in tables {
        let seen = &table.seen;
        let _ = writeln!(text, "{:<14} {}", table.name, seen.path);
        let format = format!("{:?}", seen.format).to_lowercase();
        let days = seen.partitions.as_ref().map_or("no partitions".to_string(), |found| {
            let (first, last) = (found.dates[0], found.dates[found.dates.len() - 1]);
            format!("{} days, {}={first} to {last}", found.dates.len(), found.key)
        });
        let _ = writeln!(text, "  {format}, {days}; {} rows looked at", seen.rows);
        for mapped in &table.mapped {
            let note = if mapped.note.is_empty() { String::new() } else { format!("  ({})", mapped.note) };
            let _ = writeln!(text, "  {:<12} {}{note}", mapped.role.name(), mapped.expression);
        }
        for proposal in &table.proposals {
            let _ = writeln!(text, "  {:<12} {}  ({})", proposal.name, proposal.settings, proposal.why);
        }
        for (column, why) in &table.left_out {
            let _ = writeln!(text, "  left out     {}: {why}", quoted(column));
        }
    }
    let _ = writeln!(text, "\ndate           {date}");
    for (name, _) in files {
        let _ = writeln!(text, "wrote          {}", out.join(name).display());
    }
    text
}
