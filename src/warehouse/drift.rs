//! Columns that a source declares and its files no longer have, or have with another type. Columns that were added are fine.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::csv::ReaderBuilder as CsvReader;
use datafusion::arrow::csv::reader::Format as CsvFormat;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::ReaderBuilder as JsonReader;

use super::listing::Listing;
use super::schema::{Found, decoded_type};
use super::types::{beyond_bigint, declared, is_compatible, normalised, sql_name, too_large};
use crate::config::Format;
use crate::error::{CAUSE_LETTERS, Error, Result, cut, did_you_mean};

/// A declared column that the start of a text file does not hold values for.
#[derive(Debug)]
pub struct Unreadable {
    pub column: String,
    pub cause: ArrowError,
}

/// Holds the files, in the order of their dates, against the declared columns; the error names the first that differs.
pub fn check_declared(listing: &Listing, files: &[Found]) -> Result<()> {
    for (name, wanted) in &listing.settings.columns {
        let wanted = declared(*wanted);
        let from_folders = listing.settings.partition.as_ref() == Some(name) && wanted == DataType::Date32;
        let lacks = |file: &&Found| !from_folders && file.schema.field_with_name(name).is_err();
        if let Some(file) = files.iter().find(lacks) {
            let known: Vec<&str> = file.schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::config(format!(
                "source `{}`: missing column `{name}` ({}) in {}{}; it has {}{}",
                listing.source,
                sql_name(&wanted),
                file.shown,
                did_you_mean(name, known.iter().copied()),
                known.join(", "),
                first_of(files.len(), files.iter().filter(lacks).count())
            )));
        }
        let retyped = |file: &&Found| differs(listing, file, name, &wanted);
        if let Some(file) = files.iter().find(retyped) {
            let found = file.schema.field_with_name(name).map_or(&DataType::Null, |field| field.data_type());
            let cause = file.unreadable.iter().find(|unreadable| unreadable.column == *name);
            let cause = cause.map(|unreadable| cut(&unreadable.cause.to_string(), CAUSE_LETTERS));
            let what = match cause.as_deref().and_then(beyond_bigint) {
                Some(found) => too_large(found, &listing.source),
                None => format!(
                    "found {}, expected {}{}; mend the file, or declare the type it has and cast it in the SQL",
                    sql_name(found),
                    sql_name(&wanted),
                    first_of(files.len(), files.iter().filter(retyped).count())
                ),
            };
            let error =
                Error::config(format!("source `{}`: column `{name}` in {}: {what}", listing.source, file.shown));
            return Err(match cause {
                Some(cause) => error.caused_by(cause),
                None => error,
            });
        }
    }
    Ok(())
}

/// Columns that nobody declared and that a later partition lacks, with the words for whoever reads them: they would be null there, as if the rows
/// said so. One that begins with a later partition was added. JSON lines leave out what they have no value for, so theirs say nothing.
pub fn lost(listing: &Listing, files: &[Found]) -> BTreeMap<String, String> {
    if listing.settings.format == Format::Json {
        return BTreeMap::new();
    }
    let dated: Vec<&Found> =
        files.iter().filter(|file| file.file.date.is_some() && file.file.rows != Some(0)).collect();
    let mut first: BTreeMap<&str, &Found> = BTreeMap::new();
    for file in dated.iter().rev() {
        first.extend(file.schema.fields().iter().map(|field| (field.name().as_str(), *file)));
    }
    let undeclared = first.into_iter().filter(|(name, _)| !listing.settings.columns.contains_key(*name));
    let lost = undeclared.filter_map(|(name, first)| {
        let lacks = |file: &&&Found| file.file.date > first.file.date && file.schema.field_with_name(name).is_err();
        let file = dated.iter().find(lacks)?;
        let these = first_of(files.len(), dated.iter().filter(lacks).count());
        let text = format!(
            "source `{}`: missing column `{name}` in {}{these}, which {} has; mend the files, or read the column no longer",
            listing.source, file.shown, first.shown
        );
        Some((name.to_string(), text))
    });
    lost.collect()
}

/// A column that nobody declared and that the files of a source do not have in one type, so that all of them are read in one that holds what
/// they say.
#[derive(Debug, Clone)]
pub struct Retyped {
    pub source: String,
    pub column: String,
    /// The first type of its files that is not that of the table.
    pub before: DataType,
    /// For whoever needs that type: the first file that has another.
    pub words: String,
}

