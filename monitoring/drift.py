"""Drift of a model's columns: values -> counts in fixed bins -> a report with a verdict per column.

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
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from monitoring.distances import jensen_shannon, ks, psi, wasserstein
from monitoring.errors import BadReferenceError
from monitoring.significance import adjusted, effective_rows, p_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from monitoring.reference import Floats, Ints, Reference

__all__ = [
    "CRITICAL_RATIO",
    "ColumnDrift",
    "DriftReport",
    "Verdict",
    "adjusted",
    "count",
    "drift_report",
    "effective_rows",
    "encode",
    "jensen_shannon",
    "ks",
    "p_values",
    "psi",
    "tally",
    "wasserstein",
]

Verdict = Literal["insufficient_data", "stable", "warn", "critical"]

CRITICAL_RATIO = 2.5
"""Critical at this many times the warn threshold (PSI 0.25 for 0.1, the customary pair)."""

_SEVERITY: dict[Verdict, int] = {"insufficient_data": 0, "stable": 1, "warn": 2, "critical": 3}


def count(reference: Reference, values: Floats) -> Ints:
    """Count values float64[rows, columns] into the reference's bins: int64[columns, bins + 1].

    Each column is sorted (NaN last) and the edges are looked up in it, which is several times faster than
    looking every value up in the edges.

    >>> from monitoring.reference import Reference
    >>> r = Reference.from_columns(["a"], {"a": {"edges": [0.0, 1.0], "counts": [1, 1, 1, 0], "low": 0, "high": 1}})
    >>> count(r, np.array([[0.0], [0.5], [7.0], [np.nan]])).tolist()
    [[1, 1, 1, 1]]
    """
    _fits(reference, values)
    ordered = np.sort(values.T, axis=1)  # (columns, rows)
    limits = _limits(reference)
    position = np.zeros((len(limits), limits.shape[1] + 2), np.int64)
    position[:, -1] = len(values)
    for c, row in enumerate(ordered):
        position[c, 1:-1] = row.searchsorted(limits[c], "right")
    return np.diff(position)


def encode(reference: Reference, values: Floats) -> NDArray[np.uint8]:
    """The bin of every value: uint8[columns, rows]. For many small groups of rows; `count` is faster for one."""
    _fits(reference, values)
    by_column = np.ascontiguousarray(values.T)
    limits = _limits(reference)
    # Above the last limit (+inf) there is only NaN, so a value's bin is the number of limits it is not within.
    codes = np.full(by_column.shape, limits.shape[1], np.uint8)
    within = np.empty(by_column.shape, np.bool_)
    for k in range(limits.shape[1]):
        np.less_equal(by_column, limits[:, k, None], out=within)
        codes -= within.view(np.uint8)
    return codes


def tally(reference: Reference, codes: NDArray[np.uint8]) -> Ints:
    """Counts of encoded rows: `tally(reference, encode(reference, v)) == count(reference, v)`."""
    columns, width = reference.shape
    cells = codes + (np.arange(columns) * width)[:, None]
    return np.bincount(cells.ravel(), minlength=columns * width).reshape(columns, width).astype(np.int64, copy=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDrift:
    """One column of one window. `rows` counts all rows, missing ones too; distances are NaN with nothing to compare."""

    name: str
    rows: int
    effective_rows: float
    psi: float
    jensen_shannon: float
    ks: float
    wasserstein: float
    missing_rate: float
    missing_rate_trained: float
    p_value: float
    p_adjusted: float
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """All columns of one window, in the reference's order, with the gates they were judged by."""

    rows: int
    threshold: float
    min_samples: int
    false_discovery_rate: float
    verdict: Verdict
    columns: tuple[ColumnDrift, ...]

    def worst(self, most: int = 5) -> tuple[ColumnDrift, ...]:
        """The columns that drifted furthest: by verdict, then by PSI."""
        return tuple(sorted(self.columns, key=lambda c: (-_SEVERITY[c.verdict], -np.nan_to_num(c.psi), c.name))[:most])

    def to_dict(self) -> dict[str, Any]:
        """Builtins only, NaN as None: ready for JSON."""
        return {k: builtins(v) for k, v in asdict(self).items()}


def drift_report(
    reference: Reference, counts: Ints, *, threshold: float, min_samples: int, false_discovery_rate: float
) -> DriftReport:
    """Judge counts int64[columns, bins + 1] against the reference; see the table of verdicts above.

    >>> from monitoring.reference import Reference
    >>> r = Reference.from_columns(["a"], {"a": {"edges": [0.0], "counts": [500, 500, 0], "low": -1, "high": 1}})
    >>> drift_report(r, np.array([[160, 40, 0]]), threshold=0.1, min_samples=100, false_discovery_rate=0.05).verdict
    'critical'
    """
    if counts.shape != reference.shape:
        raise BadReferenceError(f"counts of shape {counts.shape} do not belong to a reference of shape {reference.shape}")
    rows, trained = counts.sum(axis=1), reference.counts.sum(axis=1)
    p = np.where((rows >= min_samples) & (trained >= min_samples), p_values(reference, counts), np.nan)
    q = adjusted(p)
    distance = psi(reference, counts)
    significant = q <= false_discovery_rate
    verdicts: list[Verdict] = [
        _verdict(float(d), judged=bool(j), significant=bool(s), threshold=threshold)
        for d, j, s in zip(distance, ~np.isnan(p), significant, strict=True)
    ]
    columns = zip(
        reference.names,
        rows.tolist(),
        effective_rows(rows, reference.rho).tolist(),
        distance.tolist(),
        jensen_shannon(reference, counts).tolist(),
        ks(reference, counts).tolist(),
        wasserstein(reference, counts).tolist(),
        _missing(counts).tolist(),
        _missing(reference.counts).tolist(),
        p.tolist(),
        q.tolist(),
        verdicts,
        strict=True,
    )
    fields = tuple(ColumnDrift.__dataclass_fields__)
    return DriftReport(
        rows=int(rows.max(initial=0)),
        threshold=threshold,
        min_samples=min_samples,
        false_discovery_rate=false_discovery_rate,
        verdict=max(verdicts, key=_SEVERITY.__getitem__, default="insufficient_data"),
        columns=tuple(ColumnDrift(**dict(zip(fields, c, strict=True))) for c in columns),
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


def _verdict(distance: float, *, judged: bool, significant: bool, threshold: float) -> Verdict:
    if not judged:
        return "insufficient_data"
    if not significant or not distance >= threshold:
        return "stable"
    return "critical" if distance >= CRITICAL_RATIO * threshold else "warn"


def _limits(reference: Reference) -> Floats:
    """Upper limit of every bin, the last +inf: (columns, bins)."""
    return np.concatenate([reference.edges, np.full((len(reference.edges), 1), np.inf)], axis=1)


def _missing(counts: Ints) -> Floats:
    total = counts.sum(axis=1)
    return np.where(total > 0, counts[:, -1] / np.maximum(total, 1), np.nan)


def _fits(reference: Reference, values: Floats) -> None:
    if values.ndim != 2 or values.shape[1] != len(reference.names):  # noqa: PLR2004  # rows and columns
        raise BadReferenceError(f"values of shape {values.shape} do not have the reference's {len(reference.names)} columns")
