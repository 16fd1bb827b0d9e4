//! The tree operators of ONNX: attributes to an [`Ensemble`], and the ensemble as an operator of tract, which lacks the regressor.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::tract_hir::internal::*;

use super::trees::{Aggregate, Ensemble, Mode, Node, Output, Transform};

pub fn register(operators: &mut OnnxOpRegister) {
    operators.insert("TreeEnsembleRegressor", regressor);
    operators.insert("TreeEnsembleClassifier", classifier);
}

type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

fn regressor(context: &ParsingContext, node: &NodeProto) -> Built {
    let targets: usize = node.get_attr("n_targets")?;
    let aggregate = match node.get_attr_opt::<&str>("aggregate_function")?.unwrap_or("SUM") {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => bail!("aggregate_function {other} is not one of SUM, AVERAGE, MIN, MAX"),
    };
    let trees = ensemble(context, node, "target", targets, aggregate)?;
    Ok((expand(Trees { trees: Arc::new(trees), labels: None }), vec![]))
}

fn classifier(context: &ParsingContext, node: &NodeProto) -> Built {
    let integers = node.get_attr_opt_slice::<i64>("classlabels_int64s")?.map(rctensor1);
    let texts = node.get_attr_opt_tvec::<String>("classlabels_strings")?.map(|labels| rctensor1(&labels));
    let labels = match integers.filter(|labels| labels.len() > 0).or(texts.filter(|labels| labels.len() > 0)) {
        Some(labels) => labels,
        None => bail!("neither classlabels_int64s nor classlabels_strings is there"),
    };
    let mut trees = ensemble(context, node, "class", labels.len(), Aggregate::Sum)?;
    trees.output = Output::Classes;
    if labels.len() <= 2 && trees.leaves.iter().all(|(class, _)| *class == 0) {
        let all_positive = trees.leaves.iter().all(|(_, weight)| *weight >= 0.0);
        (trees.targets, trees.output) = (1, Output::OneScoreForTwo { all_positive });
        // exporters write one base value for each class, and mean that of the score
        trees.base.truncate(1);
    }
    Ok((expand(Trees { trees: Arc::new(trees), labels: Some(labels) }), vec![]))
}

/// An attribute that is a list of 32-bit numbers, or a tensor of 64-bit ones under another name.
fn numbers(context: &ParsingContext, node: &NodeProto, name: &str) -> TractResult<Option<Vec<f64>>> {
    if let Some(tensor) = node.get_attr_opt::<&TensorProto>(&format!("{name}_as_tensor"))? {
        let tensor = context.load_tensor(tensor)?.cast_to::<f64>()?.into_owned();
        return Ok(Some(tensor.to_plain_array_view::<f64>()?.iter().copied().collect()));
    }
    Ok(node.get_attr_opt_slice::<f32>(name)?.map(|values| values.iter().map(|value| f64::from(*value)).collect()))
}

