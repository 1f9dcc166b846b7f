"""The meaning of a lag window in plain Python lists: slow, and obviously right. Written from the words, not from the code."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.spec import ServingSpec


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


@dataclass
class Oracle:
    """Reads rows in offset order; `answer` is the vector of a trigger row, None where the row gives no prediction."""

    spec: ServingSpec
    depth: dict[str, int]
    kept: list[Row] = field(default_factory=list)

    def _newer(self, row: Row) -> int:
        return sum(
            (k.event, k.revision) > (row.event, row.revision)
            for k in self.kept
            if (k.symbol, k.feature_set) == (row.symbol, row.feature_set)
        )

    def read(self, row: Row) -> tuple[str, list[float] | None, list[str]]:
        """What becomes of a row: its fate, and for a prediction the vector and the stale columns."""
        if self._newer(row) >= self.depth[row.feature_set]:
            return "expired", None, []
        for k in self.kept:
            if k.identity == row.identity:
                same = k.known == row.known and repr(k.values) == repr(row.values)
                return ("duplicate" if same else "conflict"), None, []
        self.kept.append(row)
        if row.feature_set != self.spec.trigger:
            return "kept", None, []
        vector, stale = [], []
        for c in self.spec.columns:
            fs = self.spec.feature_sets[c.feature_set]
            lag, max_age = 0, c.max_age_us
            if c.lag != 0 and c.lag.bars is not None:
                lag = c.lag.bars * fs.bar_us
                max_age = fs.bar_us - 1 if max_age is None else max_age
            elif c.lag != 0:
                lag = c.lag.us or 0
            window = [k for k in self.kept if k.symbol == row.symbol and k.feature_set == c.feature_set]
            window = sorted(window, key=lambda k: (k.event, k.revision))[-fs.depth_rows :]
            candidates = [k for k in window if k.known <= row.known and k.event <= row.event - lag]
            if not candidates:
                vector.append(math.nan)
            elif max_age is not None and row.event - lag - candidates[-1].event > max_age:
                vector.append(math.nan)
                stale.append(c.name)
            else:
                vector.append(candidates[-1].values[c.feature])
        return "predicted", vector, stale
