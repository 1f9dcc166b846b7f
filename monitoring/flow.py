"""Operational statistics in panes of the LOG's time (Kafka timestamps): how many rows, how late, how many rejected.

Core. A pane is a minute, a window the last five; both contain their start and not their end. Time is the greatest log time
seen, nothing else; a pane's window closes when something arrives more than `grace_panes` panes after it, and a pane without
anything closes no window. All of it is decided row by row, so how rows are cut into batches changes nothing.

| of a row  | is                                                              | counted                                         |
|-----------|-----------------------------------------------------------------|-------------------------------------------------|
| latency   | log time - decision time: how long the prediction took          | in bins, of what is no backfill                 |
| input lag | decision time - event time - usual lag: how late the input came | the same, where the usual lag is known          |
| backfill  | latency over a day, or input lag over 115                       | by number: history that is replayed is not late |

Bins are log-spaced, 12 a decade from 1 ms on: a quantile is told within 10.1 %, or 1 ms if that is more, whatever the scale.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from monitoring.errors import StateError
from monitoring.packing import Reader, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from monitoring.reference import Ints

LAYOUT: Final = 1
"""Number of the packed layout written by this version; it stands first in the bytes."""

BINS_A_DECADE: Final = 12
EDGES_US: Final[Ints] = np.rint(1e3 * 10 ** (np.arange(10 * BINS_A_DECADE + 1) / BINS_A_DECADE)).astype(np.int64)
"""Upper bounds of the bins, included: 1 ms to 1e7 s."""
BINS: Final = len(EDGES_US)
RELATIVE_ERROR: Final = 10 ** (0.5 / BINS_A_DECADE) - 1
"""A quantile is off by this share at the most."""
BACKFILL_US: Final = 86_400_000_000
"""Rows published later than this after their decision are replayed history."""

MOST_MODELS: Final = 256
MOST_REASONS: Final = 32
OTHER: Final = "other"
"""What more models, and more reasons in a pane, are counted as."""
_REASON_CHARACTERS = 64
_HEAD = 3  # rows, abstained, backfill stand before the two rows of bins
_WIDTH = _HEAD + 2 * BINS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traffic:
    """One model's rows in a window. `latency`, `lag`: counts int64[BINS] of rows that are no backfill."""

    rows: int
    abstained: int
    backfill: int
    latency: Ints
    lag: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlowWindow:
    """All that has start_us <= log time < end_us, and of it what came in the last pane."""

    start_us: int
    end_us: int
    models: Mapping[str, Traffic]
    rejected: Mapping[str, int]  # by reason
    recent: Mapping[str, Traffic]
    recent_rejected: int


@dataclass(slots=True)
class _Pane:
    models: dict[str, Ints] = field(default_factory=dict)  # each int64[_WIDTH]
    rejected: dict[str, int] = field(default_factory=dict)


