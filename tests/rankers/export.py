"""Makes the models that tests/rankers.rs scores: each NAME.onnx beside NAME.json, which holds rows and what onnxruntime makes of them.

    python3 -m venv venv && venv/bin/pip install -r tests/rankers/requirements.txt
    venv/bin/python tests/rankers/export.py

Libraries of other versions write other files; the scores beside them stay those of the same file.
"""

import json
import pathlib
import warnings

import lightgbm
import numpy as np
import onnx
import onnxmltools
import onnxruntime
import torch
import xgboost
from onnx import TensorProto, helper
from onnxmltools.convert.common.data_types import FloatTensorType as OnnxFloats
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

warnings.filterwarnings("ignore")
FOLDER = pathlib.Path(__file__).parent
RANDOM = np.random.default_rng(17)
ROWS, FEATURES = 600, 4

X = RANDOM.normal(size=(ROWS, FEATURES)).astype(np.float32)
X[:, 1] = np.round(np.abs(X[:, 1]) * 3)
HIDDEN = X[:, 0] * 1.5 - 0.4 * X[:, 1] + np.sin(X[:, 2] * 2) * X[:, 3]
CLICKED = (HIDDEN + RANDOM.normal(size=ROWS) * 0.3 > 0).astype(np.int64)
GRADE = np.digitize(HIDDEN, [-0.7, 0.4])
HOLES = X.copy()
HOLES[RANDOM.random(X.shape) < 0.2] = np.nan

TYPES = {np.float32: "float", np.float64: "double", np.int64: "bigint", np.int32: "int", np.bool_: "boolean"}


def numbers(array):
    return [None if np.isnan(x) else float(x) for x in array] if array.dtype.kind == "f" else array.tolist()


