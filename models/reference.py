"""A training column's distribution as fixed cells, against which serving counts are held. Core.

Numeric columns have bins. Edges are training quantiles, taken from the values themselves (inverse empirical distribution),
so ten bins of an untied column hold a tenth of the rows each. Tied quantiles collapse into one edge: a column that is 0 in
half of its rows has one bin for that half. If the lowest edge is the column's minimum (a constant column, or many rows at
the minimum), a bin below it is split off, so that a later value below the training range does not hide among them.

    values 0 0 0 0 0 0 1 2 3 4, five bins asked for    quantiles 0 0 0 2    bins (x < 0) (x = 0) (0 < x <= 2) (x > 2)

Columns whose numbers are names (a sector code, a flag) have levels: a cell for each value of training, and one for any
other, since a code that training never saw is news wherever it lies between those it did see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from models.dependence import (
    autocorrelation,
    autocorrelation_of_levels,
    intraclass_correlation,
    intraclass_correlation_of_levels,
)
from models.errors import SpecError
from models.persistence import persistence
from models.trained import ColumnReference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MAX_LEVELS = 50
"""Most levels a categorical column may have: with more, a window has too few rows of each to judge."""


def column_reference(
    values: NDArray[np.float64],
    *,
    bins: int = 10,
    groups: NDArray[np.generic] | None = None,
    times: NDArray[np.generic] | None = None,
    levels: Literal["auto"] | Sequence[float] | None = None,
    name: str = "column",
) -> ColumnReference:
    """The reference of one column from its training values, float64[rows] in training order, NaN = missing.

    - `groups` [rows] says which series a row is of (the symbol), when several are stacked: `rho` then compares rows with the
      previous row of their own series.
    - `times` [rows] says of which instant a row is: `cross` then says how alike the rows of one instant are
      (`models.dependence`). Without it, or with one row an instant, `cross` is 0.
    - `levels`: None makes bins, except of a column that is never anything but 0 or 1 (a boolean), which gets levels; "auto"
      makes levels of the values found, at most `MAX_LEVELS`; a sequence is the levels, and () always makes bins.
    - `name` is for the error message.

    Raises `SpecError` if a value is infinite, none is present, or there are too many levels.

    >>> r = column_reference(np.array([0., 0, 0, 0, 0, 0, 1, 2, 3, 4, np.nan]), bins=5)
    >>> r.edges[1:], r.counts, (r.low, r.high)
    ((0.0, 2.0), (0, 6, 2, 2, 1), (0.0, 4.0))
    >>> column_reference(np.array([7., 7, 7])).counts  # below 7, 7, above 7, missing
    (0, 3, 0, 0)
    >>> r = column_reference(np.array([45., 10, 45, np.nan]), levels="auto")
    >>> r.levels, r.counts  # 10, 45, other, missing
    ((10.0, 45.0), (1, 2, 0, 1))
    """
    values = np.asarray(values, dtype=np.float64)
    present = values[~np.isnan(values)]
    if present.size == 0:
        msg = f"{name!r} has no value in the training rows; leave the column out"
        raise SpecError(msg)
    if not np.isfinite(present).all():
        msg = f"{name!r} is infinite in a training row; make it NaN (missing) or clip it, in training and in serving"
        raise SpecError(msg)
    named = _levels(present, levels, name)
    edges = () if named else _edges(present, bins)
    known = ColumnReference(edges=edges, levels=named, counts=(), low=float(present.min()), high=float(present.max()))
    codes = cells(known, values)
    counts = np.bincount(codes, minlength=len(named or edges) + 2)
    if named:
        codes = np.where(codes == counts.size - 1, -1, codes)
        indicators = np.where(codes[:, np.newaxis] < 0, np.nan, codes[:, np.newaxis] == np.arange(len(named)))
        rho = persistence(indicators, groups=groups, times=times) or min(autocorrelation_of_levels(codes, groups=groups), 0.0)
        cross = 0.0 if times is None else intraclass_correlation_of_levels(codes, times)
    else:
        rho = persistence(values, groups=groups, times=times) or min(autocorrelation(values, groups=groups), 0.0)
        cross = 0.0 if times is None else intraclass_correlation(values, times)
    return ColumnReference(
        edges=edges, levels=named, counts=tuple(counts.tolist()), low=known.low, high=known.high, rho=rho, cross=cross
    )


def cells(reference: ColumnReference, values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The cell of each value, int64[rows]: its bin, or its level (other comes after the levels); the last for NaN.

    >>> r = column_reference(np.array([0., 1, 1]))
    >>> cells(r, np.array([0., 1, 0.5, np.nan])).tolist()
    [0, 1, 2, 3]
    """
    missing = np.isnan(values)
    if reference.levels:
        levels = np.array(reference.levels)
        at = np.searchsorted(levels, values)
        found = levels[np.minimum(at, levels.size - 1)] == values
        return np.where(missing, levels.size + 1, np.where(found, at, levels.size))
    return np.where(missing, len(reference.edges) + 1, np.searchsorted(np.array(reference.edges), values, side="left"))


def _edges(present: NDArray[np.float64], bins: int) -> tuple[float, ...]:
    low = present.min()
    edges = np.unique(np.quantile(present, np.arange(1, bins) / bins, method="inverted_cdf"))
    if edges.size == 0 or edges[0] == low:
        floor = np.nextafter(low, -np.inf)
        edges = np.concatenate([[floor], edges if edges.size else [low]]) if np.isfinite(floor) else edges
    return tuple(edges.tolist())


def _levels(present: NDArray[np.float64], levels: Literal["auto"] | Sequence[float] | None, name: str) -> tuple[float, ...]:
    if levels is None:
        if not ((present == 0.0) | (present == 1.0)).all():
            return ()
        levels = "auto"
    found = np.unique(present if isinstance(levels, str) else np.asarray(levels, dtype=np.float64)) + 0.0  # no -0.0
    if found.size > MAX_LEVELS:
        msg = (
            f"{name!r} has {found.size} levels; at most {MAX_LEVELS} can be told apart in a window. "
            "Group them, or leave the column out of `levels` to have it in bins"
        )
        raise SpecError(msg)
    if not np.isfinite(found).all():
        msg = f"{name!r}: levels must be finite numbers, got {list(levels)}"
        raise SpecError(msg)
    return tuple(found.tolist())