class Flow:
    """Counts of all models, bounded by panes + grace_panes panes of `MOST_MODELS` models and `MOST_REASONS` reasons."""

    def __init__(self, *, pane_us: int = 60_000_000, panes: int = 5, grace_panes: int = 1) -> None:
        """`pane_us`: length of a pane; `panes`: panes in a window; `grace_panes`: how late a row may come for its own window."""
        if pane_us <= 0 or panes <= 0 or grace_panes < 0:
            raise ValueError(f"pane_us {pane_us} and panes {panes} must be positive, grace_panes {grace_panes} not negative")
        self.pane_us, self.panes, self.grace_panes = pane_us, panes, grace_panes
        self.newest: int | None = None
        self.late = 0
        """Rows and rejected records that came too late for any open window."""
        self.watermarks: dict[tuple[str, int], int] = {}
        self.last_us: dict[str, int] = {}
        """By model: log time of the newest row, backfill included."""
        self.live_us: dict[str, int] = {}
        """By model: log time of the newest row that is no backfill."""
        self._held: dict[int, _Pane] = {}

    def seen(self, topic: str, partition: int, offset: int) -> bool:
        """Whether a record was counted before; from now on it, and all before it in its partition, were."""
        known = offset <= self.watermarks.get((topic, partition), -1)
        if not known:
            self.watermarks[topic, partition] = offset
        return known

    def add(
        self,
        model: str,
        *,
        log_us: Ints,
        decision_us: Ints,
        event_us: Ints,
        abstained: NDArray[np.bool_],
        usual_lag_us: int | None = 0,
    ) -> list[FlowWindow]:
        """Count rows of one model, all arrays (rows,), as they came, and return the windows they closed, oldest first.

        `usual_lag_us`: how long after its event a row is known anyway; None: not known, then no lag is counted.

        >>> flow = Flow(pane_us=10_000_000, panes=2, grace_panes=0)
        >>> rows = {"decision_us": np.array([0]), "event_us": np.array([0]), "abstained": np.array([False])}
        >>> flow.add("m", log_us=np.array([500_000]), **rows)
        []
        >>> (window,) = flow.add("m", log_us=np.array([10_000_000]), **rows)
        >>> window.end_us, window.models["m"].rows, round(quantile_us(window.models["m"].latency, 0.5) / 1e6, 1)
        (10000000, 1, 0.5)
        """
        if not len(log_us):
            return []
        model = model if model in self.last_us or len(self.last_us) < MOST_MODELS else OTHER
        latency, lag = log_us - decision_us, decision_us - event_us - (usual_lag_us or 0)
        backfill = (latency > BACKFILL_US) | (lag > EDGES_US[-1])
        self.last_us[model] = max(self.last_us.get(model, -1), int(log_us.max()))
        if not backfill.all():
            self.live_us[model] = max(self.live_us.get(model, -1), int(log_us[~backfill].max()))
        closed: list[FlowWindow] = []
        for newest, index, rows in self._groups(log_us):
            closed += self._advance(newest)
            counts, gone = np.zeros(_WIDTH, np.int64), backfill[rows]
            live = ~gone if gone.any() else slice(None)
            counts[:_HEAD] = len(gone), np.count_nonzero(abstained[rows]), np.count_nonzero(gone)
            counts[_HEAD : _HEAD + BINS] = _binned(latency[rows][live])
            if usual_lag_us is not None:
                counts[_HEAD + BINS :] = _binned(lag[rows][live])
            held = self._held.setdefault(index, _Pane()).models
            held[model] = held[model] + counts if model in held else counts
        return closed

    def reject(self, *, log_us: Ints, reasons: Sequence[str]) -> list[FlowWindow]:
        """Count rejected records, (records,) each, as they came, and return the windows they closed, oldest first."""
        closed: list[FlowWindow] = []
        for newest, index, rows in self._groups(log_us) if len(log_us) else ():
            closed += self._advance(newest)
            held = self._held.setdefault(index, _Pane()).rejected
            some = reasons[rows] if isinstance(rows, slice) else [reasons[i] for i in rows.tolist()]
            for reason, number in Counter(r[:_REASON_CHARACTERS] for r in some).items():
                name = reason if reason in held or len(held) < MOST_REASONS else OTHER
                held[name] = held.get(name, 0) + number
        return closed

    def window(self) -> FlowWindow:
        """The window that ends with the newest pane, as known now."""
        return self._window(-1 if self.newest is None else self.newest)

    def _groups(self, log_us: Ints) -> Iterator[tuple[int, int, Any]]:
        """Rows in time grouped by (newest pane so far, own pane), in the order time advanced: newest, pane, index of rows."""
        pane = log_us // self.pane_us
        if self.newest is not None and pane.min() == pane.max() == self.newest:  # nearly always
            yield self.newest, self.newest, slice(None)
            return
        newest = np.maximum.accumulate(pane if self.newest is None else np.maximum(pane, self.newest))
        in_time = pane > newest - self.panes - self.grace_panes
        self.late += int((~in_time).sum())
        order = np.lexsort((pane, newest))
        order = order[in_time[order]]
        if not len(order):
            return
        key = np.stack([newest[order], pane[order]])
        cuts = [0, *(np.flatnonzero((np.diff(key) != 0).any(axis=0)) + 1).tolist(), len(order)]
        for a, b in itertools.pairwise(cuts):
            yield int(key[0, a]), int(key[1, a]), order[a:b]

    def _advance(self, newest: int) -> list[FlowWindow]:
        """Move time to `newest`: close the windows of panes passed, forget the panes no open window covers."""
        before, self.newest = self.newest, newest
        if before is None or before == newest:
            return []
        due = range(before - self.grace_panes, newest - self.grace_panes)
        closed = [self._window(index) for index in sorted(self._held) if index in due]
        for index in [i for i in self._held if i <= newest - self.panes - self.grace_panes]:
            del self._held[index]
        return closed

    def _window(self, last: int) -> FlowWindow:
        models: dict[str, Ints] = {}
        rejected: Counter[str] = Counter()
        for index, pane in sorted(self._held.items()):
            if last - self.panes < index <= last:
                for model, counts in pane.models.items():
                    models[model] = models[model] + counts if model in models else counts
                rejected.update(pane.rejected)
        end_us, newest = (last + 1) * self.pane_us, self._held.get(last, _Pane())
        return FlowWindow(
            start_us=end_us - self.panes * self.pane_us,
            end_us=end_us,
            models={model: _traffic(models[model]) for model in sorted(models)},
            rejected=dict(sorted(rejected.items())),
            recent={model: _traffic(counts) for model, counts in sorted(newest.models.items())},
            recent_rejected=sum(newest.rejected.values()),
        )

    def pack(self) -> bytes:
        """The whole state as bytes, layout number first; the same state always gives the same bytes."""
        w = Writer(LAYOUT)
        w.ints(self.pane_us, self.panes, self.grace_panes, BINS, self.late)
        w.ints(*([0] if self.newest is None else [1, self.newest]))
        w.ints(len(self.watermarks))
        for (topic, partition), offset in sorted(self.watermarks.items()):
            w.text(topic)
            w.ints(partition, offset)
        w.ints(len(self.last_us))
        for model, last_us in sorted(self.last_us.items()):
            w.text(model)
            w.ints(last_us, self.live_us.get(model, -1))
        w.ints(len(self._held))
        for index, pane in sorted(self._held.items()):
            w.ints(index, len(pane.models))
            for model, counts in sorted(pane.models.items()):
                w.text(model)
                w.counts(counts)
            w.ints(len(pane.rejected))
            for reason, number in sorted(pane.rejected.items()):
                w.text(reason)
                w.ints(number)
        return w.done()

    @classmethod
    def unpack(cls, data: bytes) -> Flow:
        """Read `pack`'s bytes. Raises `StateError` on another layout, other bins, or damage."""
        r = Reader(data, (LAYOUT,), what="operational counts")
        pane_us, panes, grace_panes, bins, late = r.ints(5)
        if bins != BINS or pane_us <= 0 or panes <= 0 or grace_panes < 0:
            raise StateError(f"packed operational counts have {bins} bins, this version has {BINS}; they start afresh")
        self = cls(pane_us=pane_us, panes=panes, grace_panes=grace_panes)
        self.late = late
        started = r.ints(1)[0]
        self.newest = r.ints(1)[0] if started else None
        for _ in range(r.ints(1)[0]):
            topic = r.text()
            partition, offset = r.ints(2)
            self.watermarks[topic, partition] = offset
        for _ in range(r.ints(1)[0]):
            model = r.text()
            self.last_us[model], live_us = r.ints(2)
            if live_us >= 0:
                self.live_us[model] = live_us
        for _ in range(r.ints(1)[0]):
            index, models = r.ints(2)
            pane = self._held[index] = _Pane()
            for _ in range(models):
                model = r.text()
                pane.models[model] = r.counts((1, _WIDTH))[0]
            for _ in range(r.ints(1)[0]):
                reason = r.text()
                pane.rejected[reason] = r.ints(1)[0]
        r.end()
        return self


