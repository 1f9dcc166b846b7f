"""Other libraries than LightGBM to compute a LightGBM model's answers, by the name a serving spec gives. Shell.

| `ServingSpec.runtime` | what computes                            | extra     | one row | of 1,000, each | to load | memory |
|-----------------------|------------------------------------------|-----------|---------|----------------|---------|--------|
| `native`              | the model's own library                  | none      | 21 us   | 5.7 us         | 0.01 s  | 74 MB  |
| `onnx`                | ONNX Runtime, its double-precision trees | `onnx`    | 9 us    | 3.4 us         | 0.01 s  | 35 MB  |
| `lleaves`             | machine code that LLVM makes at load     | `lleaves` | 8 us    | 1.9 us         | 1.5 s   | 130 MB |

For 100 trees of 31 leaves and 80 columns, on one core (``python -m benchmarks.runtimes`` measures it where it runs);
memory is what a worker grows by, packages included. `onnx` is the one to name first: faster than native, lighter, loaded
at once, of a library that is kept well. `lleaves` is for models whose cost counts most: it pins an old llvmlite (below
0.45), and compiles for as long as there are trees, while the version in service serves on. All three give
a row the same bits, alone and in any batch; what a runtime cannot answer so (categories, linear leaves, objectives that
transform the sum) is refused. The model folder is the same for all: text, checked by `models.forest` and never by
LightGBM's own parser, and turned into a graph or code on the machine that serves. Thresholds as float32, which
converters to ONNX write, would be some 1e-6 off and take other branches; that is not done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from models.errors import RuntimeMissing, SpecError
from models.forest import parse_trees
from models.loaders import NativeModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.handle import Predict
    from models.spec import Runtime

EXTRAS: Final[dict[Runtime, str]] = {"onnx": "onnx", "lleaves": "lleaves"}
"""Runtime to the extra that installs it."""

_COMPARED_ROWS: Final = 10_000


def load_forest(text: str, *, columns: int, runtime: Runtime) -> NativeModel:
    """A LightGBM text model in the runtime named, not "native".

    Raises `RuntimeMissing` when its packages are not installed, `UntrustedModel` and `SpecError` as `parse_trees`.
    """
    trees = parse_trees(text, columns=columns)
    try:
        if runtime == "onnx":
            from models.runtime_onnx import onnx_predict as build
        else:
            from models.runtime_lleaves import lleaves_predict as build
        return NativeModel(build(trees, columns=columns), accepts_missing=True)
    except ImportError as e:
        extra = f"trading-ml-inference[{EXTRAS[runtime]}]"
        msg = f"runtime {runtime!r} is not installed here ({e}): pip install '{extra}', or publish the model natively"
        raise RuntimeMissing(msg) from e


def check_same_bits(runtime: Predict, native: Predict, x: NDArray[np.float64], *, what: str) -> None:
    """Raise `SpecError` unless both answer float64[rows, columns] with the same bits; of many rows, 10,000 spread over them."""
    rows = x[np.unique(np.linspace(0, len(x) - 1, min(len(x), _COMPARED_ROWS)).astype(np.intp))]
    ours, theirs = runtime(rows), native(rows)
    differ = np.flatnonzero(ours.view(np.int64) != theirs.view(np.int64))
    if differ.size:
        at = differ[0]
        msg = (
            f"{what} answers {differ.size} of {len(rows)} rows otherwise than LightGBM, such as {rows[at].tolist()}: "
            f"{ours[at]!r} for {theirs[at]!r}; publish the model with runtime='native'"
        )
        raise SpecError(msg)
