//! Ranker models: ONNX files that score rows of numbers, for SQL to call as functions.
//!
//! The only place that calls tract. Decision trees have a walk of their own.

mod column_ops;
mod graph;
mod model;
#[cfg(test)]
mod tests;
mod tree_ops;
mod trees;

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float32Type, Float64Type, Int32Type, Int64Type};

use crate::config::{self, Config, RankerType};
use crate::error::{Context, Error, Result, did_you_mean};
use crate::storage::{open, sha256_hex};
use graph::{Graph, TensorInfo, list};
use model::{Column, Input, Model};

/// A ranker ready to score. Everything in it can be made again from its file and its settings, which `sha256` and `settings` name.
pub struct Ranker {
    /// The name of its function.
    pub name: String,
    pub settings: config::Ranker,
    pub url: String,
    /// Of the file.
    pub sha256: String,
    /// Name and type of each argument, in order.
    pub arguments: Vec<(String, RankerType)>,
    /// Whether the model itself says what a missing value means.
    knows_missing: bool,
    model: Model,
}

impl fmt::Debug for Ranker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ranker({} from {}, SHA-256 {})", self.name, self.url, self.sha256)
    }
}

/// Reads and compiles every ranker of `config`, in the order of the file.
pub async fn load(config: &Config) -> Result<Vec<Arc<Ranker>>> {
    let mut rankers = Vec::new();
    for (name, settings) in &config.rankers {
        let path = config.resolve(&settings.path);
        let (folder, file) = path.rsplit_once('/').unwrap_or((".", &path));
        let store = open(if folder.is_empty() { "/" } else { folder })?;
        let url = store.url_of(file);
        let bytes = store.get_existing(file).await.while_(|| format!("reading `rankers.{name}`"))?;
        rankers.push(Arc::new(Ranker::compile(name, settings, &url, &bytes)?));
    }
    Ok(rankers)
}

impl Ranker {
    /// Compiles the model in `bytes`. `url` names it in errors.
    pub fn compile(name: &str, settings: &config::Ranker, url: &str, bytes: &[u8]) -> Result<Ranker> {
        let refuse = |key: &str, message: String| Error::config(format!("rankers.{name}{key}: {url}: {message}"));
        let Some(mut graph) = Graph::parse(bytes) else {
            let found = format!("it is not an ONNX model ({} bytes); export it anew", bytes.len());
            return Err(refuse(".path", found));
        };
        let output = graph.score_output(settings.output.as_deref()).map_err(|message| refuse(".output", message))?;
        let (inputs, batch) = inputs(settings, &graph).map_err(|(key, message)| refuse(&key, message))?;
        graph.reduce_to(&output);
        graph.split_double_gemm();
        let unsupported = model::unsupported(&graph);
        if !unsupported.is_empty() {
            let names = unsupported.join(", ");
            return Err(refuse(
                "",
                format!(
                    "the model needs operators that twotower does not have: {names}; leave them out of the export, and do in SQL what they do"
                ),
            ));
        }
        let model = Model::compile(&graph, inputs, batch, settings.column).map_err(|message| {
            refuse("", format!("the model cannot be run: {message}; its inputs are {}", list(&graph.inputs)))
        })?;
        let types =
            settings.inputs.values().flat_map(|input| std::iter::repeat_n(input.data_type, input.columns.len().max(1)));
        Ok(Ranker {
            name: name.into(),
            settings: settings.clone(),
            url: url.into(),
            sha256: sha256_hex(bytes),
            arguments: settings.arguments().into_iter().map(str::to_string).zip(types).collect(),
            knows_missing: graph.knows_missing(),
            model,
        })
    }

    /// The function as people write it: `my_ranker(age float, price float)`.
    pub fn signature(&self) -> String {
        let arguments = self.arguments.iter().map(|(name, data_type)| format!("{name} {}", data_type.name()));
        format!("{}({})", self.name, arguments.collect::<Vec<_>>().join(", "))
    }

    /// Scores rows: one column for each argument, all of one length. A score that is no number is null, and so is that of a row
    /// with a missing value where the model does not know such (trees do).
    pub fn score(&self, columns: &[ArrayRef]) -> Result<Float64Array> {
        let rows = columns.first().map_or(0, |column| column.len());
        let typed = columns.iter().zip(&self.arguments).map(|(column, (argument, data_type))| {
            typed(column, *data_type).while_(|| format!("reading argument `{argument}` of {}", self.signature()))
        });
        let typed = typed.collect::<Result<Vec<_>>>()?;
        let scores = self.model.score(&typed, rows).map_err(|message| {
            Error::config(format!("rankers.{}: {} cannot score {rows} rows: {message}", self.name, self.url))
        })?;
        let missing = |row: usize| !self.knows_missing && typed.iter().any(|column| column.is_nan(row));
        let scores = scores.into_iter().enumerate();
        Ok(scores.map(|(row, score)| (!score.is_nan() && !missing(row)).then_some(score)).collect())
    }
}

