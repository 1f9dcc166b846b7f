"""Predictions and outcomes of one pane of event time, joined when somebody asks. Core.

What comes is laid down as it is, array by array. Only when the pane is asked for are the pieces put into a sorted table and
the predictions joined with the outcomes; then that stands until something new comes for the pane.

| a row comes                                                     | happens                                              |
|-----------------------------------------------------------------|------------------------------------------------------|
| prediction or outcome of a new (event time, symbol)             | stands in the table                                  |
| one of a higher revision                                        | takes the place of the one before                    |
| one of the same or a lower revision                             | changes nothing: what came first holds               |
| outcome before its prediction, prediction before its outcome    | they meet at the next join; until then outcome is NaN |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from monitoring.joined import Scorer
    from monitoring.reference import Floats, Ints
    from monitoring.symbols import Symbols

NEVER: Final = -(2**62)
"""A time before all: nothing was given up yet."""

_FULL = 2**63

_MANY = 32
"""So many pieces are made one: an array costs some hundred bytes, however few rows it has."""


class Rows(NamedTuple):
    """`integers` int64[3, rows]: event time, revision, symbol's code. `floats` float64[columns, rows].

    The floats of a prediction are value, lower, upper, p_up and completeness; an outcome has its value.
    """

    integers: Ints
    floats: Floats

    @property
    def many(self) -> int:
        """How many rows."""
        return len(self.integers[0])

    def cut(self, start: int, stop: int) -> Rows:
        """Rows from `start` to before `stop`; copies nothing."""
        return Rows(self.integers[:, start:stop], self.floats[:, start:stop])

    def take(self, places: Ints) -> Rows:
        """Rows of these places, in their order."""
        return Rows(self.integers.take(places, axis=1), self.floats.take(places, axis=1))


def one_after_another(parts: Sequence[Rows]) -> Rows:
    """All rows of the parts, of which there must be one at least."""
    if len(parts) == 1:
        return parts[0]
    return Rows(np.concatenate([p.integers for p in parts], axis=1), np.concatenate([p.floats for p in parts], axis=1))


def by_horizon(rows: Rows, horizon_us: Ints) -> list[tuple[int, Rows]]:
    """The rows of each horizon, int64[rows], in their order."""
    if not rows.many:
        return []
    first = int(horizon_us[0])
    if (horizon_us == first).all():
        return [(first, rows)]
    return [(h, rows.take(np.flatnonzero(horizon_us == h))) for h in np.unique(horizon_us).tolist()]


class Joined(NamedTuple):
    """Predictions, their outcomes float64[rows] (NaN where none is known), and how much is known of each, int64[rows].

    What is known of a row is 1 and the prediction's revision, and 1 and the outcome's revision if there is one: it grows with
    whatever comes for the row, and is the same whenever and in whatever order that came.
    """

    rows: Rows
    outcome: Floats
    known: Ints


class Side:
    """Predictions of one scorer, or outcomes, of one pane and horizon: the table, and the pieces that came since."""

    __slots__ = ("_pieces", "many", "pane_us", "start_us", "table")

    def __init__(self, start_us: int, pane_us: int) -> None:
        """`start_us`: where the pane starts; `pane_us`: its length."""
        self.start_us = start_us
        self.pane_us = pane_us
        self.table: Rows | None = None
        self.many = 0
        """Rows held; one that came again counts until the next merge."""
        self._pieces: list[Rows] = []

    def add(self, piece: Rows) -> None:
        """Lay down rows, one or more, in any order."""
        self._pieces.append(piece)
        self.many += piece.many
        if len(self._pieces) >= _MANY:
            self._join_small_pieces()

    def merge(self, symbols: Symbols) -> bool:
        """Put into the table what came; whether that changed it."""
        if not self._pieces:
            return False
        stood = 0 if self.table is None else self.table.many
        rows = one_after_another(self._pieces if self.table is None else [self.table, *self._pieces])
        self._pieces = []
        key = self.keys(rows, symbols)
        order = np.argsort(key)
        first = _first_of_equals(key[order])
        if not first.all():
            # Of a key the greatest revision first, and of the same revision what stood or came first.
            order = np.lexsort((-rows.integers[1], key))
            order = order[_first_of_equals(key[order])]
        self.many = len(order)
        if (order < stood).all():
            return False
        self.table = rows.take(order)
        for array in self.table:
            array.setflags(write=False)  # they are given away as they are
        return True

    def keys(self, rows: Rows, symbols: Symbols) -> NDArray[Any]:
        """One number for each (event time, symbol), in the order of time, then name."""
        ts_event_us, _, code = rows.integers
        since_us, rank = ts_event_us - self.start_us, symbols.ranks()[code]
        fits = (self.pane_us + 1) * len(symbols) < _FULL
        # Complex numbers are slower; they are in order of the one part, then the other, and exact below 2**53.
        key: NDArray[Any] = since_us * len(symbols) + rank if fits else since_us + 1j * rank
        return key

    def _join_small_pieces(self) -> None:
        """Make one of the newest pieces, as far back as they are no larger than those after them together, or not by much."""
        start, together = len(self._pieces) - 1, self._pieces[-1].many
        while start and self._pieces[start - 1].many <= 2 * together:
            start -= 1
            together += self._pieces[start].many
        # So pieces stay few, and a row is copied as often as the pane's rows can be halved, however it came.
        self._pieces[start:] = [one_after_another(self._pieces[start:])]

    def recode(self, codes: Ints) -> None:
        """Give the table's symbols other codes, `codes` by the code so far; no piece may be waiting."""
        if self.table is not None:
            integers = self.table.integers.copy()
            integers[2] = codes[integers[2]]
            integers.setflags(write=False)
            self.table = Rows(integers, self.table.floats)


