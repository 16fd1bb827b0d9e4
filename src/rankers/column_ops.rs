//! Operators that scikit-learn's pipelines put before a model and tract lacks: `Scaler` and `Imputer`. Both change each column by
//! itself.

use std::sync::Arc;

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

pub fn register(operators: &mut OnnxOpRegister) {
    operators.insert("Scaler", scaler);
    operators.insert("Imputer", imputer);
}

/// What becomes of a value of a column. Lists hold one number for all columns or one for each.
#[derive(Debug, Clone, PartialEq)]
enum Change {
    /// (x - offset) * scale
    Scale { offset: Vec<f32>, scale: Vec<f32> },
    /// The missing value becomes that of its column; NaN is equal to itself here.
    Impute { missing: f32, with: Vec<f32> },
}

type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

fn scaler(_: &ParsingContext, node: &NodeProto) -> Built {
    let list = |name: &str, default: f32| -> TractResult<Vec<f32>> {
        Ok(node.get_attr_opt_slice::<f32>(name)?.map_or_else(|| vec![default], <[f32]>::to_vec))
    };
    let change = Change::Scale { offset: list("offset", 0.0)?, scale: list("scale", 1.0)? };
    Ok((expand(Columns(Arc::new(change))), vec![]))
}

fn imputer(_: &ParsingContext, node: &NodeProto) -> Built {
    let Some(with) = node.get_attr_opt_slice::<f32>("imputed_value_floats")? else {
        bail!("an Imputer of integers is not supported; cast its input to floating point numbers");
    };
    let missing = node.get_attr_opt::<f32>("replaced_value_float")?.unwrap_or(0.0);
    Ok((expand(Columns(Arc::new(Change::Impute { missing, with: with.to_vec() }))), vec![]))
}

impl Change {
    fn lists(&self) -> [&Vec<f32>; 2] {
        match self {
            Change::Scale { offset, scale } => [offset, scale],
            Change::Impute { with, .. } => [with, with],
        }
    }

    fn apply(&self, values: &mut [f32], columns: usize) {
        let at = |list: &[f32], column: usize| if list.len() == 1 { list[0] } else { list[column] };
        for row in values.chunks_mut(columns.max(1)) {
            for (column, value) in row.iter_mut().enumerate() {
                match self {
                    Change::Scale { offset, scale } => *value = (*value - at(offset, column)) * at(scale, column),
                    Change::Impute { missing, with } => {
                        if *value == *missing || (value.is_nan() && missing.is_nan()) {
                            *value = at(with, column);
                        }
                    }
                }
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Columns(Arc<Change>);

impl Eq for Columns {}

impl Expansion for Columns {
    fn name(&self) -> StaticName {
        "Columns".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].rank, 2)?;
        s.equals(&outputs[0].datum_type, f32::datum_type())?;
        s.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        if let Some(columns) = model.outlet_fact(inputs[0])?.shape.get(1).and_then(|dim| dim.to_usize().ok()) {
            for list in self.0.lists() {
                let right = list.len() == 1 || list.len() == columns;
                ensure!(right, "the operator has {} numbers for {columns} columns", list.len());
            }
        }
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for Columns {
    fn name(&self) -> StaticName {
        "Columns".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Columns {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let shape = input.shape().to_vec();
        let mut values = input.cast_to::<f32>()?.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        self.0.apply(&mut values, shape[1]);
        Ok(tvec!(Tensor::from_shape(&shape, &values)?.into_tvalue()))
    }
}

impl TypedOp for Columns {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::datum_type().fact(inputs[0].shape.clone())))
    }

    as_op!();
}
