"""Trees in ONNX Runtime: the double-precision TreeEnsemble of ai.onnx.ml 5. Shell.

Converters for LightGBM write thresholds and leaves as float32 and are some 1e-7 off. TreeEnsemble keeps float64, and
ONNX Runtime on one thread adds the trees in order, so answers have the bits of ``Booster.predict``. The graph is made
here, from checked trees: no ONNX file is read, no code is generated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.forest import Tree
    from models.handle import Predict

_OPSETS: Final = (("", 21), ("ai.onnx.ml", 5))
_IR_VERSION: Final = 10
_SUM, _AS_IT_IS, _LESS_OR_EQUAL = 1, 0, 0


def onnx_predict(trees: Sequence[Tree], *, columns: int) -> Predict:
    """A predict on one thread. Raises `ImportError` where the packages are not installed."""
    from models.onnx_session import session as open_session

    session = open_session(_graph(trees, columns))

    def predict(values: NDArray[np.float64]) -> NDArray[np.float64]:
        (answers,) = session.run(None, {"x": np.ascontiguousarray(values)})
        return np.asarray(answers, dtype=np.float64).reshape(-1)

    return predict


def _graph(trees: Sequence[Tree], columns: int) -> bytes:
    """The ONNX model: one TreeEnsemble node, float64[rows, columns] to float64[rows, 1]."""
    from onnx import TensorProto, helper, numpy_helper

    trees = [_rooted(t) for t in trees]
    first_node = np.cumsum([0, *(t.feature.size for t in trees)])
    first_leaf = np.cumsum([0, *(t.leaf_value.size for t in trees)])
    left, right = (
        np.concatenate([np.where(c >= 0, c + n, ~c + k) for c, n, k in zip(children, first_node, first_leaf, strict=False)])
        for children in ([t.left for t in trees], [t.right for t in trees])
    )
    left_is_leaf, right_is_leaf = (np.concatenate(c) < 0 for c in ([t.left for t in trees], [t.right for t in trees]))
    threshold = np.concatenate([t.threshold for t in trees])
    leaf_value = np.concatenate([t.leaf_value for t in trees])
    node = helper.make_node(
        "TreeEnsemble",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function=_SUM,
        post_transform=_AS_IT_IS,
        tree_roots=first_node[:-1].tolist(),
        nodes_featureids=np.concatenate([t.feature for t in trees]).tolist(),
        nodes_splits=numpy_helper.from_array(threshold),
        nodes_modes=numpy_helper.from_array(np.full(threshold.size, _LESS_OR_EQUAL, dtype=np.uint8)),
        nodes_truenodeids=left.tolist(),
        nodes_trueleafs=left_is_leaf.astype(int).tolist(),
        nodes_falsenodeids=right.tolist(),
        nodes_falseleafs=right_is_leaf.astype(int).tolist(),
        nodes_missing_value_tracks_true=np.concatenate([t.missing_left for t in trees]).astype(int).tolist(),
        leaf_targetids=[0] * leaf_value.size,
        leaf_weights=numpy_helper.from_array(leaf_value),
    )
    inputs = [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, columns])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [None, 1])]
    opsets = [helper.make_opsetid(domain, number) for domain, number in _OPSETS]
    graph = helper.make_graph([node], "forest", inputs, outputs)
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION).SerializeToString())


def _rooted(tree: Tree) -> Tree:
    """The tree; one of a single leaf gets a node whose both branches lead there, as ONNX roots are nodes."""
    if tree.feature.size:
        return tree
    zero, leaf = np.zeros(1, dtype=np.int64), np.full(1, ~0)
    return replace(tree, feature=zero, threshold=np.zeros(1), missing_left=np.zeros(1, dtype=np.bool_), left=leaf, right=leaf)