class Known:
    """Outcomes of one pane and horizon."""

    __slots__ = ("side", "version")

    def __init__(self, start_us: int, pane_us: int) -> None:
        self.side = Side(start_us, pane_us)
        self.version = 0
        """How often the table changed."""

    def merge(self, symbols: Symbols) -> None:
        """Put into the table what came."""
        self.version += self.side.merge(symbols)


class Predicted:
    """A scorer's predictions of one pane and horizon, and the outcomes they met."""

    __slots__ = ("_version", "changed", "joined", "matched", "side")

    def __init__(self, start_us: int, pane_us: int) -> None:
        self.side = Side(start_us, pane_us)
        self.joined: Joined | None = None
        """As of the last join."""
        self.matched = 0
        """Rows with an outcome."""
        self.changed = False
        """Whether the joined rows are others than when this was last set to False."""
        self._version = 0

    def join(self, known: Known, symbols: Symbols) -> None:
        """Bring table and outcomes up to date."""
        others = self.side.merge(symbols)
        known.merge(symbols)
        table = self.side.table
        if table is None or not (others or self._version != known.version):
            return
        before, self.joined = self.joined, self._joined(table, known.side.table, symbols)
        for array in self.joined[1:]:
            array.setflags(write=False)
        self.matched = table.many - int(np.isnan(self.joined.outcome).sum())
        self.changed = self.changed or before is None or not np.array_equal(before.known, self.joined.known)
        self._version = known.version

    def _joined(self, table: Rows, known: Rows | None, symbols: Symbols) -> Joined:
        much = table.integers[1] + 1
        if known is None:
            return Joined(table, np.full(table.many, np.nan), much)
        wanted, there = self.side.keys(table, symbols), self.side.keys(known, symbols)
        if np.array_equal(wanted, there):
            return Joined(table, known.floats[0], much + known.integers[1] + 1)
        at = there.searchsorted(wanted)
        at[at == len(there)] = 0
        met = there[at] == wanted
        outcome = np.where(met, known.floats[0][at], np.nan)
        return Joined(table, outcome, much + np.where(met, known.integers[1][at] + 1, 0))


class Pane:
    """One pane of one horizon: its outcomes, and each scorer's predictions."""

    __slots__ = ("horizon_us", "index", "known", "scorers")

    def __init__(self, index: int, *, pane_us: int, horizon_us: int) -> None:
        self.index = index
        self.horizon_us = horizon_us
        self.known = Known(index * pane_us, pane_us)
        self.scorers: dict[Scorer, Predicted] = {}

    def sides(self) -> list[Side]:
        """The outcomes' and each scorer's."""
        return [self.known.side, *(p.side for p in self.scorers.values())]

    def recode(self, codes: Ints) -> None:
        """Give symbols other codes, `codes` by the code so far; all must be joined."""
        for side in self.sides():
            side.recode(codes)
        for predicted in self.scorers.values():
            if predicted.joined is not None and predicted.side.table is not None:
                predicted.joined = predicted.joined._replace(rows=predicted.side.table)


def _first_of_equals(ordered: NDArray[Any]) -> NDArray[np.bool_]:
    first = np.empty(len(ordered), np.bool_)
    first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return first
