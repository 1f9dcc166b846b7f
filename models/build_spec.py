"""A serving spec from what training has at hand: columns, training rows, calibration rows. Core.

Where times are given, rows are first put in their order, so that what depends on it (autocorrelation, halves and blocks in
time) does not depend on how training stacked its symbols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.confidence import check_residuals
from models.errors import SpecError
from models.loss_estimate import fit_loss_estimate
from models.reconstruction import Rows, fit_reconstruction
from models.reference import column_reference
from models.spec import ServingSpec
from models.trained import PREDICTION, cells_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

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
    times: ArrayLike | None = None,
    x_calibration: NDArray[np.float64] | None = None,
    y_calibration: NDArray[np.float64] | None = None,
    groups_calibration: NDArray[np.generic] | None = None,
    times_calibration: ArrayLike | None = None,
    residuals: Sequence[float] | None = None,
    level: float = 0.9,
    min_completeness: float = 0.0,
    bins: int = 10,
    levels: Sequence[str] = (),
    components: int | None = None,
    runtime: Runtime = "native",
) -> ServingSpec:
    """The checked spec of a model; the arguments are those of `models.publish.publish`. Raises `SpecError`."""
    names = [c.name for c in columns]
    for unknown in sorted(set(levels) - set(names)):
        msg = f"{name!r}: levels names {unknown!r}, which is not among its columns {names}"
        raise SpecError(msg)
    trained, _ = _rows(x, groups, times, columns=len(columns), what=(name, ""))
    held_out, order, errors = None, None, None
    if x_calibration is not None:
        held_out, order = _rows(
            x_calibration, groups_calibration, times_calibration, columns=len(columns), what=(name, "_calibration")
        )
    # Predictions on rows the model was trained on spread wider than those it will make; fresh rows when there are any.
    fresh = trained if held_out is None else held_out
    answers = np.asarray(predict(fresh.x), dtype=np.float64)
    if residuals is None:
        if held_out is None or y_calibration is None:
            msg = f"{name!r}: give residuals, or x_calibration with y_calibration (rows the model was not trained on)"
            raise SpecError(msg)
        errors = calibration_errors(answers, np.asarray(y_calibration, dtype=np.float64), order)
        residuals = errors[~np.isnan(errors)].tolist()
    elif y_calibration is not None:
        msg = f"{name!r}: both residuals and y_calibration are given; give one"
        raise SpecError(msg)
    residuals = tuple(float(r) for r in residuals)
    check_residuals(residuals, level=level, model=name)
    reference = {
        one: column_reference(
            trained.x[:, i],
            bins=bins,
            groups=trained.groups,
            times=trained.times,
            levels="auto" if one in levels else None,
            name=one,
        )
        for i, one in enumerate(names)
    }
    prediction = column_reference(
        answers, bins=bins, groups=fresh.groups, times=fresh.times, levels=(), name=PREDICTION
    )  # in bins, whatever it answers: predictions are numbers, and their range and distance are told
    loss_estimate = None
    if errors is not None:
        loss_estimate = fit_loss_estimate(
            cells_of(reference, prediction),
            dict(zip(names, fresh.x.T, strict=True)) | {PREDICTION: answers},
            errors,
            times=fresh.times,
            horizon_us=horizon_us,
        )
    return ServingSpec(
        model=name,
        trigger=trigger,
        horizon_us=horizon_us,
        columns=tuple(columns),
        feature_sets=dict(feature_sets),
        level=level,
        min_completeness=min_completeness,
        residuals=residuals,
        reference=reference,
        prediction_reference=prediction,
        runtime=runtime,
        rows_per_instant=1.0 if trained.times is None else len(trained.x) / np.unique(trained.times).size,
        reconstruction=fit_reconstruction(trained, held_out=held_out, components=components, bins=bins),
        loss_estimate=loss_estimate,
    ).check()


def calibration_errors(
    answers: NDArray[np.float64], y: NDArray[np.float64], order: NDArray[np.intp] | None = None
) -> NDArray[np.float64]:
    """Outcome minus prediction, float64[rows]; NaN where one is missing. `order`: the place in `y` of each answer's outcome.

    >>> calibration_errors(np.array([1.0, 2.0, 3.0]), np.array([1.5, np.nan, 2.5])).tolist()
    [0.5, nan, -0.5]
    """
    if y.shape != answers.shape:
        msg = f"y_calibration has shape {y.shape} for {len(answers)} rows of x_calibration; right is ({len(answers)},)"
        raise SpecError(msg)
    return np.asarray((y if order is None else y[order]) - answers)


def _rows(
    x: NDArray[np.float64],
    groups: NDArray[np.generic] | None,
    times: ArrayLike | None,
    *,
    columns: int,
    what: tuple[str, str],
) -> tuple[Rows, NDArray[np.intp] | None]:
    """Rows in time order, and the place each had if it is another. `what`: the model, and the ending of the arguments' names."""
    name, ending = what
    x = np.ascontiguousarray(x, dtype=np.float64)
    if x.size == 0 or x.shape != (len(x), columns):
        msg = f"{name!r}: x{ending} has shape {x.shape}; right is (rows, {columns}), a column for each of the spec's"
        raise SpecError(msg)
    ids = None if groups is None else np.asarray(groups)
    instants = None if times is None else np.asarray(times)
    for argument, given in (("groups", ids), ("times", instants)):
        if given is not None and given.shape != (len(x),):
            msg = f"{name!r}: {argument}{ending} has shape {given.shape} for {len(x)} rows of x{ending}; right is ({len(x)},)"
            raise SpecError(msg)
    # Numbers sort faster than names, and each column's autocorrelation sorts them.
    numbers = None if ids is None else np.unique(ids, return_inverse=True)[1].astype(np.int64, copy=False)
    if instants is None:
        return Rows(x, numbers), None
    if instants.dtype.kind == "M":
        instants = instants.astype("datetime64[us]")
    elif instants.dtype.kind not in "iu":
        msg = f"{name!r}: times{ending} are {instants.dtype}; right is event times in us as int64, or datetime64"
        raise SpecError(msg)
    instants = instants.astype(np.int64)
    if (np.diff(instants) >= 0).all():
        return Rows(x, numbers, instants), None
    order = np.argsort(instants, kind="stable")
    return Rows(np.ascontiguousarray(x[order]), None if numbers is None else numbers[order], instants[order]), order
