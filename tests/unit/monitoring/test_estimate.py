"""The estimated loss of a window is the mean of what each of its rows is estimated to lose."""

from __future__ import annotations

import math

import numpy as np
import pytest

from monitoring.drift import count
from monitoring.errors import BadReferenceError
from monitoring.estimate import Loss, estimated_loss
from monitoring.reference import Reference, fold

COLUMNS = {
    "x": {"edges": [0.0, 1.0], "counts": [5, 5, 5, 1], "low": -1, "high": 2},
    "code": {"edges": [], "levels": [1.0, 4.0], "counts": [7, 8, 0, 1], "low": 1, "high": 4},
    "plain": {"edges": [0.0], "counts": [5, 5, 0], "low": -1, "high": 1},
}
REFERENCE = Reference.from_columns(list(COLUMNS), COLUMNS)
WEIGHTS = {"x": (0.1, -0.2, 0.3, 0.5), "code": (0.0, 1.0, 2.0, -1.0)}


def row_by_row(values: list[list[float]]) -> float:
    losses = []
    for x, code, _ in values:
        k = 3 if math.isnan(x) else 0 if x <= 0 else 1 if x <= 1 else 2
        level = 3 if math.isnan(code) else {1.0: 0, 4.0: 1}.get(code, 2)
        losses.append(2.5 + WEIGHTS["x"][k] + WEIGHTS["code"][level])
    return float(np.mean(losses))


def test_it_is_the_mean_over_the_rows() -> None:
    rng = np.random.default_rng(1)
    values = np.column_stack([rng.normal(size=200) * 3, rng.choice([1.0, 4.0, 2.0, np.nan], 200), rng.normal(size=200)])
    values[:20, 0] = np.nan
    counts = fold(REFERENCE, count(REFERENCE, values))
    assert Loss.of(REFERENCE, 2.5, WEIGHTS).mean(counts) == pytest.approx(row_by_row(values.tolist()), rel=1e-12)


def test_no_rows_have_no_loss() -> None:
    assert math.isnan(Loss.of(REFERENCE, 2.5, WEIGHTS).mean(np.zeros(REFERENCE.counts.shape, np.int64)))
    assert math.isnan(estimated_loss(1.0, np.empty((0, 3)), np.empty((0, 3), np.int64)))


def test_weights_that_do_not_belong_are_named() -> None:
    with pytest.raises(BadReferenceError, match="column 'x': 4 cells need as many, got 3"):
        Loss.of(REFERENCE, 0.0, {"x": (1.0, 2.0, 3.0)})
    with pytest.raises(BadReferenceError, match="column 'y': the reference has no such column"):
        Loss.of(REFERENCE, 0.0, {"y": (1.0,)})
    with pytest.raises(BadReferenceError, match=r"weights of shape \(3, 4\) do not belong to judged counts of shape \(3, 6\)"):
        Loss.of(REFERENCE, 0.0, WEIGHTS).mean(np.zeros(REFERENCE.shape, np.int64))
