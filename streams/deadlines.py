"""Settles the trigger rows that wait: which of them a piece of a chunk completes or times out, and at which offset. Core.

`waiting` says what ends a wait. Here every (waiting row, offset that may end its wait) of a piece becomes a row of one
vectorised look at the windows, and the first that qualifies counts.
"""

from __future__ import annotations

from collections import Counter
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from streams.records import FeatureBatch
from streams.served import Inputs
from streams.waiting import Ticks, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from streams.lanes import Lane
    from streams.served import Served, StepResult
    from streams.windows import Vectors

MOST_WAITING: Final = 4_096
"""Rows of a symbol that wait at most, of all champions, and again with challengers' among them; a row beyond does not wait.

They are part of the symbol's table value: with names of 200 bytes 2 MiB, which `layout.MAX_STATE_BYTES` leaves of a record.
"""
NO_END: Final = 2**63 - 1


class _Wait(NamedTuple):
    partition: int
    symbol: str
    row: Waiting


class _Look(NamedTuple):
    wait: _Wait
    offset: int
    decision_us: int
    timed_out: bool


class Deadlines:
    """The waits of one piece: those from before, and those its own trigger rows begin."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._windows = lane.windows
        self._waits = [_Wait(partition, symbol, row) for partition, symbol, rows in self._windows.waiting() for row in rows]
        self._before = len(self._waits)

    def take(self, served: Served, rows: FeatureBatch, vectors: Vectors) -> NDArray[np.bool_]:
        """Which trigger rows begin to wait, bool (rows,)."""
        if served.handle.spec.deadline_us == 0 or not vectors.incomplete.any():
            return np.zeros(len(rows.symbols), dtype=bool)
        waits = vectors.incomplete if vectors.expired is None else vectors.incomplete & ~vectors.expired
        for i in np.flatnonzero(waits).tolist():
            row = Waiting(
                served.waits_as,
                int(rows.ts_event_us[i]),
                int(rows.revision[i]),
                int(rows.ts_known_us[i]),
                int(rows.offset[i]),
            )
            self._waits.append(_Wait(int(rows.partition[i]), rows.symbols[i], row))
        return waits

    def settle(self, placed: Sequence[FeatureBatch], ticks: Mapping[int, Ticks], topic: str, out: StepResult) -> None:
        """End the waits that end in this piece, with a record each; the others wait on in their symbol's state.

        `placed`: the piece's rows that found a place in a window; `ticks`: stream time at each row of the piece.
        """
        if not self._waits:
            return
        arrivals = _arrivals(placed, {w.symbol for w in self._waits})
        looks = {
            served: [look for w in mine for look in _looks(w, served, ticks, arrivals.get(w.symbol, ()))]
            for served, mine in self._by_scorer().items()
        }
        crowded = Counter(w.symbol for w in self._waits) if len(self._waits) > MOST_WAITING else {}
        if any(n > MOST_WAITING for n in crowded.values()):
            self._turn_away(looks, {symbol for symbol, n in crowded.items() if n > MOST_WAITING})
        settled = self._left_alone(ticks)
        for served, some in looks.items():
            if some:
                settled |= self._decide(served, some, topic, out)
        self._remember(settled)

    def _turn_away(self, looks: dict[Served, list[_Look]], symbols: set[str]) -> None:
        """Of these symbols the waits that begin while as many rows as may wait do: they are decided where they begin.

        Which these are follows from where each wait begins and ends, not from how the log is cut into pieces.
        """
        ends: dict[_Wait, int] = {}
        of = {w: served for served, mine in self._by_scorer().items() for w in mine if w.symbol in symbols}
        for served, some in looks.items():
            mine = [look for look in some if look.wait.symbol in symbols]
            if mine:
                _, first = self._first(served, mine)
                ends.update({w: mine[i].offset for w, i in first.items()})
        begun = {w: n for n, w in enumerate(self._waits)}
        away: dict[Served, dict[_Wait, None]] = {}
        for symbol in symbols:
            of_champions: list[int] = []
            of_all: list[int] = []
            for w in sorted((w for w in begun if w.symbol == symbol), key=lambda w: (w.row.offset, w.row.model)):
                traded = "\x1f" not in w.row.model
                for waiting in (of_champions, of_all):
                    while waiting and waiting[0] <= w.row.offset:
                        heappop(waiting)
                # No challenger decides what becomes of a champion's row.
                if begun[w] < self._before or len(of_champions if traded else of_all) < MOST_WAITING:
                    for waiting in (of_champions, of_all) if traded else (of_all,):
                        heappush(waiting, ends.get(w, NO_END))
                elif w in of:
                    away.setdefault(of[w], {})[w] = None
        for served, turned in away.items():
            kept = [look for look in looks[served] if look.wait not in turned]
            looks[served] = kept + [_Look(w, w.row.offset, w.row.ts_known_us, timed_out=True) for w in turned]

    def _by_scorer(self) -> dict[Served, list[_Wait]]:
        """The waits by who is to score them: a row's event time says which version."""
        out: dict[Served, list[_Wait]] = {}
        for w in self._waits:
            model, _, role = w.row.model.partition("\x1f")
            served = self._lane.scorer(model, "challenger" if role else "champion", w.partition, w.symbol, w.row.ts_event_us)
            if served is not None:
                out.setdefault(served, []).append(w)
        return out

    def _left_alone(self, ticks: Mapping[int, Ticks]) -> set[_Wait]:
        """Rows that nobody will ever score, for their challenger counts no more: they leave with the partition's next row."""
        scored = {w for mine in self._by_scorer().values() for w in mine}
        alone = {w for w in self._waits if w not in scored and w.partition in ticks}
        return {w for w in alone if self._lane.serves(w.row.model.partition("\x1f")[0])}

    def _decide(self, served: Served, looks: list[_Look], topic: str, out: StepResult) -> set[_Wait]:
        vectors, first = self._first(served, looks)
        if first:
            # Whatever the pieces, so they come in one order (`inference_log`): whoever reads the log can know repeated ones.
            chosen = sorted(first.values(), key=lambda i: _decided_order(looks[i]))
            decided = np.array([looks[i].offset for i in chosen], dtype=np.int64)
            inputs = Inputs(_rows([looks[i] for i in chosen], topic, at_cut=False), vectors.take(np.array(chosen)), decided)
            served.predict(inputs, out)
            out.counts["waited"] += len(chosen)
            out.counts["timed_out"] += sum(looks[i].timed_out for i in chosen)
        return set(first)

    def _first(self, served: Served, looks: list[_Look]) -> tuple[Vectors, dict[_Wait, int]]:
        """What each look finds, after bringing them in order, and the first of each wait that ends it."""
        looks.sort(key=lambda look: (look.wait.partition, look.wait.row.offset, look.wait.row.model, look.offset))
        vectors = self._windows.vectors(served.plan, _rows(looks, "", at_cut=True))
        first: dict[_Wait, int] = {}
        for i, (look, incomplete) in enumerate(zip(looks, vectors.incomplete.tolist(), strict=True)):
            if (look.timed_out or not incomplete) and look.wait not in first:
                first[look.wait] = i
        return vectors, first

    def _remember(self, settled: set[_Wait]) -> None:
        left: dict[str, list[Waiting]] = {w.symbol: [] for w in self._waits}
        for w in self._waits:
            if w not in settled:
                left[w.symbol].append(w.row)
        for symbol, rows in left.items():
            self._windows.wait(symbol, tuple(sorted(rows, key=lambda w: (w.offset, w.model))))  # however the log is cut


