"""A training column's distribution as fixed bins, against which serving counts are held. Core.

Edges are training quantiles, taken from the values themselves (inverse empirical distribution), so ten bins of an
untied column hold a tenth of the rows each. Tied quantiles collapse into one edge: a column that is 0 in half of
its rows has one bin for that half. If the lowest edge is the column's minimum (a constant column, or many rows at
the minimum), a bin below it is split off, so that a later value below the training range does not hide among them.

    values 0 0 0 0 0 0 1 2 3 4, five bins asked for    quantiles 0 0 0 2    bins (x < 0) (x = 0) (0 < x <= 2) (x > 2)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.errors import SpecError
from models.spec import ColumnReference

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def column_reference(
    values: NDArray[np.float64], *, bins: int = 10, groups: NDArray[np.generic] | None = None, name: str = "column"
) -> ColumnReference:
    """The reference of one column from its training values, float64[rows] in training order, NaN = missing.

    `groups` [rows] says which series a row is of (the symbol), when several are stacked: `rho` then compares rows
    with the previous row of their own series. `name` is for the error message.

    Raises `SpecError` if a value is infinite or none is present.

    >>> r = column_reference(np.array([0., 0, 0, 0, 0, 0, 1, 2, 3, 4, np.nan]), bins=5)
    >>> r.edges[1:], r.counts, (r.low, r.high)
    ((0.0, 2.0), (0, 6, 2, 2, 1), (0.0, 4.0))
    >>> column_reference(np.array([7., 7, 7])).counts  # below 7, 7, above 7, missing
    (0, 3, 0, 0)
    """
    values = np.asarray(values, dtype=np.float64)
    missing = np.isnan(values)
    present = values[~missing]
    if present.size == 0:
        msg = f"{name!r} has no value in the training rows; leave the column out"
        raise SpecError(msg)
    if not np.isfinite(present).all():
        msg = f"{name!r} is infinite in a training row; make it NaN (missing) or clip it, in training and in serving"
        raise SpecError(msg)
    low, high = float(present.min()), float(present.max())
    edges = np.unique(np.quantile(present, np.arange(1, bins) / bins, method="inverted_cdf"))
    if edges.size == 0 or edges[0] == low:
        floor = np.nextafter(low, -np.inf)
        edges = np.concatenate([[floor], edges if edges.size else [low]]) if np.isfinite(floor) else edges
    inside = np.bincount(np.searchsorted(edges, present, side="left"), minlength=edges.size + 1)
    return ColumnReference(
        edges=tuple(edges.tolist()),
        counts=(*inside.tolist(), int(missing.sum())),
        low=low,
        high=high,
        rho=autocorrelation(values, groups=groups),
    )


def autocorrelation(values: NDArray[np.float64], *, groups: ArrayLike | None = None) -> float:
    """Lag-1 autocorrelation of float64[rows] in the order given; 0 for a constant column.

    The sum over neighbouring present rows (of one group) of the product of their deviations from the mean, over
    the sum of squared deviations (Box & Jenkins 1970), kept within [-1, 1]. It shrinks a sample of n dependent
    rows to about n (1 - rho) / (1 + rho) independent ones.

    >>> autocorrelation(np.array([-1., 0, 0, 1])), autocorrelation(np.array([1., -1, 1, -1]))
    (0.0, -0.75)
    """
    values = np.asarray(values, dtype=np.float64)
    same = np.ones(max(values.size - 1, 0), dtype=bool)
    if groups is not None:
        order = np.argsort(np.asarray(groups), kind="stable")
        values, ids = values[order], np.asarray(groups)[order]
        same = ids[1:] == ids[:-1]
    largest = np.nanmax(np.abs(values), initial=0.0)
    if largest == 0.0:
        return 0.0
    scaled = values / largest  # so that squares neither overflow nor vanish
    deviation = scaled - np.nanmean(scaled)
    spread = float(np.nansum(deviation**2))
    products = (deviation[1:] * deviation[:-1])[same]
    return float(np.clip(np.nansum(products) / spread, -1.0, 1.0)) if spread > 0.0 else 0.0
