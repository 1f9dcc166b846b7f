"""A fitted model to files a worker loads: one file, and the folder in MLflow's layout. Shell; `models.publish` calls it.

| given                                                    | saved as                                     | flavor     |
|----------------------------------------------------------|----------------------------------------------|------------|
| lightgbm.Booster, LGBMRegressor                          | `model.lgb`, text                            | `lightgbm` |
| xgboost.Booster, XGBRegressor                            | `model.ubj`, UBJSON                          | `xgboost`  |
| onnx.ModelProto                                          | `model.onnx`                                 | `onnx`     |
| a scikit-learn regressor `models.native_sklearn` serves  | `model.skops`                                | `sklearn`  |
| with ``allow_code``: any estimator, mlflow's PythonModel | a pickle, for workers that load it           | `pyfunc`   |

Nothing is imported to find out what a model is: an instance's library is loaded already.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.artifacts import SPEC_FILE
from models.errors import SpecError
from models.flavors import ALLOWED
from models.loaders import load_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.flavors import DataFlavor, Flavor
    from models.handle import Predict


def servable(model: Any, names: Sequence[str], *, allow_code: bool = False) -> tuple[Any, Flavor]:
    """(what is saved, its flavor); refuses a model whose named inputs are these columns in another order."""
    given: Any
    flavor: Flavor
    lightgbm, xgboost, onnx = (sys.modules.get(m) for m in ("lightgbm", "xgboost", "onnx"))
    if allow_code:
        flavor, given = "pyfunc", getattr(model, "feature_names_in_", None)
    elif lightgbm is not None and isinstance(model, lightgbm.Booster | lightgbm.LGBMModel):
        model = _booster_of(model, lightgbm.Booster, lightgbm.LGBMRegressor, "booster_")
        flavor, given = "lightgbm", model.feature_name()
    elif xgboost is not None and isinstance(model, xgboost.Booster | xgboost.XGBModel):
        model = _xgboost_booster(model, xgboost)
        flavor, given = "xgboost", model.feature_names
    elif onnx is not None and isinstance(model, onnx.ModelProto):
        flavor, given = "onnx", None
    else:
        flavor, given = "sklearn", getattr(model, "feature_names_in_", None)
    trained_on = [] if given is None else [str(n) for n in given]
    if trained_on != list(names) and sorted(trained_on) == sorted(names):
        msg = (
            f"the model was trained on columns {trained_on}, the spec has them in the order {list(names)}; use the model's order"
        )
        raise SpecError(msg)
    return model, flavor


def _booster_of(model: Any, booster: type, regressor: type, attribute: str) -> Any:
    if isinstance(model, booster):
        return model
    if not isinstance(model, regressor):
        msg = f"{type(model).__name__} does not forecast a number; publish an {regressor.__name__} or a Booster"
        raise SpecError(msg)
    return getattr(model, attribute)


def _xgboost_booster(model: Any, xgboost: Any) -> Any:
    """The booster, of an XGBRegressor that stopped early the rounds up to the best: those its own predict uses."""
    if isinstance(model, xgboost.Booster):
        return model
    if not isinstance(model, xgboost.XGBRegressor):
        msg = f"{type(model).__name__} does not forecast a number; publish an XGBRegressor or a Booster"
        raise SpecError(msg)
    booster = model.get_booster()
    best = booster.attr("best_iteration")
    return booster if best is None else booster[: int(best) + 1]


def save_file(model: Any, flavor: DataFlavor, scratch: Path) -> Path:
    """Write the one model file into `scratch`."""
    file = scratch / ALLOWED[flavor].files[0]
    if flavor in {"lightgbm", "xgboost"}:
        model.save_model(file)
    elif flavor == "onnx":
        file.write_bytes(model.SerializeToString())
    else:
        import skops.io

        skops.io.dump(model, file)
    return file


def as_loaded(model: Any, flavor: DataFlavor, scratch: Path, *, columns: int) -> Predict:
    """The predict a worker will have: saved and loaded again, as there."""
    return load_file(save_file(model, flavor, scratch), flavor, columns=columns).predict


def save_folder(model: Any, flavor: Flavor, folder: Path, names: Sequence[str], extra: Sequence[Path]) -> None:
    """Write the folder in MLflow's layout, so that MLflow's own tools can read it too."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    number = np.dtype(np.float32 if flavor == "xgboost" else np.float64)
    tensors = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float64), (-1, len(names)))]), outputs=Schema([TensorSpec(number, (-1,))])
    )
    common: dict[str, Any] = {"path": str(folder), "extra_files": [str(f) for f in extra], "signature": tensors}
    if flavor == "lightgbm":
        import mlflow.lightgbm

        mlflow.lightgbm.save_model(model, pip_requirements=_pinned("lightgbm"), **common)
    elif flavor == "xgboost":
        import mlflow.xgboost

        mlflow.xgboost.save_model(model, pip_requirements=_pinned("xgboost"), **common)
    elif flavor == "onnx":
        import mlflow.onnx

        del common["signature"]
        mlflow.onnx.save_model(model, save_as_external_data=False, pip_requirements=_pinned("onnx", "onnxruntime"), **common)
    elif flavor == "sklearn":
        import mlflow.sklearn

        from models.native_sklearn import TRUSTED_BEYOND_SKOPS

        mlflow.sklearn.save_model(
            model,
            serialization_format="skops",
            skops_trusted_types=sorted(TRUSTED_BEYOND_SKOPS),
            pip_requirements=_pinned("scikit-learn", "skops"),
            **common,
        )
    else:
        named = Schema([ColSpec("double", n) for n in names])
        _save_code(model, common | {"signature": ModelSignature(inputs=named, outputs=Schema([ColSpec("double")]))})


def _save_code(model: Any, common: dict[str, Any]) -> None:
    import mlflow.pyfunc
    import mlflow.sklearn

    if isinstance(model, mlflow.pyfunc.PythonModel):
        extra = [Path(f) for f in common.pop("extra_files")]
        mlflow.pyfunc.save_model(python_model=model, pip_requirements=_pinned("cloudpickle"), **common)
        beside = Path(common["path"]) / Path(SPEC_FILE).parent  # where the other flavors' save_model puts them
        beside.mkdir()
        for file in extra:
            shutil.copy(file, beside)
    else:
        mlflow.sklearn.save_model(
            model, serialization_format="cloudpickle", pip_requirements=_pinned("scikit-learn", "cloudpickle"), **common
        )


def _pinned(*packages: str) -> list[str]:
    from importlib.metadata import packages_distributions, version

    modules = {"scikit-learn": "sklearn"}
    owners = packages_distributions()  # xgboost is of xgboost or of xgboost-cpu
    return [f"{owner}=={version(owner)}" for p in packages for owner in owners[modules.get(p, p)][:1]]
