//! What the files of a source hold, and the one table that they make together.

use std::io::Cursor;
use std::sync::Arc;

use datafusion::arrow::csv::reader::Format as CsvFormat;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::json::reader::infer_json_schema;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::error::DataFusionError;
use datafusion::object_store::path::Path as Key;
use datafusion::object_store::{ObjectMeta, ObjectStoreExt};
use datafusion::parquet::arrow::parquet_to_arrow_schema;
use futures::{StreamExt, TryStreamExt, stream};
use tracing::warn;

use super::drift::{Unreadable, check_declared, lost, retyped, unreadable};
use super::faults::store_fault;
use super::listing::Listing;
use super::table::{FileGroupShape, ScannedFile, SourceTable};
use super::types::{declared, list_of, normalised, sql_name};
use crate::config::{ColumnType, Format};
use crate::error::{CAUSE_LETTERS, Error, Result, cut};
use crate::storage::{Object, Store, guarded_future};

/// Files that are looked into at the same time.
const READ_AT_ONCE: usize = 16;
/// Rows, and bytes, of a CSV or JSON file that its types are inferred from.
const INFERRED_ROWS: usize = 1000;
const INFERRED_BYTES: usize = 4 << 20;

/// Bytes read from a Parquet file's end at once: most footers fit, which saves a request.
const FOOTER_GUESS: usize = 64 << 10;

/// One file as it is.
pub(super) struct Found {
    pub file: ScannedFile,
    /// Name of the partition or file in errors.
    pub shown: String,
    pub schema: SchemaRef,
    compression: FileCompressionType,
    /// For a text: declared columns that it has no values for.
    pub unreadable: Vec<Unreadable>,
}

/// Looks into every file of `listing` and makes one table of them: declared columns with their declared types, others as
/// found, the partition as a DATE column where no file has one of that name.
pub async fn read_schema(listing: &Listing) -> Result<SourceTable> {
    let mut wanted = Vec::new();
    for partition in &listing.partitions {
        wanted.extend(partition.files.iter().map(|file| (partition.date, file)));
    }
    let found: Vec<Found> = stream::iter(wanted)
        .map(|(date, file)| async move {
            let meta = meta_of(&listing.store, file);
            let shown = listing.store.url_of(&file.key);
            let Looked { schema, rows, compression, unreadable } = look_into(listing, &meta, &shown).await?;
            let date = date.map(|date| date.0);
            Ok::<_, Error>(Found { file: ScannedFile { meta, date, rows }, shown, schema, compression, unreadable })
        })
        .buffered(READ_AT_ONCE)
        .try_collect()
        .await?;
    check_declared(listing, &found)?;
    let schema = table_schema(listing, &found)?;
    let lost = lost(listing, &found);
    let retyped = retyped(listing, &found, &schema);
    Ok(SourceTable {
        name: listing.source.clone(),
        schema: schema.clone(),
        partition: listing
            .settings
            .partition
            .clone()
            .filter(|_| !found.iter().any(|file| has_partition_column(listing, file))),
        format: listing.settings.format,
        store: listing.store.clone(),
        groups: group(listing, found, &schema),
        lost,
        retyped,
    })
}

fn has_partition_column(listing: &Listing, file: &Found) -> bool {
    listing.settings.partition.as_ref().is_some_and(|name| file.schema.field_with_name(name).is_ok())
}

