from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor

from models.errors import SpecError, UntrustedModel
from models.native_sklearn import load_skops, native

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.models.conftest import Data


def saved(estimator: Any, tmp_path: Path) -> Path:
    import skops.io

    file = tmp_path / "model.skops"
    skops.io.dump(estimator, file)
    return file


@pytest.mark.parametrize(
    "estimator",
    [
        LinearRegression(),
        make_pipeline(StandardScaler(), Ridge()),
        make_pipeline(SimpleImputer(add_indicator=True), DecisionTreeRegressor(max_depth=3)),
        RandomForestRegressor(4, max_depth=3, random_state=1, n_jobs=2),
        GradientBoostingRegressor(n_estimators=4, random_state=1),
    ],
    ids=lambda e: type(e).__name__,
)
def test_the_loaded_model_answers_as_scikit_learn_does(estimator: Any, data: Data, tmp_path: Path) -> None:
    estimator.fit(*data.train)
    loaded = load_skops(saved(estimator, tmp_path), columns=3)
    assert loaded.predict(data.x) == pytest.approx(estimator.predict(data.x), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("estimator", [SVR(), HistGradientBoostingRegressor(max_iter=2), LogisticRegression()])
def test_other_estimators_are_refused_and_the_message_lists_what_is_served(estimator: Any, data: Data, tmp_path: Path) -> None:
    x, y = data.train
    estimator.fit(x, y > 0 if isinstance(estimator, LogisticRegression) else y)
    with pytest.raises(UntrustedModel, match=f"{type(estimator).__name__}.*Served are .*Ridge.*publish a LightGBM model"):
        load_skops(saved(estimator, tmp_path), columns=3)


def test_a_row_with_a_missing_value_silences_only_itself(data: Data) -> None:
    model = native(GradientBoostingRegressor(n_estimators=3).fit(*data.train), columns=3)
    values = data.x[:5].copy()
    values[2, 1] = np.nan
    assert not model.accepts_missing
    assert np.isnan(model.predict(values)).tolist() == [False, False, True, False, False]


def test_a_forest_answers_missing_values_and_only_the_row_beyond_float32_is_silent(data: Data) -> None:
    x, y = data.train
    with_gaps = x.copy()
    with_gaps[::7, 0] = np.nan
    model = native(RandomForestRegressor(3, max_depth=3, random_state=1).fit(with_gaps, y), columns=3)
    values = data.x[:6].copy()
    values[1, 0], values[3, 2], values[5, 1] = np.nan, 1e300, -np.inf
    assert model.accepts_missing
    assert np.isnan(model.predict(values)).tolist() == [False, False, False, True, False, True]


def test_a_model_whose_every_row_is_at_fault_says_so(data: Data) -> None:
    model = native(RandomForestRegressor(2, max_depth=2).fit(*data.train), columns=3)
    with pytest.raises(ValueError, match="too large"):
        model.predict(np.full((3, 3), 1e300))


def test_the_columns_must_be_those_of_the_spec(data: Data) -> None:
    with pytest.raises(SpecError, match="reads 3 columns; the serving spec has 4"):
        native(Ridge().fit(*data.train), columns=4)


def test_two_answers_a_row_are_refused(data: Data) -> None:
    x, y = data.train
    with pytest.raises(SpecError, match="one answer a row"):
        native(Ridge().fit(x, np.column_stack([y, y])), columns=3)


def test_boosting_on_top_of_another_estimator_is_refused(data: Data) -> None:
    with pytest.raises(UntrustedModel, match="init estimator LinearRegression"):
        native(GradientBoostingRegressor(n_estimators=2, init=LinearRegression()).fit(*data.train), columns=3)