fn ensemble(
    context: &ParsingContext,
    node: &NodeProto,
    leaf: &str,
    targets: usize,
    aggregate: Aggregate,
) -> TractResult<Ensemble> {
    let modes: TVec<&str> = node.get_attr_tvec("nodes_modes")?;
    let count = modes.len();
    let integers = |name: &str| -> TractResult<&[i64]> {
        let values = node.get_attr_slice::<i64>(name)?;
        ensure!(values.len() == count, "attribute {name} has {} values, expected {count}", values.len());
        Ok(values)
    };
    let (tree_ids, node_ids) = (integers("nodes_treeids")?, integers("nodes_nodeids")?);
    let (yes_ids, no_ids) = (integers("nodes_truenodeids")?, integers("nodes_falsenodeids")?);
    let features = integers("nodes_featureids")?;
    let thresholds = numbers(context, node, "nodes_values")?.unwrap_or_default();
    ensure!(thresholds.len() == count, "attribute nodes_values has {} values, expected {count}", thresholds.len());
    let missing = match node.get_attr_opt_slice::<i64>("nodes_missing_value_tracks_true")?.filter(|m| !m.is_empty()) {
        Some(missing) => {
            ensure!(missing.len() == count, "nodes_missing_value_tracks_true has {} values", missing.len());
            missing.to_vec()
        }
        None => vec![0; count],
    };

    let mut places = HashMap::with_capacity(count);
    for (at, id) in tree_ids.iter().copied().zip(node_ids.iter().copied()).enumerate() {
        ensure!(places.insert(id, at as u32).is_none(), "node {} of tree {} is there twice", id.1, id.0);
    }
    let (weights_of, leaves) = leaf_weights(context, node, leaf, targets, &places)?;
    let mut nodes = Vec::with_capacity(count);
    for at in 0..count {
        let mode = Mode::of(modes[at]).with_context(|| format!("nodes_modes holds {}", modes[at]))?;
        let child = |id: i64| match places.get(&(tree_ids[at], id)) {
            Some(place) => Ok(*place),
            None => bail!("node {} of tree {} leads to node {id}, which is not there", node_ids[at], tree_ids[at]),
        };
        let (yes, no) = match mode {
            Mode::Leaf => weights_of[at],
            _ => (child(yes_ids[at])?, child(no_ids[at])?),
        };
        ensure!(features[at] >= 0, "nodes_featureids holds {}", features[at]);
        let missing_to_yes = missing[at] != 0;
        nodes.push(Node { threshold: thresholds[at], feature: features[at] as u32, yes, no, mode, missing_to_yes });
    }
    let roots = roots(&nodes, tree_ids)?;
    let branches = nodes.iter().filter(|node| node.mode != Mode::Leaf);
    let features = branches.map(|node| node.feature as usize + 1).max().unwrap_or(0);
    let transform = match node.get_attr_opt::<&str>("post_transform")?.unwrap_or("NONE") {
        "NONE" => Transform::None,
        "LOGISTIC" => Transform::Logistic,
        "SOFTMAX" => Transform::Softmax,
        "SOFTMAX_ZERO" => Transform::SoftmaxZero,
        "PROBIT" => Transform::Probit,
        other => bail!("post_transform {other} is not one of NONE, LOGISTIC, SOFTMAX, SOFTMAX_ZERO, PROBIT"),
    };
    let base = numbers(context, node, "base_values")?.unwrap_or_default();
    let right = base.is_empty() || base.len() == targets || (leaf == "class" && base.len() == 1);
    ensure!(right, "base_values has {} values for {targets} targets", base.len());
    Ok(Ensemble { nodes, roots, leaves, targets, base, aggregate, transform, output: Output::Targets, features })
}

type Weights = (Vec<(u32, u32)>, Vec<(u32, f64)>);

/// The leaves' weights, those of one node side by side, and where each node's lie.
fn leaf_weights(
    context: &ParsingContext,
    node: &NodeProto,
    leaf: &str,
    targets: usize,
    places: &HashMap<(i64, i64), u32>,
) -> TractResult<Weights> {
    let list = |name: &str| node.get_attr_slice::<i64>(&format!("{leaf}_{name}"));
    let (trees, nodes, ids) = (list("treeids")?, list("nodeids")?, list("ids")?);
    let weights = numbers(context, node, &format!("{leaf}_weights"))?.unwrap_or_default();
    let equal = trees.len() == ids.len() && nodes.len() == ids.len() && weights.len() == ids.len();
    ensure!(equal, "the attributes {leaf}_treeids, _nodeids, _ids and _weights differ in length");
    let mut found = Vec::with_capacity(ids.len());
    for (at, target) in ids.iter().enumerate() {
        let place = places.get(&(trees[at], nodes[at]));
        let place = place.with_context(|| format!("{leaf}_nodeids names node {} of tree {}", nodes[at], trees[at]))?;
        ensure!((0..targets as i64).contains(target), "{leaf}_ids holds {target}, expected below {targets}");
        found.push((*place, *target as u32, weights[at]));
    }
    found.sort_by_key(|(place, ..)| *place);
    let mut of = vec![(0, 0); places.len()];
    for (at, (place, ..)) in found.iter().enumerate() {
        let (from, to) = &mut of[*place as usize];
        if *to == 0 {
            *from = at as u32;
        }
        *to = at as u32 + 1;
    }
    Ok((of, found.into_iter().map(|(_, target, weight)| (target, weight)).collect()))
}

