//! What lies at a path, before any config speaks of it: partitions, format, columns, and what some rows say of each column.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use super::catalog::list_one;
use super::faults::{execute, store_fault};
use super::listing::Listing;
use super::schema::read_schema;
use super::seen::{ColumnSeen, Seeing};
use super::table::{FilesTable, SourceTable};
use crate::artifacts::RunDate;
use crate::config::{Format, Missing, Source};
use crate::error::{CAUSE_LETTERS, Error, Result, cut};
use crate::storage::{Store, open};

/// Rows that are looked at, and files that their schema is taken from.
const ROWS: usize = 20_000;
const FILES: usize = 4;
/// Markers that writers put into a partition last.
const MARKERS: [&str; 2] = ["_SUCCESS", "_COMMITTED"];

/// What lies at a path.
pub struct Inspected {
    pub path: String,
    pub format: Format,
    pub partitions: Option<Partitions>,
    /// The marker that every partition looked at has.
    pub ready: Option<String>,
    /// Files and bytes of the newest partition, or of all where there are none.
    pub files: usize,
    pub bytes: u64,
    /// Rows that were looked at.
    pub rows: usize,
    pub columns: Vec<ColumnSeen>,
    /// The columns as SQL sees them, the partition among them.
    pub schema: SchemaRef,
}

/// Folders named after dates.
pub struct Partitions {
    /// `dt` of `dt=2026-11-20`.
    pub key: String,
    /// Ascending.
    pub dates: Vec<RunDate>,
}

/// Looks at `path`: the partition of `date` or the newest before it, and its first rows.
pub async fn inspect(name: &str, path: &str, date: Option<RunDate>) -> Result<Inspected> {
    let store = open(path)?;
    let partitions = partitions(&store, name).await?;
    let newest = partitions.as_ref().map(|found| {
        let upto = found.dates.iter().rev().find(|known| date.is_none_or(|date| **known <= date));
        *upto.unwrap_or(&found.dates[0])
    });
    let mut source = Source {
        time: None,
        path: path.to_string(),
        format: Format::Parquet,
        partition: partitions.as_ref().map(|found| found.key.clone()),
        days: Default::default(),
        snapshot: partitions.is_some(),
        missing: Missing::Latest,
        ready: None,
        columns: Default::default(),
    };
    let mut listing = list_one(name, &source, store.clone(), newest.unwrap_or(RunDate(Default::default()))).await?;
    let partition = &listing.partitions[0];
    let keys: Vec<&str> = partition.files.iter().map(|file| file.key.as_str()).collect();
    source.format = format_of(name, &store, if keys == [""] { vec![path] } else { keys })?;
    let (files, bytes) = (partition.files.len(), partition.files.iter().map(|file| file.size).sum());
    let ready = match partitions.is_some() {
        true => marker(&store, &partition.folder).await?,
        false => None,
    };
    listing.settings = source;
    listing.partitions[0].files.truncate(FILES);
    let format = listing.settings.format;
    let source = read_schema(&listing).await?;
    let source = if format == Format::Csv { keep_digits(&listing, source).await? } else { source };
    let (columns, rows) = look(&listing, &source).await?;
    let schema = source.schema;
    Ok(Inspected { path: path.to_string(), format, partitions, ready, files, bytes, rows, columns, schema })
}

/// The folders of dates right below, if that is how the table is laid out.
async fn partitions(store: &Store, name: &str) -> Result<Option<Partitions>> {
    let (folders, _) = store.list_level("").await?;
    let mut found: Option<Partitions> = None;
    for folder in &folders {
        let Some((key, value)) = folder.split_once('=') else { continue };
        let date = value.parse().ok().filter(|_| value.len() == "2026-11-20".len());
        let Some(date) = date else {
            return Err(Error::config(format!(
                "source `{name}`: {} has folders like `{folder}`; twotower reads folders named after dates like `dt=2026-11-20`, \
                 or a folder without partitions: give one of these folders alone, or write the table so",
                store.url()
            )));
        };
        match &mut found {
            Some(known) if known.key == key => known.dates.push(date),
            Some(known) => {
                return Err(Error::config(format!(
                    "source `{name}`: {} has folders `{}=…` and `{key}=…` side by side; give the path of one table",
                    store.url(),
                    known.key
                )));
            }
            None => found = Some(Partitions { key: key.to_string(), dates: vec![date] }),
        }
    }
    if let Some(found) = &mut found {
        found.dates.sort_unstable();
    }
    Ok(found)
}

async fn marker(store: &Store, folder: &str) -> Result<Option<String>> {
    let (_, objects) = store.list_level(folder).await?;
    let is_there = |marker: &str| objects.iter().any(|object| object.key.ends_with(&format!("/{marker}")));
    Ok(MARKERS.into_iter().find(|marker| is_there(marker)).map(str::to_string))
}

