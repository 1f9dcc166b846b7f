"""Drift of a model's columns: values -> counts in fixed cells -> a report with a verdict per column.

Core: numpy in, numpy out. Counts are all that is kept: `count(a + b) == count(a) + count(b)`, so windows are
sums of panes and their cost does not grow with the rows in them.

| verdict             | when                                                                           |
|---------------------|--------------------------------------------------------------------------------|
| `insufficient_data` | fewer than `min_samples` rows, or too few effective rows to test, on either side |
| `stable`            | PSI below the threshold, or not significant                                    |
| `warn`              | PSI >= threshold, and significant after Benjamini-Hochberg                     |
| `critical`          | PSI >= 2.5 * threshold, and significant                                        |
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.distances import jensen_shannon, ks, psi, wasserstein
from monitoring.errors import BadReferenceError
from monitoring.reference import fold
from monitoring.report_drift import VERDICTS, ColumnDrift, Columns, DriftReport, Verdict
from monitoring.significance import adjusted, effective_rows, p_values, window_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from monitoring.reference import Bools, Floats, Ints, Reference

__all__ = [
    "CRITICAL_RATIO",
    "ColumnDrift",
    "Columns",
    "DriftReport",
    "Verdict",
    "adjusted",
    "builtins",
    "count",
    "drift_report",
    "effective_rows",
    "encode",
    "fold",
    "jensen_shannon",
    "ks",
    "p_values",
    "psi",
    "tally",
    "wasserstein",
]

CRITICAL_RATIO = 2.5
"""Critical at this many times the warn threshold (PSI 0.25 for 0.1, the customary pair)."""


def count(reference: Reference, values: Floats) -> Ints:
    """Count values float64[rows, columns] into the reference's cells: int64[columns, bins + 3].

    Each column is sorted (NaN last) and the limits are looked up in it, which is several times faster than
    looking every value up in the limits.

    >>> from monitoring.reference import Reference
    >>> r = Reference.from_columns(["a"], {"a": {"edges": [0.0, 1.0], "counts": [1, 1, 1, 0], "low": 0, "high": 1}})
    >>> count(r, np.array([[-0.5], [0.0], [0.5], [7.0], [np.nan]])).tolist()  # below, three bins, above, missing
    [[1, 1, 1, 0, 1, 1]]
    """
    _fits(reference, values)
    ordered = np.sort(values.T, axis=1)  # (columns, rows)
    limits = reference.limits
    position = np.zeros((len(limits), limits.shape[1] + 2), np.int64)
    position[:, -1] = len(values)
    for c, row in enumerate(ordered):
        position[c, 1:-1] = row.searchsorted(limits[c], "right")
    counts = np.diff(position)
    for c, levels in reference.levels.items():
        # All that is present was found below +inf, the first limit.
        present = int(counts[c, 0])
        held = ordered[c].searchsorted(levels, "right") - ordered[c].searchsorted(levels, "left")
        counts[c, 0] = 0
        counts[c, 1 : 1 + len(levels)] = held
        counts[c, -2] = present - held.sum()
    return counts


def encode(reference: Reference, values: Floats) -> NDArray[np.uint8]:
    """The cell of every value: uint8[columns, rows]. For many small groups of rows; `count` is faster for one."""
    _fits(reference, values)
    by_column = np.ascontiguousarray(values.T)
    limits = reference.limits
    # Above the last limit (+inf) there is only NaN, so a value's cell is the number of limits it is not within.
    codes = np.full(by_column.shape, limits.shape[1], np.uint8)
    within = np.empty(by_column.shape, np.bool_)
    for k in range(limits.shape[1]):
        np.less_equal(by_column, limits[:, k, None], out=within)
        codes -= within.view(np.uint8)
    for c, levels in reference.levels.items():
        row = by_column[c]
        nearest = np.minimum(levels.searchsorted(row), len(levels) - 1)
        held = np.where(levels[nearest] == row, nearest + 1, limits.shape[1] - 1)
        codes[c] = np.where(np.isnan(row), limits.shape[1], held)
    return codes


def tally(reference: Reference, codes: NDArray[np.uint8]) -> Ints:
    """Counts of encoded rows: `tally(reference, encode(reference, v)) == count(reference, v)`."""
    columns, width = reference.shape
    cells = codes + (np.arange(columns) * width)[:, None]
    return np.bincount(cells.ravel(), minlength=columns * width).reshape(columns, width).astype(np.int64, copy=False)


def drift_report(
    reference: Reference,
    counts: Ints,
    *,
    threshold: float,
    min_samples: int,
    false_discovery_rate: float,
    instants: int | None = None,
    warming: Bools | None = None,
) -> DriftReport:
    """Judge counts int64[columns, bins + 3], as `count` makes them, against the reference; see the table of verdicts above.

    `instants`: distinct event times among the rows; None says as many rows per instant as in training. `warming`, bool[columns]:
    columns whose missing rows say nothing, since they look further back than there are rows; they are judged on the rest.

    >>> from monitoring.reference import Reference
    >>> r = Reference.from_columns(["a"], {"a": {"edges": [0.0], "counts": [500, 500, 0], "low": -1, "high": 1}})
    >>> drift_report(r, np.array([[0, 160, 40, 0, 0]]), threshold=0.1, min_samples=100, false_discovery_rate=0.05).verdict
    'critical'
    """
    judged, against = fold(reference, counts), reference
    rows = judged.sum(axis=1)
    together = None if instants is None else int(rows.max(initial=0)) / max(instants, 1)
    missing, missing_trained = _missing(judged), _missing(reference.counts)
    if warming is not None and warming.any():
        against = reference.present_only(warming)
        judged[warming, -1] = 0
    least = np.minimum(judged.sum(axis=1), against.counts.sum(axis=1))
    p = np.where(least >= min_samples, p_values(against, judged, rows_per_instant=together), np.nan)
    q = adjusted(p)
    distance = psi(against, judged)
    verdicts = _verdicts(distance, p, q <= false_discovery_rate, threshold)
    below, above = _outside(reference, counts)
    columns = Columns(
        names=reference.names,
        kinds=reference.kinds,
        rows=rows,
        numbers={
            "effective_rows": window_rows(against, judged.sum(axis=1), rows_per_instant=together),
            "psi": distance,
            "jensen_shannon": jensen_shannon(against, judged),
            "ks": ks(against, judged),
            "wasserstein": wasserstein(against, judged),
            "missing_rate": missing,
            "missing_rate_trained": missing_trained,
            "below_rate": below,
            "above_rate": above,
            "p_value": p,
            "p_adjusted": q,
        },
        verdicts=verdicts,
        warming=[False] * len(rows) if warming is None else warming.tolist(),
        counts=counts,
    )
    return DriftReport(
        rows=int(rows.max(initial=0)),
        threshold=threshold,
        min_samples=min_samples,
        false_discovery_rate=false_discovery_rate,
        verdict=VERDICTS[int(verdicts.max(initial=0))],
        columns=columns,
    )


def builtins(value: Any) -> Any:  # any JSON-like tree
    """A tree of mappings, sequences and numbers as JSON takes it: NaN and infinities become None.

    >>> builtins({"a": (1.5, float("nan"))})
    {'a': [1.5, None]}
    """
    if isinstance(value, dict):
        return {k: builtins(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [builtins(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _verdicts(distance: Floats, p: Floats, significant: Bools, threshold: float) -> Ints:
    """Indices into `VERDICTS`, (columns,)."""
    far = 1 + (distance >= threshold).astype(np.int64) + (distance >= CRITICAL_RATIO * threshold)
    return np.where(np.isnan(p), 0, np.where(significant, far, 1))


def _missing(judged: Ints) -> Floats:
    total = judged.sum(axis=1)
    return np.where(total > 0, judged[:, -1] / np.maximum(total, 1), np.nan)


def _outside(reference: Reference, counts: Ints) -> tuple[Floats, Floats]:
    """Shares of the rows present below and above the training range, NaN where that is not known; see `ColumnDrift`."""
    present = counts[:, :-1].sum(axis=1)
    shares = counts[:, (0, -2)] / np.maximum(present, 1)[:, None]
    levels = np.zeros(len(counts), np.bool_)
    levels[list(reference.levels)] = True
    below = np.where((present > 0) & ~np.isnan(reference.low) & ~levels, shares[:, 0], np.nan)
    return below, np.where((present > 0) & (levels | ~np.isnan(reference.high)), shares[:, 1], np.nan)


def _fits(reference: Reference, values: Floats) -> None:
    if values.ndim != 2 or values.shape[1] != len(reference.names):  # noqa: PLR2004  # rows and columns
        raise BadReferenceError(f"values of shape {values.shape} do not have the reference's {len(reference.names)} columns")
