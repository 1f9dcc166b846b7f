"""The bar grid of a feature set: where a bar ends, and what "n bars ago" means. Core: numpy in, numpy out.

Two kinds. A fixed step never pauses. Sessions are stretches of trading, [open, close], with bars of the step inside
each and the last one ended by the close, however short: so "5 bars ago" crosses nights, weekends and holidays.

| grid                                     | bar ends                   | 2 bars before e = 125        |
|------------------------------------------|----------------------------|------------------------------|
| fixed step 10                            | every instant e, e - 10, … | 105                          |
| sessions [0, 25] [100, 120], step 10     | 10 20 25 110 120           | 25 (120 is the last end)     |

In sessions n bars are counted from the last bar end at or before e. An instant before the grid's first bar, or an e
before it, has no answer: `NONE`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FAR_US: Final = 1 << 53
"""Further back than any event time, and far from overflowing."""

NONE: Final = np.int64(-1)
"""Instant of a bar the grid does not have."""

Sessions = tuple[tuple[int, int], ...]
"""(open_us, close_us) of each session, ascending, not overlapping."""


def session_bars(sessions: Sessions, bar_us: int) -> NDArray[np.int64]:
    """Bar ends of all sessions, int64[bars], ascending.

    >>> session_bars(((0, 25), (100, 120)), 10).tolist()
    [10, 20, 25, 110, 120]
    """
    ends = [np.append(np.arange(opens + bar_us, closes, bar_us, dtype=np.int64), closes) for opens, closes in sessions]
    return np.concatenate(ends) if ends else np.empty(0, dtype=np.int64)


class BarGrid:
    """Bars of a fixed step, or of sessions."""

    def __init__(self, bar_us: int, sessions: Sessions = ()) -> None:
        self.bar_us = bar_us
        self._ends = session_bars(sessions, bar_us) if sessions else None

    def back(self, ts_event_us: NDArray[np.int64], bars: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(instant, length) int64[rows]: the end of the bar `bars` before each event time, and that bar's length.

        Length is the time since the end of the bar before it, nights included: a row older than that belongs to an
        earlier bar. `NONE` and 0 where the grid has no such bar.

        >>> [a.tolist() for a in BarGrid(10).back(np.array([125]), 2)]
        [[105], [10]]
        >>> [a.tolist() for a in BarGrid(10, ((0, 25), (100, 120))).back(np.array([125, 110, 9]), 2)]
        [[25, 20, -1], [5, 10, 0]]
        """
        if self._ends is None:
            return ts_event_us - min(bars * self.bar_us, _FAR_US), np.full(len(ts_event_us), self.bar_us, dtype=np.int64)
        at = np.searchsorted(self._ends, ts_event_us, side="right") - 1 - bars
        known = at >= 0
        at = np.maximum(at, 0)
        before = self._ends[np.maximum(at - 1, 0)]
        length = np.where(at > 0, self._ends[at] - before, self.bar_us)
        return np.where(known, self._ends[at], NONE), np.where(known, length, 0)
