"""All panes of one source partition: what is held, what has changed, and what is given up. Core.

Panes are those of `monitoring.panes`: open at the start, closed at the end. The deadline of a pane and horizon is its end, and
the horizon, and the time an outcome may take beyond that:

| a row of a pane ...                       | happens                                                                        |
|-------------------------------------------|--------------------------------------------------------------------------------|
| whose deadline has not passed             | is laid down in it                                                             |
| whose deadline had passed at an `expire`  | is ignored, counted in `late_rows`                                             |
| when there are more than `most` rows      | the pane of the earliest deadline goes as if it had passed, counted in `evicted` |

So what is given up stays so: `until_us` is the only thing to remember of it.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from monitoring.label_rows import NEVER, Joined, Pane, Predicted

if TYPE_CHECKING:
    from monitoring.joined import Scorer
    from monitoring.label_rows import Rows
    from monitoring.symbols import Symbols


class LabelPanes:
    """The store. One owner, one thread."""

    def __init__(self, symbols: Symbols, *, timeout_us: int, pane_us: int, most: int) -> None:
        """`timeout_us`: how long after it is due an outcome may come; `pane_us`: length of a pane; `most`: rows held."""
        self.symbols = symbols
        self.timeout_us = timeout_us
        self.pane_us = pane_us
        self.most = most
        self.until_us = NEVER
        """Panes whose deadline is before this are given up."""
        self.many = 0
        """Rows held, predictions and outcomes; one that came again counts until its pane is joined."""
        self.waiting = 0
        """Predictions that had no outcome when their pane was joined last, and those that came since."""
        self.evicted = 0
        self.late_rows = 0
        self._matured = 0
        self._unlabelled: Counter[Scorer] = Counter()
        self._panes: dict[tuple[int, int], Pane] = {}  # (horizon, index)
        self._deadlines: list[tuple[int, int, int]] = []  # a heap of (deadline, horizon, index), one for each pane
        self._of: dict[Scorer, dict[int, dict[int, Pane]]] = {}  # horizon, index
        self._touched: dict[Scorer, set[Pane]] = {}
        self._laid = 0

    def add(self, scorer: Scorer | None, horizon_us: int, rows: Rows) -> bool:
        """Lay down predictions of a scorer, or outcomes if it is None, of one horizon; whether any was in time."""
        if not rows.many:
            return False
        late, ts_event_us = self.late_rows, rows.integers[0]
        first, last = (int(ts_event_us.min()) - 1) // self.pane_us, (int(ts_event_us.max()) - 1) // self.pane_us
        if first == last:
            self._lay(scorer, horizon_us, first, rows)
        else:
            index = (ts_event_us - 1) // self.pane_us
            order = np.argsort(index, kind="stable")
            index, ordered = index[order], rows.take(order)
            cuts = [0, *(np.flatnonzero(np.diff(index)) + 1).tolist(), len(index)]
            for a, b in itertools.pairwise(cuts):
                self._lay(scorer, horizon_us, int(index[a]), ordered.cut(a, b))
        in_time = self.late_rows - late < rows.many
        self._bound()
        return in_time

    def joined(self, scorer: Scorer, *, start_us: int, end_us: int) -> list[Joined]:
        """The scorer's predictions with start_us < event time <= end_us and their outcomes, pane by pane, oldest first."""
        first, last = start_us // self.pane_us, (end_us - 1) // self.pane_us
        found: list[Joined] = []
        for panes in self._of.get(scorer, {}).values():
            few = last - first < len(panes)
            for index in range(first, last + 1) if few else sorted(i for i in panes if first <= i <= last):
                if index not in panes:
                    continue
                joined = self._join(panes[index], scorer).joined
                if joined is None:  # laid down is at least one row
                    continue
                if index in {first, last}:
                    times = joined.rows.integers[0]
                    a, b = (int(times.searchsorted(t, "right")) for t in (start_us, end_us))
                    joined = Joined(joined.rows.cut(a, b), joined.outcome[a:b], joined.known[a:b])
                found.append(joined)
        return found

    def horizons(self, scorer: Scorer) -> int:
        """How many horizons the scorer's predictions have: one, but for a model version that was published again."""
        return len(self._of.get(scorer, {}))

    def take_changed(self, scorer: Scorer) -> list[int]:
        """Indexes of the scorer's panes whose joined rows are others than at the last call, ascending."""
        changed = set()
        for pane in self._touched.pop(scorer, ()):
            predicted = self._join(pane, scorer)
            if predicted.changed:
                predicted.changed = False
                changed.add(pane.index)
        return sorted(changed)

    def expire(self, now_us: int) -> int:
        """Give up the panes whose deadline is before `now_us`; how many rows they had."""
        self.until_us = max(self.until_us, now_us)
        given_up = 0
        while self._deadlines and self._deadlines[0][0] < self.until_us:
            _, horizon_us, index = heapq.heappop(self._deadlines)
            pane = self._panes[horizon_us, index]
            self._settle(pane)
            del self._panes[horizon_us, index]
            given_up += sum(side.many for side in pane.sides())
            self.many -= pane.known.side.many
            for scorer in list(pane.scorers):
                self._unlabelled[scorer] += self._drop(pane, scorer)
        return given_up

    def take_unlabelled(self) -> dict[Scorer, int]:
        """How many predictions ended without an outcome since the last call, per scorer."""
        counts, self._unlabelled = self._unlabelled, Counter()
        return {scorer: n for scorer, n in counts.items() if n}

    def take_matured(self) -> int:
        """How many predictions met their outcomes since the last call, as far as their panes were joined."""
        taken, self._matured = self._matured, 0
        return taken

    def forget(self, scorer: Scorer) -> None:
        """Let go of all the scorer's predictions, uncounted."""
        for panes in list(self._of.get(scorer, {}).values()):
            for pane in list(panes.values()):
                self._drop(pane, scorer)

    def recode(self, symbols: Symbols) -> None:
        """Go over to new symbols, which it fills with the names of the rows held."""
        self._settle_all()
        tables = [side.table for pane in self._panes.values() for side in pane.sides() if side.table is not None]
        used = np.unique(np.concatenate([np.empty(0, np.int64), *(t.integers[2] for t in tables)]))
        names = self.symbols.names()
        codes = np.zeros(len(names), np.int64)
        codes[used] = symbols.codes([names[code] for code in used.tolist()])
        for pane in self._panes.values():
            pane.recode(codes)
        self.symbols = symbols

    def _lay(self, scorer: Scorer | None, horizon_us: int, index: int, rows: Rows) -> None:
        deadline_us = (index + 1) * self.pane_us + horizon_us + self.timeout_us
        if deadline_us < self.until_us:
            self.late_rows += rows.many
            return
        pane = self._panes.get((horizon_us, index))
        if pane is None:
            pane = Pane(index, pane_us=self.pane_us, horizon_us=horizon_us)
            self._panes[horizon_us, index] = pane
            heapq.heappush(self._deadlines, (deadline_us, horizon_us, index))
        self.many += rows.many
        self._laid += rows.many
        if scorer is None:
            pane.known.side.add(rows)
            for predicting in pane.scorers:
                self._touched.setdefault(predicting, set()).add(pane)
            return
        predicted = pane.scorers.get(scorer)
        if predicted is None:
            predicted = pane.scorers[scorer] = Predicted(index * self.pane_us, self.pane_us)
            self._of.setdefault(scorer, {}).setdefault(horizon_us, {})[index] = pane
        predicted.side.add(rows)
        self.waiting += rows.many
        self._touched.setdefault(scorer, set()).add(pane)

    def _join(self, pane: Pane, scorer: Scorer) -> Predicted:
        predicted, known = pane.scorers[scorer], pane.known
        many, matched, outcomes = predicted.side.many, predicted.matched, known.side.many
        predicted.join(known, self.symbols)
        met, repeated = predicted.matched - matched, many - predicted.side.many
        self._matured += max(0, met)
        self.waiting -= met + repeated
        self.many -= repeated + outcomes - known.side.many
        return predicted

    def _settle(self, pane: Pane) -> None:
        """Join all there is in the pane."""
        outcomes = pane.known.side.many
        pane.known.merge(self.symbols)
        self.many -= outcomes - pane.known.side.many
        for scorer in pane.scorers:
            self._join(pane, scorer)

    def _settle_all(self) -> None:
        for pane in self._panes.values():
            self._settle(pane)
        self._laid = 0

    def _drop(self, pane: Pane, scorer: Scorer) -> int:
        """Take the scorer out of the pane; how many of its predictions had no outcome."""
        predicted = pane.scorers.pop(scorer)
        lost = predicted.side.many - predicted.matched
        self.many -= predicted.side.many
        self.waiting -= lost
        self._touched.get(scorer, set()).discard(pane)
        by_horizon = self._of[scorer]
        del by_horizon[pane.horizon_us][pane.index]
        if not by_horizon[pane.horizon_us]:
            del by_horizon[pane.horizon_us]
            if not by_horizon:
                del self._of[scorer]
                self._touched.pop(scorer, None)
        return lost

    def _bound(self) -> None:
        # Rows that came again are put away before a pane goes; not every time, or the newest pane would be sorted every time.
        if self.many > self.most and self._laid > self.most // 8:
            self._settle_all()
        while self.many > self.most:
            self.evicted += self.expire(self._deadlines[0][0] + 1)
