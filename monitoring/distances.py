"""How far counts lie from their reference: four distances, all from the same bins.

Core. Every function takes a `Reference` and judged counts int64[columns, bins + 1] (`monitoring.reference.fold`) and answers
float64[columns]; NaN where either side has nothing to compare, and where the distance needs an order that levels lack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from monitoring.reference import Floats, Ints, Reference


def psi(reference: Reference, counts: Ints) -> Floats:
    """Population stability index: the symmetrised Kullback-Leibler divergence of the binned distributions.

        PSI = sum_k (p_k - q_k) ln(p_k / q_k)

    over all cells, missing included (unless the reference leaves it out), with p and q smoothed by half a count per
    cell (Jeffreys' prior), so an empty cell costs a finite amount that shrinks as rows grow. Jeffreys 1946, "An invariant
    form for the prior probability in estimation problems"; as PSI in Siddiqi 2006, "Credit Risk Scorecards"; its sampling
    distribution in Yurdakul 2018, "Statistical properties of population stability index".

    >>> from monitoring.reference import Reference
    >>> r = Reference.from_columns(["a"], {"a": {"edges": [0.0], "counts": [50, 50, 0], "low": -1, "high": 1}})
    >>> psi(r, np.array([[50, 50, 0]])).round(6).tolist()
    [0.0]
    >>> psi(r, np.array([[80, 20, 0]])).round(2).tolist()
    [0.4]
    """
    return _known(psi_terms(reference, counts).sum(axis=1), counts.sum(axis=1), reference.counts.sum(axis=1))


def psi_terms(reference: Reference, counts: Ints) -> Floats:
    """What each judged cell adds to the PSI, never negative: float64[columns, bins + 1], 0 where there is no such cell."""
    cells = (reference.bins + reference.absent)[:, None]
    p = (counts + 0.5) / (counts.sum(axis=1, keepdims=True) + 0.5 * cells)
    q = (reference.counts + 0.5) / (reference.counts.sum(axis=1, keepdims=True) + 0.5 * cells)
    return np.where(_real(reference), (p - q) * np.log(p / q), 0.0)


def jensen_shannon(reference: Reference, counts: Ints) -> Floats:
    """Jensen-Shannon distance in base 2: 0 for equal, 1 for disjoint distributions; a metric; needs no smoothing.

        JSD = sqrt( (KL(p || m) + KL(q || m)) / 2 ),   m = (p + q) / 2

    Lin 1991, "Divergence measures based on the Shannon entropy"; the root is a metric: Endres & Schindelin 2003.

    >>> from monitoring.reference import Reference
    >>> r = Reference.from_columns(["a"], {"a": {"edges": [0.0], "counts": [9, 0, 0], "low": -1, "high": 1}})
    >>> jensen_shannon(r, np.array([[0, 7, 0]])).tolist()
    [1.0]
    """
    p, q = _shares(counts), _shares(reference.counts)
    m = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.where(p > 0, p * np.log2(p / m), 0.0) + np.where(q > 0, q * np.log2(q / m), 0.0)
    distance = np.sqrt(np.maximum(kl.sum(axis=1) / 2, 0.0))
    return _known(distance, counts.sum(axis=1), reference.counts.sum(axis=1))


def ks(reference: Reference, counts: Ints) -> Floats:
    """Kolmogorov-Smirnov statistic of the values present: the largest gap of the two distribution functions.

    Only the bin edges are looked at, so it is a lower bound of the exact statistic, short of it by at most the
    larger of the two shares in any one bin. Kolmogorov 1933; Smirnov 1948, "Table for estimating the goodness
    of fit of empirical distributions".

    >>> from monitoring.reference import Reference
    >>> r = Reference.from_columns(["a"], {"a": {"edges": [0.0], "counts": [50, 50, 0], "low": -1, "high": 1}})
    >>> ks(r, np.array([[80, 20, 7]])).round(6).tolist()
    [0.3]
    """
    gap = np.abs(_cumulative(counts) - _cumulative(reference.counts)).max(axis=1)
    return _ordered(reference, gap, counts)


def wasserstein(reference: Reference, counts: Ints) -> Floats:
    """Wasserstein-1 (earth mover's) distance of the values present, in the column's own unit.

        W = sum_k |F_k - G_k| (x_{k+1} - x_k),   x_k the middle of bin k

    The outer bins are closed at the training range, so what lies beyond it counts as lying within the outer
    bins: one wild value moves W no further than any other. Every value moves by at most half its bin's width,
    which bounds the error for data within the range. Kantorovich 1942; Vallender 1974 for the one-dimensional form.

    >>> from monitoring.reference import Reference
    >>> r = Reference.from_columns(["a"], {"a": {"edges": [1.0], "counts": [9, 0, 0], "low": 0, "high": 2}})
    >>> wasserstein(r, np.array([[0, 7, 0]])).tolist()
    [1.0]
    """
    top = reference.high[:, None]
    inner = np.where(np.isinf(reference.edges), top, reference.edges)
    limits = np.concatenate([reference.low[:, None], inner, top], axis=1)  # (columns, bins + 1)
    middles = (limits[:, :-1] + limits[:, 1:]) / 2  # (columns, bins)
    gap = np.abs(_cumulative(counts) - _cumulative(reference.counts))[:, :-1]
    distance = (gap * np.abs(np.diff(middles, axis=1))).sum(axis=1)
    return _ordered(reference, distance, counts)


def _real(reference: Reference) -> NDArray[np.bool_]:
    """(columns, bins + 1): which cells are judged; the rest is padding, or missing where that is left out."""
    cell = np.arange(reference.counts.shape[1])
    real = cell[None, :] < reference.bins[:, None]
    real[:, -1] = reference.absent
    return np.asarray(real)


def _shares(counts: Ints) -> Floats:
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def _cumulative(counts: Ints) -> Floats:
    """Distribution function at every bin's upper edge, missing left out: (columns, bins)."""
    present = counts[:, :-1]
    return np.asarray(present.cumsum(axis=1) / np.maximum(present.sum(axis=1, keepdims=True), 1))


def _ordered(reference: Reference, distance: Floats, counts: Ints) -> Floats:
    """The distance of the values present; NaN for levels, which have no order."""
    known = _known(distance, counts[:, :-1].sum(axis=1), reference.counts[:, :-1].sum(axis=1))
    known[list(reference.levels)] = np.nan
    return known


def _known(distance: Floats, observed: Ints, expected: Ints) -> Floats:
    return np.where((observed > 0) & (expected > 0), distance, np.nan)
