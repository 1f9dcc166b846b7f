"""The training distribution of a model's columns, as fixed cells: what drift is measured against.

Core: numpy in, numpy out. A column is of one of two kinds. Numbers are judged in bins, whose outer ones are open; a column
of few distinct values in those values themselves, its levels. What is missing (NaN) has a cell of its own, the last.

    bin k holds edges[k-1] < x <= edges[k]

Counting is one step finer than judging, so that it is known too how much lay outside the training range. Columns may have
different numbers of cells, so rows are padded with cells that hold nothing:

| counted, with training from -1 to 3 | x = -5 | x = 0 | x = 0.5 | x = 1 | x = 3 | x = 7     | NaN     |
|-------------------------------------|--------|-------|---------|-------|-------|-----------|---------|
| ``edges=[0, 1]``                    | below  | bin 0 | bin 1   | bin 1 | bin 2 | above     | missing |
| judged as                           | bin 0  | bin 0 | bin 1   | bin 1 | bin 2 | bin 2     | missing |
| ``levels=[0, 1]``, either way       | other  | 0     | other   | 1     | other | other     | missing |
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitoring.errors import BadReferenceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_BINS = 253
"""Most bins (or levels and other) a column may have: the number of a counted cell, three more, is kept as one byte."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Cells and counts of every column in the order the model (and the counts) keep them.

    A column without training data has one bin and no counts: its drift is never judged.
    """

    names: tuple[str, ...]
    edges: Floats  # (columns, bins - 1), strictly ascending, padded with +inf; all padding for levels
    levels: Mapping[int, Floats]  # column -> its levels, ascending, of the columns that have any
    counts: Ints  # (columns, bins + 1), judged cells: bins, or levels and other; then padding; missing
    bins: Ints  # (columns,) how many judged cells besides missing are real
    low: Floats  # (columns,) training range, NaN if unknown
    high: Floats  # (columns,)
    rho: Floats  # (columns,) lag-1 autocorrelation in training order
    cross: Floats  # (columns,) intraclass correlation between rows of one instant
    rows_per_instant: float
    limits: Floats  # (columns, bins + 2) upper limits of the counted cells but missing; +inf for levels
    absent: Bools  # (columns,) whether what is missing is judged

    @classmethod
    def from_columns(
        cls, names: Sequence[str], columns: Mapping[str, Mapping[str, Any]], *, rows_per_instant: float = 1.0
    ) -> Reference:
        """Build from mappings with the keys `edges`, `counts`, `low`, `high` and, default 0, 0 and (), `rho`, `cross`, `levels`.

        `names` gives the order; a name that `columns` lacks becomes a column without training data. `counts` are one for each
        bin, or each level and "other", then missing. `rows_per_instant`: training's, at least 1.
        Raises `BadReferenceError` naming the column and what is wrong.

        >>> r = Reference.from_columns(["a"], {"a": {"edges": [0.0, 1.0], "counts": [5, 4, 6, 1], "low": -2, "high": 3}})
        >>> r.edges.tolist(), r.counts.tolist(), r.shape
        ([[0.0, 1.0]], [[5, 4, 6, 1]], (1, 6))
        >>> up = {"edges": [], "levels": [0.0, 1.0], "counts": [52, 48, 0, 0], "low": 0, "high": 1}
        >>> Reference.from_columns(["up"], {"up": up}).bins.tolist()
        [3]
        """
        if not rows_per_instant >= 1.0:
            raise BadReferenceError(f"rows_per_instant {rows_per_instant} must be at least 1: an instant is known by its rows")
        empty: Mapping[str, Any] = {"edges": (), "counts": (0, 0), "low": np.nan, "high": np.nan}
        rows = [columns.get(name, empty) for name in names]
        for name, row in zip(names, rows, strict=True):
            _check(name, row)
        levels = {i: np.asarray(row["levels"], np.float64) for i, row in enumerate(rows) if len(row.get("levels", ()))}
        bins = np.array([len(row["counts"]) - 1 for row in rows], np.int64)
        most = int(bins.max(initial=1))
        edges = np.full((len(rows), most - 1), np.inf)
        counts = np.zeros((len(rows), most + 1), np.int64)
        for i, row in enumerate(rows):
            edges[i, : len(row["edges"])] = row["edges"]
            counts[i, : bins[i]] = row["counts"][:-1]
            counts[i, -1] = row["counts"][-1]
        low, high, rho, cross = (np.array([row.get(k, 0.0) for row in rows], np.float64) for k in ("low", "high", "rho", "cross"))
        return cls(
            names=tuple(names),
            edges=edges,
            levels=levels,
            counts=counts,
            bins=bins,
            low=low,
            high=high,
            rho=rho,
            cross=cross,
            rows_per_instant=float(rows_per_instant),
            limits=_limits(edges, low, high, levels),
            absent=np.ones(len(rows), np.bool_),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of counts as they are kept: (columns, bins + 3), the cells being below, bins, above, missing."""
        return self.counts.shape[0], self.counts.shape[1] + 2

    @property
    def kinds(self) -> list[str]:
        """Of each column "levels" or "numeric"."""
        return ["levels" if c in self.levels else "numeric" for c in range(len(self.names))]

    def present_only(self, columns: Bools) -> Reference:
        """The same, but of these columns, bool (columns,), what is missing is no cell."""
        counts = self.counts.copy()
        counts[columns, -1] = 0
        return replace(self, counts=counts, absent=self.absent & ~columns)

    def digest(self) -> bytes:
        """8 bytes naming the cells: counts are only comparable, and addable, under the same digest."""
        h = hashlib.sha256("\0".join(self.names).encode())
        h.update(self.bins.astype("<i8").tobytes())
        h.update(self.limits.astype("<f8").tobytes())
        for c, levels in sorted(self.levels.items()):
            h.update(c.to_bytes(8, "little") + levels.astype("<f8").tobytes())
        return h.digest()[:8]


