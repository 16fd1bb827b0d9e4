//! Reading Parquet files as batches of rows.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::{FileEntry, Store, guarded, guarded_future, guarded_stream};
use crate::error::{Error, Result};

/// Bytes read from a file's end at once: most footers fit, which saves a request.
const FOOTER_GUESS: usize = 64 << 10;

/// Files up to this size are read at once when they are read for the first time: they are hashed then anyway.
const AT_ONCE: u64 = 16 << 20;

/// One Parquet file in the store.
struct ObjectReader {
    store: Arc<dyn ObjectStore>,
    path: Key,
    size: u64,
    /// All of it, where it is at hand.
    bytes: Option<Bytes>,
}

impl ObjectReader {
    /// A part of what is at hand.
    fn slice(bytes: &Bytes, range: &Range<u64>) -> parquet::errors::Result<Bytes> {
        let (start, end) = (range.start as usize, range.end as usize);
        if start > end || end > bytes.len() {
            return Err(ParquetError::EOF(format!("bytes {start} to {end} of a file of {}", bytes.len())));
        }
        Ok(bytes.slice(start..end))
    }
}

impl AsyncFileReader for ObjectReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        if let Some(bytes) = &self.bytes {
            let part = ObjectReader::slice(bytes, &range);
            return async move { part }.boxed();
        }
        async move { self.store.get_range(&self.path, range).await.map_err(|error| ParquetError::External(Box::new(error))) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        if let Some(bytes) = &self.bytes {
            let parts = ranges.iter().map(|range| ObjectReader::slice(bytes, range)).collect();
            return async move { parts }.boxed();
        }
        async move {
            self.store.get_ranges(&self.path, &ranges).await.map_err(|error| ParquetError::External(Box::new(error)))
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            let size = self.size;
            let reader = ParquetMetaDataReader::new()
                .with_metadata_options(options.map(|options| options.metadata_options().clone()))
                .with_prefetch_hint(Some(FOOTER_GUESS));
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}

/// Streams the rows of Parquet files one after another, in the order given. `columns` (all when `None`) keeps only those, in
/// the file's order. Each file is held against its SHA-256 before its first row is given out.
pub fn read_parquet_stream(
    store: &Store,
    files: Vec<FileEntry>,
    columns: Option<Vec<String>>,
    batch_rows: usize,
) -> impl Stream<Item = Result<RecordBatch>> + Send + Unpin + use<> {
    let store = store.clone();
    let files = futures::stream::iter(files).then(move |file| {
        let (store, columns) = (store.clone(), columns.clone());
        async move { open_parquet(&store, &file, columns.as_deref(), batch_rows).await }
    });
    Box::pin(files.try_flatten())
}

/// All rows of Parquet files, for tables known to be small.
pub async fn read_parquet(
    store: &Store,
    files: Vec<FileEntry>,
    columns: Option<Vec<String>>,
) -> Result<Vec<RecordBatch>> {
    read_parquet_stream(store, files, columns, 8192).try_collect().await
}

/// The columns of a Parquet file.
pub async fn parquet_schema(store: &Store, file: &FileEntry) -> Result<SchemaRef> {
    Ok(open_footer(store, file).await?.schema().clone())
}

/// The batches of a Parquet file that is in memory, with its schema.
pub fn decode_parquet(
    bytes: Bytes,
) -> Result<(SchemaRef, impl Iterator<Item = Result<RecordBatch, ParquetError>>), ParquetError> {
    let open = || ParquetRecordBatchReaderBuilder::try_new(bytes)?.build();
    let mut reader = guarded(open).map_err(ParquetError::General)??;
    let schema = arrow::array::RecordBatchReader::schema(&reader);
    let mut over = false;
    let next = move || {
        if over {
            return None;
        }
        let batch = match guarded(|| reader.next()) {
            Ok(batch) => batch?.map_err(ParquetError::from),
            Err(why) => Err(ParquetError::General(why)),
        };
        over = batch.is_err();
        Some(batch)
    };
    Ok((schema, std::iter::from_fn(next)))
}

async fn open_footer(store: &Store, file: &FileEntry) -> Result<ParquetRecordBatchStreamBuilder<ObjectReader>> {
    let bytes = store.vouch_for(file, AT_ONCE).await?;
    let reader = ObjectReader { store: store.object_store(), path: store.path_of(&file.key), size: file.bytes, bytes };
    let opened = guarded_future(ParquetRecordBatchStreamBuilder::new(reader)).await;
    opened.map_err(ParquetError::General).flatten().map_err(|error| broken(store, &file.key, error))
}

/// The file is at fault, unless the store was: then trying again can help.
fn broken(store: &Store, key: &str, error: ParquetError) -> Error {
    let error = match error {
        ParquetError::External(source) => match source.downcast::<object_store::Error>() {
            Ok(error) => return store.explain(*error, "read", key),
            Err(source) => ParquetError::External(source),
        },
        other => other,
    };
    Error::config(format!("{} is not a readable Parquet file; write it anew", store.url_of(key))).caused_by(error)
}

async fn open_parquet(
    store: &Store,
    file: &FileEntry,
    columns: Option<&[String]>,
    batch_rows: usize,
) -> Result<impl Stream<Item = Result<RecordBatch>> + use<>> {
    let key = &file.key;
    let mut builder = open_footer(store, file).await?;
    if let Some(columns) = columns {
        let schema = builder.schema().clone();
        for column in columns {
            if schema.field_with_name(column).is_err() {
                return Err(Error::config(format!("{} has no column `{column}`", store.url_of(key))));
            }
        }
        let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().map(String::as_str));
        builder = builder.with_projection(mask);
    }
    let stream = builder.with_batch_size(batch_rows).build().map_err(|error| broken(store, key, error))?;
    let (store, key) = (store.clone(), key.to_string());
    let decoded = guarded_stream(stream).map(|batch| batch.map_err(ParquetError::General).flatten());
    Ok(decoded.map_err(move |error| broken(&store, &key, error)))
}