def _looks(wait: _Wait, served: Served, ticks: Mapping[int, Ticks], arrivals: Iterable[tuple[str, int, int]]) -> Iterable[_Look]:
    """The offsets of the piece that may end a wait, in order: rows of the symbol's other sets, then the deadline."""
    deadline_us = wait.row.ts_known_us + served.handle.spec.deadline_us
    tick = ticks.get(wait.partition)
    ends = None if tick is None else tick.reaches(deadline_us, from_offset=wait.row.offset)
    for feature_set, offset, known_us in arrivals:
        if offset > wait.row.offset and feature_set != served.plan.trigger and (ends is None or offset < ends):
            yield _Look(wait, offset, max(wait.row.ts_known_us, known_us), timed_out=False)
    if ends is not None:
        yield _Look(wait, ends, deadline_us, timed_out=True)


def _decided_order(look: _Look) -> tuple[int, int, int]:
    return look.wait.partition, look.offset, look.wait.row.offset


def _arrivals(placed: Iterable[FeatureBatch], symbols: set[str]) -> dict[str, list[tuple[str, int, int]]]:
    """By symbol: (feature set, offset, known time) of its rows, offsets ascending."""
    out: dict[str, list[tuple[str, int, int]]] = {}
    for b in placed:
        for symbol, offset, known in zip(b.symbols, b.offset.tolist(), b.ts_known_us.tolist(), strict=True):
            if symbol in symbols:
                out.setdefault(symbol, []).append((b.feature_set, offset, known))
    for rows in out.values():
        rows.sort(key=lambda r: r[1])
    return out


def _rows(looks: Sequence[_Look], topic: str, *, at_cut: bool) -> FeatureBatch:
    """The trigger rows as they are looked at: decided at each look's time, and either cut at its offset or at their own."""
    n = len(looks)
    column = {
        "seq": [0] * n,
        "partition": [k.wait.partition for k in looks],
        "ts_event_us": [k.wait.row.ts_event_us for k in looks],
        "ts_known_us": [k.decision_us for k in looks],
        "revision": [k.wait.row.revision for k in looks],
        "offset": [k.offset if at_cut else k.wait.row.offset for k in looks],
    }
    arrays = {name: np.array(values, dtype=np.int64) for name, values in column.items()}
    return FeatureBatch("", topic, [k.wait.symbol for k in looks], values=np.empty((n, 0)), **arrays)
