"""Models that are code: pickles and pyfuncs, loaded by MLflow, which runs what the folder brings. Shell.

Only where the setting `mlflow.allow_code` is true. Whoever may publish a version, or write the artifact store and the
version's tag, then runs code on every worker, with the worker's credentials: the trial (`models.trial`) stops a model that
hangs or crashes, not one that means harm. The model gets a DataFrame of the spec's columns, by name and in order, float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.errors import SpecError, UntrustedModel
from models.mlflow_client import set_environment
from models.native_sklearn import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from models.loaders import NativeModel
    from models.spec import ServingSpec


def code_warning(models: Sequence[str]) -> str:
    """What a worker says at its start when the setting is on, naming the models it serves.

    >>> code_warning(["next-day"])
    'mlflow.allow_code is on: versions of next-day may be pickles and run their own code in this worker'
    """
    return f"mlflow.allow_code is on: versions of {', '.join(models)} may be pickles and run their own code in this worker"


def load_code(folder: Path, spec: ServingSpec) -> NativeModel:
    """Load a folder with MLflow, running its code. Raises `UntrustedModel` if it does not load, `SpecError` for odd answers."""
    set_environment()
    import mlflow.pyfunc

    try:
        model = mlflow.pyfunc.load_model(str(folder))
    except Exception as e:
        msg = f"MLflow cannot load the model ({type(e).__name__}: {str(e)[:500]}); install what it needs, or publish it as data"
        raise UntrustedModel(msg, check="model") from e
    return by_name(model.predict, [c.name for c in spec.columns])


def by_name(call: Callable[[pd.DataFrame], Any], names: Sequence[str]) -> NativeModel:
    """A predict that gives `call` a DataFrame; NaN for rows it cannot answer (an infinity, a missing value, where it raises)."""
    import pandas as pd

    def answer(values: NDArray[np.float64]) -> NDArray[np.float64]:
        try:
            answers = np.asarray(call(pd.DataFrame(values.copy(), columns=list(names))), dtype=np.float64)
        except Exception as e:
            msg = f"{type(e).__name__}: {e}"
            raise ValueError(msg) from e
        if answers.shape not in {(len(values),), (len(values), 1)}:
            msg = f"the model answers {len(values)} rows with shape {answers.shape}; right is ({len(values)},)"
            raise SpecError(msg)
        return answers.reshape(-1)

    return guarded(answer, len(names))
