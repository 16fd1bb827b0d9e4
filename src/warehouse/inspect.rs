//! What lies at a path, before any config speaks of it: partitions, format, columns, and what some rows say of each column.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use chrono::{DateTime, NaiveDateTime};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use super::catalog::list_one;
use super::faults::{execute, store_fault};
use super::listing::Listing;
use super::schema::read_schema;
use super::table::FilesTable;
use super::types::{sql_name, table_type};
use crate::artifacts::RunDate;
use crate::config::{ColumnType, Format, Missing, Source};
use crate::error::{Error, Result};
use crate::storage::{Store, open};

/// Rows that are looked at, and files that their schema is taken from.
const ROWS: usize = 20_000;
const FILES: usize = 4;
/// Values of a column that are kept to be shown.
const EXAMPLES: usize = 20;
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
}

/// Folders named after dates.
pub struct Partitions {
    /// `dt` of `dt=2026-11-20`.
    pub key: String,
    /// Ascending.
    pub dates: Vec<RunDate>,
}

/// A column and what the rows looked at say of it.
#[derive(Debug, Clone, Default)]
pub struct ColumnSeen {
    pub name: String,
    /// `None` for a type that no table can have.
    pub column_type: Option<ColumnType>,
    /// Its type as people write it.
    pub type_name: String,
    /// Values that are not null, and how many different ones.
    pub values: usize,
    pub distinct: usize,
    /// Of numbers.
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub mean: f64,
    /// Of texts: how many have several words, have `|` or `,` between their parts, are points in time.
    pub worded: usize,
    pub barred: usize,
    pub listed: usize,
    pub timed: usize,
    /// The last one in the order of texts, of dates and times.
    pub last: Option<String>,
    /// Shortest and longest list.
    pub lengths: Option<(usize, usize)>,
    /// Some of its values, all different.
    pub examples: Vec<String>,
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
    let (columns, rows) = look(&listing).await?;
    Ok(Inspected { path: path.to_string(), format, partitions, ready, files, bytes, rows, columns })
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

/// The columns of the listing's files, with what the first rows say.
async fn look(listing: &Listing) -> Result<(Vec<ColumnSeen>, usize)> {
    let source = read_schema(listing).await?;
    let unreadable = |error: DataFusionError| {
        let shown = listing.store.url();
        let broken = || Error::config(format!("source `{}`: {shown} cannot be read", listing.source));
        store_fault(&error, shown).unwrap_or_else(broken).caused_by(error.strip_backtrace())
    };
    let table = FilesTable::of_source(&source).map_err(unreadable)?;
    let context = SessionContext::new();
    context.register_object_store(listing.store.root(), listing.store.object_store());
    let plan = table.scan(&context.state(), None, &[], None).await.map_err(unreadable)?;
    let mut stream = execute(plan, context.task_ctx()).map_err(unreadable)?;
    let mut seen: Vec<Seeing> =
        source.schema.fields().iter().map(|field| Seeing::new(field.name(), field.data_type())).collect();
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        let batch: RecordBatch = batch.map_err(unreadable)?;
        let batch = batch.slice(0, batch.num_rows().min(ROWS - rows));
        rows += batch.num_rows();
        for (seen, column) in seen.iter_mut().zip(batch.columns()) {
            seen.look_at(column).map_err(|error| unreadable(error.into()))?;
        }
        if rows >= ROWS {
            break;
        }
    }
    let partition = source.partition.as_deref();
    let columns = seen.into_iter().filter(|seen| Some(seen.column.name.as_str()) != partition);
    Ok((columns.map(Seeing::finish).collect(), rows))
}

/// A column that is being looked at.
struct Seeing {
    column: ColumnSeen,
    hashes: HashSet<u64>,
    sum: f64,
    numbers: usize,
}

impl Seeing {
    fn new(name: &str, data_type: &DataType) -> Self {
        let column_type = table_type(data_type).as_ref().and_then(column_type);
        let type_name = sql_name(data_type);
        let column = ColumnSeen { name: name.to_string(), column_type, type_name, ..Default::default() };
        Seeing { column, hashes: HashSet::new(), sum: 0.0, numbers: 0 }
    }

    fn look_at(&mut self, values: &ArrayRef) -> Result<(), datafusion::arrow::error::ArrowError> {
        let column = &mut self.column;
        column.values += values.len() - values.null_count();
        if column.column_type.is_none() {
            return Ok(());
        }
        if let DataType::List(_) = values.data_type() {
            for list in values.as_list::<i32>().iter().flatten() {
                let (shortest, longest) = column.lengths.unwrap_or((list.len(), list.len()));
                column.lengths = Some((shortest.min(list.len()), longest.max(list.len())));
            }
        }
        if matches!(column.column_type, Some(ColumnType::Bigint | ColumnType::Double)) {
            for number in cast(values, &DataType::Float64)?.as_primitive::<Float64Type>().iter().flatten() {
                column.min = Some(column.min.map_or(number, |min| min.min(number)));
                column.max = Some(column.max.map_or(number, |max| max.max(number)));
                self.sum += number;
                self.numbers += 1;
            }
        }
        for row in (0..values.len()).filter(|row| !values.is_null(*row)) {
            let text = array_value_to_string(values, row)?;
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            let new = self.hashes.insert(hasher.finish());
            if column.column_type == Some(ColumnType::Varchar) {
                column.worded += usize::from(text.trim().contains(' '));
                column.barred += usize::from(text.contains('|'));
                column.listed += usize::from(text.contains(',') && !text.contains(' '));
                column.timed += usize::from(is_time(&text));
            }
            let dated =
                matches!(column.column_type, Some(ColumnType::Date | ColumnType::Timestamp | ColumnType::Varchar));
            if dated && column.last.as_ref().is_none_or(|last| *last < text) {
                column.last = Some(text.clone());
            }
            if new && column.examples.len() < EXAMPLES {
                column.examples.push(text);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> ColumnSeen {
        self.column.distinct = self.hashes.len();
        self.column.mean = self.sum / self.numbers.max(1) as f64;
        self.column
    }
}

/// Whether the engine's cast to a timestamp would take it.
fn is_time(text: &str) -> bool {
    let plain = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];
    DateTime::parse_from_rfc3339(text).is_ok()
        || plain.iter().any(|form| NaiveDateTime::parse_from_str(text, form).is_ok())
}

fn column_type(data_type: &DataType) -> Option<ColumnType> {
    Some(match data_type {
        DataType::Int64 => ColumnType::Bigint,
        DataType::Float64 => ColumnType::Double,
        DataType::Utf8 => ColumnType::Varchar,
        DataType::Boolean => ColumnType::Boolean,
        DataType::Date32 => ColumnType::Date,
        DataType::Timestamp(..) => ColumnType::Timestamp,
        DataType::List(item) => match item.data_type() {
            DataType::Int64 => ColumnType::BigintList,
            DataType::Float64 => ColumnType::DoubleList,
            DataType::Utf8 => ColumnType::VarcharList,
            _ => return None,
        },
        _ => return None,
    })
}
