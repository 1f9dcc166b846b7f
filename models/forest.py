"""A LightGBM text model as arrays, for runtimes other than LightGBM. Core.

Only what another runtime answers bit for bit is read: regression whose answer is the plain sum of the trees, numerical
splits, missing as NaN (or none). Anything else is refused, by name, so that it is served natively.

LightGBM reads a value within `ZERO` of 0 as 0. Here the thresholds are moved instead: with the threshold found in a
`Tree`, comparing the value as it is takes the same branch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from models.errors import SpecError, UntrustedModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

ZERO: Final = float(np.float32(1e-35))
"""LightGBM's kZeroThreshold."""

PLAIN_SUMS: Final = frozenset("regression regression_l1 huber fair quantile mape".split())
"""Objectives whose answer is the sum of the trees; a model without a built-in objective is one more."""

Number = TypeVar("Number", np.int64, np.float64)

_CATEGORICAL, _DEFAULT_LEFT, _MISSING_SHIFT = 1, 2, 2
_MISSING_ZERO, _MISSING_NAN = 1, 2


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree: inner nodes from the root on, and leaves.

    Node i goes left if value[`feature`[i]] <= `threshold`[i], or if the value is NaN and `missing_left`[i]; else right.
    `left`, `right`: the next node k > i, or ~k for leaf k. A tree without nodes is its only leaf. The answer of all
    trees is 0 plus the `leaf_value` of each, added in order. int64[nodes], float64[nodes], bool[nodes], int64[nodes]
    twice, float64[nodes + 1].
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    missing_left: NDArray[np.bool_]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    leaf_value: NDArray[np.float64]


def parse_trees(text: str, *, columns: int) -> tuple[Tree, ...]:
    """The trees of a LightGBM text model of `columns` features.

    Raises `UntrustedModel` for text that no LightGBM wrote, `SpecError` for a model that only LightGBM answers.
    """
    head, *blocks = re.split(r"^Tree=\d+\n", text.partition("\nend of trees\n")[0], flags=re.MULTILINE)
    _check_head(head, columns)
    try:
        trees = tuple(_tree(_fields(block), columns) for block in blocks)
    except (KeyError, ValueError, OverflowError) as e:
        raise _malformed(f"{type(e).__name__}: {e}") from e
    if not trees:
        raise _malformed("it has no trees")
    return trees


def check_forest(text: str) -> None:
    """Refuse a LightGBM text model whose trees would lead LightGBM's own, unchecked walk out of them or round in them.

    Reads what LightGBM reads: the blocks its `tree_sizes` name, integers in the one way both write them. Categories and
    linear leaves are checked too, though only LightGBM answers them. Raises `UntrustedModel`.
    """
    head, *blocks = re.split(r"^(?=Tree=\d+\n)", text.partition("\nend of trees\n")[0] + "\n", flags=re.MULTILINE)
    try:
        fields = _once(head)
        sizes = _whole(fields["tree_sizes"])
        width = int(_whole(fields["max_feature_idx"]).item()) + 1
        if [len(block.encode()) for block in blocks] != sizes.tolist():
            raise _malformed(f"its tree_sizes are not those of its {len(blocks)} trees")
        for block in blocks:
            _check_block(_once(block), width)
    except (KeyError, ValueError) as e:
        raise _malformed(f"{type(e).__name__}: {e}") from e


def _check_block(tree: dict[str, str], width: int) -> None:
    leaves = int(_whole(tree["num_leaves"]).item())
    categories = int(_whole(tree["num_cat"]).item())
    if tree.get("is_linear", "0") != "0":
        counts, columns = _whole(tree["num_features"]), _whole(tree["leaf_features"])
        if counts.shape != (leaves,) or (counts < 0).any() or counts.sum() != columns.size or not _within(columns, width):
            raise _malformed("a linear leaf reads columns that are not there")
    if leaves == 1:
        return
    feature, kind, left, right = (_whole(tree[k]) for k in ("split_feature", "decision_type", "left_child", "right_child"))
    threshold = _numbers(tree["threshold"], np.float64)
    if leaves < 1 or any(a.shape != (leaves - 1,) for a in (feature, kind, left, right, threshold)):
        raise _malformed(f"a tree of {leaves} leaves has not {leaves - 1} splits")
    _check_shape(feature, left, right, width)
    sets = threshold[(kind & _CATEGORICAL) != 0]
    if sets.size == 0:
        return
    bounds, words = _whole(tree["cat_boundaries"]), _whole(tree["cat_threshold"])
    rising = bounds.shape == (categories + 1,) and bounds[0] == 0 and bounds[-1] == words.size and (np.diff(bounds) >= 0).all()
    if not rising or not ((sets >= 0) & (sets < categories)).all():
        raise _malformed("a split on categories names a set that is not there")


def _once(block: str) -> dict[str, str]:
    pairs = [line.split("=", 1) for line in block.split("\n") if "=" in line]
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands twice")
    return fields