def quantile_us(counts: Ints, q: float) -> float:
    """The q-quantile of what was counted in the bins, microseconds, within `RELATIVE_ERROR` or 1 ms; NaN of nothing.

    Of n values the ceil(q n)-th smallest, told as the geometric middle of its bin.

    >>> counts = np.zeros(BINS, np.int64)
    >>> counts[EDGES_US.searchsorted([2_000_000, 3_000_000, 60_000_000])] = 1
    >>> [round(quantile_us(counts, q) / 1e6, 1) for q in (0.5, 1.0)]
    [2.9, 61.9]
    """
    total = int(counts.sum())
    if not total:
        return math.nan
    at = int(np.cumsum(counts).searchsorted(max(1, math.ceil(q * total))))
    return float(EDGES_US[0]) if at == 0 else math.sqrt(float(EDGES_US[at - 1]) * float(EDGES_US[at]))


def _binned(values_us: Ints) -> Ints:
    """Counts int64[BINS]; sorting and looking up the bounds is several times faster than looking up every value."""
    return np.diff(np.sort(values_us).searchsorted(EDGES_US, "right"), prepend=0)


def _traffic(counts: Ints) -> Traffic:
    rows, abstained, backfill = (int(n) for n in counts[:_HEAD])
    bins = counts[_HEAD:].reshape(2, BINS)
    return Traffic(rows=rows, abstained=abstained, backfill=backfill, latency=bins[0], lag=bins[1])