/// The format by the names of the files.
fn format_of(name: &str, store: &Store, keys: Vec<&str>) -> Result<Format> {
    let mut formats = Vec::new();
    for key in &keys {
        let key = key.trim_end_matches(".gz").trim_end_matches(".zst");
        let format = match key.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, end)| end) {
            Some("csv") => Format::Csv,
            Some("json" | "jsonl" | "ndjson") => Format::Json,
            Some("tsv" | "orc" | "avro" | "txt" | "xml" | "xlsx") => {
                return Err(Error::config(format!(
                    "source `{name}`: {} is in a format that is not read; there are parquet, csv (with commas and a header line) and json (an object a line)",
                    store.url_of(key)
                )));
            }
            // many writers give Parquet files no ending
            _ => Format::Parquet,
        };
        if !formats.contains(&format) {
            formats.push(format);
        }
    }
    match formats[..] {
        [one] => Ok(one),
        _ => Err(Error::config(format!(
            "source `{name}`: {} holds files of several formats; a source has one: move the others away",
            store.url()
        ))),
    }
}

/// Makes texts of columns of a CSV that the types of its first lines would spoil: ids like `0012`, which as a number is the id 12,
/// and integers that words follow.
async fn keep_digits(listing: &Listing, source: SourceTable) -> Result<SourceTable> {
    let integers = source.schema.fields().iter().filter(|field| *field.data_type() == DataType::Int64);
    let integers: Vec<String> = integers.map(|field| field.name().clone()).collect();
    if integers.is_empty() {
        return Ok(source);
    }
    let is_text = |text: &str| {
        let digits = text.trim_start_matches('-');
        let is_led = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_led || !text.is_empty() && text.parse::<f64>().is_err()
    };
    let mut texts: Vec<String> = Vec::new();
    first_rows(listing, &as_texts(&source, &integers), |batch| {
        for name in &integers {
            let values = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            if !texts.contains(name) && values.is_some_and(|values| values.iter().flatten().any(is_text)) {
                texts.push(name.clone());
            }
        }
        Ok(())
    })
    .await?;
    Ok(as_texts(&source, &texts))
}

/// The table with `columns` read as they are written.
fn as_texts(source: &SourceTable, columns: &[String]) -> SourceTable {
    let with_texts = |schema: &SchemaRef| -> SchemaRef {
        let field = |field: &FieldRef| match columns.contains(field.name()) {
            true => Field::new(field.name(), DataType::Utf8, true),
            false => field.as_ref().clone(),
        };
        Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
    };
    let mut source = source.clone();
    source.schema = with_texts(&source.schema);
    for group in &mut source.groups {
        group.schema = with_texts(&group.schema);
    }
    source
}

/// The columns of the listing's files, with what the first rows say.
async fn look(listing: &Listing, source: &SourceTable) -> Result<(Vec<ColumnSeen>, usize)> {
    let mut seen: Vec<Seeing> =
        source.schema.fields().iter().map(|field| Seeing::new(field.name(), field.data_type())).collect();
    let mut rows = 0;
    first_rows(listing, source, |batch| {
        rows += batch.num_rows();
        seen.iter_mut().zip(batch.columns()).try_for_each(|(seen, column)| seen.look_at(column))
    })
    .await?;
    let partition = source.partition.as_deref();
    let columns = seen.into_iter().map(Seeing::finish).filter(|column| Some(column.name.as_str()) != partition);
    Ok((columns.collect(), rows))
}

/// Shows `see` the first rows of the listing's files, read as `source`.
async fn first_rows(
    listing: &Listing,
    source: &SourceTable,
    mut see: impl FnMut(&RecordBatch) -> Result<(), ArrowError>,
) -> Result<()> {
    let unreadable = |error: DataFusionError| {
        let shown = listing.store.url();
        let broken = || Error::config(format!("source `{}`: {shown} cannot be read", listing.source));
        store_fault(&error, shown).unwrap_or_else(broken).caused_by(cut(&error.strip_backtrace(), CAUSE_LETTERS))
    };
    let table = FilesTable::of_source(source).map_err(unreadable)?;
    let context = SessionContext::new();
    context.register_object_store(listing.store.root(), listing.store.object_store());
    let plan = table.scan(&context.state(), None, &[], None).await.map_err(unreadable)?;
    let mut stream = execute(plan, context.task_ctx()).map_err(unreadable)?;
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(unreadable)?;
        let batch = batch.slice(0, batch.num_rows().min(ROWS - rows));
        rows += batch.num_rows();
        see(&batch).map_err(|error| unreadable(error.into()))?;
        if rows >= ROWS {
            break;
        }
    }
    Ok(())
}