/// The one node of each tree that none leads to, in the order of the file. Refuses ways in a circle. Several nodes may lead to one: exporters
/// write a set of categories as a chain of comparisons with one child in common.
pub(super) fn roots(nodes: &[Node], tree_ids: &[i64]) -> TractResult<Vec<u32>> {
    let children = |at: u32| {
        let node = &nodes[at as usize];
        [node.yes, node.no].into_iter().filter(|_| node.mode != Mode::Leaf)
    };
    let mut parents = vec![0u32; nodes.len()];
    (0..nodes.len() as u32).flat_map(children).for_each(|child| parents[child as usize] += 1);
    let mut roots = Vec::new();
    let mut seen = HashMap::new();
    for (at, tree) in tree_ids.iter().enumerate().filter(|(at, _)| parents[*at] == 0) {
        ensure!(seen.insert(*tree, at).is_none(), "tree {tree} has two roots");
        roots.push(at as u32);
    }
    let trees: std::collections::HashSet<i64> = tree_ids.iter().copied().collect();
    // a node is reached when all that lead to it are; one on a circle never is
    let mut reached = roots.clone();
    let mut next = 0;
    while next < reached.len() {
        for child in children(reached[next]) {
            parents[child as usize] -= 1;
            if parents[child as usize] == 0 {
                reached.push(child);
            }
        }
        next += 1;
    }
    ensure!(reached.len() == nodes.len() && roots.len() == trees.len(), "the nodes are no trees: a way is a circle");
    Ok(roots)
}

/// The operator: scores for a regressor; labels and scores for a classifier.
#[derive(Debug, Clone)]
struct Trees {
    trees: Arc<Ensemble>,
    labels: Option<Arc<Tensor>>,
}

impl Expansion for Trees {
    fn name(&self) -> StaticName {
        "TreeEnsemble".into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(1 + usize::from(self.labels.is_some()))
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        s.equals(&inputs[0].rank, 2)?;
        let scores = &outputs[outputs.len() - 1];
        if let (Some(labels), [first, _]) = (&self.labels, outputs) {
            s.equals(&first.datum_type, labels.datum_type())?;
            s.equals(&first.rank, 1)?;
            s.equals(&first.shape[0], &inputs[0].shape[0])?;
        }
        s.equals(&scores.datum_type, f32::datum_type())?;
        s.equals(&scores.rank, 2)?;
        s.equals(&scores.shape[0], &inputs[0].shape[0])?;
        s.equals(&scores.shape[1], self.trees.width().to_dim())
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?;
        if let Some(features) = fact.shape.get(1).and_then(|dim| dim.to_usize().ok()) {
            ensure!(
                features >= self.trees.features,
                "the trees look at {} features, the model's input gives them {features}",
                self.trees.features
            );
        }
        let walk = Walk(self.trees.clone());
        let scores = model.wire_node(format!("{prefix}.scores"), walk, inputs)?;
        let Some(labels) = &self.labels else { return Ok(scores) };
        let best = tract_onnx::tract_core::ops::nn::Reduce::new(
            tvec!(1),
            tract_onnx::tract_core::ops::nn::Reducer::ArgMax(false),
        );
        let best = model.wire_node(format!("{prefix}.best"), best, &scores)?;
        let best = model.wire_node(format!("{prefix}.flat"), AxisOp::Rm(1), &best)?;
        let labels = model.add_const(format!("{prefix}.names"), labels.clone())?;
        let named = tract_onnx::tract_core::ops::array::Gather::new(0);
        let named = model.wire_node(format!("{prefix}.labels"), named, &[labels, best[0]])?;
        Ok(tvec!(named[0], scores[0]))
    }
}

/// The walk through the trees.
#[derive(Debug, Clone)]
struct Walk(Arc<Ensemble>);

impl PartialEq for Walk {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Walk {}

impl Hash for Walk {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.0) as usize).hash(state);
    }
}

impl Op for Walk {
    fn name(&self) -> StaticName {
        "TreeEnsemble".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Walk {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        ensure!(input.rank() == 2, "trees take a matrix, found {} axes", input.rank());
        let (rows, features) = (input.shape()[0], input.shape()[1]);
        ensure!(features >= self.0.features, "the trees look at {} features, found {features}", self.0.features);
        let scores = match input.datum_type() {
            DatumType::F64 => self.0.score(input.try_as_plain_ram()?.as_slice::<f64>()?, features),
            _ => self.0.score(input.cast_to::<f32>()?.try_as_plain_ram()?.as_slice::<f32>()?, features),
        };
        Ok(tvec!(Tensor::from_shape(&[rows, self.0.width()], &scores)?.into_tvalue()))
    }
}

impl TypedOp for Walk {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shape = [inputs[0].shape[0].clone(), self.0.width().to_dim()];
        Ok(tvec!(f32::fact(&shape)))
    }

    as_op!();
}
