//! Runs one table's plan and writes it as Parquet.

use std::time::Instant;

use datafusion::arrow::array::{Array, BooleanArray, RecordBatch};
use datafusion::arrow::compute::kernels::cmp::distinct;
use datafusion::arrow::compute::{and, concat_batches, not};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;
use tracing::{Instrument, warn};

use super::columns::Shape;
use super::measure::{Measure, Measured};
use super::order::reads;
use super::parse::SqlFile;
use super::place::error_at;
use super::planner::{PlannedTable, Planner};
use super::rows::row_as_text;
use super::watch;
use crate::artifacts::{Column, TableFacts, keys};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::progress::Bar;
use crate::storage::{FileEntry, ShardWriter};
use crate::warehouse::{Joins, diagnose, execute, explain_execution, is_out_of_memory};

/// Rows handed to the encoder at a time. Fixed, because page boundaries follow them and files must not depend on threads.
const CHUNK: usize = 8192;
/// Chunks that wait for the encoder, at most.
const CHUNKS_AHEAD: usize = 8;

/// Builds the table of `file` below `folder` and makes it readable for the next ones; returns what was counted on the way, too.
pub async fn build(job: &Job, planner: &mut Planner, file: &SqlFile, folder: &str) -> Result<(TableFacts, Measured)> {
    let began = Instant::now();
    let bar = job.progress.spinner(&file.name);
    let planned = planner.plan_table(file).await?;
    planner.load_drawing(file).await?;
    let target = keys::sample_table(folder, &file.name);
    let before = planner.warehouse.reserved();
    planner.warehouse.share_memory_freely();
    let mut built = attempt(job, planner, file, &planned, &target, (Joins::Hash, &bar)).await;
    // first what is fast, then what needs less
    for (joins, how) in [(Joins::Hash, "with equal shares for all steps"), (Joins::SortMerge, "with joins that spill")]
    {
        match &built {
            Err(Failure::Engine(error)) if is_out_of_memory(error) => {}
            _ => break,
        }
        warn!(table = %file.name, "one step needs more of `samples.memory` than others left it; starting over {how}");
        planner.warehouse.given_back(before).await;
        planner.warehouse.share_memory_equally();
        built = attempt(job, planner, file, &planned, &target, (joins, &bar)).await;
    }
    let (files, checks, measure) = match built {
        Ok(built) => built,
        Err(Failure::Ours(error)) => return Err(error),
        Err(Failure::Engine(error)) => return Err(explain(job, planner, file, error).await),
    };
    checks.verdict(job, file, &planned.shape)?;
    let columns = planned.shape.schema.fields().iter();
    let columns = columns.map(|field| Column { name: field.name().clone(), data_type: field.data_type().to_string() });
    let facts =
        TableFacts { rows: checks.rows, columns: columns.collect(), files, seconds: began.elapsed().as_secs_f64() };
    planner.add_built(&file.name, planned.shape.schema.clone(), &facts)?;
    Ok((facts, measure.finish()))
}

enum Failure {
    Engine(DataFusionError),
    Ours(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Ours(error)
    }
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Self {
        Failure::Engine(error)
    }
}

/// An execution's error: the source file that cannot be read, or else the table that was being built.
pub async fn explain(job: &Job, planner: &Planner, file: &SqlFile, error: DataFusionError) -> Error {
    if !is_out_of_memory(&error) {
        let sources: Vec<String> = reads(file).into_iter().filter(|name| !planner.has_table(name)).collect();
        if let Some(broken) = diagnose(&planner.warehouse, &sources).await {
            return broken.context(format!("building `{}` ({})", file.name, file.shown));
        }
    }
    explain_execution(error, &file.name, &file.shown, &job.config.samples.memory.to_string())
}

