"""Trees compiled to machine code by lleaves, in memory, on this machine. Shell.

Compiled code never comes from a model folder, nor goes to a file: LLVM makes it here, out of text written here from
checked trees. It takes about a second for 100 trees of 31 leaves. One tree a block and no vectorization across trees keep
the sum in the trees' order, so answers have the bits of ``Booster.predict``.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import numpy as np

from models.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.forest import Tree
    from models.handle import Predict

_MISSING_NAN, _DEFAULT_LEFT = 8, 2


def lleaves_predict(trees: Sequence[Tree], *, columns: int) -> Predict:
    """A predict on one thread. Raises `ImportError` where lleaves, or an llvmlite it can use, is not installed."""
    import lleaves
    import llvmlite.binding

    if not hasattr(llvmlite.binding, "PassManagerBuilder"):
        msg = "lleaves 1.3 needs llvmlite below 0.45"
        raise ImportError(msg)
    with tempfile.NamedTemporaryFile("w", prefix="trading-ml-trees-", suffix=".txt") as file:
        file.write(_text(trees, columns))
        file.flush()
        model = lleaves.Model(file.name)
        try:
            model.compile(fblocksize=1, finline=False)  # inlined it is a fifth faster, and compiles three times as long
        except RecursionError as e:
            msg = "a tree is too deep for lleaves, which walks it by recursion; publish the model with another runtime"
            raise SpecError(msg) from e

    def predict(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(model.predict(values, n_jobs=1), dtype=np.float64)

    return predict


def _text(trees: Sequence[Tree], columns: int) -> str:
    """What lleaves reads of LightGBM's text format."""
    head = [
        "tree",
        "version=v4",
        "num_class=1",
        "num_tree_per_iteration=1",
        f"max_feature_idx={columns - 1}",
        "objective=regression",
        f"feature_infos={' '.join(['[-inf:inf]'] * columns)}",
        f"tree_sizes={' '.join(['0'] * len(trees))}",
    ]
    blocks = ["\n".join(head), *(_block(i, t) for i, t in enumerate(trees)), "end of trees", "pandas_categorical:null", ""]
    return "\n\n".join(blocks)


def _block(number: int, tree: Tree) -> str:
    def row(name: str, values: NDArray[np.int64] | NDArray[np.float64]) -> str:
        return f"{name}={' '.join(map(repr, values.tolist()))}"

    kind = np.where(tree.missing_left, _MISSING_NAN + _DEFAULT_LEFT, _MISSING_NAN)
    return "\n".join(
        [
            f"Tree={number}",
            f"num_leaves={tree.leaf_value.size}",
            "num_cat=0",
            row("split_feature", tree.feature),
            row("threshold", tree.threshold),
            row("decision_type", kind),
            row("left_child", tree.left),
            row("right_child", tree.right),
            row("leaf_value", tree.leaf_value),
        ]
    )
