"""Predictions and outcomes by hand: what the laws of labels compare with."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monitoring.joined import Scorer

PANE_US = 10

Key = tuple[str, int, int]
"""symbol, event time, horizon"""

Row = tuple[Key, int, int]
"""key, revision, and which of several contradicting texts of that revision"""

Told = tuple[int, str, float, float | None]
"""event time, symbol, prediction, outcome"""


def number(row: Row) -> float:
    """A number that no other revision or text of any row with this event time has."""
    (_, ts, _), revision, text = row
    return ts + revision / 4 + text / 64


def in_order(row: Told) -> tuple[object, ...]:
    """By which rows are sorted, where several horizons say the same."""
    return *row[:3], row[3] is not None, row[3]


class Account:
    """The same by hand: a dictionary of predictions and one of outcomes."""

    def __init__(self, timeout_us: int) -> None:
        self.timeout_us = timeout_us
        self.now = self.until = -(2**60)
        self.late = 0
        self.predictions: dict[tuple[Scorer, Key], tuple[int, float]] = {}
        self.outcomes: dict[Key, tuple[int, float]] = {}
        self.said: dict[tuple[Scorer, int, int], list[Any]] = {}

    def deadline(self, key: Key) -> int:
        return ((key[1] - 1) // PANE_US + 1) * PANE_US + key[2] + self.timeout_us

    def feed(self, step: tuple[str, Any, list[Row]]) -> None:
        kind, scorer, rows = step
        # A record has a block for each horizon.
        for row in sorted(rows, key=lambda r: r[0][2]) if kind == "predicted" else rows:
            key, revision, _ = row
            if self.deadline(key) < self.until:
                self.late += 1
            elif kind == "predicted" and revision > self.predictions.get((scorer, key), (-1, 0))[0]:
                self.predictions[scorer, key] = revision, number(row)
            elif kind == "settled" and revision > self.outcomes.get(key, (-1, 0))[0]:
                self.outcomes[key] = revision, -number(row)
            if kind == "predicted":
                self.now = max(self.now, key[1])

    def advance(self) -> dict[Scorer, int]:
        self.until = max(self.until, self.now)
        over = [(s, k) for s, k in self.predictions if self.deadline(k) < self.until]
        lost = Counter(s for s, k in over if k not in self.outcomes)
        self.predictions = {at: p for at, p in self.predictions.items() if at not in over}
        self.outcomes = {k: o for k, o in self.outcomes.items() if self.deadline(k) >= self.until}
        return dict(lost)

    def rows(self, scorer: Scorer, start_us: int, end_us: int, horizon: int | None = None) -> list[Told]:
        found = [
            (ts, symbol, value, self.outcomes.get((symbol, ts, h), (0, None))[1])
            for (s, (symbol, ts, h)), (_, value) in self.predictions.items()
            if s == scorer and start_us < ts <= end_us and horizon in {None, h}
        ]
        return sorted(found, key=in_order)

    def known(self, scorer: Scorer, start_us: int, end_us: int) -> int:
        mine = [(k, r) for (s, k), (r, _) in self.predictions.items() if s == scorer and start_us < k[1] <= end_us]
        return sum(1 + r + 1 + self.outcomes.get(k, (-1, 0))[0] for k, r in mine)

    def changed(self, scorer: Scorer) -> list[int]:
        found = set()
        for index, horizon in {((ts - 1) // PANE_US, h) for s, (_, ts, h) in self.predictions if s == scorer}:
            now = self.rows(scorer, index * PANE_US, (index + 1) * PANE_US, horizon)
            if self.said.get((scorer, index, horizon)) != now:
                found.add(index)
                self.said[scorer, index, horizon] = now
        return sorted(found)

    def forget(self, scorer: Scorer) -> None:
        self.predictions = {at: p for at, p in self.predictions.items() if at[0] != scorer}
        self.said = {at: rows for at, rows in self.said.items() if at[0] != scorer}

    def waiting(self) -> int:
        return sum(key not in self.outcomes for _, key in self.predictions)
