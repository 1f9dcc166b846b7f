"""Is a difference more than noise? Effective sample size, a null test per column, a false-discovery rate across them.

Core. A distance alone cannot say: of 60 undrifted rows, PSI exceeds 0.1 two times in three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from monitoring.reference import Floats, Ints, Reference

MIN_EXPECTED = 5.0
"""Least expected (effective) count of a cell of the test; smaller bins are merged with their neighbours. Cochran 1954."""

MIN_EFFECTIVE = 2 * MIN_EXPECTED
"""Fewest effective rows that can fill two cells; below it nothing can be told."""


def effective_rows(rows: Ints, rho: Floats) -> Floats:
    """How many independent rows a series with lag-1 autocorrelation rho is worth: n (1 - rho) / (1 + rho).

    For a mean of an AR(1) series (Bayley & Hammersley 1946, "The effective number of independent observations
    in an autocorrelated time series"); for shares in bins it is on the safe side, since an indicator of a series is
    less autocorrelated than the series. A negative rho counts as 0.

    >>> effective_rows(np.array([1900]), np.array([0.9])).round(6).tolist()
    [100.0]
    """
    r = np.clip(rho, 0.0, 1.0)
    return np.asarray(rows * (1.0 - r) / (1.0 + r))


def p_values(reference: Reference, counts: Ints) -> Floats:
    """Chance of bins at least this different if window and training were one distribution; float64[columns].

    Pearson's two-sample chi-square of homogeneity (Pearson 1911) on effective counts, so the reference's own
    sampling error is part of it:

        X2 = n m / (n + m) * sum_k (p_k - q_k)^2 / pi_k,   pi = (n p + m q) / (n + m),   n, m effective rows

    Neighbouring bins are merged until each cell expects `MIN_EXPECTED` of the smaller sample, or the window holds as many
    in it (so a level that training hardly knew is tested too); the degrees of freedom are the cells less one.
    NaN where nothing can be told: either side has fewer than `MIN_EFFECTIVE` effective rows, or all bins merged into one
    cell although at least one effective row lies differently.

    >>> from monitoring.reference import Reference
    >>> r = Reference.from_columns(["a"], {"a": {"edges": [0.0], "counts": [500, 500, 0], "low": -1, "high": 1}})
    >>> bool(p_values(r, np.array([[50, 50, 0]]))[0] > 0.99), bool(p_values(r, np.array([[80, 20, 0]]))[0] < 1e-6)
    (True, True)
    """
    from scipy.special import chdtrc  # the CLI's start must not pay for scipy

    rows, trained = counts.sum(axis=1), reference.counts.sum(axis=1)
    n, m = effective_rows(rows, reference.rho), effective_rows(trained, reference.rho)
    enough = (n >= MIN_EFFECTIVE) & (m >= MIN_EFFECTIVE)
    n, m = np.where(enough, n, 1.0), np.where(enough, m, 1.0)
    p = counts / np.maximum(rows, 1)[:, None]
    q = reference.counts / np.maximum(trained, 1)[:, None]
    pooled = (n[:, None] * p + m[:, None] * q) / (n + m)[:, None]
    total, cells = _merged_terms(p, q, pooled, least=MIN_EXPECTED / np.minimum(n, m), least_seen=MIN_EXPECTED / n)
    tail = chdtrc(np.maximum(cells - 1, 1), n * m / (n + m) * total)
    moved = np.abs(p - q).sum(axis=1) / 2 * np.minimum(n, m)
    one_cell = np.where(moved < 1.0, 1.0, np.nan)
    return np.where(enough, np.where(cells > 1, tail, one_cell), np.nan)


def _merged_terms(p: Floats, q: Floats, pooled: Floats, *, least: Floats, least_seen: Floats) -> tuple[Floats, Floats]:
    """Per column the sum of (p - q)^2 / pooled over merged cells, and how many cells there are.

    Bins are gathered left to right until their pooled share reaches `least` or their share of the window `least_seen`;
    what remains at the end joins the last full cell. All columns step together, one bin at a time.
    """
    columns, width = pooled.shape
    total, cells = np.zeros(columns), np.zeros(columns)
    # Of the cell being filled and of the last one filled: p, q, pooled.
    gathering, full = np.zeros((3, columns)), np.zeros((3, columns))
    for k in range(width):
        gathering += (p[:, k], q[:, k], pooled[:, k])
        done = (gathering[2] >= least) | (gathering[0] >= least_seen)
        total += np.where(done, _term(full), 0.0)
        full = np.where(done, gathering, full)
        gathering = np.where(done, 0.0, gathering)
        cells += done
    return total + _term(full + gathering), cells


def _term(cell: Floats) -> Floats:
    p, q, pooled = cell
    return np.asarray((p - q) ** 2 / np.where(pooled > 0, pooled, 1.0))


def adjusted(p: Floats) -> Floats:
    """Benjamini-Hochberg adjusted p-values of the columns judged (NaN stays NaN and is not counted as a test).

    Calling a column drifted where the adjusted value is at most alpha keeps the expected share of false calls
    at alpha; with no drift anywhere, alpha is the chance of any call. Benjamini & Hochberg 1995, "Controlling
    the false discovery rate".

    >>> adjusted(np.array([0.01, np.nan, 0.04])).tolist()
    [0.02, nan, 0.04]
    """
    from scipy.stats import false_discovery_control  # the CLI's start must not pay for scipy

    q = np.full(len(p), np.nan)
    judged = ~np.isnan(p)
    if judged.any():
        q[judged] = false_discovery_control(p[judged])
    return q