/// An object's place as the engine names it. Keys of a listing are encoded already.
pub fn meta_of(store: &Store, file: &Object) -> ObjectMeta {
    let prefix = store.path_of("");
    let full =
        [prefix.as_ref(), file.key.as_str()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    let location = Key::parse(&full).unwrap_or_else(|_| store.path_of(&file.key));
    ObjectMeta { location, last_modified: file.modified, size: file.size, e_tag: file.e_tag.clone(), version: None }
}

struct Looked {
    schema: SchemaRef,
    rows: Option<usize>,
    compression: FileCompressionType,
    unreadable: Vec<Unreadable>,
}

async fn look_into(listing: &Listing, meta: &ObjectMeta, shown: &str) -> Result<Looked> {
    match listing.settings.format {
        Format::Parquet => {
            let (schema, rows) = parquet_schema(&listing.store, meta, &listing.source, shown).await?;
            let compression = FileCompressionType::UNCOMPRESSED;
            Ok(Looked { schema, rows: Some(rows), compression, unreadable: Vec::new() })
        }
        Format::Csv | Format::Json => {
            let compression = match meta.location.extension() {
                Some("gz") => FileCompressionType::GZIP,
                Some("zst") => FileCompressionType::ZSTD,
                _ => FileCompressionType::UNCOMPRESSED,
            };
            let start = first_bytes(&listing.store, meta, compression, &listing.source, shown).await?;
            let bad = |error: datafusion::arrow::error::ArrowError| {
                let is_array = start.trim_ascii_start().starts_with(b"[");
                let expected = match listing.settings.format {
                    Format::Csv => "CSV with a header line",
                    _ if is_array => {
                        "JSON lines, an object a line, but one JSON array; write each of its objects as a line, without brackets and commas between"
                    }
                    _ => "JSON lines, an object a line like {\"user_id\": 1, \"item_id\": 2}",
                };
                Error::config(format!("source `{}`: {shown} is not {expected}", listing.source))
                    .caused_by(cut(&error.to_string(), CAUSE_LETTERS))
            };
            let schema = if listing.settings.format == Format::Csv {
                let format = CsvFormat::default().with_header(true);
                format.infer_schema(Cursor::new(&start), Some(INFERRED_ROWS)).map_err(bad)?.0
            } else {
                infer_json_schema(Cursor::new(&start), Some(INFERRED_ROWS)).map_err(bad)?.0
            };
            if schema.fields().is_empty() {
                return Err(Error::config(format!("source `{}`: {shown} holds no column", listing.source)));
            }
            let unreadable = unreadable(listing, &schema, &start);
            Ok(Looked { schema: nullable(&schema), rows: None, compression, unreadable })
        }
    }
}

/// How many rows a file of `listing` has, where its footer tells.
pub async fn rows_of(listing: &Listing, file: &Object) -> Result<Option<u64>> {
    if listing.settings.format != Format::Parquet {
        return Ok(None);
    }
    let (meta, shown) = (meta_of(&listing.store, file), listing.store.url_of(&file.key));
    let (_, rows) = parquet_schema(&listing.store, &meta, &listing.source, &shown).await?;
    Ok(Some(rows as u64))
}

/// The footer of a Parquet file: its schema and its count of rows.
async fn parquet_schema(store: &Store, meta: &ObjectMeta, source: &str, shown: &str) -> Result<(SchemaRef, usize)> {
    let unreadable = |error: DataFusionError| {
        let corrupt =
            || Error::config(format!("source `{source}`: {shown} is not a readable Parquet file; write it anew"));
        store_fault(&error, shown).unwrap_or_else(corrupt).caused_by(error.strip_backtrace())
    };
    let objects = store.object_store();
    let footer = async {
        let reader = DFParquetMetadata::new(&objects, meta).with_metadata_size_hint(Some(FOOTER_GUESS));
        let metadata = reader.fetch_metadata().await?;
        let file = metadata.file_metadata();
        let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())?;
        Ok((nullable(&schema), usize::try_from(file.num_rows()).unwrap_or(0)))
    };
    guarded_future(footer).await.map_err(DataFusionError::Execution).flatten().map_err(unreadable)
}

/// Fields without metadata, all nullable: files that differ in these alone are read alike.
fn nullable(schema: &Schema) -> SchemaRef {
    let plain = |field: &Arc<Field>| Field::new(field.name(), field.data_type().clone(), true);
    Arc::new(Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>()))
}

/// The first lines of a text file, decompressed.
async fn first_bytes(
    store: &Store,
    meta: &ObjectMeta,
    compression: FileCompressionType,
    source: &str,
    shown: &str,
) -> Result<Vec<u8>> {
    let key = &meta.location;
    let got = store.object_store().get(key).await.map_err(|error| store.explain(error, "read", shown))?;
    let bytes = got.into_stream().map_err(|error| DataFusionError::ObjectStore(Box::new(error))).boxed();
    let unreadable = |error: DataFusionError| {
        let broken = || Error::config(format!("source `{source}`: {shown} cannot be decompressed; write it anew"));
        store_fault(&error, shown).unwrap_or_else(broken).caused_by(error)
    };
    let mut plain = compression.convert_stream(bytes).map_err(unreadable)?;
    let mut start: Vec<u8> = Vec::new();
    let mut cut = false;
    while let Some(chunk) = plain.next().await {
        start.extend_from_slice(&chunk.map_err(unreadable)?);
        if start.len() > INFERRED_BYTES {
            cut = true;
            break;
        }
    }
    // a line that was cut in two must not be inferred from
    if let (true, Some(end)) = (cut, start.iter().rposition(|byte| *byte == b'\n')) {
        start.truncate(end + 1);
    }
    Ok(start)
}