/// The `.parquet` files of a manifest, in the order of their keys.
pub fn sorted_parts(files: &[FileEntry]) -> Vec<FileEntry> {
    let mut parts: Vec<FileEntry> = files.iter().filter(|file| file.key.ends_with(".parquet")).cloned().collect();
    parts.sort_by(|a, b| a.key.cmp(&b.key));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_store_that_fails_while_a_file_is_read_is_worth_another_try_and_a_damaged_file_is_not() {
        let store = crate::storage::open("memory://read").unwrap();
        let lost = object_store::Error::Generic { store: "S3", source: "connection reset".into() };
        let error = broken(&store, "a.parquet", ParquetError::External(Box::new(lost)));
        assert_eq!(error.kind, Kind::Transient);
        assert!(error.to_string().contains("memory://read/a.parquet"), "{error}");
        assert_eq!(broken(&store, "a.parquet", ParquetError::EOF("footer".into())).kind, Kind::Config);
    }

    #[tokio::test]
    async fn a_damaged_parquet_file_is_an_error_and_where_a_manifest_lists_it_always() {
        use crate::storage::{ShardWriter, damage};
        use arrow::array::{ArrayRef, Float32Array, Int64Array, ListArray, StringArray};
        use arrow::datatypes::Int32Type;
        let store = crate::storage::open("memory://read-damaged").unwrap();
        let lists = (0..300).map(|row| Some((0..row % 4).map(Some).collect::<Vec<_>>()));
        let columns: [(&str, ArrayRef); 4] = [
            ("id", Arc::new(Int64Array::from_iter_values(0..300))),
            ("score", Arc::new(Float32Array::from_iter((0..300).map(|row| (row % 7 > 0).then_some(row as f32))))),
            ("name", Arc::new(StringArray::from_iter_values((0..300).map(|row| format!("name {}", row % 40))))),
            ("tags", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
        ];
        let table = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ShardWriter::new(&store, "table", table.schema(), 1000);
        writer.write(&table).await.unwrap();
        let entry = writer.finish().await.unwrap().remove(0);
        let bytes = store.get_existing(&entry.key).await.unwrap();
        damage::each("a Parquet file of a manifest", 300, &bytes, async |damaged| {
            store.put(&entry.key, damaged).await.unwrap();
            assert!(read_parquet(&store, vec![entry.clone()], None).await.is_err());
        })
        .await;
        // what another program wrote has no checksum
        damage::each("any Parquet file", 500, &bytes, async |damaged| {
            let (size, sha256) = (damaged.len() as u64, crate::storage::sha256_hex(&damaged));
            store.put(&entry.key, damaged).await.unwrap();
            let entry = FileEntry { bytes: size, sha256, ..entry.clone() };
            let _ = read_parquet(&store, vec![entry.clone()], None).await;
            let _ = parquet_schema(&store, &entry).await;
            if let Ok((_, batches)) = decode_parquet(store.get_existing(&entry.key).await.unwrap()) {
                let _ = batches.collect::<Result<Vec<_>, _>>();
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_file_that_tells_of_bytes_beyond_its_end_is_damaged_and_not_worth_another_try() {
        let folder = tempfile::tempdir().unwrap();
        for url in ["memory://read-beyond", folder.path().to_str().unwrap()] {
            let store = crate::storage::open(url).unwrap();
            store.put("a", "x").await.unwrap();
            for range in [5..9, std::ops::Range { start: 9, end: 5 }, 0..u64::MAX] {
                let Err(error) = store.object_store().get_range(&store.path_of("a"), range).await else { continue };
                let error = store.explain(error, "read", "a");
                assert_eq!(error.kind, Kind::Config, "{error}");
            }
        }
    }
}
