//! What went wrong while SQL ran, in the operator's words.

use std::error::Error as StdError;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::{Result as DfResult, exec_err};
use datafusion::error::DataFusionError;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use datafusion::object_store;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream};
use futures::StreamExt;

use super::lists::lists;
use super::session::Warehouse;
use super::table::FilesTable;
use super::types::{beyond_bigint, list_of, sql_name, too_large};
use crate::error::{Error, Kind};
use crate::storage;

/// The error of the object store behind `error`, if there is one: a retry may help.
pub fn store_fault(error: &(dyn StdError + 'static), doing: &str) -> Option<Error> {
    let mut at = Some(error);
    while let Some(inner) = at {
        if let Some(fault) = inner.downcast_ref::<object_store::Error>() {
            return Some(named_store_fault(fault, doing));
        }
        // the engine boxes its causes, and a box hides the type
        if let Some(DataFusionError::ObjectStore(fault)) = inner.downcast_ref::<DataFusionError>() {
            return Some(named_store_fault(fault, doing));
        }
        if let Some(datafusion::parquet::errors::ParquetError::External(cause)) = inner.downcast_ref() {
            return store_fault(cause.as_ref(), doing);
        }
        at = inner.source();
    }
    None
}

fn named_store_fault(fault: &object_store::Error, doing: &str) -> Error {
    if let object_store::Error::NotFound { path, .. } = fault {
        return Error::transient(format!(
            "{path} was there when it was listed and is gone; run the job again, it lists anew"
        ));
    }
    let storage::Blame { kind, advice, said } = storage::blame(fault, "read");
    Error::new(kind, format!("cannot read {doing}: {advice}; {said}"))
}

/// Whether an execution failed because it may not have more memory.
pub fn is_out_of_memory(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

/// An execution's error. `table` and `file` name what was being built.
pub fn explain_execution(error: DataFusionError, table: &str, file: &str, memory: &str) -> Error {
    if let Some(fault) = store_fault(&error, &format!("the files of `{table}`")) {
        return fault.context(format!("building table `{table}` ({file})")).caused_by(error.strip_backtrace());
    }
    if is_out_of_memory(&error) {
        return Error::config(format!(
            "{file}: table `{table}` needs more than `samples.memory: {memory}`, also with joins that spill; raise it, or read less"
        ))
        .caused_by(error.strip_backtrace());
    }
    let text = storage::full_text(&error);
    if matches!(error.find_root(), DataFusionError::IoError(_)) || storage::full(&text) {
        // writers of spilled rows wrap the cause in errors of other kinds
        let message = format!(
            "cannot spill to disk while building table `{table}`; make room in `samples.spill`, or name another folder"
        );
        return Error::new(Kind::Transient, message).caused_by(error.strip_backtrace());
    }
    Error::config(format!("{file}: table `{table}` cannot be built")).caused_by(error.strip_backtrace())
}

/// What a plan gives, piece by piece. A decoder that panics on a damaged file, in whatever thread, is an error of the plan.
pub fn execute(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
    let stream = execute_stream(plan, context)?;
    let schema = stream.schema();
    let decoded = storage::guarded_stream(stream).map(|batch| batch.map_err(DataFusionError::Execution).flatten());
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, decoded)))
}

/// After a failure: reads the files of `sources` one by one, to say which of them cannot be read. Costs a full read, on the
/// way to an error only.
pub async fn diagnose(warehouse: &Warehouse, sources: &[String]) -> Option<Error> {
    let state = warehouse.state();
    let task = Arc::new(TaskContext::from(&state));
    for name in sources {
        let table = warehouse.source_table(name)?;
        for (key, single) in table.single_files() {
            let Err(error) = read(&single, &state, &task, None).await else { continue };
            let shown = warehouse.shown(name, &key);
            if let Some(fault) = store_fault(&error, &shown) {
                return Some(fault.caused_by(error.strip_backtrace()));
            }
            if let Some((what, cause)) = damage(&single, &state, &task).await {
                let message = format!("source `{name}`: {shown} is damaged: {what} cannot be decoded; write it anew");
                return Some(Error::config(message).caused_by(cause.strip_backtrace()));
            }
            let Some((column, wanted, cause)) = broken_column(&single, &state, &task).await else {
                return Some(Error::config(format!(
                    "source `{name}`: {shown} cannot be read with the types declared or inferred for it; mend the file, or declare the column's type in `sources.{name}.columns`"
                ))
                .caused_by(error.strip_backtrace()));
            };
            let cause = cause.strip_backtrace();
            let message = match beyond_bigint(&cause) {
                Some(found) => format!("source `{name}`: column `{column}` in {shown}: {}", too_large(found, name)),
                None => format!(
                    "source `{name}`: column `{column}` in {shown} has values that are not {wanted}; mend the file, or declare the column's type in `sources.{name}.columns`"
                ),
            };
            return Some(Error::config(message).caused_by(cause));
        }
    }
    None
}