async fn attempt(
    job: &Job,
    planner: &Planner,
    file: &SqlFile,
    planned: &PlannedTable,
    target: &str,
    (joins, bar): (Joins, &Bar),
) -> Result<Table, Failure> {
    let plan = planner.physical(planned, file, joins).await?;
    // an attempt before this one counted too
    planner.warehouse.dropped.take();
    let context = std::sync::Arc::new((&planner.warehouse.state_with(joins)).into());
    let mut stream = execute(plan.clone(), context)?;
    let schema = planned.shape.schema.clone();
    let writer = ShardWriter::new(&job.output, target, schema.clone(), job.config.samples.rows_per_file);
    let (sender, receiver) = channel(CHUNKS_AHEAD);
    // a task of its own: encoding and hashing a chunk take as long as sorting it, and the engine goes on meanwhile
    let writing = AbortOnDrop(tokio::spawn(write(receiver, writer, planned.shape.clone()).in_current_span()));
    let mut chunks = Chunks { schema, held: Vec::new(), rows: 0 };
    let mut rows = 0;
    while let Some(batch) = watch::next(&mut stream, &plan, rows, bar).await {
        job.stop.check()?;
        let batch = batch?;
        rows += batch.num_rows() as u64;
        chunks.push(batch)?;
        while let Some(chunk) = chunks.next(CHUNK)? {
            // a writer that has failed takes no more: its own error is told below
            if sender.send(chunk).await.is_err() {
                return writing.outcome().await;
            }
        }
    }
    while let Some(chunk) = chunks.next(1)? {
        if sender.send(chunk).await.is_err() {
            break;
        }
    }
    drop(sender);
    writing.outcome().await
}

type Table = (Vec<FileEntry>, Checks, Measure);

/// Checks and writes chunks as they come.
async fn write(mut chunks: Receiver<RecordBatch>, mut writer: ShardWriter, shape: Shape) -> Result<Table, Failure> {
    let mut checks = Checks::default();
    let mut measure = Measure::new(&shape);
    while let Some(chunk) = chunks.recv().await {
        checks.look_at(&chunk, &shape)?;
        measure.look_at(&chunk)?;
        writer.write(&chunk).await?;
    }
    Ok((writer.finish().await?, checks, measure))
}

/// A writer that does not outlive the query that it writes for.
struct AbortOnDrop(JoinHandle<Result<Table, Failure>>);

