//! An ONNX file before it is compiled: its inputs and outputs, and the part of the graph that one output needs.

use std::collections::HashSet;
use std::fmt;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use tract_onnx::prelude::Framework;

use crate::config::RankerType;

/// A tensor that goes in or comes out.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    pub name: String,
    /// `None` for maps, which are no tensors, and where the file does not say.
    pub data_type: Option<DataType>,
    /// Lengths of the axes; `None` for any, or where the file does not say.
    pub shape: Option<Vec<Option<usize>>>,
}

impl TensorInfo {
    fn of(info: &ValueInfoProto) -> Self {
        let Some(Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
            return TensorInfo { name: info.name.clone(), data_type: None, shape: None };
        };
        let length = |dim: &Option<Dim>| match dim {
            Some(Dim::DimValue(length)) => usize::try_from(*length).ok().filter(|length| *length > 0),
            _ => None,
        };
        TensorInfo {
            name: info.name.clone(),
            data_type: DataType::try_from(tensor.elem_type).ok(),
            shape: tensor.shape.as_ref().map(|shape| shape.dim.iter().map(|dim| length(&dim.value)).collect()),
        }
    }

    /// Its type in the config's words.
    pub fn ranker_type(&self) -> Option<RankerType> {
        Some(match self.data_type? {
            DataType::Float => RankerType::Float,
            DataType::Double => RankerType::Double,
            DataType::Int32 => RankerType::Int,
            DataType::Int64 => RankerType::Bigint,
            DataType::Bool => RankerType::Boolean,
            _ => return None,
        })
    }

    fn may_be_score(&self) -> bool {
        matches!(self.data_type, None | Some(DataType::Float | DataType::Double | DataType::Float16))
    }
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data_type = match (self.ranker_type(), self.data_type) {
            (Some(known), _) => known.name().to_string(),
            (None, Some(other)) => other.as_str_name().to_lowercase(),
            (None, None) => "maps".into(),
        };
        write!(f, "`{}` ({data_type}", self.name)?;
        if let Some(shape) = &self.shape {
            let axes = shape.iter().enumerate().map(|(at, length)| match (length, at) {
                (Some(length), _) => length.to_string(),
                (None, 0) => "rows".into(),
                (None, _) => "any".into(),
            });
            write!(f, " [{}]", axes.collect::<Vec<_>>().join(", "))?;
        }
        f.write_str(")")
    }
}

/// Tensors for people.
pub fn list(tensors: &[TensorInfo]) -> String {
    tensors.iter().map(TensorInfo::to_string).collect::<Vec<_>>().join(", ")
}

/// A parsed file.
pub struct Graph {
    pub proto: ModelProto,
    pub inputs: Vec<TensorInfo>,
    pub outputs: Vec<TensorInfo>,
}

impl Graph {
    /// `None` for bytes that are no ONNX model.
    pub fn parse(bytes: &[u8]) -> Option<Graph> {
        let proto = tract_onnx::onnx().proto_model_for_read(&mut &*bytes).ok()?;
        let graph = proto.graph.as_ref().filter(|graph| !graph.node.is_empty() && !graph.output.is_empty())?;
        let constant: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        let inputs = graph.input.iter().filter(|input| !constant.contains(input.name.as_str()));
        let inputs = inputs.map(TensorInfo::of).collect();
        let outputs = graph.output.iter().map(TensorInfo::of).collect();
        Some(Graph { proto, inputs, outputs })
    }

    /// The output that holds the score: the one named, or the only one that can.
    pub fn score_output(&self, named: Option<&str>) -> Result<String, String> {
        let there = list(&self.outputs);
        if let Some(name) = named {
            let found = self.outputs.iter().any(|output| output.name == name);
            let known = self.outputs.iter().map(|output| output.name.as_str());
            let near = crate::error::did_you_mean(name, known);
            return if found {
                Ok(name.into())
            } else {
                Err(format!("the model has no output `{name}`{near}; it has {there}"))
            };
        }
        let scores: Vec<&TensorInfo> = self.outputs.iter().filter(|output| output.may_be_score()).collect();
        match scores.as_slice() {
            [only] => Ok(only.name.clone()),
            _ => Err(format!("the model has {there}; name the one that holds the score")),
        }
    }

