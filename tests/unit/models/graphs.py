"""Small ONNX graphs over three columns, as an exporter would write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

KINDS = {"float64": TensorProto.DOUBLE, "float32": TensorProto.FLOAT}


def graph(
    nodes: Sequence[Any],
    weights: Mapping[str, NDArray[Any]],
    *,
    kind: str = "float64",
    width: int = 3,
    rows: int | None = None,
    answers: str | None = None,
) -> Any:
    """From input `x` [rows, width] to output `y` [rows, 1]."""
    x = helper.make_tensor_value_info("x", KINDS[kind], [rows, width])
    y = helper.make_tensor_value_info("y", KINDS[answers or kind], [rows, 1])
    inside = [numpy_helper.from_array(np.asarray(w), name) for name, w in weights.items()]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], inside), opset_imports=opsets, ir_version=10)


def linear(kind: str = "float64", **changes: Any) -> Any:
    """0.5 a - 0.25 b + 0.1 c."""
    weights = {"w": np.array([[0.5], [-0.25], [0.1]], dtype=kind)}
    return graph([helper.make_node("MatMul", ["x", "w"], ["y"])], weights, kind=kind, **changes)


def network(kind: str = "float32", activation: str = "Tanh", hidden: int = 33) -> Any:
    """Two layers."""
    rng = np.random.default_rng(3)
    weights = {"a": rng.normal(size=(3, hidden)), "b": rng.normal(size=hidden), "c": rng.normal(size=(hidden, 1)) / hidden}
    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["h"]),
        helper.make_node(activation, ["h"], ["k"]),
        helper.make_node("MatMul", ["k", "c"], ["y"]),
    ]
    return graph(nodes, {n: w.astype(kind) for n, w in weights.items()}, kind=kind)


def tree(**changes: Any) -> Any:
    """One tree of two leaves over column a, NaN to the left, as TreeEnsembleRegressor; `changes` to its attributes."""
    attributes: dict[str, Any] = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.25, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "nodes_missing_value_tracks_true": [1, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [-0.5, 1.5],
        "n_targets": 1,
    }
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **(attributes | changes))
    return graph([node], {}, kind="float32")
