"""What does not come: a model's rows by the clock, and joined feature sets by what is missing.

Core: the time now is an argument. Silence is counted in bars that ended and brought nothing, on the grid of the trigger set: a
fixed step, or bars inside trading sessions only (`open < bar end <= close`, the last one ended by the close). So nothing
is awaited at night, over a weekend, or after the last session that the spec knows of.

| sessions (0, 25] (100, 120], bars of 10 | last row | now | bars missed |
|-----------------------------------------|----------|-----|-------------|
| ends 10 20 25 110 120                   | 20       | 24  | 0           |
|                                         | 20       | 99  | 1           |
|                                         | 20       | 120 | 3           |

A joined feature set is silent where even the column of it that is missing least is missing far more than in training. With
`m` missing now and `t` in training, the share missing of what training had is (m - t) / (1 - t).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from monitoring.reference import Floats, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Awaited:
    """How a model's rows come: a bar each `bar_us`, inside `sessions` only if there are any, known `usual_lag_us` later."""

    bar_us: int
    opens: Ints  # (sessions,) ascending
    closes: Ints  # (sessions,)
    usual_lag_us: int
    _before: Ints  # (sessions,) bars of the sessions before

    @classmethod
    def of(cls, *, bar_us: int, sessions: Sequence[tuple[int, int]] = (), usual_lag_us: int = 0) -> Awaited:
        """`sessions`: (open_us, close_us), ascending, not overlapping; `usual_lag_us`: publication lag and deadline."""
        if bar_us <= 0 or usual_lag_us < 0:
            raise ValueError(f"bar_us {bar_us} must be positive, usual_lag_us {usual_lag_us} not negative")
        opens, closes = np.array(sessions, np.int64).reshape(-1, 2).T
        bars = -((opens - closes) // bar_us)
        return cls(bar_us, opens, closes, usual_lag_us, np.cumsum(bars) - bars)

    def missed(self, last_us: int, now_us: int) -> int:
        """Bars whose rows should have come in (last_us, now_us], both by the clock.

        >>> awaited = Awaited.of(bar_us=10, sessions=[(0, 25), (100, 120)])
        >>> [awaited.missed(20, now) for now in (24, 99, 120)], Awaited.of(bar_us=10).missed(20, 99)
        ([0, 1, 3], 7)
        """
        last_us, now_us = last_us - self.usual_lag_us, now_us - self.usual_lag_us
        if not len(self.opens):
            return max(0, now_us - last_us) // self.bar_us
        return max(0, self._ended(now_us) - self._ended(last_us))

    def open(self, now_us: int) -> bool:
        """Whether rows are to come now: always, or in a session."""
        if not len(self.opens):
            return True
        at_us = now_us - self.usual_lag_us
        at = int(self.opens.searchsorted(at_us)) - 1
        return at >= 0 and at_us <= int(self.closes[at])

    def _ended(self, at_us: int) -> int:
        """Bars of all sessions that ended at or before."""
        at = int(self.opens.searchsorted(at_us, "right")) - 1
        if at < 0:
            return 0
        opens, closes = int(self.opens[at]), int(self.closes[at])
        inside = -((opens - closes) // self.bar_us) if at_us >= closes else (at_us - opens) // self.bar_us
        return int(self._before[at]) + inside


class Missing(Protocol):
    """How much of a column is missing; `monitoring.drift.ColumnDrift` says it."""

    @property
    def name(self) -> str:
        """The column."""
        ...

    @property
    def rows(self) -> int:
        """Rows, missing ones too."""
        ...

    @property
    def missing_rate(self) -> float:
        """Share of them without a value."""
        ...

    @property
    def missing_rate_trained(self) -> float:
        """The same in training."""
        ...


class MissingRate(NamedTuple):
    """How much of a column is missing."""

    name: str
    rows: int
    missing_rate: float
    missing_rate_trained: float


class SetSilence(NamedTuple):
    """Of one feature set: share missing of what training had, in its least missing column; and the greatest of any pane."""

    rows: int
    newest: float
    greatest: float


def missing_rates(names: Sequence[str], counts: Ints, trained: Ints) -> list[MissingRate]:
    """How much is missing by counts int64[columns, cells] of now and of training, whose last cell is for missing."""
    rates = [_share(counts), _share(trained)]
    rows = counts.sum(axis=1).tolist()
    return [MissingRate(*of) for of in zip(names, rows, rates[0].tolist(), rates[1].tolist(), strict=True)]


def silence_of_sets(panes: Iterable[Iterable[Missing]], sets: Mapping[str, Sequence[str]]) -> dict[str, SetSilence]:
    """How silent each feature set is; sets of which nothing can be told (no rows, never there in training) are left out.

    `panes`: the window's panes, oldest first, each what is missing of its columns; a whole window may stand as one pane.
    `sets`: joined feature sets (not the trigger, which comes or there is no row) → their columns without a lag.

    >>> now = [MissingRate("a", 100, 0.9, 0.1), MissingRate("b", 100, 1.0, 0.1)]
    >>> {name: round(s.newest, 3) for name, s in silence_of_sets([now], {"x": ["a", "b"], "y": ["c"]}).items()}
    {'x': 0.889}
    """
    found: dict[str, SetSilence] = {}
    for pane in panes:
        columns = {c.name: c for c in pane}
        for name, wanted in sets.items():
            told = [columns[c] for c in wanted if c in columns]
            excess = [x for c in told if (x := _excess(c)) is not None]
            if excess:
                least = min(excess)
                before = found.get(name)
                greatest = least if before is None else max(least, before.greatest)
                found[name] = SetSilence(max(c.rows for c in told), least, greatest)
    return found


def inhibited_columns(silent: Collection[str], set_of: Mapping[str, str], *, model: Collection[str] = ()) -> frozenset[str]:
    """Columns whose drift a silent set explains: all of the set's, lagged ones too, and the model's own columns `model`.

    Those (its answer, the reconstruction error) are made of all inputs, so any silent set explains them.

    >>> sorted(inhibited_columns({"x"}, {"a": "x", "a.lag1": "x", "b": "y"}, model=["prediction"]))
    ['a', 'a.lag1', 'prediction']
    """
    columns = frozenset(column for column, name in set_of.items() if name in silent)
    return columns | frozenset(model) if silent else columns


def _excess(c: Missing) -> float | None:
    now, trained = c.missing_rate, c.missing_rate_trained
    if not c.rows or not np.isfinite(now) or not np.isfinite(trained) or trained >= 1:
        return None
    return (now - trained) / (1 - trained)


def _share(counts: Ints) -> Floats:
    total = counts.sum(axis=1)
    return np.where(total > 0, counts[:, -1] / np.maximum(total, 1), np.nan)
