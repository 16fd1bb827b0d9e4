//! A compiled model: columns of numbers in, one score a row out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::{
    Datum, DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, IntoTensor, TValue, TVec, Tensor,
    TractResult, TypedRunnableModel,
};

use super::graph::Graph;
use super::{column_ops, tree_ops};
use crate::config::RankerType;

/// A column of an input tensor, as the model takes it.
pub enum Column {
    Float(Vec<f32>),
    Double(Vec<f64>),
    Int(Vec<i32>),
    Bigint(Vec<i64>),
    Boolean(Vec<bool>),
}

impl Column {
    pub fn is_nan(&self, row: usize) -> bool {
        match self {
            Column::Float(values) => values[row].is_nan(),
            Column::Double(values) => values[row].is_nan(),
            Column::Int(_) | Column::Bigint(_) | Column::Boolean(_) => false,
        }
    }
}

/// One input tensor.
#[derive(Debug, Clone)]
pub struct Input {
    pub data_type: RankerType,
    pub columns: usize,
    /// `[rows]` in place of `[rows, columns]`.
    pub flat: bool,
}

/// A model ready to run, on any number of threads at once.
pub struct Model {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<Input>,
    /// Rows of one run. One number of rows for all runs, because other shapes may be computed by other kernels, which round
    /// differently.
    batch: usize,
    /// Columns of the output, and the one that is the score.
    width: usize,
    column: usize,
}

/// tract with our operators.
fn onnx() -> tract_onnx::Onnx {
    let mut onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    tree_ops::register(&mut onnx.op_register);
    column_ops::register(&mut onnx.op_register);
    onnx
}

/// Kinds of operators that cannot be run.
pub fn unsupported(graph: &Graph) -> Vec<String> {
    let onnx = onnx();
    let mut names: Vec<String> =
        graph.operators().filter(|name| !onnx.op_register.0.contains_key(*name)).map(str::to_string).collect();
    names.sort();
    names.dedup();
    names
}

impl Model {
    /// Compiles a reduced graph for runs of `batch` rows, and tries it on rows of zeros. `column` of the output is the score.
    pub fn compile(graph: &Graph, inputs: Vec<Input>, batch: usize, column: Option<usize>) -> Result<Model, String> {
        // a file may hold what tract does not expect; that must not end the job without a name
        let built = catch_unwind(AssertUnwindSafe(|| build(graph, &inputs, batch)));
        let plan = built.map_err(|_| "the model is damaged".to_string())?.map_err(|error| format!("{error:#}"))?;
        let mut model = Model { plan, inputs, batch, width: 1, column: 0 };
        let tried = catch_unwind(AssertUnwindSafe(|| model.run(&[], 0, 0)));
        let output = tried.map_err(|_| "the model is damaged".to_string())?.map_err(|error| format!("{error:#}"))?;
        let right = output.rank() <= 2 && output.len() > 0 && output.len().is_multiple_of(batch);
        let right = right && output.shape().first().is_none_or(|rows| *rows == batch);
        if !right {
            return Err(format!(
                "its output has the shape {:?} for {batch} rows, expected one row for each",
                output.shape()
            ));
        }
        model.width = output.len() / batch;
        model.column = match (column, model.width) {
            (Some(column), width) if column < width => column,
            (Some(column), width) => return Err(format!("column: found {column}, the output has {width} columns")),
            (None, 1) => 0,
            (None, 2) => 1,
            (None, width) => return Err(format!("the output has {width} columns; choose one with `column`")),
        };
        Ok(model)
    }

    /// The scores of `rows` rows. `columns` are those of all inputs, in order.
    pub fn score(&self, columns: &[Column], rows: usize) -> Result<Vec<f64>, String> {
        let mut scores = Vec::with_capacity(rows);
        for first in (0..rows).step_by(self.batch) {
            let taken = self.batch.min(rows - first);
            let output = self.run(columns, first, taken).and_then(|output| Ok(output.cast_to::<f64>()?.into_owned()));
            let output = output.map_err(|error| format!("{error:#}"))?;
            let values = output.try_as_plain_ram().map_err(|error| format!("{error:#}"))?;
            let values = values.as_slice::<f64>().map_err(|error| format!("{error:#}"))?;
            scores.extend((0..taken).map(|row| values[row * self.width + self.column]));
        }
        Ok(scores)
    }

    /// One run over `taken` rows from `first`; the rest of the batch is zeros.
    fn run(&self, columns: &[Column], first: usize, taken: usize) -> TractResult<Tensor> {
        let mut next = 0;
        let mut tensors = TVec::new();
        for input in &self.inputs {
            let own = columns.get(next..next + input.columns).unwrap_or_default();
            next += input.columns;
            macro_rules! tensor {
                ($kind:ident, $zero:expr) => {{
                    let mut values = vec![$zero; self.batch * input.columns];
                    for (at, column) in own.iter().enumerate() {
                        if let Column::$kind(column) = column {
                            for row in 0..taken {
                                values[row * input.columns + at] = column[first + row];
                            }
                        }
                    }
                    Tensor::from_shape(&shape(input, self.batch), &values)?
                }};
            }
            let tensor = match input.data_type {
                RankerType::Float => tensor!(Float, 0f32),
                RankerType::Double => tensor!(Double, 0f64),
                RankerType::Int => tensor!(Int, 0i32),
                RankerType::Bigint => tensor!(Bigint, 0i64),
                RankerType::Boolean => tensor!(Boolean, false),
            };
            tensors.push(TValue::from(tensor));
        }
        Ok(self.plan.run(tensors)?.remove(0).into_tensor())
    }
}

fn shape(input: &Input, batch: usize) -> TVec<usize> {
    if input.flat { TVec::from_slice(&[batch]) } else { TVec::from_slice(&[batch, input.columns]) }
}

fn build(graph: &Graph, inputs: &[Input], batch: usize) -> TractResult<Arc<TypedRunnableModel>> {
    let mut model = onnx().model_for_proto_model(&graph.proto)?;
    for (at, input) in inputs.iter().enumerate() {
        let datum = match input.data_type {
            RankerType::Float => f32::datum_type(),
            RankerType::Double => f64::datum_type(),
            RankerType::Int => i32::datum_type(),
            RankerType::Bigint => i64::datum_type(),
            RankerType::Boolean => DatumType::Bool,
        };
        model.set_input_fact(at, InferenceFact::dt_shape(datum, shape(input, batch)))?;
    }
    model.into_optimized()?.into_runnable()
}
