"""Predictions and outcomes, reduced piece by piece: calibration of p_up, latency, which version served when. Core: Arrow in.

A piece is a stretch of event time, whole: every revision of a row lies in it. Of a (symbol, event time) the greatest revision
counts, of predictions and of outcomes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from monitoring.joined import Scorer

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

BINS: Final = 10
QUANTILES: Final = (0.5, 0.9, 0.99)
PREDICTIONS: Final = (
    *("symbol", "version", "role", "ts_event_us", "horizon_us", "revision", "value", "p_up", "level", "abstained"),
    *("ts_decision_us", "ts_published_us"),
)
"""Columns of `predictions` that are needed."""
OUTCOMES: Final = ("symbol", "ts_event_us", "horizon_us", "revision", "value")
"""Columns of `outcomes` that are needed."""


@dataclass(slots=True)
class Served:
    """What one version did in one role: its rows (one per symbol and event time), over which span."""

    rows: int = 0
    abstained: int = 0
    matured: int = 0
    first_us: int = 1 << 62
    last_us: int = -(1 << 62)
    level: float = math.nan
    horizon_us: int = 0
    symbols: set[str] = field(default_factory=set)
    bins: NDArray[np.float64] = field(default_factory=lambda: np.zeros((BINS, 3)))
    """Of each bin (0, 0.1], (0.1, 0.2], ... of p_up: matured rows, sum of p_up, outcomes above 0."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Of the rows of a stretch of time: decision to publication in microseconds, at `QUANTILES`."""

    at_us: int
    rows: int
    quantiles: tuple[float, ...]


class Rows:
    """What was seen of one model's rows. One owner."""

    def __init__(self) -> None:
        self.predictions = 0
        self.outcomes = 0
        self.served: dict[Scorer, Served] = {}
        self.latency: dict[str, list[Latency]] = {}
        """By role."""

    def add(self, model: str, predictions: pa.Table, outcomes: pa.Table, *, edges_us: NDArray[np.int64]) -> None:
        """One piece. `edges_us`: ascending; latency is told for each stretch (edge, next edge]."""
        self.predictions += len(predictions)
        self.outcomes += len(outcomes)
        if not len(predictions):
            return
        newest = _newest(predictions, ("version", "role", "symbol", "ts_event_us"))
        self._latencies(newest, edges_us)
        known = _newest(outcomes, ("symbol", "ts_event_us", "horizon_us"))
        known = known.select(["symbol", "ts_event_us", "horizon_us", "value"]).rename_columns([*_KEY, "outcome"])
        joined = newest.join(known, keys=list(_KEY), join_type="left outer")
        of = [joined["version"].to_pylist(), joined["role"].to_pylist()]
        versions = np.array([f"{v}\0{r}" for v, r in zip(*of, strict=True)], dtype=object)
        for name in sorted(set(versions)):
            version, _, role = name.partition("\0")
            part = joined.filter(versions == name)
            self._take(self.served.setdefault(Scorer(model, version, role), Served()), part)

    def _take(self, served: Served, part: pa.Table) -> None:
        ts, p, outcome = _numbers(part, "ts_event_us"), _floats(part, "p_up"), _floats(part, "outcome")
        value = np.where(_floats(part, "abstained") == 1, np.nan, _floats(part, "value"))
        level = _floats(part, "level")
        served.rows += len(part)
        served.abstained += int((~np.isfinite(value)).sum())
        served.symbols |= set(part["symbol"].unique().to_pylist())
        if ts.max() >= served.last_us and np.isfinite(level).any():
            served.level = float(level[np.isfinite(level)][-1])
        served.horizon_us = int(_numbers(part, "horizon_us")[-1])
        served.first_us, served.last_us = min(served.first_us, int(ts.min())), max(served.last_us, int(ts.max()))
        matured = np.isfinite(value) & np.isfinite(outcome)
        served.matured += int(matured.sum())
        said = matured & np.isfinite(p)
        p, up = p[said], outcome[said] > 0
        code = np.clip(np.ceil(p * BINS).astype(np.int64) - 1, 0, BINS - 1)
        parts = (np.bincount(code, minlength=BINS), np.bincount(code, p, BINS), np.bincount(code[up], minlength=BINS))
        served.bins += np.stack(parts, axis=1)

    def _latencies(self, newest: pa.Table, edges_us: NDArray[np.int64]) -> None:
        published, decided = _floats(newest, "ts_published_us"), _floats(newest, "ts_decision_us")
        role = np.array(newest["role"].to_pylist(), dtype=object)
        ts = _numbers(newest, "ts_event_us")
        piece = np.searchsorted(edges_us, ts, "left") - 1
        for name in sorted(set(role)):
            of_role = (role == name) & np.isfinite(published)
            for k in np.unique(piece[of_role]).tolist():
                if not 0 <= k < len(edges_us) - 1:
                    continue
                some = of_role & (piece == k)
                took = np.maximum(published[some] - decided[some], 0.0)
                at_us = int((edges_us[k] + edges_us[k + 1]) // 2)
                told = tuple(np.quantile(took, QUANTILES).tolist())
                self.latency.setdefault(name, []).append(Latency(at_us, len(took), told))


_KEY: Final = ("symbol", "ts_event_us", "horizon_us")


def reliability(bins: NDArray[np.float64]) -> list[tuple[float, float, float, float, int]]:
    """Of each bin with rows: mean p_up, share of ups, its 95 % Wilson bounds (Wilson 1927), rows.

    Rows are taken as independent, which overlapping horizons and common causes make them not: the bounds are too narrow then.
    """
    told = []
    z = 1.959964
    for rows, p_up, up in bins.tolist():
        if not rows:
            continue
        share = up / rows
        middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
        reach = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
        told.append((p_up / rows, share, max(0.0, middle - reach), min(1.0, middle + reach), int(rows)))
    return told


def _newest(table: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """Of each key the row of greatest revision."""
    import pyarrow as pa

    numbered = table.append_column("", pa.array(range(len(table)), pa.int64())).sort_by([("revision", "ascending")])
    last = numbered.group_by(list(keys), use_threads=False).aggregate([("", "last")])
    return table.take(last["_last"])


def _numbers(table: pa.Table, name: str) -> NDArray[Any]:
    numbers: NDArray[Any] = table[name].to_numpy()
    return numbers


def _floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Null as NaN."""
    import pyarrow as pa

    return np.asarray(table[name].cast(pa.float64()).to_numpy(), np.float64)
