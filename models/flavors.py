"""What may be in a model folder: MLmodel parsed as data and held against an allow-list, key by key. Shell; runs nothing.

MLflow's own loaders run code: a pickle, a `loader_module` with a `code` folder, a skops file whose list of trusted
types stands in the model itself. So a flavor is served only from one file of a data-only format:

| flavor     | file                                    | format                  |
|------------|-----------------------------------------|-------------------------|
| `lightgbm` | `model.lgb`                             | LightGBM's text         |
| `sklearn`  | `model.skops`                           | skops, OUR type list    |
| `xgboost`  | `model.ubj`, `model.json`, `model.xgb`  | XGBoost's UBJSON, JSON  |
| `onnx`     | `model.onnx`                            | ONNX, nothing beside it |

Anything else (other flavors, pickles, code, unknown keys or files, paths that leave the folder, links) is refused with
`UntrustedModel`; unless the setting `mlflow.allow_code` says that whoever may publish may also run code here: then such
a folder is of flavor `pyfunc`, and `models.code_models` loads it. The folder's digest must have been verified before
(`models.artifacts.verify_digest`).
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from models.artifacts import EXAMPLE_FILE, SPEC_FILE, model_files
from models.errors import UntrustedModel

if TYPE_CHECKING:
    from pathlib import Path

DataFlavor = Literal["lightgbm", "sklearn", "xgboost", "onnx"]
Flavor = Literal[DataFlavor, "pyfunc"]
"""How a folder is loaded: as data only, or by code that it brings."""


class Allowed(NamedTuple):
    """Of one flavor: the MLmodel key that names its file, the only names accepted there, and its other keys."""

    key: str
    files: tuple[str, ...]
    keys: frozenset[str]


_NAMED: Final = frozenset({"extra_files", "code", "serialization_format", "skops_trusted_types"})
ALLOWED: Final[dict[DataFlavor, Allowed]] = {
    "lightgbm": Allowed("data", ("model.lgb",), _NAMED | {"lgb_version", "model_class"}),
    "sklearn": Allowed("pickled_model", ("model.skops",), _NAMED | {"sklearn_version"}),
    "xgboost": Allowed("data", ("model.ubj", "model.json", "model.xgb"), _NAMED | {"xgb_version", "model_class", "model_format"}),
    "onnx": Allowed("data", ("model.onnx",), _NAMED | {"onnx_version", "providers", "onnx_session_options"}),
}
_PYFUNC_KEYS: Final = frozenset({"code", "data", "env", "loader_module", "model_path", "predict_fn", "python_version"})
_FILES: Final = frozenset({"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", SPEC_FILE, EXAMPLE_FILE})
_MAX_NESTING: Final = 64
_MAX_BYTES: Final = {"MLmodel": 1 << 20, EXAMPLE_FILE: 1 << 22, SPEC_FILE: 1 << 26}


def inspect_folder(folder: Path, *, allow_code: bool = False) -> Flavor:
    """The flavor of a model folder, after every check that needs no loading. Raises `UntrustedModel`."""
    files = model_files(folder)
    for name, limit in _MAX_BYTES.items():
        if name in files and files[name].stat().st_size > limit:
            msg = f"{name} has {files[name].stat().st_size} bytes; at most {limit} are read"
            raise UntrustedModel(msg, check="files")
    flavors = _mlmodel(files)
    try:
        return _as_data(flavors, files)
    except UntrustedModel:
        if not allow_code or "python_function" not in flavors:
            raise
    absent = sorted({SPEC_FILE, EXAMPLE_FILE} - set(files))
    if absent:
        msg = f"model folder: missing files {absent}; publish it with models.publish"
        raise UntrustedModel(msg, check="files")
    return "pyfunc"


def data_file(folder: Path, flavor: DataFlavor) -> Path:
    """The one model file of an inspected folder."""
    (file,) = (folder / name for name in ALLOWED[flavor].files if (folder / name).exists())
    return file


def _as_data(flavors: dict[str, dict[str, Any]], files: dict[str, Path]) -> DataFlavor:
    native = sorted(set(flavors) - {"python_function"})
    found: list[DataFlavor] = [f for f in ALLOWED if native == [f]]
    if not found:
        msg = (
            f"MLmodel has flavors {sorted(flavors)}; served are {', '.join(ALLOWED)}, one of them, as data only "
            "(others only with the setting mlflow.allow_code)"
        )
        raise UntrustedModel(msg, check="flavor")
    flavor = found[0]
    allowed = ALLOWED[flavor]
    for name, conf in flavors.items():
        _check_keys(name, conf, flavor)
    file = flavors[flavor].get(allowed.key)
    if file not in allowed.files:
        right = " or ".join(map(repr, allowed.files))
        msg = f"MLmodel: {flavor}.{allowed.key} is {file!r}; only {right} is loaded, a data-only format"
        raise UntrustedModel(msg, check="flavor")
    stray = sorted(set(files) - _FILES - {file})
    absent = sorted({file, SPEC_FILE, EXAMPLE_FILE} - set(files))
    if stray or absent:
        msg = f"model folder: unexpected files {stray}, missing files {absent}; publish it with models.publish"
        raise UntrustedModel(msg, check="files")
    return flavor


def _check_keys(name: str, conf: dict[str, Any], flavor: DataFlavor) -> None:
    pyfunc = name == "python_function"
    known = _PYFUNC_KEYS if pyfunc else ALLOWED[flavor].keys | {ALLOWED[flavor].key}
    unknown = sorted(set(conf) - known, key=str)
    if unknown or conf.get("code") is not None:
        msg = f"MLmodel: flavor {name} has {unknown or 'code'}, which may bring code; publish it with models.publish"
        raise UntrustedModel(msg, check="flavor")
    if pyfunc and conf.get("loader_module") != f"mlflow.{flavor}":
        msg = f"MLmodel: loader_module is {conf.get('loader_module')!r}; right is 'mlflow.{flavor}'"
        raise UntrustedModel(msg, check="flavor")


def _mlmodel(files: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """The flavors of MLmodel, parsed as plain data."""
    import yaml

    file = files.get("MLmodel")
    if file is None:
        msg = "model folder has no MLmodel; publish it with models.publish"
        raise UntrustedModel(msg, check="files")
    try:
        text = file.read_text(encoding="utf-8")
        _refuse_growth(text)
        parsed = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as e:  # ValueError: bytes, numbers and dates that are none
        msg = f"MLmodel is not plain YAML: {e}"
        raise UntrustedModel(msg, check="flavor") from e
    flavors = parsed.get("flavors") if isinstance(parsed, dict) else None
    if not isinstance(flavors, dict) or not all(isinstance(n, str) and isinstance(f, dict) for n, f in flavors.items()):
        msg = "MLmodel has no map of flavors; publish it with models.publish"
        raise UntrustedModel(msg, check="flavor")
    return flavors


def _nesting(text: str) -> int:
    """Brackets open at once, those inside quotes too; the parser's work grows with the square of it."""
    steps = [1 if c in "[{" else -1 for c in text if c in "[]{}"]
    return max(accumulate(steps), default=0)


def _refuse_growth(text: str) -> None:
    """Raise `YAMLError` for deep nesting and for aliases.

    An alias is small in the file and, nested, without bound in a message that shows it.
    """
    import yaml

    if _nesting(text) > _MAX_NESTING:
        raise yaml.YAMLError(f"it nests deeper than {_MAX_NESTING}")
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
        raise yaml.YAMLError("it has aliases (*name), which MLflow does not write")