/// Reads a table to its end: all of its columns, or one.
async fn read(
    table: &FilesTable,
    state: &SessionState,
    task: &Arc<TaskContext>,
    column: Option<usize>,
) -> DfResult<()> {
    let columns = column.map(|at| vec![at]);
    let plan = TableProvider::scan(table, state, columns.as_ref(), &[], None).await?;
    let mut stream = execute(plan, task.clone())?;
    while let Some(batch) = stream.next().await {
        batch?;
    }
    Ok(())
}

/// What of a Parquet file cannot be decoded, whatever its values are to become, and why.
async fn damage(
    table: &FilesTable,
    state: &SessionState,
    task: &Arc<TaskContext>,
) -> Option<(String, DataFusionError)> {
    let written = table.as_written()?;
    let error = read(&written, state, task, None).await.err()?;
    if store_fault(&error, "").is_some() {
        return None;
    }
    Some(match broken_column(&written, state, task).await {
        Some((column, _, cause)) => (format!("its column `{column}`"), cause),
        None => ("what it holds".into(), error),
    })
}

/// The first column that cannot be read alone, its type, and why.
async fn broken_column(
    table: &FilesTable,
    state: &SessionState,
    task: &Arc<TaskContext>,
) -> Option<(String, String, DataFusionError)> {
    for (at, field) in table.schema().fields().iter().enumerate() {
        if let Err(error) = read(table, state, task, Some(at)).await {
            return Some((field.name().clone(), sql_name(field.data_type()), error));
        }
    }
    None
}

/// Parses a list in a text column: `[1, 2]` as JSON, or values with `|` between them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ListText {
    item: DataType,
    signature: Signature,
}

impl ListText {
    pub fn new(item: DataType) -> Self {
        ListText { item, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ListText {
    fn name(&self) -> &str {
        "parse_list"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(list_of(self.item.clone()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let texts = ColumnarValue::values_to_arrays(&args.args)?.swap_remove(0);
        let texts = texts.as_string::<i32>();
        let mut values = StringBuilder::new();
        let mut lengths = Vec::with_capacity(texts.len());
        for text in texts.iter() {
            let before = datafusion::arrow::array::ArrayBuilder::len(&values);
            match text.map(str::trim) {
                None | Some("") => {}
                Some(json) if json.starts_with('[') => {
                    let Ok(serde_json::Value::Array(items)) = serde_json::from_str(json) else {
                        return exec_err!("`{json}` is not a list; write it like [1, 2] or 1|2");
                    };
                    for item in items {
                        match item {
                            serde_json::Value::Null => values.append_null(),
                            serde_json::Value::String(text) => values.append_value(text),
                            other => values.append_value(other.to_string()),
                        }
                    }
                }
                Some(plain) => plain.split('|').for_each(|item| values.append_value(item.trim())),
            }
            lengths.push(datafusion::arrow::array::ArrayBuilder::len(&values) - before);
        }
        let values: ArrayRef = Arc::new(values.finish());
        let options = datafusion::common::format::DEFAULT_CAST_OPTIONS;
        let values = if self.item == DataType::Utf8 {
            cast(&values, &self.item)?
        } else {
            datafusion::arrow::compute::cast_with_options(&values, &self.item, &options)?
        };
        let nulls = texts.nulls().cloned();
        Ok(ColumnarValue::Array(Arc::new(lists(values, OffsetBuffer::from_lengths(lengths), nulls)?)))
    }
}
