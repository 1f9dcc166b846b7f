"""Predictions waiting for their outcomes, and outcomes waiting for their predictions.

Core: no clock; "now" is an argument. Both sides may come first, twice, in any order, and revised; what has been
joined in the end depends only on what came, as long as it came before its deadline:

| comes                                   | happens                                                               |
|-----------------------------------------|-----------------------------------------------------------------------|
| prediction, outcome known               | matures at once                                                       |
| outcome, predictions waiting            | they mature                                                           |
| same prediction id, or a lower revision | ignored                                                               |
| prediction of a higher revision         | takes the lower one's place; matures (again, `revised`) if labelled   |
| outcome of a higher revision            | takes the lower one's place; its predictions mature again, `revised`  |
| outcome of the same or a lower revision | ignored                                                               |
| deadline passed                         | what never matured is counted as unlabelled; all of it is forgotten   |
| anything after its deadline             | ignored, counted in `late_rows`                                       |

The deadline of a (symbol, event time, horizon) is ts_event_us + horizon_us + timeout_us. At most `most` of them
are held: beyond that, those with the earliest deadline go as if it had passed, counted in `evicted`.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from monitoring.joined import Held, Key, Matured, Ripe, Scorer, matured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitoring.reference import Floats, Ints


class _Entry(msgspec.Struct, gc=False):
    """All that is known about one key. Never part of a cycle, so the garbage collector need not walk it."""

    outcome: float | None = None
    outcome_revision: int = -1
    predictions: dict[Scorer, Held] = {}


class Pending:
    """The join. One owner, one thread."""

    def __init__(self, *, timeout_us: int, most: int = 200_000) -> None:
        """`timeout_us`: how long after maturity an outcome may come; `most`: keys held, about 0.8 kB each."""
        if timeout_us < 0 or most <= 0:
            raise ValueError(f"timeout_us {timeout_us} must not be negative and most {most} must be positive")
        self.timeout_us = timeout_us
        self.most = most
        self.late_rows = 0
        self.evicted = 0
        self._until_us = -(2**62)
        self._entries: dict[Key, _Entry] = {}
        self._deadlines: list[int] = []  # a heap of the keys of _due
        self._due: dict[int, list[Key]] = {}
        self._unlabelled: Counter[Scorer] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def add_predictions(
        self,
        scorer: Scorer,
        *,
        prediction_ids: Sequence[str],
        symbols: Sequence[str],
        ts_event_us: Ints,
        horizon_us: int,
        revision: Ints,
        value: Floats,
        lower: Floats,
        upper: Floats,
        p_up: Floats,
    ) -> list[Matured]:
        """Add predictions of one scorer and horizon, all arrays (rows,), and return what matured. Leave abstentions out."""
        ripe: list[Ripe] = []
        columns = (ts_event_us, revision, value, lower, upper, p_up)
        rows = zip(symbols, prediction_ids, *(c.tolist() for c in columns), strict=True)
        for symbol, prediction_id, ts, rev, val, low, high, up in rows:
            key = (symbol, ts, horizon_us)
            entry = self._entry(key)
            if entry is None:
                continue
            before = entry.predictions.get(scorer)
            if before is not None and rev <= before.revision:
                continue
            held = Held(prediction_id, rev, val, low, high, up, entry.outcome is not None)
            entry.predictions[scorer] = held
            if entry.outcome is not None:
                ripe.append(Ripe(scorer, key, held, entry.outcome, entry.outcome_revision, before is not None))
        return matured(ripe)

    def add_outcomes(
        self, *, symbols: Sequence[str], ts_event_us: Ints, horizon_us: Ints, value: Floats, revision: Ints
    ) -> list[Matured]:
        """Add outcomes, all arrays (rows,), and return what matured, grouped by scorer and horizon."""
        ripe: list[Ripe] = []
        columns = (ts_event_us, horizon_us, value, revision)
        for symbol, ts, horizon, outcome, rev in zip(symbols, *(c.tolist() for c in columns), strict=True):
            key = (symbol, ts, horizon)
            entry = self._entry(key)
            if entry is None or rev <= entry.outcome_revision:
                continue
            entry.outcome, entry.outcome_revision = outcome, rev
            for scorer, held in entry.predictions.items():
                ripe.append(Ripe(scorer, key, held, outcome, rev, held.labelled))
                entry.predictions[scorer] = held._replace(labelled=True)
        return matured(ripe)

    def expire(self, now_us: int) -> None:
        """Forget what is past its deadline at `now_us`, and count its unlabelled predictions."""
        self._until_us = max(self._until_us, now_us)
        while self._deadlines and self._deadlines[0] < self._until_us:
            for key in self._due.pop(heapq.heappop(self._deadlines)):
                entry = self._entries.pop(key)
                self._unlabelled.update(scorer for scorer, held in entry.predictions.items() if not held.labelled)

    def take_unlabelled(self) -> dict[Scorer, int]:
        """How many predictions ended without an outcome since the last call, per scorer."""
        counts, self._unlabelled = dict(self._unlabelled), Counter()
        return counts

    def _entry(self, key: Key) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None:
            return entry
        if key[1] + key[2] + self.timeout_us < self._until_us:
            self.late_rows += 1
            return None
        self._hold(key, _Entry())
        if len(self._entries) > self.most:
            held = len(self._entries)
            self.expire(self._deadlines[0] + 1)
            self.evicted += held - len(self._entries)
        return self._entries.get(key)

    def _hold(self, key: Key, entry: _Entry) -> None:
        self._entries[key] = entry
        deadline = key[1] + key[2] + self.timeout_us
        due = self._due.get(deadline)
        if due is None:
            due = self._due[deadline] = []
            heapq.heappush(self._deadlines, deadline)
        due.append(key)
