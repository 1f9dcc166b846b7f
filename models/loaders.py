"""A model folder to a native float64 predict, without running anything the folder brings. Shell.

| flavor     | predict                                                                              | extra     |
|------------|--------------------------------------------------------------------------------------|-----------|
| `lightgbm` | ``Booster.predict``, one thread; NaN is LightGBM's missing                           | none      |
| `sklearn`  | `models.native_sklearn`                                                              | none      |
| `xgboost`  | `models.native_xgboost`: one thread, float32 inside; NaN is XGBoost's missing        | `xgboost` |
| `onnx`     | `models.native_onnx`: ONNX Runtime, one thread; NaN is what the graph makes of it    | `onnx`    |
| `pyfunc`   | `models.code_models`: whatever the folder brings, only with `mlflow.allow_code`      | none      |

A spec may name another runtime for the text of `lightgbm`: see `models.runtimes`. What may be in the folder is checked
by `models.flavors`, and a new artifact is first tried in a process of its own (`models.trial`): the parsers below are
C++, and a text that no library wrote can end a process.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models.errors import RuntimeMissing, SpecError, UntrustedModel
from models.flavors import data_file, inspect_folder
from models.forest import check_forest

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from models.flavors import DataFlavor
    from models.handle import Predict
    from models.spec import ServingSpec


class NativeModel(NamedTuple):
    """A predict, and whether it answers rows with missing values (else it answers NaN for them)."""

    predict: Predict
    accepts_missing: bool


def load_model(folder: Path, spec: ServingSpec, *, allow_code: bool = False) -> NativeModel:
    """Load a folder after `inspect_folder`. Raises `UntrustedModel` for its content, `SpecError` if it wants other columns.

    `RuntimeMissing` if its flavor's packages are not installed; and, for a runtime other than "native", what
    `models.runtimes.load_forest` raises.
    """
    flavor = inspect_folder(folder, allow_code=allow_code)
    columns = len(spec.columns)
    if spec.runtime != "native":
        if flavor != "lightgbm":
            msg = f"runtime {spec.runtime!r} computes LightGBM models; this one is {flavor}: publish it with runtime='native'"
            raise SpecError(msg)
        from models.runtimes import load_forest

        return load_forest(lightgbm_text(data_file(folder, flavor)), columns=columns, runtime=spec.runtime)
    if flavor == "pyfunc":
        from models.code_models import load_code

        return load_code(folder, spec)
    return load_file(data_file(folder, flavor), flavor, columns=columns)


def load_file(file: Path, flavor: DataFlavor, *, columns: int) -> NativeModel:
    """The predict of one model file, natively. Raises as `load_model`."""
    if flavor == "lightgbm":
        return load_lightgbm(file, columns=columns)
    try:
        if flavor == "sklearn":
            from models.native_sklearn import load_skops as load
        elif flavor == "xgboost":
            from models.native_xgboost import load_xgboost as load
        else:
            from models.native_onnx import load_onnx as load
        return load(file, columns=columns)
    except ImportError as e:
        msg = f"flavor {flavor!r} is not installed here ({e}): pip install 'trading-ml-inference[{flavor}]'"
        raise RuntimeMissing(msg) from e


def lightgbm_text(file: Path) -> str:
    """The text of a model file. Not text, or cut short: refused before any parser sees it."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as e:
        msg = f"{file.name} cannot be read as a LightGBM text model: {e}"
        raise UntrustedModel(msg, check="model") from e
    if not re.match(r"tree\nversion=v\d", text) or "\nend of trees\n" not in text:
        msg = f"{file.name} is not a LightGBM text model; save it with Booster.save_model"
        raise UntrustedModel(msg, check="model")
    return text


def load_lightgbm(file: Path, *, columns: int) -> NativeModel:
    """A LightGBM text model. Rows are independent in LightGBM (each row walks the trees in the same order).

    The text is data and cannot run code. Its trees are checked first (`models.forest.check_forest`): LightGBM itself
    follows the nodes wherever they point.
    """
    from lightgbm import Booster
    from lightgbm.basic import LightGBMError

    text = lightgbm_text(file)
    check_forest(text)
    try:
        booster = Booster(model_str=text)
    except (LightGBMError, ValueError) as e:
        msg = f"{file.name} cannot be read as a LightGBM text model: {e}"
        raise UntrustedModel(msg, check="model") from e
    if booster.pandas_categorical:
        msg = "the LightGBM model was trained on pandas categories; vectors are numbers, so train it on their integer codes"
        raise SpecError(msg)
    if booster.num_feature() != columns or booster.num_model_per_iteration() != 1:
        msg = (
            f"the LightGBM model reads {booster.num_feature()} columns and gives {booster.num_model_per_iteration()} "
            f"answers a row; the serving spec has {columns} columns, and one answer is right"
        )
        raise SpecError(msg)

    def predict(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(booster.predict(values, num_threads=1))

    return NativeModel(predict, accepts_missing=True)
