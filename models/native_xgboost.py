"""XGBoost models as JSON or UBJSON: read as data, checked tree by tree, answered on one thread. Shell.

XGBoost computes in float32: a value is rounded to the nearest float32 before it meets a threshold, and an answer is a
float32 (7 digits), here widened to float64. NaN is XGBoost's missing. A row walks the trees in their order whatever
batch it is in, so its answer has the same bits alone; that holds for the booster `gbtree`, the only one served (`dart`
weighs its trees otherwise in the fast predict than in the slow one, and `gblinear` has no fast one).

The library follows a tree's nodes wherever they point, and a file's lengths wherever they end (`models.ubjson`), so the file
is read and its trees are checked before XGBoost sees it, and once more as XGBoost has them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models import ubjson
from models.errors import SpecError, UntrustedModel
from models.loaders import NativeModel

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


_PARTS: Final = ("split_conditions", "default_left", "split_type", "base_weights", "loss_changes", "sum_hessian", "parents")

_NO_PARENT: Final = (1 << 31) - 1


def load_xgboost(file: Path, *, columns: int) -> NativeModel:
    """An XGBoost model file. Raises `UntrustedModel`, `SpecError`, and `ImportError` where XGBoost is not installed."""
    from xgboost import Booster
    from xgboost.core import XGBoostError

    data = file.read_bytes()
    if not data.startswith(b"{"):
        raise _refused("it is neither JSON nor UBJSON; save it with Booster.save_model('model.ubj')")
    try:
        # UBJSON goes on with a length. Read here first, because XGBoost's readers trust the file and recurse without bound.
        read = json.loads(data, object_pairs_hook=_once) if data[1:2] in b'" \n\t\r' else ubjson.read(data)
        _check_content(read["learner"], columns)
        booster = Booster({"nthread": 1, "verbosity": 0})
        booster.load_model(bytearray(data))
        booster.set_param({"nthread": 1})
        _check_content(json.loads(booster.save_raw("json"))["learner"], columns)
    except (XGBoostError, KeyError, ValueError, TypeError, IndexError, RecursionError) as e:
        raise _refused(f"{type(e).__name__}: {str(e).partition('Stack trace')[0].strip()[:500]}") from e

    def predict(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(booster.inplace_predict(values, missing=np.nan, validate_features=False), dtype=np.float64)

    return NativeModel(predict, accepts_missing=True)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _check_content(learner: dict[str, Any], columns: int) -> None:
    """Raise unless it is one forest of whole trees over numbers; `KeyError` and the like for parts that lack."""
    booster = learner["gradient_booster"]
    if booster["name"] != "gbtree":
        msg = f"the XGBoost model is a {booster['name']}; only booster 'gbtree' is served"
        raise SpecError(msg)
    shape = {k: int(learner["learner_model_param"][k]) for k in ("num_feature", "num_class", "num_target")}
    if shape["num_feature"] != columns or shape["num_class"] > 1 or shape["num_target"] != 1:
        msg = (
            f"the XGBoost model reads {shape['num_feature']} columns and gives {max(shape['num_class'], shape['num_target'])} "
            f"answers a row; the serving spec has {columns} columns, and one answer is right"
        )
        raise SpecError(msg)
    forest = booster["model"]
    trees = forest["trees"]
    if any(forest["tree_info"]) or len(forest["tree_info"]) != len(trees):
        raise _refused("its trees answer for other groups than the one there is")
    ends = np.array(forest["iteration_indptr"])
    if ends[0] != 0 or ends[-1] != len(trees) or (np.diff(ends) < 0).any():
        raise _refused("its rounds do not hold its trees, each once")
    if "c" in learner.get("feature_types", []) or any(any(t["split_type"]) for t in trees):
        msg = "the XGBoost model splits on categories; vectors are numbers, so train it on their integer codes"
        raise SpecError(msg)
    for tree in trees:
        _check_tree(tree, columns)


def _check_tree(tree: dict[str, Any], columns: int) -> None:
    """Refuse nodes that would make XGBoost's unchecked walk leave its arrays or never end."""
    count = int(tree["tree_param"]["num_nodes"])
    left, right, feature = (np.array(tree[k], dtype=np.int64) for k in ("left_children", "right_children", "split_indices"))
    arrays = (left, right, feature, *(np.array(tree[k]) for k in _PARTS))
    if count < 1 or any(a.shape != (count,) for a in arrays) or int(tree["tree_param"]["size_leaf_vector"]) > 1:
        raise _refused(f"a tree of {count} nodes has not {count} of each part")
    inner = np.flatnonzero(left != -1)
    children = np.concatenate([left[inner], right[inner]])
    inside = ((children > 0) & (children < count)).all() and ((feature[inner] >= 0) & (feature[inner] < columns)).all()
    if not inside or np.unique(children).size != children.size:  # each the child of one node, the root of none: no way round
        raise _refused("a tree's nodes point outside it, or round in it")
    parents = np.array(tree["parents"], dtype=np.int64)
    known = (parents == _NO_PARENT) | ((parents >= 0) & (parents < count))
    if parents[0] != _NO_PARENT or not known.all() or not np.array_equal(parents[children], np.tile(inner, 2)):
        raise _refused("a tree's nodes name other parents than they have")


def _refused(why: str) -> UntrustedModel:
    return UntrustedModel(f"the XGBoost model is not loaded: {why}; publish it again", check="model")
