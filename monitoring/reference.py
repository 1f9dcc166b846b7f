"""The training distribution of a model's columns, as fixed bins: what drift is measured against.

Core: numpy in, numpy out. Columns may have different numbers of bins, so rows are padded: edges with +inf
(a bin above +inf holds nothing), counts with 0 between the last real bin and the bin for missing.

    bin k holds edges[k-1] < x <= edges[k]        the outer bins are open; NaN goes to the last, the missing bin

| edges      | x = -5 | x = 0 | x = 0.5 | x = 1 | x = +inf | NaN         |
|------------|--------|-------|---------|-------|----------|-------------|
| ``[0, 1]`` | bin 0  | bin 0 | bin 1   | bin 1 | bin 2    | missing (3) |
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitoring.errors import BadReferenceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_BINS = 254
"""Most bins a column may have: bin numbers are kept as one byte."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Bins and counts of every column in the order the model (and the counts) keep them.

    A column without training data has one bin and no counts: its drift is never judged.
    """

    names: tuple[str, ...]
    edges: Floats  # (columns, bins - 1), strictly ascending, padded with +inf
    counts: Ints  # (columns, bins + 1), the last for missing
    bins: Ints  # (columns,) how many bins of the column are real
    low: Floats  # (columns,) training range, NaN if unknown
    high: Floats  # (columns,)
    rho: Floats  # (columns,) lag-1 autocorrelation in training order

    @classmethod
    def from_columns(cls, names: Sequence[str], columns: Mapping[str, Mapping[str, Any]]) -> Reference:
        """Build from plain mappings with the keys `edges`, `counts`, `low`, `high` and (default 0) `rho`.

        `names` gives the order; a name that `columns` lacks becomes a column without training data.
        Raises `BadReferenceError` naming the column and what is wrong.

        >>> r = Reference.from_columns(["a"], {"a": {"edges": [0.0, 1.0], "counts": [5, 4, 6, 1], "low": -2, "high": 3}})
        >>> r.edges.tolist(), r.counts.tolist()
        ([[0.0, 1.0]], [[5, 4, 6, 1]])
        """
        empty: Mapping[str, Any] = {"edges": (), "counts": (0, 0), "low": np.nan, "high": np.nan}
        rows = [columns.get(name, empty) for name in names]
        for name, row in zip(names, rows, strict=True):
            _check(name, row)
        bins = np.array([len(row["edges"]) + 1 for row in rows], np.int64)
        most = int(bins.max(initial=1))
        edges = np.full((len(rows), most - 1), np.inf)
        counts = np.zeros((len(rows), most + 1), np.int64)
        for i, row in enumerate(rows):
            edges[i, : bins[i] - 1] = row["edges"]
            counts[i, : bins[i]] = row["counts"][:-1]
            counts[i, -1] = row["counts"][-1]
        low, high, rho = (np.array([row.get(k, 0.0) for row in rows], np.float64) for k in ("low", "high", "rho"))
        return cls(names=tuple(names), edges=edges, counts=counts, bins=bins, low=low, high=high, rho=rho)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of every counts array against this reference: (columns, bins + 1)."""
        return self.counts.shape[0], self.counts.shape[1]

    def digest(self) -> bytes:
        """8 bytes naming the bins: counts are only comparable, and addable, under the same digest."""
        h = hashlib.sha256("\0".join(self.names).encode())
        h.update(self.edges.astype("<f8").tobytes())
        h.update(self.bins.astype("<i8").tobytes())
        return h.digest()[:8]


def _check(name: str, row: Mapping[str, Any]) -> None:
    edges = np.asarray(row["edges"], np.float64)
    counts = np.asarray(row["counts"])
    rho = float(row.get("rho", 0.0))
    if not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise BadReferenceError(f"reference of column {name!r}: edges must be finite and ascending, got {edges.tolist()}")
    if len(edges) + 1 > MAX_BINS:
        raise BadReferenceError(f"reference of column {name!r}: {len(edges) + 1} bins; use at most {MAX_BINS}")
    if len(counts) != len(edges) + 2:
        raise BadReferenceError(
            f"reference of column {name!r}: {len(edges)} edges make {len(edges) + 1} bins and one for missing, "
            f"so {len(edges) + 2} counts are needed, got {len(counts)}"
        )
    if (counts < 0).any():
        raise BadReferenceError(f"reference of column {name!r}: counts must not be negative, got {counts.tolist()}")
    if not -1.0 <= rho <= 1.0:
        raise BadReferenceError(f"reference of column {name!r}: rho {rho} is not between -1 and 1")