/// Columns in the order in which they turn up, over all files.
fn table_schema(listing: &Listing, files: &[Found]) -> Result<SchemaRef> {
    let mut fields: Vec<(Field, &Found)> = Vec::new();
    for file in files {
        for field in file.schema.fields() {
            let name = field.name();
            let found = match listing.settings.columns.get(name) {
                Some(column) => declared(*column),
                None => normalised(field.data_type()),
            };
            match fields.iter().position(|(known, _)| known.name() == name) {
                None => fields.push((Field::new(name, found, true), file)),
                Some(at) => {
                    let (known, first) = &fields[at];
                    let both = common_type(known.data_type(), &found, listing.settings.format);
                    let differs = || {
                        format!(
                            "source `{}`: column `{name}` is {} in {} and {} in {}",
                            listing.source,
                            sql_name(known.data_type()),
                            first.shown,
                            sql_name(&found),
                            file.shown
                        )
                    };
                    if both == Some(DataType::Utf8)
                        && *known.data_type() != found
                        && *known.data_type() != DataType::Utf8
                    {
                        warn!(
                            "{}, so it is read as varchar everywhere; declare its type in `sources.{}.columns`",
                            differs(),
                            listing.source
                        );
                    }
                    let both = both.ok_or_else(|| {
                        Error::config(format!(
                            "{}; declare its type in `sources.{}.columns` or mend the files",
                            differs(),
                            listing.source
                        ))
                    })?;
                    fields[at].0 = Field::new(name, both, true);
                }
            }
        }
    }
    let mut fields: Vec<Field> = fields.into_iter().map(|(field, _)| field).collect();
    // a column that is null in every file still needs a type that functions take
    for field in fields.iter_mut().filter(|field| *field.data_type() == DataType::Null) {
        *field = Field::new(field.name(), DataType::Utf8, true);
    }
    if let Some(name) = &listing.settings.partition
        && !fields.iter().any(|field| field.name() == name)
    {
        fields.push(Field::new(name, DataType::Date32, true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The type that holds both, where files disagree about a column that is not declared.
fn common_type(a: &DataType, b: &DataType, format: Format) -> Option<DataType> {
    use DataType::*;
    match (a, b) {
        (a, b) if a == b => Some(a.clone()),
        (Null, other) | (other, Null) => Some(other.clone()),
        (Int64, Float64) | (Float64, Int64) => Some(Float64),
        (Date32, Timestamp(..)) => Some(b.clone()),
        (Timestamp(..), Date32) => Some(a.clone()),
        (List(x), List(y)) => common_type(x.data_type(), y.data_type(), format).map(list_of),
        // text as it stands holds whatever was inferred
        _ if format == Format::Csv => Some(Utf8),
        _ => None,
    }
}

/// Puts files that are read alike together.
fn group(listing: &Listing, found: Vec<Found>, table: &Schema) -> Vec<FileGroupShape> {
    let mut groups: Vec<FileGroupShape> = Vec::new();
    for file in found {
        let schema = read_as(listing, &file.schema, table);
        let same = |group: &&mut FileGroupShape| group.schema == schema && group.compression == file.compression;
        match groups.iter_mut().find(same) {
            Some(group) => group.files.push(file.file),
            None => groups.push(FileGroupShape { schema, compression: file.compression, files: vec![file.file] }),
        }
    }
    groups
}

/// The types that a file is decoded with. Parquet has its own; text is parsed straight into the table's types where the parser
/// knows every way to write them, and else read as text and cast.
fn read_as(listing: &Listing, file: &SchemaRef, table: &Schema) -> SchemaRef {
    let decoded = |field: &Arc<Field>| {
        let target = table.field_with_name(field.name()).map_or(field.data_type(), |field| field.data_type());
        Field::new(field.name(), decoded_type(listing, field.name(), target), true)
    };
    match listing.settings.format {
        Format::Parquet => file.clone(),
        Format::Csv | Format::Json => Arc::new(Schema::new(file.fields().iter().map(decoded).collect::<Vec<_>>())),
    }
}

/// The type that a column of a text is decoded with, to become `target`.
pub(super) fn decoded_type(listing: &Listing, column: &str, target: &DataType) -> DataType {
    let as_text = matches!(
        listing.settings.columns.get(column),
        Some(
            ColumnType::Boolean
                | ColumnType::Timestamp
                | ColumnType::Date
                | ColumnType::BigintList
                | ColumnType::VarcharList
                | ColumnType::DoubleList
        )
    );
    if listing.settings.format == Format::Csv && as_text { DataType::Utf8 } else { target.clone() }
}
