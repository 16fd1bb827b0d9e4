//! Tables as Parquet files `part-00000.parquet …` in a folder: written with sizes and checksums, read as batches.

use std::io::Write;
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use parquet::arrow::async_reader::{ParquetObjectReader, ParquetRecordBatchStreamBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::Store;
use super::store::hex;
use crate::error::{Error, Result};

/// One file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the output folder.
    pub key: String,
    pub bytes: u64,
    pub sha256: String,
    /// Rows, for tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// What the Parquet encoder has written and the store has not yet taken.
#[derive(Clone, Default)]
struct Pending(Arc<Mutex<Vec<u8>>>);

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no holder of this lock panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct OpenFile {
    key: String,
    encoder: ArrowWriter<Pending>,
    upload: BufWriter,
    hash: Sha256,
    bytes: u64,
    rows: u64,
}

/// Writes one table as `FOLDER/part-00000.parquet …` with at most `rows_per_file` rows each, streaming. At least one file is
/// written, so that an empty table has its schema.
pub struct ShardWriter {
    store: Store,
    folder: String,
    schema: SchemaRef,
    properties: WriterProperties,
    rows_per_file: u64,
    open: Option<OpenFile>,
    done: Vec<FileEntry>,
    pending: Pending,
}

impl ShardWriter {
    pub fn new(store: &Store, folder: &str, schema: SchemaRef, rows_per_file: u64) -> Self {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(Default::default()))
            .set_max_row_group_row_count(Some(131_072))
            // the default names the library's version, which must not change a release's bytes
            .set_created_by("twotower".into())
            .build();
        ShardWriter {
            store: store.clone(),
            folder: folder.to_string(),
            schema,
            properties,
            rows_per_file: rows_per_file.max(1),
            open: None,
            done: Vec::new(),
            pending: Pending::default(),
        }
    }

    /// Appends rows; starts a new file where one is full.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut at = 0;
        while at < batch.num_rows() {
            if self.open.as_ref().is_some_and(|file| file.rows >= self.rows_per_file) {
                self.close_file().await?;
            }
            if self.open.is_none() {
                self.open_file()?;
            }
            let file = self.open.as_mut().expect("a file was opened above");
            let take = ((self.rows_per_file - file.rows) as usize).min(batch.num_rows() - at);
            file.encoder
                .write(&batch.slice(at, take))
                .map_err(|error| Error::internal(format!("cannot encode {}", file.key)).caused_by(error))?;
            file.rows += take as u64;
            at += take;
            self.drain().await?;
        }
        Ok(())
    }

    /// Ends the current file, so that the next rows begin a new one.
    pub async fn close_file(&mut self) -> Result<()> {
        let Some(file) = self.open.as_mut() else { return Ok(()) };
        file.encoder
            .finish()
            .map_err(|error| Error::internal(format!("cannot encode {}", file.key)).caused_by(error))?;
        self.drain().await?;
        let mut file = self.open.take().expect("it is open");
        file.upload.shutdown().await.map_err(|error| write_error(&self.store, &file.key, error))?;
        self.done.push(FileEntry {
            key: file.key,
            bytes: file.bytes,
            sha256: hex(&file.hash.finalize()),
            rows: Some(file.rows),
        });
        Ok(())
    }

    /// Ends the table and returns its files.
    pub async fn finish(mut self) -> Result<Vec<FileEntry>> {
        if self.done.is_empty() && self.open.is_none() {
            self.open_file()?;
        }
        self.close_file().await?;
        Ok(self.done)
    }

    fn open_file(&mut self) -> Result<()> {
        let key = format!("{}/part-{:05}.parquet", self.folder, self.done.len());
        let encoder = ArrowWriter::try_new(self.pending.clone(), self.schema.clone(), Some(self.properties.clone()))
            .map_err(|error| Error::internal(format!("cannot encode {key}")).caused_by(error))?;
        let upload = BufWriter::new(self.store.object_store(), self.store.path_of(&key));
        self.open = Some(OpenFile { key, encoder, upload, hash: Sha256::new(), bytes: 0, rows: 0 });
        Ok(())
    }

    /// Hands what was encoded to the store.
    async fn drain(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut *self.pending.0.lock().expect("no holder of this lock panics"));
        if let (false, Some(file)) = (bytes.is_empty(), self.open.as_mut()) {
            file.hash.update(&bytes);
            file.bytes += bytes.len() as u64;
            file.upload.write_all(&bytes).await.map_err(|error| write_error(&self.store, &file.key, error))?;
        }
        Ok(())
    }
}

fn write_error(store: &Store, key: &str, error: std::io::Error) -> Error {
    match error.downcast::<object_store::Error>() {
        Ok(inner) => store.explain(inner, "write", key),
        Err(error) => store.explain(object_store::Error::Generic { store: "store", source: Box::new(error) }, "write", key),
    }
}

/// Streams the rows of Parquet files one after another, in the order given. `columns` (all when `None`) keeps only those, in
/// the file's order.
pub fn read_parquet_stream(
    store: &Store,
    keys: Vec<String>,
    columns: Option<Vec<String>>,
    batch_rows: usize,
) -> impl Stream<Item = Result<RecordBatch>> + Send + Unpin + use<> {
    let store = store.clone();
    let files = futures::stream::iter(keys).then(move |key| {
        let (store, columns) = (store.clone(), columns.clone());
        async move { open_parquet(&store, &key, columns.as_deref(), batch_rows).await }
    });
    Box::pin(files.try_flatten())
}

/// All rows of Parquet files, for tables known to be small.
pub async fn read_parquet(store: &Store, keys: Vec<String>, columns: Option<Vec<String>>) -> Result<Vec<RecordBatch>> {
    read_parquet_stream(store, keys, columns, 8192).try_collect().await
}

async fn open_parquet(
    store: &Store,
    key: &str,
    columns: Option<&[String]>,
    batch_rows: usize,
) -> Result<impl Stream<Item = Result<RecordBatch>> + use<>> {
    let url = store.url_of(key);
    let broken = move |error: parquet::errors::ParquetError| {
        Error::config(format!("{url} is not a readable Parquet file; write it anew")).caused_by(error)
    };
    let size = store.head(key).await?.ok_or_else(|| Error::config(format!("{} does not exist", store.url_of(key))))?.size;
    let reader = ParquetObjectReader::new(store.object_store(), store.path_of(key)).with_file_size(size);
    let mut builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(broken.clone())?;
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
    let stream = builder.with_batch_size(batch_rows).build().map_err(broken.clone())?;
    Ok(stream.map_err(broken))
}

/// The `.parquet` keys of file entries, in order.
pub fn sorted_parts(files: &[FileEntry]) -> Vec<String> {
    let mut keys: Vec<String> = files.iter().map(|file| file.key.clone()).filter(|key| key.ends_with(".parquet")).collect();
    keys.sort();
    keys
}
