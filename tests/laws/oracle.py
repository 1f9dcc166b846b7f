"""The meaning of a lag window in plain Python lists: slow, and obviously right. Written from the words, not from the code."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.spec import FeatureSetSpec, ServingSpec


@dataclass(frozen=True)
class Row:
    """One feature row at its offset."""

    offset: int
    symbol: str
    feature_set: str
    event: int
    known: int
    revision: int
    values: dict[str, float]

    @property
    def identity(self) -> tuple[str, str, int, int]:
        return self.symbol, self.feature_set, self.event, self.revision


@dataclass(frozen=True)
class Answer:
    """A trigger row's vector, the columns that are stale, and the decision time."""

    row: Row
    vector: list[float]
    stale: list[str]
    decision: int


@dataclass
class Oracle:
    """Reads rows in offset order; what became of each row, and every answer given."""

    spec: ServingSpec
    depth: dict[str, int]
    partition_of: Callable[[str], int] = lambda _: 0
    kept: list[Row] = field(default_factory=list)
    waiting: list[Row] = field(default_factory=list)
    stream_time: dict[int, int] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)

    def read(self, row: Row) -> str:
        """Take a row in; returns its fate. Its own answer, and those of rows that waited, are added to `answers`."""
        partition = self.partition_of(row.symbol)
        now = self.stream_time[partition] = max(self.stream_time.get(partition, -1), row.known)
        fate = "clock" if row.feature_set == "__clock__" else self._place(row)
        if fate == "kept" and row.feature_set == self.spec.trigger:
            vector, stale, incomplete = self._vector(row, row.known)
            if incomplete and self.spec.deadline_us > 0:
                self.waiting.append(row)
            else:
                self.answers.append(Answer(row, vector, stale, row.known))
        for w in list(self.waiting):
            if self.partition_of(w.symbol) != partition:
                continue
            if now >= w.known + self.spec.deadline_us:
                decision = w.known + self.spec.deadline_us
                vector, stale, _ = self._vector(w, decision)
            elif fate == "kept" and row.symbol == w.symbol and row.feature_set != self.spec.trigger:
                decision = max(w.known, row.known)
                vector, stale, incomplete = self._vector(w, decision)
                if incomplete:
                    continue
            else:
                continue
            self.waiting.remove(w)
            self.answers.append(Answer(w, vector, stale, decision))
        return fate

    def _place(self, row: Row) -> str:
        mine = [k for k in self.kept if (k.symbol, k.feature_set) == (row.symbol, row.feature_set)]
        if sum((k.event, k.revision) > (row.event, row.revision) for k in mine) >= self.depth[row.feature_set]:
            return "expired"
        for k in mine:
            if k.identity == row.identity:
                same = k.known == row.known and repr(k.values) == repr(row.values)
                return "duplicate" if same else "conflict"
        self.kept.append(row)
        return "kept"

    def _vector(self, row: Row, decision: int) -> tuple[list[float], list[str], bool]:
        vector, stale, incomplete = [], [], False
        for c in self.spec.columns:
            fs = self.spec.feature_sets[c.feature_set]
            lag, max_age = 0, c.max_age_us
            if c.lag != 0 and c.lag.bars is not None:
                lag, length = self._bars_back(row.event, c.lag.bars, fs)
                max_age = length - 1 if max_age is None else max_age
            elif c.lag != 0:
                lag = c.lag.us or 0
            window = [k for k in self.kept if k.symbol == row.symbol and k.feature_set == c.feature_set]
            window = sorted(window, key=lambda k: (k.event, k.revision))[-fs.depth_rows :]
            candidates = [k for k in window if k.known <= decision and k.event <= row.event - lag]
            old = bool(candidates) and max_age is not None and row.event - lag - candidates[-1].event > max_age
            if old:
                stale.append(c.name)
            vector.append(math.nan if old or not candidates else candidates[-1].values[c.feature])
            if (old or not candidates) and c.required and c.feature_set != self.spec.trigger:
                incomplete = True
        return vector, stale, incomplete

    @staticmethod
    def _bars_back(event: int, bars: int, fs: FeatureSetSpec) -> tuple[int, int]:
        if not fs.sessions:
            return bars * fs.bar_us, fs.bar_us
        ends = [e for o, cl in fs.sessions for e in [*range(o + fs.bar_us, cl, fs.bar_us), cl]]
        passed = [e for e in ends if e <= event]
        at = len(passed) - 1 - bars
        if at < 0:
            return 1 << 60, 1
        return event - passed[at], passed[at] - passed[at - 1] if at > 0 else fs.bar_us