def _whole(text: str) -> NDArray[np.int64]:
    """Whole numbers below 10^10, in plain digits: what Python and C++ read alike."""
    if re.fullmatch(r" *(?:-?[0-9]{1,10}(?: +|\Z))*", text) is None:
        raise ValueError(f"{text[:60]!r} are not whole numbers")
    return _numbers(text, np.int64)


def _within(values: NDArray[np.int64], count: int) -> bool:
    return bool(((values >= 0) & (values < count)).all())


def _fields(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _check_head(head: str, columns: int) -> None:
    fields = _fields(head)
    if not head.startswith("tree\n") or fields.get("version") not in {"v3", "v4"}:
        raise _malformed(f"it begins with {head[:30]!r}, not with the head of version v3 or v4")
    shape = fields.get("max_feature_idx"), fields.get("num_class"), fields.get("num_tree_per_iteration")
    if shape != (str(columns - 1), "1", "1"):
        msg = (
            f"the LightGBM model has max_feature_idx {shape[0]}, num_class {shape[1]}, num_tree_per_iteration {shape[2]}; "
            f"right for the serving spec's columns is {columns - 1}, and one answer a row"
        )
        raise SpecError(msg)
    objective = fields.get("objective", "").split()
    if (objective and objective[0] not in PLAIN_SUMS) or "sqrt" in objective:
        raise _native_only(f"its objective {' '.join(objective)!r} transforms the sum of the trees")
    if "average_output" in head.splitlines():
        raise _native_only("it averages its trees")


def _tree(fields: dict[str, str], columns: int) -> Tree:
    if int(fields.get("num_cat", "0")):
        raise _native_only("it splits on categories")
    if int(fields.get("is_linear", "0")):
        raise _native_only("its leaves are linear models")
    leaf_value = _numbers(fields["leaf_value"], np.float64)
    inner = int(fields["num_leaves"]) - 1
    if leaf_value.shape != (inner + 1,) or not np.isfinite(leaf_value).all():
        raise _malformed(f"a tree of {inner + 1} leaves has leaf values {fields['leaf_value'][:60]!r}")
    if inner == 0:
        none = np.zeros(0, dtype=np.int64)
        return Tree(none, np.zeros(0), np.zeros(0, dtype=np.bool_), none, none, leaf_value)
    feature, kind, left, right = (
        _numbers(fields[k], np.int64) for k in ("split_feature", "decision_type", "left_child", "right_child")
    )
    threshold = _numbers(fields["threshold"], np.float64)
    if any(a.shape != (inner,) for a in (feature, kind, left, right, threshold)):
        raise _malformed(f"a tree of {inner + 1} leaves has not {inner} splits")
    _check_shape(feature, left, right, columns)
    missing = kind >> _MISSING_SHIFT
    if (kind & _CATEGORICAL).any() or (missing == _MISSING_ZERO).any():
        raise _native_only("it splits on categories, or takes 0 for missing")
    if not np.isin(missing, (0, _MISSING_NAN)).all() or np.isnan(threshold).any():
        raise _malformed("a split has an unknown decision_type or no threshold")
    # Without a direction for missing, LightGBM reads NaN as 0.
    missing_left = np.where(missing == _MISSING_NAN, (kind & _DEFAULT_LEFT) != 0, threshold >= 0.0)
    return Tree(feature, _moved_off_zero(threshold), missing_left, left, right, leaf_value)


def _check_shape(feature: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64], columns: int) -> None:
    """Refuse anything but one tree: each child after its parent, each node and leaf the child of one node."""
    at = np.arange(feature.size)
    children = np.concatenate([left, right])
    once = np.array_equal(np.sort(children), np.delete(np.arange(-feature.size - 1, feature.size), feature.size + 1))
    later = ((left < 0) | (left > at)) & ((right < 0) | (right > at))
    if not once or not later.all() or not ((feature >= 0) & (feature < columns)).all():
        raise _malformed("a tree's nodes point outside it, or not each once")


def _moved_off_zero(threshold: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thresholds for values as they are, where LightGBM compares values flushed to 0 within `ZERO`.

    >>> _moved_off_zero(np.array([-1.0, 0.0, 1.0])).tolist()
    [-1.0, 1.0000000180025095e-35, 1.0]
    """
    near = np.abs(threshold) <= ZERO
    moved = np.where(threshold >= 0.0, ZERO, np.nextafter(-ZERO, -np.inf))
    return np.where(near, moved, threshold)


def _numbers(text: str, kind: type[Number]) -> NDArray[Number]:
    return np.array(text.split(), dtype=kind)


def _malformed(why: str) -> UntrustedModel:
    return UntrustedModel(f"not a LightGBM text model as Booster.save_model writes it: {why}; publish it again", check="model")


def _native_only(why: str) -> SpecError:
    return SpecError(f"only LightGBM itself answers this model bit for bit: {why}; publish it with runtime='native'")
