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


def effective_rows(rows: Ints, rho: Floats, cross: Floats | float = 0.0, rows_per_instant: float = 1.0) -> Floats:
    """How many independent rows n rows are worth that depend on those before them and on those beside them.

        n (1 - rho) / (1 + rho) / (1 + (m - 1) cross),   m rows per instant

    For a mean of AR(1) series with lag-1 autocorrelation rho (Bayley & Hammersley 1946, "The effective number of independent
    observations in an autocorrelated time series"), m of which run side by side and share a part of their movement: `cross` is
    their intraclass correlation, the divisor Kish's design effect (Kish 1965, "Survey Sampling"). For shares in bins it is
    on the safe side, since indicators of series are less correlated than the series. A negative rho counts as 0.

    >>> effective_rows(np.array([1900]), np.array([0.9])).round(6).tolist()
    [100.0]
    >>> effective_rows(np.array([30_000]), np.array([0.0]), np.array([0.5]), rows_per_instant=500).round(1).tolist()
    [119.8]
    """
    r = np.clip(rho, 0.0, 1.0)
    return np.asarray(rows * (1.0 - r) / (1.0 + r) / (1.0 + (max(rows_per_instant, 1.0) - 1.0) * cross))


def unbiased_rho(reference: Reference) -> Floats:
    """The reference's autocorrelations less the bias of their estimation, float64[columns].

    Estimated from T instants with the mean from the same rows, a positive rho comes out too small by about (1 + 4 rho) / T
    (Marriott & Pope 1954, "Bias in the estimation of autocorrelations"), which near 1 is much: 0.99 for 0.995 is twice the rows.
    What is not positive counts as 0 anyway.
    """
    instants = np.maximum(reference.counts.sum(axis=1) / reference.rows_per_instant, 1.0)
    raised = np.minimum(reference.rho + (1.0 + 4.0 * reference.rho) / instants, 1.0)
    return np.where(reference.rho > 0.0, raised, 0.0)


def window_rows(reference: Reference, rows: Ints, *, rows_per_instant: float | None = None) -> Floats:
    """Effective rows of a window, float64[columns]; by default it has as many rows per instant as training."""
    together = reference.rows_per_instant if rows_per_instant is None else rows_per_instant
    return effective_rows(rows, unbiased_rho(reference), reference.cross, together)


def p_values(reference: Reference, counts: Ints, *, rows_per_instant: float | None = None) -> Floats:
    """Chance of shares at least this different if window and training were one distribution; float64[columns].

    `counts` int64[columns, bins + 1] are judged counts, `rows_per_instant` those of the window (None: as in training).

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
    n, m = window_rows(reference, rows, rows_per_instant=rows_per_instant), window_rows(reference, trained)
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
    q = np.full(len(p), np.nan)
    order = np.argsort(p)  # NaN last
    tests = len(p) - int(np.isnan(p).sum())
    order = order[:tests]
    stepped = p[order] * (tests / np.arange(1, tests + 1))
    q[order] = np.minimum(np.minimum.accumulate(stepped[::-1])[::-1], 1.0)
    return q
