"""One source partition's predictions and outcomes: joined when a window asks, and journalled. Core.

`label_panes` holds and joins them, the `journal` is the only thing stored: a restart reads its rows and lays them down again,
which gives the same. Rows at or below the journal's mark of their source were taken before and are skipped, so a replay
changes nothing; nor does a row that comes again in a later record, whose revision is no higher.

Time is the greatest event time among the partition's predictions, nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from monitoring.journal import Journal
from monitoring.journal_layout import Block
from monitoring.label_panes import LabelPanes
from monitoring.label_rows import Rows, by_horizon
from monitoring.symbols import Symbols

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from monitoring.errors import StateError
    from monitoring.joined import Scorer
    from monitoring.label_rows import Joined
    from monitoring.reference import Floats, Ints

_FULL = 2**63
_FLOATS = ("value", "lower", "upper", "p_up", "completeness", "outcome")
_NONE = np.empty(0, np.int64)
_ODD_SYMBOLS = 1024
"""So many names are held at least, and two for each row that may be, before those without rows are sorted out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QualityRows:
    """A scorer's predictions and what became of them, all arrays (rows,), by event time and then symbol. Not to be written to.

    One row per (symbol, event time): the greatest revision. `outcome` is NaN where none is known yet; `symbol_codes` are
    places in `symbols`, which are in ascending order and may be more than the rows have.
    """

    value: Floats
    lower: Floats
    upper: Floats
    p_up: Floats
    completeness: Floats
    outcome: Floats
    symbol_codes: Ints
    ts_event_us: Ints
    symbols: tuple[str, ...]
    known: int = 0
    """How much is known of the rows (`label_rows.Joined`): grows with each of them, each outcome and each revision."""

    def __len__(self) -> int:
        return len(self.value)


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Predictions of one scorer and horizon, abstentions left out; `floats` as in `label_rows.Rows`."""

    scorer: Scorer
    horizon_us: int
    symbols: Sequence[str]
    ts_event_us: Ints
    revision: Ints
    floats: Floats

    @classmethod
    def of(
        cls,
        scorer: Scorer,
        *,
        horizon_us: int,
        symbols: Sequence[str],
        ts_event_us: Ints,
        revision: Ints,
        value: Floats,
        lower: Floats,
        upper: Floats,
        p_up: Floats,
        completeness: Floats,
    ) -> Predictions:
        """From arrays (rows,), which may be views: all is copied when it is added."""
        floats = np.empty((5, len(symbols)))
        floats[:] = value, lower, upper, p_up, completeness
        return cls(scorer, horizon_us, symbols, ts_event_us, revision, floats)

    def __len__(self) -> int:
        return len(self.symbols)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcomes:
    """Outcomes, arrays (rows,), which may be views: all is copied when it is added."""

    symbols: Sequence[str]
    ts_event_us: Ints
    horizon_us: Ints
    revision: Ints
    value: Floats

    def __len__(self) -> int:
        return len(self.symbols)


class Labels:
    """The labels of one source partition. One owner, one thread."""

    def __init__(self, *, timeout_us: int, pane_us: int, most: int) -> None:
        """`timeout_us`: how long after it is due an outcome may come; `pane_us`: pane of quality windows; `most`: rows held.

        A pane is given up once its end, its horizon and the timeout have passed: let the timeout be a window and two panes
        at least, or a window's first panes are gone before it closes.
        """
        if timeout_us < 0 or pane_us <= 0 or most <= 0:
            raise ValueError(f"timeout_us {timeout_us} must not be negative; pane_us {pane_us} and most {most} must be positive")
        self._most_symbols = 2 * most + _ODD_SYMBOLS
        self._symbols = Symbols()
        self.panes = LabelPanes(self._symbols, timeout_us=timeout_us, pane_us=pane_us, most=most)
        # A row is revised now and then. Its pane ends less than a pane after it.
        self.journal = Journal(self._symbols, keep_us=timeout_us + pane_us, most_rows=3 * most)
        self.now_us = -1
        self.faults: tuple[StateError, ...] = ()

    @property
    def waiting(self) -> int:
        """Predictions held that have no outcome, as of the last join of their pane."""
        return self.panes.waiting

    @property
    def evicted(self) -> int:
        """Rows given up for want of room."""
        return self.panes.evicted

    @property
    def late_rows(self) -> int:
        """Rows that came after their pane was given up."""
        return self.panes.late_rows

    def taken(self, source: str) -> int:
        """The source offset up to which rows were taken before, -1 if none."""
        return self.journal.marks.get(source, -1)

    def add_predictions(self, block: Predictions, *, source: str, offset: int) -> None:
        """Take the predictions of one source record, abstentions left out."""
        if offset <= self.taken(source) or not len(block):
            return
        rows = Rows(self._integers(block.ts_event_us, block.revision, block.symbols), block.floats)
        self.now_us = self.journal.now_us = max(self.now_us, int(block.ts_event_us.max()))
        self._take(Block(block.scorer, block.horizon_us, rows))
        self.journal.mark(source, offset)

    def add_outcomes(self, block: Outcomes, *, source: str, offset: int) -> None:
        """Take outcomes from offsets not taken yet, the last of them `offset`."""
        if not len(block):
            return
        integers = self._integers(block.ts_event_us, block.revision, block.symbols)
        for horizon_us, rows in by_horizon(Rows(integers, np.array((block.value,), np.float64)), block.horizon_us):
            self._take(Block(None, horizon_us, rows))
        self.journal.mark(source, offset)

    def rows(self, scorer: Scorer, *, start_us: int, end_us: int) -> QualityRows:
        """The scorer's predictions with start_us < ts_event_us <= end_us. What was joined before is not joined again."""
        found = self.panes.joined(scorer, start_us=start_us, end_us=end_us)
        names, ranks = self._symbols.ordered(), self._symbols.ranks()
        parts = [_quality_rows(part, names, ranks) for part in found]
        if len(parts) == 1:
            return parts[0]
        return _one_after_another(parts, names, [p.symbol_codes for p in parts], in_order=self.panes.horizons(scorer) <= 1)

    def whole(self, *, after_us: int, horizon_us: int) -> bool:
        """Whether no pane of this horizon with event times after `after_us` was given up."""
        panes = self.panes
        return (after_us // panes.pane_us + 1) * panes.pane_us + horizon_us + panes.timeout_us >= panes.until_us

    def take_changed(self, scorer: Scorer) -> list[int]:
        """Panes, (ts_event_us - 1) // pane_us, whose `rows` are others than at the last call, ascending; all after a restart.

        Whether a pane changed is told by joining it, so ask when a window closes rather than at every record.
        """
        return self.panes.take_changed(scorer)

    def take_matured(self) -> int:
        """How many predictions were joined with an outcome since the last call."""
        return self.panes.take_matured()

    def advance(self) -> dict[Scorer, int]:
        """Give up what is past its deadline; how many predictions ended without an outcome, per scorer."""
        self.panes.expire(self.now_us)
        self.journal.until_us = self.panes.until_us
        self.journal.forget(self.panes.until_us)
        return self.panes.take_unlabelled()

    def forget(self, scorer: Scorer) -> None:
        """Let go of a scorer that is gone for good: its predictions are given up, and not counted as unlabelled."""
        self.panes.forget(scorer)

    def _integers(self, ts_event_us: Ints, revision: Ints, names: Sequence[str]) -> Ints:
        if len(self._symbols) > self._most_symbols:
            self._renew_symbols()
        integers = np.empty((3, len(names)), np.int64)
        integers[0], integers[1], integers[2] = ts_event_us, revision, self._symbols.codes(names)
        return integers

    def _take(self, block: Block) -> None:
        if self.panes.add(*block):
            self.journal.append(block)

    def _renew_symbols(self) -> None:
        """Forget the names of which no row is held any more."""
        self.journal.seal()
        self._symbols = self.journal.symbols = Symbols()
        self.panes.recode(self._symbols)

    @classmethod
    def restore(cls, entries: Iterable[tuple[int, bytes]], *, timeout_us: int, pane_us: int, most: int) -> Labels:
        """The labels whose journal was written as these (slot, bytes). What cannot be read is passed over: see `faults`."""
        self = cls(timeout_us=timeout_us, pane_us=pane_us, most=most)
        self.journal, blocks, faults = Journal.restore(
            entries, self._symbols, keep_us=self.journal.keep_us, most_rows=self.journal.most_rows
        )
        self.faults = tuple(faults)
        self.now_us = self.journal.now_us
        self.panes.expire(self.journal.until_us)
        for block in blocks:
            self.panes.add(*block)
        self.panes.late_rows = 0
        self.advance()  # counted as unlabelled before the restart
        self.take_matured()
        return self


def gathered(parts: Sequence[QualityRows]) -> QualityRows:
    """Rows of several partitions as one, by event time and then symbol."""
    parts = [p for p in parts if len(p)] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    names, places = _united(tuple(p.symbols for p in parts))
    codes = [place[p.symbol_codes] for place, p in zip(places, parts, strict=True)]
    return _one_after_another(parts, names, codes, in_order=False)


@lru_cache(maxsize=8)
def _united(symbols: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], tuple[Ints, ...]]:
    """All names, ascending; of each tuple of names, their places among all."""
    names = sorted({name for some in symbols for name in some})
    place = {name: i for i, name in enumerate(names)}
    return tuple(names), tuple(np.array([place[name] for name in some], np.int64) for some in symbols)


