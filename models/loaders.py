"""A model folder to a native float64 predict, without running anything the folder brings. Shell.

MLflow's own loaders run code: a pickle, a `loader_module` with a `code` folder, a skops file whose list of trusted
types stands in the model itself. So MLmodel is parsed here as data and must match an allow-list, key by key:

| flavor     | file          | format                | predict                                                     |
|------------|---------------|-----------------------|-------------------------------------------------------------|
| `lightgbm` | `model.lgb`   | LightGBM's text       | ``Booster.predict``, one thread; NaN is LightGBM's missing   |
| `sklearn`  | `model.skops` | skops, OUR type list  | `models.native_sklearn`                                      |

A spec may name another runtime for the text of `lightgbm`: see `models.runtimes`.

Anything else (other flavors, pickles, code, unknown keys or files, paths that leave the folder, links) is refused
with `UntrustedModel`. The folder's digest must have been verified before (`models.artifacts.verify_digest`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np

from models.artifacts import EXAMPLE_FILE, SPEC_FILE, model_files
from models.errors import SpecError, UntrustedModel
from models.spec import ServingSpec, decode_spec

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from models.handle import Predict
    from models.spec import Runtime

Flavor = Literal["lightgbm", "sklearn"]

_DATA_KEY: Final[dict[str, tuple[str, str]]] = {"lightgbm": ("data", "model.lgb"), "sklearn": ("pickled_model", "model.skops")}
"""Flavor to (the MLmodel key that names its file, the only name accepted there)."""

_NAMED: Final = frozenset({"extra_files", "serialization_format", "skops_trusted_types", "code"})
_FLAVOR_KEYS: Final[dict[str, frozenset[str]]] = {
    "lightgbm": _NAMED | {"data", "lgb_version", "model_class"},
    "sklearn": _NAMED | {"pickled_model", "sklearn_version"},
    "python_function": frozenset({"code", "data", "env", "loader_module", "model_path", "predict_fn", "python_version"}),
}
_FILES: Final = frozenset({"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", SPEC_FILE, EXAMPLE_FILE})
_MAX_YAML_BYTES: Final = 1 << 20


class NativeModel(NamedTuple):
    """A predict, and whether it answers rows with missing values (else it answers NaN for them)."""

    predict: Predict
    accepts_missing: bool


def inspect_folder(folder: Path) -> Flavor:
    """The flavor of a model folder, after every check that needs no loading. Raises `UntrustedModel`."""
    files = model_files(folder)
    flavors = _mlmodel(files)
    native = sorted(set(flavors) - {"python_function"})
    if native not in (["lightgbm"], ["sklearn"]):
        msg = f"MLmodel has flavors {sorted(flavors)}; served are lightgbm (text) or sklearn (skops), one of them"
        raise UntrustedModel(msg)
    flavor: Flavor = "lightgbm" if native == ["lightgbm"] else "sklearn"
    for name, conf in flavors.items():
        _check_flavor(name, conf, flavor)
    key, data_file = _DATA_KEY[flavor]
    if flavors[flavor].get(key) != data_file:
        msg = f"MLmodel: {flavor}.{key} is {flavors[flavor].get(key)!r}; only {data_file!r} is loaded, a data-only format"
        raise UntrustedModel(msg)
    stray = sorted(set(files) - _FILES - {data_file})
    absent = sorted({data_file, SPEC_FILE, EXAMPLE_FILE} - set(files))
    if stray or absent:
        msg = f"model folder: unexpected files {stray}, missing files {absent}; publish it with models.publish"
        raise UntrustedModel(msg)
    return flavor


def read_spec(folder: Path) -> ServingSpec:
    """The serving spec of a model folder. Raises `SpecError`."""
    return decode_spec((folder / SPEC_FILE).read_bytes())


def load_model(folder: Path, *, columns: int, runtime: Runtime) -> NativeModel:
    """Load an inspected folder. Raises `UntrustedModel` for its content, `SpecError` if it wants other columns.

    And, for a runtime other than "native", what `models.runtimes.load_forest` raises.
    """
    flavor = inspect_folder(folder)
    file = folder / _DATA_KEY[flavor][1]
    if runtime != "native":
        if flavor != "lightgbm":
            msg = f"runtime {runtime!r} computes LightGBM models; this one is {flavor}: publish it with runtime='native'"
            raise SpecError(msg)
        from models.runtimes import load_forest

        return load_forest(lightgbm_text(file), columns=columns, runtime=runtime)
    if flavor == "lightgbm":
        return load_lightgbm(file, columns=columns)
    from models.native_sklearn import load_skops

    return load_skops(file, columns=columns)


def lightgbm_text(file: Path) -> str:
    """The text of a model file. Not text, or cut short: refused before any parser sees it."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as e:
        msg = f"{file.name} cannot be read as a LightGBM text model: {e}"
        raise UntrustedModel(msg) from e
    if not re.match(r"tree\nversion=v\d", text) or "\nend of trees\n" not in text:
        msg = f"{file.name} is not a LightGBM text model; save it with Booster.save_model"
        raise UntrustedModel(msg)
    return text


def load_lightgbm(file: Path, *, columns: int) -> NativeModel:
    """A LightGBM text model. Rows are independent in LightGBM (each row walks the trees in the same order).

    The text is data and cannot run code, but LightGBM's C++ parser ends the process on some texts that no LightGBM
    wrote. The digest keeps accidents out; whoever may write versions and their tags could still stop a worker.
    """
    from lightgbm import Booster
    from lightgbm.basic import LightGBMError

    text = lightgbm_text(file)
    try:
        booster = Booster(model_str=text)
    except (LightGBMError, ValueError) as e:
        msg = f"{file.name} cannot be read as a LightGBM text model: {e}"
        raise UntrustedModel(msg) from e
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


def _mlmodel(files: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """The flavors of MLmodel, parsed as plain data."""
    import yaml

    file = files.get("MLmodel")
    if file is None or file.stat().st_size > _MAX_YAML_BYTES:
        msg = f"model folder has no MLmodel of at most {_MAX_YAML_BYTES} bytes; publish it with models.publish"
        raise UntrustedModel(msg)
    try:
        parsed = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as e:
        msg = f"MLmodel is not plain YAML: {e}"
        raise UntrustedModel(msg) from e
    flavors = parsed.get("flavors") if isinstance(parsed, dict) else None
    if not isinstance(flavors, dict) or not all(isinstance(f, dict) for f in flavors.values()):
        msg = "MLmodel has no map of flavors; publish it with models.publish"
        raise UntrustedModel(msg)
    return flavors


def _check_flavor(name: str, conf: dict[str, Any], flavor: Flavor) -> None:
    unknown = sorted(set(conf) - _FLAVOR_KEYS[name], key=str)
    if unknown or conf.get("code") is not None:
        msg = f"MLmodel: flavor {name} has {unknown or 'code'}, which may bring code; publish it with models.publish"
        raise UntrustedModel(msg)
    if name == "python_function" and conf.get("loader_module") != f"mlflow.{flavor}":
        msg = f"MLmodel: loader_module is {conf.get('loader_module')!r}; right is 'mlflow.{flavor}'"
        raise UntrustedModel(msg)
