"""Predictions made and what became of them, per scorer and pane of event time: the rows quality windows are made of.

Core. One row per (scorer, symbol, event time), so whatever comes again changes nothing:

| comes                                        | happens                                                              |
|----------------------------------------------|----------------------------------------------------------------------|
| a prediction (abstentions left out)          | its key counts as published, once                                    |
| a matured row                                | its numbers stand at its key, which counts as published too          |
| a matured row of the same key (`revised`)    | takes the place of the one before                                    |
| anything at or before the scorer's floor     | ignored                                                              |

Panes are those of `monitoring.panes`: open at the start, closed at the end. At most `most` keys are held: beyond that
the oldest pane of all goes, its keys counted in `evicted`, and the floor of its scorer rises to its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitoring.joined import Matured, Scorer
    from monitoring.reference import Floats, Ints

_Numbers = list[float]
"""value, lower, upper, p_up, outcome"""

_NO_FLOOR = -(2**62)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QualityRows:
    """Matured rows as `quality.quality_report` takes them, all arrays (rows,), and how many predictions were made."""

    value: Floats
    lower: Floats
    upper: Floats
    p_up: Floats
    outcome: Floats
    symbol_codes: Ints
    ts_event_us: Ints
    published: int

    def __len__(self) -> int:
        return len(self.value)


def gather(parts: Sequence[QualityRows]) -> QualityRows:
    """Rows of several stores as one; no symbol may be in two of them."""
    sizes = [int(p.symbol_codes.max(initial=-1)) + 1 for p in parts]
    first = np.cumsum([0, *sizes])
    return QualityRows(
        value=_joined([p.value for p in parts]),
        lower=_joined([p.lower for p in parts]),
        upper=_joined([p.upper for p in parts]),
        p_up=_joined([p.p_up for p in parts]),
        outcome=_joined([p.outcome for p in parts]),
        symbol_codes=np.concatenate([np.empty(0, np.int64), *(p.symbol_codes + f for p, f in zip(parts, first, strict=False))]),
        ts_event_us=np.concatenate([np.empty(0, np.int64), *(p.ts_event_us for p in parts)]),
        published=sum(p.published for p in parts),
    )


class _Pane:
    """One pane: numbers by (event time, symbol), None until matured; and its arrays, made when asked for."""

    __slots__ = ("arrays", "keys")

    def __init__(self) -> None:
        self.keys: dict[tuple[int, str], _Numbers | None] = {}
        self.arrays: tuple[Ints, Floats, Ints, Ints] | None = None


class MaturedRows:
    """The store. One owner, one thread."""

    def __init__(self, *, pane_us: int, most: int = 1_000_000) -> None:
        """`pane_us`: length of a pane; `most`: (scorer, symbol, event time) keys held."""
        if pane_us <= 0 or most <= 0:
            raise ValueError(f"pane_us {pane_us} and most {most} must be positive")
        self.pane_us = pane_us
        self.most = most
        self.evicted = 0
        self._panes: dict[tuple[Scorer, int], _Pane] = {}
        self._floors: dict[Scorer, int] = {}
        self._codes: dict[str, int] = {}
        self._held = 0

    def __len__(self) -> int:
        return self._held

    def publish(self, scorer: Scorer, *, symbols: Sequence[str], ts_event_us: Ints) -> None:
        """Count predictions as made; arrays (rows,)."""
        floor, at, pane = self._floors.get(scorer, _NO_FLOOR), _NO_FLOOR, _Pane()
        panes = (ts_event_us - 1) // self.pane_us
        for symbol, ts, index in zip(symbols, ts_event_us.tolist(), panes.tolist(), strict=True):
            if index > floor:
                if index != at:
                    at, pane = index, self._pane(scorer, index)
                if (ts, symbol) not in pane.keys:
                    pane.keys[ts, symbol] = None
                    pane.arrays = None
                    self._held += 1
        self._bound()

    def add(self, rows: Matured) -> None:
        """Put matured rows in their places."""
        floor, at, pane = self._floors.get(rows.scorer, _NO_FLOOR), _NO_FLOOR, _Pane()
        panes = (rows.ts_event_us - 1) // self.pane_us
        numbers = np.stack((rows.value, rows.lower, rows.upper, rows.p_up, rows.outcome), axis=1).tolist()
        for symbol, ts, index, row in zip(rows.symbols, rows.ts_event_us.tolist(), panes.tolist(), numbers, strict=True):
            if index > floor:
                if index != at:
                    at, pane = index, self._pane(rows.scorer, index)
                self._held += (ts, symbol) not in pane.keys
                pane.keys[ts, symbol] = row
                pane.arrays = None
        self._bound()

    def rows(self, scorer: Scorer, *, start_us: int, end_us: int) -> QualityRows:
        """Matured rows with start_us < ts_event_us <= end_us, by event time and then symbol, and how many were published."""
        times, numbers, codes, published = [], [], [], 0
        first, last = start_us // self.pane_us, (end_us - 1) // self.pane_us
        for index in sorted(i for s, i in self._panes if s == scorer and first <= i <= last):
            ts, values, symbol_codes, made = self._arrays(self._panes[scorer, index])
            published += int(((start_us < made) & (made <= end_us)).sum())
            within = (start_us < ts) & (ts <= end_us)
            times.append(ts[within])
            numbers.append(values[within])
            codes.append(symbol_codes[within])
        table = np.concatenate([np.empty((0, 5)), *numbers])
        return QualityRows(
            value=table[:, 0],
            lower=table[:, 1],
            upper=table[:, 2],
            p_up=table[:, 3],
            outcome=table[:, 4],
            symbol_codes=np.concatenate([np.empty(0, np.int64), *codes]),
            ts_event_us=np.concatenate([np.empty(0, np.int64), *times]),
            published=published,
        )

    def forget(self, scorer: Scorer, *, until_us: int) -> None:
        """Let go of the scorer's panes that end at or before `until_us`; no window will ask for them."""
        self._raise_floor(scorer, until_us // self.pane_us - 1)

    def _pane(self, scorer: Scorer, index: int) -> _Pane:
        pane = self._panes.get((scorer, index))
        if pane is None:
            pane = self._panes[scorer, index] = _Pane()
        return pane

    def _arrays(self, pane: _Pane) -> tuple[Ints, Floats, Ints, Ints]:
        """Event times, numbers (rows, 5), symbol codes of matured keys; event times of all keys."""
        if pane.arrays is None:
            codes = self._codes
            matured = [(key, pane.keys[key]) for key in sorted(pane.keys) if pane.keys[key] is not None]
            pane.arrays = (
                np.array([ts for (ts, _), _ in matured], np.int64),
                np.array([numbers for _, numbers in matured], np.float64).reshape(len(matured), 5),
                np.array([codes.setdefault(symbol, len(codes)) for (_, symbol), _ in matured], np.int64),
                np.array([ts for ts, _ in pane.keys], np.int64),
            )
        return pane.arrays

    def _bound(self) -> None:
        while self._held > self.most:
            index, scorer = min((i, s) for s, i in self._panes)
            before = self._held
            self._raise_floor(scorer, index)
            self.evicted += before - self._held

    def _raise_floor(self, scorer: Scorer, floor: int) -> None:
        self._floors[scorer] = max(floor, self._floors.get(scorer, floor))
        for key in [k for k in self._panes if k[0] == scorer and k[1] <= floor]:
            self._held -= len(self._panes.pop(key).keys)


def _joined(arrays: Sequence[Floats]) -> Floats:
    return np.concatenate([np.empty(0), *arrays])
