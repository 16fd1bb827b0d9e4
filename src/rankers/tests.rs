//! Models as scikit-learn, LightGBM, XGBoost and PyTorch export them, against what onnxruntime makes of the same rows. The files and
//! the script that wrote them lie in `tests/rankers/`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array};
use serde::Deserialize;

use super::*;
use crate::config::RankerInput;

/// What onnxruntime answered.
#[derive(Deserialize)]
struct Answer {
    inputs: Vec<Given>,
    output: String,
    column: usize,
    scores: Vec<f64>,
}

#[derive(Deserialize)]
struct Given {
    name: String,
    #[serde(rename = "type")]
    data_type: RankerType,
    flat: bool,
    columns: Vec<Vec<serde_json::Value>>,
}

impl Given {
    fn arrays(&self) -> Vec<ArrayRef> {
        let array = |column: &Vec<serde_json::Value>| match self.data_type {
            RankerType::Bigint => Arc::new(column.iter().map(|x| x.as_i64()).collect::<Int64Array>()) as ArrayRef,
            RankerType::Boolean => Arc::new(column.iter().map(|x| x.as_bool()).collect::<BooleanArray>()),
            _ => Arc::new(column.iter().map(|x| x.as_f64()).collect::<Float64Array>()),
        };
        self.columns.iter().map(array).collect()
    }
}

/// A model of `tests/rankers/`, its settings and its rows.
struct World {
    bytes: Vec<u8>,
    settings: config::Ranker,
    columns: Vec<ArrayRef>,
    scores: Vec<f64>,
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/rankers/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

impl World {
    fn new(model: &str) -> Self {
        let answer: Answer = serde_json::from_slice(&file(&format!("{model}.json"))).unwrap();
        let input = |given: &Given| RankerInput {
            data_type: given.data_type,
            columns: if given.flat { vec![] } else { (0..given.columns.len()).map(|at| format!("x{at}")).collect() },
        };
        let settings = config::Ranker {
            path: format!("{model}.onnx"),
            inputs: answer.inputs.iter().map(|given| (given.name.clone(), input(given))).collect(),
            output: Some(answer.output),
            column: Some(answer.column),
            batch_size: 1024,
        };
        let columns = answer.inputs.iter().flat_map(Given::arrays).collect();
        World { bytes: file(&format!("{model}.onnx")), settings, columns, scores: answer.scores }
    }

    fn with(mut self, change: impl FnOnce(&mut config::Ranker)) -> Self {
        change(&mut self.settings);
        self
    }

    fn ranker(&self) -> Result<Ranker> {
        Ranker::compile("my_ranker", &self.settings, "models/ranker.onnx", &self.bytes)
    }