    /// Leaves only what `output` is computed from. A `ZipMap`, which makes maps of a matrix, is left out for its matrix.
    pub fn reduce_to(&mut self, output: &str) {
        let Some(graph) = self.proto.graph.as_mut() else { return };
        let made_by = |graph: &GraphProto, name: &str| {
            graph.node.iter().position(|node| node.output.iter().any(|output| output == name))
        };
        let mut name = output.to_string();
        while let Some(node) = made_by(graph, &name).map(|at| &graph.node[at]).filter(|node| node.op_type == "ZipMap") {
            let Some(matrix) = node.input.first() else { break };
            name = matrix.clone();
        }
        let mut needed = HashSet::from([name.clone()]);
        let mut kept = Vec::new();
        for node in std::mem::take(&mut graph.node).into_iter().rev() {
            if node.output.iter().any(|output| needed.contains(output)) {
                read_names(&node, &mut needed);
                kept.push(node);
            }
        }
        kept.reverse();
        graph.node = kept;
        graph.output = vec![ValueInfoProto { name, ..Default::default() }];
        graph.value_info.clear();
    }

    /// Whether some operator knows what to do with a value that is missing. Others would carry NaN along, or lose it in an
    /// approximation that cuts off at both ends.
    pub fn knows_missing(&self) -> bool {
        let known = ["TreeEnsembleRegressor", "TreeEnsembleClassifier", "Imputer", "IsNaN"];
        self.operators().any(|name| known.contains(&name))
    }

    /// Writes `Gemm` as products and sums where numbers are of 64 bits, which tract's own takes for 32.
    pub fn split_double_gemm(&mut self) {
        let double = self.inputs.iter().any(|input| input.data_type == Some(DataType::Double));
        let Some(graph) = self.proto.graph.as_mut().filter(|_| double) else { return };
        for node in std::mem::take(&mut graph.node) {
            let number = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
            let scaled = ["alpha", "beta"].iter().any(|name| number(name).is_some_and(|number| number.f != 1.0));
            let turned = |name: &str| number(name).is_some_and(|number| number.i != 0);
            if node.op_type != "Gemm" || scaled || turned("transA") || node.input.len() < 2 {
                graph.node.push(node);
                continue;
            }
            let mut add = |kind: &str, input: Vec<String>, output: String| {
                let name = output.clone();
                let node = NodeProto { name, op_type: kind.into(), input, output: vec![output], ..Default::default() };
                graph.node.push(node);
            };
            let output = node.output[0].clone();
            let mut right = node.input[1].clone();
            if turned("transB") {
                let flipped = format!("{output}.right");
                add("Transpose", vec![right], flipped.clone());
                right = flipped;
            }
            let factors = vec![node.input[0].clone(), right];
            match node.input.get(2).filter(|name| !name.is_empty()) {
                Some(bias) => {
                    let product = format!("{output}.product");
                    add("MatMul", factors, product.clone());
                    add("Add", vec![product, bias.clone()], output);
                }
                None => add("MatMul", factors, output),
            }
        }
    }

    /// Operators of the graph, by the name of their kind.
    pub fn operators(&self) -> impl Iterator<Item = &str> {
        self.proto.graph.iter().flat_map(|graph| graph.node.iter().map(|node| node.op_type.as_str()))
    }
}

/// What a node reads, also in the graphs within it.
fn read_names(node: &NodeProto, names: &mut HashSet<String>) {
    names.extend(node.input.iter().filter(|name| !name.is_empty()).cloned());
    for inner in node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
        inner.node.iter().for_each(|node| read_names(node, names));
        names.extend(inner.output.iter().map(|output| output.name.clone()));
    }
}
