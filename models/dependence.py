"""How much rows of training resemble one another: along time, and across the symbols of one instant. Core.

n rows that resemble one another say less than n independent ones. With m rows at each instant they are worth about

    n (1 - rho) / (1 + rho) / (1 + (m - 1) cross)

independent rows: `rho` the autocorrelation along each series (Bayley & Hammersley 1946), `cross` the intraclass correlation
of the rows of one instant, whose design effect is 1 + (m - 1) cross (Kish, "Survey Sampling", 1965). A column that is the
same for all symbols (an index) has cross 1: 500 symbols say no more about it than one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_Number = TypeVar("_Number", np.float64, np.int64)


def autocorrelation(values: NDArray[np.float64], *, groups: ArrayLike | None = None) -> float:
    """Lag-1 autocorrelation of float64[rows] in the order given; 0 for a constant column.

    The sum over neighbouring present rows (of one group) of the product of their deviations from the mean, over
    the sum of squared deviations (Box & Jenkins 1970), kept within [-1, 1].

    >>> autocorrelation(np.array([-1., 0, 0, 1])), autocorrelation(np.array([1., -1, 1, -1]))
    (0.0, -0.75)
    """
    values, same = _neighbours(np.asarray(values, dtype=np.float64), groups)
    deviation = _deviation(values)
    spread = float(np.nansum(deviation**2))
    products = (deviation[1:] * deviation[:-1])[same]
    return float(np.clip(np.nansum(products) / spread, -1.0, 1.0)) if spread > 0.0 else 0.0


def autocorrelation_of_levels(codes: NDArray[np.int64], *, groups: ArrayLike | None = None) -> float:
    """Lag-1 autocorrelation of a categorical column, int64[rows] of codes from 0, -1 for missing.

    Of the indicators of its levels, products and squares summed over the levels, so it does not depend on their order. Of
    two levels it is `autocorrelation`.

    >>> autocorrelation_of_levels(np.array([0, 1, 0, 1])), autocorrelation_of_levels(np.array([2, 2, 2]))
    (-0.75, 0.0)
    """
    codes, same = _neighbours(np.asarray(codes, dtype=np.int64), groups)
    share = _shares(codes)
    squares = float(share @ share)
    spread = np.count_nonzero(codes >= 0) * (1.0 - squares)
    a, b = codes[:-1][same], codes[1:][same]
    both = (a >= 0) & (b >= 0)
    a, b = a[both], b[both]
    products = (a == b) - share[a] - share[b] + squares
    return float(np.clip(products.sum() / spread, -1.0, 1.0)) if spread > 0.0 else 0.0


def intraclass_correlation(values: NDArray[np.float64], times: ArrayLike) -> float:
    """How much alike the rows of one instant are, in [0, 1]: float64[rows], NaN = missing, and the instant of each.

    From the mean squares of a one-way analysis of variance, between and within instants (Fisher, "Statistical Methods for
    Research Workers", 1925), with the usual m0 for instants of unequal size (Donner, "A review of inference procedures for
    the intraclass correlation coefficient in the one-way random effects model", 1986):

        (MSB - MSW) / (MSB + (m0 - 1) MSW),   m0 = (n - sum(n_i^2) / n) / (k - 1)

    0 where rows of one instant differ more than rows of different ones, where every instant has one row, or with one instant.

    >>> intraclass_correlation(np.array([1., 1, 2, 2, 3, 3]), [0, 0, 1, 1, 2, 2])
    1.0
    >>> round(intraclass_correlation(np.array([9., 6, 8, 7, 10, 6]), [0, 0, 0, 1, 1, 1]), 3)
    0.0
    """
    values = np.asarray(values, dtype=np.float64)
    present = ~np.isnan(values)
    deviation = _deviation(values[present])
    sizes, instants = _instants(np.asarray(times)[present])
    sums = np.bincount(instants, weights=deviation, minlength=sizes.size)
    between = float((sums**2 / sizes).sum() - deviation.sum() ** 2 / max(deviation.size, 1))
    within = float(((deviation - (sums / sizes)[instants]) ** 2).sum())
    return _intraclass(between, within, sizes)


def intraclass_correlation_of_levels(codes: NDArray[np.int64], times: ArrayLike) -> float:
    """`intraclass_correlation` of a categorical column, int64[rows] of codes from 0, -1 for missing.

    Sums of squares are those of the indicators of its levels, summed over the levels, so it does not depend on their order.

    >>> intraclass_correlation_of_levels(np.array([0, 0, 2, 2]), [5, 5, 6, 6])
    1.0
    """
    codes = np.asarray(codes, dtype=np.int64)
    present = codes >= 0
    codes = codes[present]
    sizes, instants = _instants(np.asarray(times)[present])
    share = _shares(codes)
    _, cell, rows = np.unique(instants * max(share.size, 1) + codes, return_index=True, return_counts=True)
    alike = float((rows**2 / sizes[instants[cell]]).sum())
    n = codes.size
    return _intraclass(alike - n * float(share @ share), n - alike, sizes)


def _intraclass(between: float, within: float, sizes: NDArray[np.int64]) -> float:
    """Of sums of squares between and within instants of so many rows."""
    n, k = int(sizes.sum()), sizes.size
    if k < 2 or n == k:  # noqa: PLR2004 - two instants are the fewest that can differ
        return 0.0
    msb, msw = between / (k - 1), within / (n - k)
    m0 = (n - float((sizes.astype(np.float64) ** 2).sum()) / n) / (k - 1)
    total = msb + (m0 - 1.0) * msw
    return float(np.clip((msb - msw) / total, 0.0, 1.0)) if total > 0.0 else 0.0


def _instants(times: NDArray[np.generic]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of each distinct instant, and which of them each row is of."""
    _, instants, sizes = np.unique(times, return_inverse=True, return_counts=True)
    return sizes.astype(np.int64, copy=False), instants.astype(np.int64, copy=False)


def _shares(codes: NDArray[np.int64]) -> NDArray[np.float64]:
    known = codes[codes >= 0]
    return np.bincount(known) / max(known.size, 1)


def _deviation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Deviation from the mean, in units of the largest value, so that squares neither overflow nor vanish."""
    largest = np.nanmax(np.abs(values), initial=0.0)
    if largest == 0.0:
        return np.zeros(values.size)
    scaled = values / largest
    return np.asarray(scaled - np.nanmean(scaled))


def _neighbours(values: NDArray[_Number], groups: ArrayLike | None) -> tuple[NDArray[_Number], NDArray[np.bool_]]:
    """Values group by group, and which of them are followed by one of their own group."""
    if groups is None:
        return values, np.ones(max(values.size - 1, 0), dtype=bool)
    ids = np.asarray(groups)
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    return values[order], ids[1:] == ids[:-1]
