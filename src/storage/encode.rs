//! One Parquet file, encoded by a task for each column.

use std::io::Write;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{FieldRef, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

/// Rows of a row group: what a reader takes at once, and a writer holds encoded.
const ROWS_PER_GROUP: usize = 131_072;
/// Arrays that wait for the task of their column, at most.
const ARRAYS_AHEAD: usize = 2;

/// Writes batches to one Parquet file, in the bytes that [`ArrowWriter`] writes, with the columns encoded beside one another: where rows come as
/// fast as they are written, encoding them is what takes the time. Must live in a tokio runtime.
pub struct FileEncoder<W: Write + Send> {
    file: SerializedFileWriter<W>,
    groups: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    /// The row group that rows are being added to.
    open: Option<RowGroup>,
}

impl<W: Write + Send> FileEncoder<W> {
    pub fn try_new(sink: W, schema: SchemaRef, properties: WriterProperties) -> Result<Self> {
        let (file, groups) = ArrowWriter::try_new(sink, schema.clone(), Some(properties))?.into_serialized_writer()?;
        Ok(FileEncoder { file, groups, schema, open: None })
    }

    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut at = 0;
        while at < batch.num_rows() {
            if self.open.is_none() {
                self.open = Some(self.next_group()?);
            }
            let group = self.open.as_mut().expect("a row group was opened above");
            let take = (ROWS_PER_GROUP - group.rows).min(batch.num_rows() - at);
            let sent = group.send(&batch.slice(at, take)).await;
            group.rows += take;
            at += take;
            // a column that took no more has failed, and ends with the reason
            if !sent || group.rows == ROWS_PER_GROUP {
                self.end_group().await?;
            }
        }
        Ok(())
    }

    /// Writes what is open, and the end of the file.
    pub async fn finish(&mut self) -> Result<()> {
        self.end_group().await?;
        self.file.finish().map(drop)
    }

    fn next_group(&self) -> Result<RowGroup> {
        let mut writers = self.groups.create_column_writers(self.file.flushed_row_groups().len())?.into_iter();
        let leaves = self.file.schema_descr();
        let columns = self.schema.fields().iter().enumerate().map(|(root, field)| {
            let of_column = (0..leaves.num_columns()).filter(|leaf| leaves.get_column_root_idx(*leaf) == root).count();
            Column::spawn(field.clone(), writers.by_ref().take(of_column).collect())
        });
        Ok(RowGroup { columns: columns.collect(), rows: 0 })
    }

    async fn end_group(&mut self) -> Result<()> {
        let Some(group) = self.open.take() else { return Ok(()) };
        let mut writer = self.file.next_row_group()?;
        for column in group.columns {
            for chunk in column.close().await? {
                chunk.append_to_row_group(&mut writer)?;
            }
        }
        writer.close().map(drop)
    }
}

struct RowGroup {
    columns: Vec<Column>,
    rows: usize,
}

impl RowGroup {
    /// Whether all columns took their part of a batch.
    async fn send(&self, batch: &RecordBatch) -> bool {
        for (column, array) in self.columns.iter().zip(batch.columns()) {
            if column.arrays.send(array.clone()).await.is_err() {
                return false;
            }
        }
        true
    }
}

/// One column of a row group, with the task that encodes it.
struct Column {
    arrays: Sender<ArrayRef>,
    encoding: JoinHandle<Result<Vec<ArrowColumnChunk>>>,
}

impl Column {
    /// `writers` are those of the leaves of `field`: a column of lists of structures has several.
    fn spawn(field: FieldRef, writers: Vec<ArrowColumnWriter>) -> Self {
        let (arrays, waiting) = channel(ARRAYS_AHEAD);
        Column { arrays, encoding: tokio::spawn(encode(field, writers, waiting)) }
    }

    async fn close(self) -> Result<Vec<ArrowColumnChunk>> {
        drop(self.arrays);
        self.encoding.await.map_err(|error| ParquetError::External(Box::new(error)))?
    }
}

async fn encode(
    field: FieldRef,
    mut writers: Vec<ArrowColumnWriter>,
    mut arrays: Receiver<ArrayRef>,
) -> Result<Vec<ArrowColumnChunk>> {
    while let Some(array) = arrays.recv().await {
        for (writer, leaf) in writers.iter_mut().zip(compute_leaves(&field, &array)?) {
            writer.write(&leaf)?;
        }
    }
    writers.into_iter().map(ArrowColumnWriter::close).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float32Array, Int32Array, Int64Array, ListArray, StringArray, StructArray};
    use arrow::datatypes::{DataType, Field, Int64Type};

    use super::*;

    fn batch(from: i64, rows: i64) -> RecordBatch {
        let numbers = || from..from + rows;
        let lists = numbers().map(|n| (n % 7 != 0).then(|| (0..n % 5).map(move |at| (at != 3).then_some(n * at))));
        let pair = StructArray::from(vec![
            (
                Arc::new(Field::new("a", DataType::Int32, true)),
                Arc::new(Int32Array::from_iter(numbers().map(|n| (n % 3 != 0).then_some(n as i32 % 10)))) as ArrayRef,
            ),
            (
                Arc::new(Field::new("b", DataType::Utf8, true)),
                Arc::new(StringArray::from_iter_values(numbers().map(|n| format!("text {}", n % 100)))) as ArrayRef,
            ),
        ]);
        let columns: [(&str, ArrayRef); 4] = [
            ("id", Arc::new(Int64Array::from_iter_values(numbers().map(|n| n * 7919 % 100_003)))),
            ("lists", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))),
            ("pair", Arc::new(pair)),
            ("score", Arc::new(Float32Array::from_iter_values(numbers().map(|n| n as f32 / 3.0)))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn columns_encoded_beside_one_another_make_the_bytes_of_one_after_the_other() {
        let batches: Vec<RecordBatch> = [(0, 50_000), (50_000, 100_000), (150_000, 8_192), (158_192, 131_072)]
            .into_iter()
            .map(|(from, rows)| batch(from, rows))
            .collect();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(ROWS_PER_GROUP)).build();
        for batches in [&batches[..], &batches[..1], &[]] {
            let schema = batch(0, 0).schema();
            let mut serial = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties.clone())).unwrap();
            let mut beside = FileEncoder::try_new(Vec::new(), schema, properties.clone()).unwrap();
            for batch in batches {
                serial.write(batch).unwrap();
                beside.write(batch).await.unwrap();
            }
            beside.finish().await.unwrap();
            assert!(serial.into_inner().unwrap() == *beside.file.inner(), "{} batches", batches.len());
        }
    }

    #[tokio::test]
    async fn a_column_that_cannot_be_encoded_says_so() {
        let schema = batch(0, 0).schema();
        let mut encoder = FileEncoder::try_new(Vec::new(), schema, WriterProperties::default()).unwrap();
        let wrong: ArrayRef = Arc::new(StringArray::from(vec!["one"]));
        let columns = [("id", wrong), ("lists", Arc::new(Int64Array::from(vec![1])))];
        let wrong = RecordBatch::try_from_iter(columns).unwrap();
        let written = encoder.write(&wrong).await;
        assert!(written.and(encoder.finish().await).is_err());
    }
}