def fold(reference: Reference, counts: Ints) -> Ints:
    """Counts as they are kept, int64[columns, bins + 3], in the cells that are judged, int64[columns, bins + 1].

    What lies below the training range goes to the first bin, what lies above it to the last (of levels: to "other").

    >>> r = Reference.from_columns(["a"], {"a": {"edges": [0.0, 1.0], "counts": [5, 4, 6, 1], "low": -2, "high": 3}})
    >>> fold(r, np.array([[1, 20, 30, 40, 5, 6]])).tolist()
    [[21, 30, 45, 6]]
    """
    if counts.shape != reference.shape:
        raise BadReferenceError(f"counts of shape {counts.shape} do not belong to a reference of shape {reference.shape}")
    judged = np.concatenate([counts[:, 1:-2], counts[:, -1:]], axis=1)
    judged[:, 0] += counts[:, 0]
    judged[np.arange(len(judged)), reference.bins - 1] += counts[:, -2]
    return judged


def _limits(edges: Floats, low: Floats, high: Floats, levels: Mapping[int, Floats]) -> Floats:
    """Where training's range contradicts its bins, the bins hold: what they count is never moved across an edge."""
    columns, inner = edges.shape
    padding = np.isinf(edges)
    floor = np.where(np.isnan(low), -np.inf, np.nextafter(low, -np.inf))
    lowest = np.minimum(floor, edges.min(axis=1, initial=np.inf))
    highest = np.where(padding, lowest[:, None], edges).max(axis=1, initial=-np.inf)
    top = np.maximum(np.where(np.isnan(high), np.inf, high), np.maximum(highest, lowest))
    limits = np.full((columns, inner + 3), np.inf)
    limits[:, 0] = lowest
    limits[:, 1:-2] = np.where(padding, top[:, None], edges)
    limits[:, -2] = top
    limits[list(levels)] = np.inf
    return limits


def _check(name: str, row: Mapping[str, Any]) -> None:
    what = f"reference of column {name!r}"
    edges, levels = np.asarray(row["edges"], np.float64), np.asarray(row.get("levels", ()), np.float64)
    counts = np.asarray(row["counts"])
    for kind, values in (("edges", edges), ("levels", levels)):
        if not np.isfinite(values).all() or (np.diff(values) <= 0).any():
            raise BadReferenceError(f"{what}: {kind} must be finite and ascending, got {values.tolist()}")
    if len(levels) and len(edges):
        raise BadReferenceError(f"{what}: has {len(edges)} edges and {len(levels)} levels; it is judged by one or the other")
    bins = len(levels) + 1 if len(levels) else len(edges) + 1
    if bins > MAX_BINS:
        raise BadReferenceError(f"{what}: {bins} bins; use at most {MAX_BINS}")
    if len(counts) != bins + 1:
        makes = f"{len(levels)} levels and other" if len(levels) else f"{len(edges)} edges make {bins} bins"
        raise BadReferenceError(f"{what}: {makes} and one for missing, so {bins + 1} counts are needed, got {len(counts)}")
    if (counts < 0).any():
        raise BadReferenceError(f"{what}: counts must not be negative, got {counts.tolist()}")
    if row["low"] > row["high"]:
        raise BadReferenceError(f"{what}: low {row['low']} is above high {row['high']}")
    rho, cross = float(row.get("rho", 0.0)), float(row.get("cross", 0.0))
    if not -1.0 <= rho <= 1.0:
        raise BadReferenceError(f"{what}: rho {rho} is not between -1 and 1")
    if not 0.0 <= cross <= 1.0:
        raise BadReferenceError(f"{what}: cross {cross} is not between 0 and 1")