def _quality_rows(joined: Joined, names: tuple[str, ...], ranks: Ints) -> QualityRows:
    (ts_event_us, _, code), (value, lower, upper, p_up, completeness) = joined.rows
    return QualityRows(
        value=value,
        lower=lower,
        upper=upper,
        p_up=p_up,
        completeness=completeness,
        outcome=joined.outcome,
        symbol_codes=ranks[code],
        ts_event_us=ts_event_us,
        symbols=names,
        known=int(joined.known.sum()),
    )


def _one_after_another(
    parts: Sequence[QualityRows], names: tuple[str, ...], codes: Sequence[Ints], *, in_order: bool
) -> QualityRows:
    """All rows; sorted, unless they are `in_order`. `codes`: each part's places in `names`."""
    columns = {c: np.concatenate([np.empty(0), *(getattr(p, c) for p in parts)]) for c in _FLOATS}
    ts_event_us = np.concatenate([_NONE, *(p.ts_event_us for p in parts)])
    symbol_codes = np.concatenate([_NONE, *codes])
    if not in_order and len(ts_event_us):
        since_us = ts_event_us - ts_event_us.min()
        if int(since_us.max() + 1) * len(names) < _FULL:
            order = np.argsort(since_us * len(names) + symbol_codes, kind="stable")
        else:
            order = np.lexsort((symbol_codes, ts_event_us))
        columns = {c: column[order] for c, column in columns.items()}
        ts_event_us, symbol_codes = ts_event_us[order], symbol_codes[order]
    return QualityRows(
        **columns, symbol_codes=symbol_codes, ts_event_us=ts_event_us, symbols=names, known=sum(p.known for p in parts)
    )
