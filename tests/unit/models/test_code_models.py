"""Pickles and pyfuncs: refused unless the setting allows them; then loaded by MLflow, on a DataFrame of the spec's columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cloudpickle  # type: ignore[import-untyped]  # ships no types
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc.model import PythonModel
from sklearn.ensemble import BaggingRegressor
from sklearn.tree import DecisionTreeRegressor

from models.errors import UntrustedModel
from models.score import score

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.models.conftest import Data, Store

NAMES = ["a", "b", "c"]


@pytest.fixture(name="pickled")
def fixture_pickled(data: Data) -> Any:
    """An estimator that skops' part of the house refuses."""
    x, y = data.train
    return BaggingRegressor(DecisionTreeRegressor(max_depth=3), 4, random_state=1).fit(pd.DataFrame(x, columns=NAMES), y)


def test_a_pickle_is_refused_unless_allowed(store: Store, pickled: Any, data: Data) -> None:
    with pytest.raises(UntrustedModel, match=r"BaggingRegressor.*Served are"):
        store.publish(pickled)
    published = store.publish(pickled, allow_code=True)
    with pytest.raises(UntrustedModel, match=r"only 'model.skops' is loaded, a data-only format") as caught:
        store.registry().load("m", published.version)
    assert caught.value.check == "flavor"
    handle = store.registry(allow_code=True).load("m", published.version)
    assert score(handle, data.x).value.tolist() == pickled.predict(pd.DataFrame(data.x, columns=NAMES)).tolist()
    gap = data.x[:2].copy()
    gap[0, 1] = np.nan
    assert not score(handle, gap).abstained.any()


class ByName(PythonModel):
    """Reads its columns by name, and raises on a missing value."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, ARG002 - no hints: MLflow acts on them
        if model_input.isna().to_numpy().any():
            raise KeyError("missing")
        return model_input["c"] * 2.0 + model_input["a"]


def test_a_pyfunc_gets_the_columns_by_name_and_is_refused_unless_allowed(store: Store, data: Data, sentinel: Path) -> None:
    import tests.unit.models.test_code_models as here

    cloudpickle.register_pickle_by_value(here)
    published = store.publish(ByName(), allow_code=True)
    with pytest.raises(UntrustedModel, match=r"MLmodel has flavors .*python_function.*mlflow.allow_code"):
        store.registry().load("m", published.version)
    handle = store.registry(allow_code=True).load("m", published.version)
    rows = data.x[:4].copy()
    rows[1, 0] = np.nan
    scores = score(handle, rows)
    assert scores.value[[0, 2, 3]].tolist() == (rows[:, 2] * 2.0 + rows[:, 0])[[0, 2, 3]].tolist()
    assert scores.abstained.tolist() == [False, True, False, False]
    assert not sentinel.exists()


def test_data_only_versions_stay_data_only_where_code_is_allowed(store: Store, booster: Any) -> None:
    store.publish(booster)
    handle = store.registry(allow_code=True).load("m", "1")
    assert "load_lightgbm" in handle.predict.__qualname__
