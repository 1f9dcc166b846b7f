"""The tree operators of an ONNX graph, checked before ONNX Runtime walks them. Shell of `models.native_onnx`.

ONNX Runtime reads the column a node names from the row, and follows its branches, as the file says. Both operators'
nodes are held against the width of their input, and each node must be the child of one node: no way round.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from models.errors import UntrustedModel

TREE_OPERATORS: Final = frozenset({"TreeEnsembleRegressor", "TreeEnsemble"})


def check_trees(model: Any) -> None:
    """Refuse a model, its shapes inferred, with a tree operator or LinearRegressor that reads outside its arrays.

    Raises `UntrustedModel`; `KeyError`, `TypeError` or `ValueError` for parts that lack.
    """
    widths = {
        v.name: v.type.tensor_type.shape.dim[1].dim_value
        for v in (*model.graph.input, *model.graph.value_info)
        if len(v.type.tensor_type.shape.dim) == 2  # noqa: PLR2004 - rows and columns
    }
    for node in model.graph.node:
        attributes = {a.name: a for a in node.attribute}
        if node.op_type in TREE_OPERATORS or node.op_type == "LinearRegressor":
            width = widths.get(node.input[0], 0)
            if width < 1:
                raise _refused(f"the width of {node.op_type}'s input is not known from the graph")
            if node.op_type == "TreeEnsembleRegressor":
                _check_regressor(attributes, width)
            elif node.op_type == "TreeEnsemble":
                _check_ensemble(attributes, width)
            else:
                targets = attributes["targets"].i if "targets" in attributes else 1
                intercepts = len(attributes["intercepts"].floats) if "intercepts" in attributes else 0
                if len(attributes["coefficients"].floats) != targets * width or intercepts not in {0, targets}:
                    raise _refused(f"a LinearRegressor of {targets} targets has not {width} coefficients for each")


def _check_regressor(a: dict[str, Any], width: int) -> None:
    """`TreeEnsembleRegressor`: nodes named by (tree, node), branches by node of the same tree."""
    tree, node, feature, yes, no = (
        np.array(a[f"nodes_{k}"].ints, dtype=np.int64)
        for k in ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
    )
    leaf = np.array([m == b"LEAF" for m in a["nodes_modes"].strings])
    values = _numbers(a, "nodes_values")
    tracks = np.array(a["nodes_missing_value_tracks_true"].ints) if "nodes_missing_value_tracks_true" in a else tree
    if any(x.shape != tree.shape for x in (node, feature, yes, no, leaf, values, tracks)):
        raise _refused("a tree's parts differ in length")
    at = {key: i for i, key in enumerate(zip(tree.tolist(), node.tolist(), strict=True))}
    inner = np.flatnonzero(~leaf)
    children = [at.get((tree[i], b[i]), -1) for i in inner.tolist() for b in (yes, no)]
    roots = np.unique(tree, return_index=True)[1]
    once = len(at) == tree.size and len(set(children)) == len(children) and not set(children) & {-1, *roots.tolist()}
    if not once or not ((feature[inner] >= 0) & (feature[inner] < width)).all():
        raise _refused("a tree's nodes point outside it, or round in it")
    owner = zip(a["target_treeids"].ints, a["target_nodeids"].ints, strict=True)
    ids = np.array(a["target_ids"].ints, dtype=np.int64)
    known = [at.get(key, -1) for key in owner]
    if a["n_targets"].i != 1 or ids.any() or len(known) != ids.size or _numbers(a, "target_weights").size != ids.size:
        raise _refused("a tree answers for more than one target")
    if -1 in known or not leaf[known].all():
        raise _refused("a tree's answers stand at nodes that are no leaves")


def _check_ensemble(a: dict[str, Any], width: int) -> None:
    """`TreeEnsemble` (ai.onnx.ml 5): nodes and leaves named by their place."""
    feature, yes, no, yes_leaf, no_leaf = (
        np.array(a[f"nodes_{k}"].ints, dtype=np.int64)
        for k in ("featureids", "truenodeids", "falsenodeids", "trueleafs", "falseleafs")
    )
    roots, targets = (np.array(a[k].ints, dtype=np.int64) for k in ("tree_roots", "leaf_targetids"))
    same = all(x.shape == feature.shape for x in (yes, no, yes_leaf, no_leaf))
    sizes = [int(np.prod(a[k].t.dims)) for k in ("nodes_splits", "nodes_modes", "leaf_weights")]
    if not same or sizes != [feature.size, feature.size, targets.size] or a["n_targets"].i != 1 or targets.any():
        raise _refused("a tree's parts differ in length, or it answers for more than one target")
    to_node = np.concatenate([yes[yes_leaf == 0], no[no_leaf == 0]])
    to_leaf = np.concatenate([yes[yes_leaf != 0], no[no_leaf != 0]])
    inside = all(((i >= 0) & (i < n)).all() for i, n in ((to_node, feature.size), (roots, feature.size), (to_leaf, targets.size)))
    reached = np.concatenate([to_node, roots])
    if not inside or np.unique(reached).size != reached.size or not ((feature >= 0) & (feature < width)).all():
        raise _refused("a tree's nodes point outside it, or round in it")


def _numbers(a: dict[str, Any], name: str) -> Any:
    """The values of an attribute, float32, or float64 under its other name."""
    if name in a:
        return np.array(a[name].floats)
    return np.zeros(int(np.prod(a[f"{name}_as_tensor"].t.dims)))


def _refused(why: str) -> UntrustedModel:
    return UntrustedModel(f"the ONNX model is not loaded: {why}", check="model")
