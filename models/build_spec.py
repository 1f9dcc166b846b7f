"""A serving spec from what training has at hand: columns, training rows, calibration rows. Core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.confidence import check_residuals
from models.errors import SpecError
from models.reference import column_reference
from models.spec import ServingSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from models.handle import Predict
    from models.spec import ColumnSpec, FeatureSetSpec, Runtime


def build_spec(  # noqa: PLR0913 - one keyword for each thing a spec is made of
    predict: Predict,
    *,
    name: str,
    columns: Sequence[ColumnSpec],
    feature_sets: Mapping[str, FeatureSetSpec],
    trigger: str,
    horizon_us: int,
    x: NDArray[np.float64],
    groups: NDArray[np.generic] | None = None,
    x_calibration: NDArray[np.float64] | None = None,
    y_calibration: NDArray[np.float64] | None = None,
    groups_calibration: NDArray[np.generic] | None = None,
    residuals: Sequence[float] | None = None,
    level: float = 0.9,
    min_completeness: float = 0.0,
    bins: int = 10,
    runtime: Runtime = "native",
) -> ServingSpec:
    """The checked spec of a model; the arguments are those of `models.publish.publish`. Raises `SpecError`."""
    x = _matrix(x, len(columns), name, "x")
    if x_calibration is not None:
        x_calibration = _matrix(x_calibration, len(columns), name, "x_calibration")
    if residuals is None:
        if x_calibration is None or y_calibration is None:
            msg = f"{name!r}: give residuals, or x_calibration with y_calibration (rows the model was not trained on)"
            raise SpecError(msg)
        residuals = calibration_residuals(predict, x_calibration, np.asarray(y_calibration, dtype=np.float64))
    elif y_calibration is not None:
        msg = f"{name!r}: both residuals and y_calibration are given; give one"
        raise SpecError(msg)
    residuals = tuple(float(r) for r in residuals)
    check_residuals(residuals, level=level, model=name)
    # Predictions on rows the model was trained on spread wider than those it will make; fresh rows when there are any.
    fresh, fresh_groups = (x, groups) if x_calibration is None else (x_calibration, groups_calibration)
    return ServingSpec(
        model=name,
        trigger=trigger,
        horizon_us=horizon_us,
        columns=tuple(columns),
        feature_sets=dict(feature_sets),
        level=level,
        min_completeness=min_completeness,
        residuals=residuals,
        reference={c.name: column_reference(x[:, i], bins=bins, groups=groups, name=c.name) for i, c in enumerate(columns)},
        prediction_reference=column_reference(predict(fresh), bins=bins, groups=fresh_groups, name="prediction"),
        runtime=runtime,
    ).check()


def calibration_residuals(predict: Predict, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, ...]:
    """Outcome minus prediction, y - predict(x), without the rows that lack one of them.

    `x` float64[rows, columns], `y` float64[rows].

    >>> calibration_residuals(lambda x: x[:, 0], np.array([[1.0], [2.0], [3.0]]), np.array([1.5, np.nan, 2.5]))
    (0.5, -0.5)
    """
    if y.shape != (x.shape[0],):
        msg = f"y_calibration has shape {y.shape} for {x.shape[0]} rows of x_calibration; right is ({x.shape[0]},)"
        raise SpecError(msg)
    residuals = y - np.asarray(predict(x), dtype=np.float64)
    return tuple(residuals[~np.isnan(residuals)].tolist())


def _matrix(x: NDArray[np.float64], columns: int, name: str, what: str) -> NDArray[np.float64]:
    x = np.ascontiguousarray(x, dtype=np.float64)
    if x.size == 0 or x.shape != (len(x), columns):
        msg = f"{name!r}: {what} has shape {x.shape}; right is (rows, {columns}), a column for each of the spec's"
        raise SpecError(msg)
    return x