def keep(name, model, feeds, output, column=0):
    """Writes a model, and what onnxruntime answers on `feeds`, the input arrays by name."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    (FOLDER / f"{name}.onnx").write_bytes(data)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found = session.run([output], feeds)[0]
    if isinstance(found, list):  # a ZipMap's maps
        found = np.array([[row[label] for label in sorted(row)] for row in found])
    scores = found.reshape(len(found), -1)[:, column]
    inputs = [
        {"name": key, "type": TYPES[array.dtype.type], "flat": array.ndim == 1,
         "columns": [numbers(column) for column in array.reshape(len(array), -1).T]}
        for key, array in feeds.items()
    ]
    answer = {"inputs": inputs, "output": output, "column": column, "scores": numbers(scores)}
    (FOLDER / f"{name}.json").write_text(json.dumps(answer) + "\n")
    print(f"{name}: {len(data)} bytes, {len(scores)} rows, scores {scores.min():.3f} to {scores.max():.3f}")


def sklearn():
    shape = [("features", FloatTensorType([None, FEATURES]))]
    opset = {"": 17, "ai.onnx.ml": 3}
    rows = X[:64]

    boosted = GradientBoostingClassifier(n_estimators=12, max_depth=3, random_state=1).fit(X, CLICKED)
    keep("sklearn_boosting", to_onnx(boosted, initial_types=shape, target_opset=opset), {"features": rows}, "output_probability", 1)

    voters = RandomForestClassifier(n_estimators=6, max_depth=4, random_state=1).fit(X, CLICKED)
    keep("sklearn_forest", to_onnx(voters, initial_types=shape, target_opset=opset), {"features": rows}, "output_probability", 1)

    forest = RandomForestRegressor(n_estimators=6, max_depth=4, random_state=1).fit(X, HIDDEN)
    keep("sklearn_forest_regressor", to_onnx(forest, initial_types=shape, target_opset=opset), {"features": rows}, "variable")

    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()).fit(HOLES, CLICKED)
    keep("sklearn_pipeline", to_onnx(pipeline, initial_types=shape, target_opset=opset, options={"zipmap": False}),
         {"features": HOLES[:64]}, "probabilities", 1)

    mlp = MLPClassifier((8,), max_iter=300, random_state=1).fit(X, CLICKED)
    keep("sklearn_mlp", to_onnx(mlp, initial_types=shape, target_opset=opset), {"features": rows}, "output_probability", 1)


def boosters():
    shape = [("input", OnnxFloats([None, FEATURES]))]
    rows = HOLES[:64]
    small = {"n_estimators": 12, "max_depth": 4, "random_state": 1, "n_jobs": 1}
    light = small | {"num_leaves": 12, "verbose": -1}

    def lightgbm_model(model):
        return onnxmltools.convert_lightgbm(model, initial_types=shape, target_opset=15)

    def xgboost_model(model):
        return onnxmltools.convert_xgboost(model, initial_types=shape, target_opset=15)

    classifier = lightgbm.LGBMClassifier(**light).fit(HOLES, CLICKED)
    keep("lightgbm_classifier", lightgbm_model(classifier), {"input": rows}, "probabilities", 1)
    regressor = lightgbm.LGBMRegressor(**light).fit(HOLES, HIDDEN)
    keep("lightgbm_regressor", lightgbm_model(regressor), {"input": rows}, "variable")
    ranker = lightgbm.LGBMRanker(**light).fit(HOLES, GRADE, group=[20] * (ROWS // 20))
    keep("lightgbm_ranker", lightgbm_model(ranker), {"input": rows}, "variable")
    # sets of categories: a chain of comparisons with one child in common
    wanted = np.isin(X[:, 1], [1, 4, 6]) * HIDDEN
    categories = lightgbm.LGBMRegressor(**light, min_data_per_group=1, cat_smooth=0).fit(X, wanted, categorical_feature=[1])
    keep("lightgbm_categories", lightgbm_model(categories), {"input": X[:64]}, "variable")

    classifier = xgboost.XGBClassifier(**small).fit(HOLES, CLICKED)
    keep("xgboost_classifier", xgboost_model(classifier), {"input": rows}, "probabilities", 1)
    grades = xgboost.XGBClassifier(**(small | {"n_estimators": 5})).fit(HOLES, GRADE)
    keep("xgboost_three_classes", xgboost_model(grades), {"input": rows}, "probabilities", 2)
    regressor = xgboost.XGBRegressor(**small).fit(HOLES, HIDDEN)
    keep("xgboost_regressor", xgboost_model(regressor), {"input": rows}, "variable")


class Dense(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(FEATURES, 16), torch.nn.GELU(), torch.nn.LayerNorm(16), torch.nn.Linear(16, 1), torch.nn.Sigmoid()
        )

    def forward(self, features):
        return self.layers(features)


class Named(torch.nn.Module):
    """Several inputs: two numbers a row, an id, a flag."""

    def __init__(self):
        super().__init__()
        self.ids = torch.nn.Embedding(10, 3)
        self.out = torch.nn.Linear(6, 1)

    def forward(self, numbers, device, member):
        joined = torch.cat([numbers, self.ids(device), member.to(torch.float32).unsqueeze(1)], dim=1)
        return torch.relu(self.out(joined)).squeeze(1)


def pytorch():
    torch.manual_seed(1)

    def export(model, arguments, names):
        path = FOLDER / "export.tmp"
        batch = {name: {0: "batch"} for name in names}
        torch.onnx.export(model.eval(), arguments, path, input_names=names, output_names=["score"], dynamic_axes=batch,
                          opset_version=17, dynamo=False)
        data = path.read_bytes()
        path.unlink()
        return data

    rows = X[:64]
    keep("torch_dense", export(Dense(), (torch.tensor(rows),), ["features"]), {"features": rows}, "score")
    wide = rows.astype(np.float64)
    plain = torch.nn.Sequential(torch.nn.Linear(FEATURES, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()
    keep("torch_double", export(plain, (torch.tensor(wide),), ["features"]), {"features": wide}, "score", 1)
    device = RANDOM.integers(0, 10, 64)
    member = RANDOM.random(64) < 0.5
    names = ["numbers", "device", "member"]
    feeds = dict(zip(names, [rows[:, :2].copy(), device, member]))
    keep("torch_named", export(Named(), tuple(torch.tensor(feeds[name]) for name in names), names), feeds, "score")


def by_hand():
    """What no exporter writes: every comparison, every aggregate, several targets, missing values both ways."""
    rows = np.array([[x, y] for x in [-1, 0.5, 1, 2, np.nan] for y in [0, 1, 3, np.nan]], np.float32)
    modes = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
    columns = {key: [] for key in ["treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids",
                                   "missing_value_tracks_true"]}
    leaves = []
    for tree, mode in enumerate(modes):
        # a root, a branch below it, three leaves
        for node in range(5):
            branch = node in (0, 1)
            columns["treeids"].append(tree)
            columns["nodeids"].append(node)
            columns["featureids"].append(node if branch else 0)
            columns["values"].append(1.0 if branch else 0.0)
            columns["modes"].append(mode if branch else "LEAF")
            columns["truenodeids"].append({0: 1, 1: 2}.get(node, 0))
            columns["falsenodeids"].append({0: 4, 1: 3}.get(node, 0))
            columns["missing_value_tracks_true"].append((tree + node) % 2 if branch else 0)
            if not branch:
                leaves += [(tree, node, target, float(np.round(RANDOM.normal(), 3))) for target in range(2)]

    def model(aggregate, transform, base):
        trees, nodes, ids, weights = zip(*leaves)
        operator = helper.make_node(
            "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=2, aggregate_function=aggregate, post_transform=transform,
            target_treeids=trees, target_nodeids=nodes, target_ids=ids, target_weights=weights,
            **({"base_values": base} if base else {}), **{f"nodes_{key}": value for key, value in columns.items()})
        graph = helper.make_graph([operator], "trees", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
        return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)

    for aggregate, transform, base in [("SUM", "LOGISTIC", [0.25, -0.5]), ("AVERAGE", "SOFTMAX", [0.1, 0.2]),
                                       ("MIN", "NONE", [1.0, 2.0]), ("MAX", "SOFTMAX_ZERO", None)]:
        keep(f"by_hand_{aggregate.lower()}", model(aggregate, transform, base), {"x": rows}, "y", 1)


if __name__ == "__main__":
    sklearn()
    boosters()
    pytorch()
    by_hand()
