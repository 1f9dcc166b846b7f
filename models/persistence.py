"""How long a training column remembers: the autocorrelation that makes its rows worth what they are worth. Core.

The mean of n rows of a stationary series varies as that of n / tau independent ones, tau its integrated autocorrelation time:

    tau = 1 + 2 sum_k rho_k        of an AR(1) series (1 + rho) / (1 - rho)

The first autocorrelation alone tells tau only of an AR(1) series. Half a slow movement (0.98) under half noise has a first
autocorrelation of 0.49, which would make tau 2.9, and is 50. So what is given is the autocorrelation of the AR(1) series with the
same tau, (tau - 1) / (tau + 1). The sum is cut by Geyer's initial monotone sequence (Geyer 1992, "Practical Markov chain Monte
Carlo"): pairs of neighbouring autocorrelations, as long as they stay positive, none greater than the one before.

Where symbols stand side by side, tau is that of the series, pooled, or that of the mean over symbols at each instant,
whichever is greater: what symbols share may be slower than what is their own, and it is what is left in a mean over many.
Each series is held against its own mean, since that symbols differ from one another for good says nothing about time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

MOST_LAGS = 4_096
"""Longest memory looked for, in rows of one series; no further than a third of the longest either."""
_AT_ONCE = 1 << 20  # numbers transformed together
_ROUNDING = 1e-28  # variance of a constant column whose largest value is 1


def persistence(values: Floats, *, groups: ArrayLike | None = None, times: ArrayLike | None = None) -> float:
    """The AR(1)-equivalent autocorrelation, in [0, 1), of float64[rows] in time order, NaN = missing.

    `values` may be float64[rows, k], such as the indicators of k levels: their products are summed. `groups` [rows]: the series a
    row is of (the symbol); `times` [rows]: its instant. 0 for a constant column, and where neighbours differ more than others.

    >>> walk = np.cumsum(np.random.default_rng(1).normal(size=2000)) * 0.01
    >>> persistence(walk) > 0.99, persistence(np.tile([1.0, -1.0], 500))
    (True, 0.0)
    """
    columns = np.asarray(values, dtype=np.float64)
    columns = columns if columns.ndim > 1 else columns[:, np.newaxis]
    largest = np.nanmax(np.abs(columns), initial=0.0)
    if largest == 0.0:
        return 0.0
    columns = columns / largest  # so that squares neither overflow nor vanish
    ids = np.zeros(len(columns), np.int64) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    order = np.argsort(ids, kind="stable")
    sizes = np.bincount(ids)
    tau = _time(columns[order], sizes)
    if times is not None and sizes.size > 1:
        means = _means(columns - _own_means(columns, ids), np.asarray(times))
        tau = max(tau, _time(means, np.array([len(means)])))
    return (tau - 1.0) / (tau + 1.0)


def _time(columns: Floats, sizes: NDArray[np.int64]) -> float:
    """Integrated autocorrelation time of series one after another, of so many rows each, at least 1."""
    lags = min(MOST_LAGS, int(sizes.max(initial=0)) // 3)
    if lags < 2:  # noqa: PLR2004 - a pair
        return 1.0
    ids = np.repeat(np.arange(sizes.size), sizes)
    columns = columns - _own_means(columns, ids)
    # Series apart from one another by more than any lag, so that no product is of two of them.
    place = np.arange(len(columns)) + ids * lags
    length = -(-(int(place[-1]) + 1) // lags) * lags + lags
    covariance, pairs = np.zeros(lags), np.zeros(lags)
    everywhere = np.maximum(sizes[:, np.newaxis] - np.arange(lags), 0).sum(axis=0)
    for column in columns.T:
        present = ~np.isnan(column)
        laid = np.zeros(length)
        laid[place] = np.where(present, column, 0.0)
        covariance += _products(laid, lags)
        if present.all():
            pairs += everywhere
        else:
            laid[place] = present
            pairs += _products(laid, lags)
    if covariance[0] <= _ROUNDING * pairs[0]:
        return 1.0
    return _summed(covariance / np.maximum(pairs, 1.0) / (covariance[0] / pairs[0]))


def _summed(rho: Floats) -> float:
    """1 + 2 sum of the autocorrelations, the first of which is 1, by the initial monotone sequence."""
    pairs = rho[: rho.size // 2 * 2].reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0.0)
    kept = np.minimum.accumulate(pairs[: ends[0] if ends.size else pairs.size])
    return max(2.0 * float(kept.sum()) - 1.0, 1.0)


def _products(x: Floats, lags: int) -> Floats:
    """Sum of x[t] x[t + k] over t, for k < lags; len(x) is a multiple of lags, and its last part is 0."""
    parts = x.reshape(-1, lags)
    sums = np.zeros(lags)
    step = max(_AT_ONCE // (2 * lags), 1)
    for start in range(0, len(parts) - 1, step):
        here, after = parts[start : start + step], parts[start + 1 : start + step + 1]
        here = here[: len(after)]
        with_next = np.fft.rfft(np.concatenate([here, after], axis=1), axis=1)
        alone = np.fft.rfft(here, 2 * lags, axis=1)
        sums += np.fft.irfft((alone.conj() * with_next).sum(axis=0), 2 * lags)[:lags]
    return sums


def _own_means(columns: Floats, ids: NDArray[np.int64]) -> Floats:
    """Of each value the mean of its series."""
    return _summary(columns, ids)[ids]


def _means(columns: Floats, times: NDArray[np.generic]) -> Floats:
    return _summary(columns, np.unique(times, return_inverse=True)[1])


def _summary(columns: Floats, ids: NDArray[np.int64]) -> Floats:
    """Mean of the values present under each id, float64[ids, k]; NaN where there is none."""
    present = ~np.isnan(columns)
    sums = [np.bincount(ids, np.where(p, c, 0.0)) for c, p in zip(columns.T, present.T, strict=True)]
    counts = [np.bincount(ids, p) for p in present.T]
    with np.errstate(invalid="ignore"):
        return np.array(sums).T / np.array(counts).T
