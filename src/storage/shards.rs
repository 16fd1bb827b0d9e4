//! Tables as Parquet files `part-00000.parquet …` in a folder, written with sizes and checksums.

use std::io::Write;
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};

use super::encode::FileEncoder;
use super::{FileEntry, ObjectWriter, Store};
use crate::error::{Error, Result};

/// How every Parquet file is written.
fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(Default::default()))
        // the default names the library's version, which must not change a release's bytes
        .set_created_by("twotower".into())
}

/// One Parquet file of batches, whole in memory: for small tables with a name of their own.
pub fn encode_parquet(schema: SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, parquet::errors::ParquetError> {
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties().build()))?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.into_inner()
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
    encoder: FileEncoder<Pending>,
    object: ObjectWriter,
    rows: u64,
}

/// Writes one table as `FOLDER/part-00000.parquet …` with at most `rows_per_file` rows each, streaming. At least one file is
/// written, so that an empty table has its schema.
pub struct ShardWriter {
    store: Store,
    folder: String,
    schema: SchemaRef,
    rows_per_file: u64,
    /// Number of files, where their names carry it.
    of: Option<usize>,
    /// The name of the one file, where it has another.
    name: Option<String>,
    open: Option<OpenFile>,
    done: Vec<FileEntry>,
    pending: Pending,
}

impl ShardWriter {
    pub fn new(store: &Store, folder: &str, schema: SchemaRef, rows_per_file: u64) -> Self {
        ShardWriter {
            store: store.clone(),
            folder: folder.to_string(),
            schema,
            rows_per_file: rows_per_file.max(1),
            of: None,
            name: None,
            open: None,
            done: Vec::new(),
            pending: Pending::default(),
        }
    }

    /// Names the files `part-00000-of-00004.parquet …`; the caller ends each with [`ShardWriter::close_file`].
    pub fn of(mut self, files: usize) -> Self {
        self.of = Some(files);
        self
    }

    /// Writes all rows to one file of this name.
    pub fn named(self, name: &str) -> Self {
        ShardWriter { name: Some(name.to_string()), rows_per_file: u64::MAX, ..self }
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
                .await
                .map_err(|error| Error::internal(format!("cannot encode {}", file.object.key())).caused_by(error))?;
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
            .await
            .map_err(|error| Error::internal(format!("cannot encode {}", file.object.key())).caused_by(error))?;
        self.drain().await?;
        let file = self.open.take().expect("it is open");
        self.done.push(file.object.finish(Some(file.rows)).await?);
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
        let of = self.of.map(|files| format!("-of-{files:05}")).unwrap_or_default();
        let key = match &self.name {
            Some(name) => format!("{}/{name}", self.folder),
            None => format!("{}/part-{:05}{of}.parquet", self.folder, self.done.len()),
        };
        let encoder = FileEncoder::try_new(self.pending.clone(), self.schema.clone(), properties().build())
            .map_err(|error| Error::internal(format!("cannot encode {key}")).caused_by(error))?;
        self.open = Some(OpenFile { encoder, object: ObjectWriter::new(&self.store, key), rows: 0 });
        Ok(())
    }

    /// Hands what was encoded to the store.
    async fn drain(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut *self.pending.0.lock().expect("no holder of this lock panics"));
        if let (false, Some(file)) = (bytes.is_empty(), self.open.as_mut()) {
            file.object.write(&bytes).await?;
        }
        Ok(())
    }
}