/// The tensors that the config describes, in the model's order, and the rows of one run.
fn inputs(settings: &config::Ranker, graph: &Graph) -> Result<(Vec<Input>, usize), (String, String)> {
    let there = list(&graph.inputs);
    for name in settings.inputs.keys() {
        if !graph.inputs.iter().any(|input| input.name == *name) {
            let near = did_you_mean(name, graph.inputs.iter().map(|input| input.name.as_str()));
            return Err((".inputs".into(), format!("the model has no input `{name}`{near}; it has {there}")));
        }
    }
    let given: Vec<&String> = settings.inputs.keys().collect();
    let wanted: Vec<&String> = graph.inputs.iter().map(|input| &input.name).collect();
    if let Some(missing) = wanted.iter().find(|name| !given.contains(name)) {
        return Err((".inputs".into(), format!("the model's input `{missing}` is not given; it has {there}")));
    }
    if given != wanted {
        return Err((".inputs".into(), format!("write the inputs in the model's order: {there}")));
    }
    let mut batch = settings.batch_size;
    let mut inputs = Vec::new();
    for (info, (name, input)) in graph.inputs.iter().zip(&settings.inputs) {
        let (one, rows) = tensor(info, input).map_err(|message| (format!(".inputs.{name}"), message))?;
        // exported for a fixed number of rows
        batch = rows.unwrap_or(batch);
        inputs.push(one);
    }
    Ok((inputs, batch))
}

/// Holds one input of the config against the model's.
fn tensor(info: &TensorInfo, input: &config::RankerInput) -> Result<(Input, Option<usize>), String> {
    let columns = input.columns.len().max(1);
    if info.ranker_type() != Some(input.data_type) {
        let hint = if info.ranker_type().is_some() { "" } else { "; only numbers and booleans can be given" };
        return Err(format!("found type {}, the model takes {info}{hint}", input.data_type.name()));
    }
    let (flat, rows) = match info.shape.as_deref() {
        None => (false, None),
        Some([rows]) if columns == 1 => (true, *rows),
        Some([rows, wide]) if wide.is_none_or(|wide| wide == columns) => (false, *rows),
        Some(_) => return Err(format!("found {columns} columns, the model takes {info}")),
    };
    Ok((Input { data_type: input.data_type, columns, flat }, rows))
}

/// A column as the model takes it.
fn typed(column: &ArrayRef, wanted: RankerType) -> Result<Column> {
    let as_type = |data_type: &DataType| {
        cast(column, data_type)
            .map_err(|error| Error::config(format!("a value does not fit into {}", wanted.name())).caused_by(error))
    };
    let whole = |cast: &ArrayRef| match cast.null_count() {
        0 => Ok(()),
        nulls => Err(Error::config(format!(
            "{nulls} of {} values are null (or do not fit), and {} has no value for that; use coalesce(…) in the SQL",
            cast.len(),
            wanted.name()
        ))),
    };
    fn floats<T: ArrowPrimitiveType>(column: &ArrayRef, missing: T::Native) -> Vec<T::Native> {
        let column = column.as_primitive::<T>();
        if column.null_count() == 0 {
            return column.values().to_vec();
        }
        column.iter().map(|value| value.unwrap_or(missing)).collect()
    }
    Ok(match wanted {
        RankerType::Float => Column::Float(floats::<Float32Type>(&as_type(&DataType::Float32)?, f32::NAN)),
        RankerType::Double => Column::Double(floats::<Float64Type>(&as_type(&DataType::Float64)?, f64::NAN)),
        RankerType::Int => {
            let column = as_type(&DataType::Int32)?;
            whole(&column)?;
            Column::Int(column.as_primitive::<Int32Type>().values().to_vec())
        }
        RankerType::Bigint => {
            let column = as_type(&DataType::Int64)?;
            whole(&column)?;
            Column::Bigint(column.as_primitive::<Int64Type>().values().to_vec())
        }
        RankerType::Boolean => {
            let column = as_type(&DataType::Boolean)?;
            whole(&column)?;
            Column::Boolean(column.as_boolean().values().iter().collect())
        }
    })
}