impl AbortOnDrop {
    async fn outcome(mut self) -> Result<Table, Failure> {
        (&mut self.0).await.unwrap_or_else(|error| Err(Error::internal("a writer ended early").caused_by(error).into()))
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Cuts batches of any size into chunks of one size.
struct Chunks {
    schema: SchemaRef,
    held: Vec<RecordBatch>,
    rows: usize,
}

impl Chunks {
    fn push(&mut self, batch: RecordBatch) -> Result<(), DataFusionError> {
        self.rows += batch.num_rows();
        self.held.push(RecordBatch::try_new(self.schema.clone(), batch.columns().to_vec())?);
        Ok(())
    }

    /// The next chunk, when at least `least` rows are held.
    fn next(&mut self, least: usize) -> Result<Option<RecordBatch>, DataFusionError> {
        if self.rows < least.max(1) {
            return Ok(None);
        }
        let all = concat_batches(&self.schema, &self.held)?;
        let take = all.num_rows().min(CHUNK);
        self.rows -= take;
        self.held = vec![all.slice(take, all.num_rows() - take)];
        Ok(Some(all.slice(0, take)))
    }
}

/// What is counted while rows pass by.
#[derive(Default)]
struct Checks {
    rows: u64,
    nulls: Vec<(String, u64)>,
    duplicates: u64,
    /// The first duplicated key, as text.
    example: Option<String>,
    last_key: Option<RecordBatch>,
}

impl Checks {
    fn look_at(&mut self, chunk: &RecordBatch, shape: &Shape) -> Result<(), DataFusionError> {
        self.rows += chunk.num_rows() as u64;
        for name in &shape.required {
            let nulls = chunk.column_by_name(name).map_or(0, |column| column.null_count()) as u64;
            match self.nulls.iter_mut().find(|(known, _)| known == name) {
                Some((_, count)) => *count += nulls,
                None => self.nulls.push((name.clone(), nulls)),
            }
        }
        if shape.key.is_empty() {
            return Ok(());
        }
        // rows are sorted by the key, so equal ones stand side by side
        let at: Vec<usize> = shape.key.iter().filter_map(|name| shape.schema.index_of(name).ok()).collect();
        let keys = chunk.project(&at)?;
        let rows = keys.num_rows();
        if let Some(last) = self.last_key.replace(keys.slice(rows - 1, 1))
            && equal_rows(&last, &keys.slice(0, 1))?.value(0)
        {
            self.repeats(&keys, 0, 1);
        }
        let equal = equal_rows(&keys.slice(0, rows - 1), &keys.slice(1, rows - 1))?;
        if let Some(row) = equal.values().set_indices().next() {
            self.repeats(&keys, row, equal.true_count() as u64);
        }
        Ok(())
    }

    /// Counts rows that repeat the key of the row before; `keys` has the first of them.
    fn repeats(&mut self, keys: &RecordBatch, row: usize, rows: u64) {
        self.duplicates += rows;
        self.example.get_or_insert_with(|| row_as_text(keys, row));
    }

    fn verdict(&self, job: &Job, file: &SqlFile, shape: &Shape) -> Result<()> {
        let at = |message: String| Err(error_at(&file.shown, Some(file.start), message));
        if self.rows == 0 && shape.needs_rows {
            let sources = job.config.sources.iter().filter(|(name, _)| file.references.tables.contains_key(*name));
            let windows: Vec<String> = sources.map(|(name, source)| format!("`{name}` ({})", source.path)).collect();
            let read = if windows.is_empty() { String::new() } else { format!("; it reads {}", windows.join(", ")) };
            return at(match file.name.as_str() {
                "positives" => format!(
                    "no positives at all: table `positives` has no row for {}{}; look at what counts as liked, and at the window `days` of the sources",
                    job.date,
                    self.window(job)
                ),
                name => format!(
                    "table `{name}` has no row, so there is nothing to embed{read}; look at the catalogue's source"
                ),
            });
        }
        if let Some((column, count)) = self.nulls.iter().find(|(_, count)| *count > 0) {
            return at(format!(
                "null ids: `{}.{column}` is null in {count} of {} rows; filter them out in the SQL or mend the source",
                file.name, self.rows
            ));
        }
        if self.duplicates > 0 {
            let what = if shape.key == ["sample_id"] { "duplicated sample ids" } else { "duplicated rows" };
            return at(format!(
                "{what}: table `{}` repeats its key ({}) in {} of {} rows, for example {}; make it unique in the SQL; where a source that it joins has several rows for one thing, mend that, or read one day of it (`snapshot: true`)",
                file.name,
                shape.key.join(", "),
                self.duplicates,
                self.rows,
                self.example.as_deref().unwrap_or("none")
            ));
        }
        Ok(())
    }

    /// The windows of the job's sources, for people.
    fn window(&self, job: &Job) -> String {
        let windows: Vec<String> = job
            .config
            .sources
            .iter()
            .filter(|(_, source)| source.partition.is_some() && !source.snapshot)
            .map(|(name, source)| {
                let (from, to) = (job.date.offset(source.days.from), job.date.offset(source.days.to));
                format!("`{name}` {from} to {to}")
            })
            .collect();
        if windows.is_empty() { String::new() } else { format!(" (read: {})", windows.join(", ")) }
    }
}

/// Which rows of `left` are those of `right`; null equals null.
fn equal_rows(left: &RecordBatch, right: &RecordBatch) -> Result<BooleanArray, DataFusionError> {
    let mut equal = BooleanArray::from(vec![true; left.num_rows()]);
    for (left, right) in left.columns().iter().zip(right.columns()) {
        equal = and(&equal, &not(&distinct(left, right)?)?)?;
    }
    Ok(equal)
}