/// Such columns of the files, in the order of their dates, that make `table`.
pub fn retyped(listing: &Listing, files: &[Found], table: &Schema) -> Vec<Retyped> {
    let undeclared = table.fields().iter().filter(|field| !listing.settings.columns.contains_key(field.name()));
    let retyped = undeclared.filter_map(|field| {
        let typed = |file: &Found| Some(normalised(file.schema.field_with_name(field.name()).ok()?.data_type()));
        // a file without any value says nothing
        let typed = files.iter().filter_map(|file| Some((file, typed(file).filter(|found| *found != DataType::Null)?)));
        let typed: Vec<(&Found, DataType)> = typed.collect();
        let (first, before) = typed.iter().find(|(_, found)| found != field.data_type())?;
        let others: Vec<_> = typed.iter().filter(|(_, found)| found != before).collect();
        let (file, found) = others.first()?;
        let words = format!(
            "source `{}`: column `{}` in {}: found {}, expected {} as in {}{}; mend the file, or declare the column's type in `sources.{}.columns`",
            listing.source,
            field.name(),
            file.shown,
            sql_name(found),
            sql_name(before),
            first.shown,
            first_of(files.len(), others.len()),
            listing.source
        );
        let (source, column) = (listing.source.clone(), field.name().clone());
        Some(Retyped { source, column, before: before.clone(), words })
    });
    retyped.collect()
}

/// How many files it is, where there are several.
fn first_of(all: usize, these: usize) -> String {
    match (all, these) {
        (1, _) => String::new(),
        (_, 1) => format!(" (in this one of {all} files)"),
        _ => format!(" (the first of {these} such files of {all})"),
    }
}

fn differs(listing: &Listing, file: &Found, name: &str, wanted: &DataType) -> bool {
    match listing.settings.format {
        Format::Parquet => {
            file.schema.field_with_name(name).is_ok_and(|field| !is_compatible(field.data_type(), wanted))
        }
        Format::Csv | Format::Json => file.unreadable.iter().any(|unreadable| unreadable.column == *name),
    }
}

/// The declared columns that a text file's first lines cannot be read for. What was inferred from them mostly tells already; where it does
/// not, they are read as the job would.
pub fn unreadable(listing: &Listing, inferred: &Schema, start: &[u8]) -> Vec<Unreadable> {
    let mut found = Vec::new();
    for (name, column) in &listing.settings.columns {
        let (wanted, Ok(at)) = (declared(*column), inferred.index_of(name)) else { continue };
        if is_compatible(inferred.field(at).data_type(), &wanted) {
            continue;
        }
        let decoded = decoded_type(listing, name, &wanted);
        let read = match listing.settings.format {
            Format::Csv => read_csv(inferred, at, &decoded, start),
            _ => read_json(name, &decoded, start),
        };
        // a list in a text has no cast of its own
        let checked = read.and_then(|columns| match &wanted {
            DataType::List(_) => Ok(()),
            _ => columns.iter().try_for_each(|column| holds(column, &wanted)),
        });
        if let Err(cause) = checked {
            found.push(Unreadable { column: name.clone(), cause });
        }
    }
    found
}

fn holds(column: &ArrayRef, wanted: &DataType) -> Result<(), ArrowError> {
    cast_with_options(column, wanted, &CastOptions { safe: false, ..Default::default() }).map(|_| ())
}

fn read_csv(inferred: &Schema, at: usize, wanted: &DataType, start: &[u8]) -> Result<Vec<ArrayRef>, ArrowError> {
    let typed = |(place, field): (usize, &Arc<Field>)| {
        let found = if place == at { wanted.clone() } else { DataType::Utf8 };
        Field::new(field.name(), found, true)
    };
    let schema = Schema::new(inferred.fields().iter().enumerate().map(typed).collect::<Vec<_>>());
    let format = CsvFormat::default().with_header(true);
    let reader = CsvReader::new(Arc::new(schema)).with_format(format).with_projection(vec![at]);
    reader.build(Cursor::new(start))?.map(|batch| Ok(batch?.column(0).clone())).collect()
}

fn read_json(name: &str, wanted: &DataType, start: &[u8]) -> Result<Vec<ArrayRef>, ArrowError> {
    let schema = Schema::new(vec![Field::new(name, wanted.clone(), true)]);
    let reader = JsonReader::new(Arc::new(schema)).build(Cursor::new(start))?;
    reader.map(|batch| Ok(batch?.column(0).clone())).collect()
}