    fn error(&self) -> String {
        self.ranker().map(|ranker| ranker.signature()).unwrap_err().to_string()
    }
}

fn models() -> Vec<String> {
    let folder = format!("{}/tests/rankers", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn every_model_scores_as_onnxruntime_does() {
    let mut worst = BTreeMap::new();
    for name in models() {
        let world = World::new(&name);
        let ranker = world.ranker().unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = ranker.score(&world.columns).unwrap_or_else(|error| panic!("{name}: {error}"));
        let differences = found
            .iter()
            .zip(&world.scores)
            .map(|(found, wanted)| (found.unwrap_or(f64::NAN) - wanted).abs() / wanted.abs().max(1.0));
        let most = differences.fold(0.0, |most: f64, one| if one.is_nan() { f64::NAN } else { most.max(one) });
        worst.insert(name, most);
    }
    assert!(worst.len() >= 18 && worst.values().all(|difference| *difference < 1e-5), "{worst:#?}");
}

#[test]
fn a_score_does_not_depend_on_the_rows_beside_it() {
    for name in models() {
        let world = World::new(&name).with(|settings| settings.batch_size = 32);
        let ranker = world.ranker().unwrap();
        let whole = ranker.score(&world.columns).unwrap();
        for rows in [1, 7, 32] {
            for first in (0..whole.len()).step_by(rows) {
                let rows = rows.min(whole.len() - first);
                let columns: Vec<ArrayRef> = world.columns.iter().map(|column| column.slice(first, rows)).collect();
                let part = ranker.score(&columns).unwrap();
                let bits = |scores: &Float64Array| scores.iter().map(|s| s.map(f64::to_bits)).collect::<Vec<_>>();
                assert_eq!(bits(&part), bits(&whole.slice(first, rows)), "{name}: {rows} rows from {first}");
            }
        }
    }
}

#[test]
fn the_score_is_found_without_being_named() {
    for (name, column) in [("sklearn_boosting", 1), ("lightgbm_classifier", 1), ("xgboost_regressor", 0)] {
        let world = World::new(name).with(|settings| (settings.output, settings.column) = (None, None));
        assert_eq!(World::new(name).settings.column, Some(column));
        let (named, found) = (World::new(name).ranker().unwrap(), world.ranker().unwrap());
        assert_eq!(found.score(&world.columns).unwrap(), named.score(&world.columns).unwrap(), "{name}");
    }
}

#[test]
fn a_score_that_is_no_number_is_null_and_a_null_integer_is_an_error() {
    // a dense model makes NaN of NaN, trees do not
    let world = World::new("torch_dense");
    let mut columns = world.columns.clone();
    let mut holes: Vec<Option<f64>> = vec![Some(0.5); columns[1].len()];
    holes[3] = None;
    columns[1] = Arc::new(Float64Array::from(holes));
    let scores = world.ranker().unwrap().score(&columns).unwrap();
    assert_eq!((0..scores.len()).filter(|row| scores.is_null(*row)).collect::<Vec<_>>(), [3]);

    let world = World::new("torch_named");
    let mut columns = world.columns.clone();
    columns[2] = Arc::new(Int64Array::from(vec![None; columns[2].len()]));
    let error = world.ranker().unwrap().score(&columns).unwrap_err().to_string();
    assert!(error.contains("64 of 64 values are null") && error.contains("argument `device`"), "{error}");
}

#[test]
fn what_does_not_fit_the_model_is_told_with_its_inputs() {
    let damaged = |model: &str, from: &[u8], to: &[u8]| {
        let mut world = World::new(model);
        while let Some(at) = world.bytes.windows(from.len()).position(|window| window == from) {
            world.bytes[at..at + from.len()].copy_from_slice(to);
        }
        world.error()
    };
    let renamed = |settings: &mut config::Ranker, name: &str| {
        let input = settings.inputs.pop().unwrap().1;
        settings.inputs.insert(name.into(), input);
    };
    let mut not_onnx = World::new("torch_dense");
    not_onnx.bytes = b"{\"model\": 1}".to_vec();
    let cases = [
        World::new("torch_dense").with(|s| renamed(s, "feature")).error(),
        World::new("torch_dense").with(|s| s.inputs[0].data_type = RankerType::Bigint).error(),
        World::new("torch_dense").with(|s| s.inputs[0].columns.truncate(3)).error(),
        World::new("torch_named").with(|s| drop(s.inputs.pop())).error(),
        World::new("torch_named").with(|s| s.inputs.move_index(0, 1)).error(),
        World::new("lightgbm_classifier").with(|s| s.output = Some("probability".into())).error(),
        World::new("xgboost_three_classes").with(|s| s.column = None).error(),
        World::new("lightgbm_ranker").with(|s| s.column = Some(1)).error(),
        not_onnx.error(),
        damaged("torch_dense", b"Sigmoid", b"Sigmoix"),
        damaged("by_hand_sum", b"BRANCH_GTE", b"BRANCH_IN!"),
    ];
    insta::assert_snapshot!(cases.join("\n"));
}

#[test]
fn trees_that_are_none_are_refused_before_they_are_walked() {
    let leaf =
        trees::Node { threshold: 0.0, feature: 0, yes: 0, no: 0, mode: trees::Mode::Leaf, missing_to_yes: false };
    let branch = |yes, no| trees::Node { yes, no, mode: trees::Mode::Leq, ..leaf };
    let roots =
        |nodes: &[trees::Node]| tree_ops::roots(nodes, &vec![0; nodes.len()]).map_err(|error| error.to_string());
    assert_eq!(roots(&[branch(1, 2), leaf, leaf]), Ok(vec![0]));
    assert_eq!(roots(&[branch(1, 1), leaf]), Ok(vec![0]));
    // two that lead to one, as a set of categories does
    assert_eq!(roots(&[branch(1, 2), branch(2, 3), leaf, leaf]), Ok(vec![0]));
    assert!(roots(&[branch(1, 2), branch(0, 2), leaf]).unwrap_err().contains("circle"));
    assert!(roots(&[branch(1, 3), branch(2, 3), branch(1, 3), leaf]).unwrap_err().contains("circle"));
    assert!(roots(&[branch(1, 2), leaf, leaf, leaf]).unwrap_err().contains("two roots"));
}
