"""Quality of windows out of the labels of all partitions, each pane summed once until something new comes for it. Core.

Quality of the window (start, end] is that of the predictions made one horizon earlier, in (start - horizon, end - horizon]:
those whose outcomes were due by its end. So the panes summed here are the window's, moved back by the horizon.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.groups import Breakdown, breakdown, breakdown_reports, joined_breakdowns
from monitoring.labels import gathered
from monitoring.paired import joined_pairs, paired_instants, paired_report
from monitoring.quality import quality_report
from monitoring.quality_instants import joined, nothing
from monitoring.sums import instants_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from monitoring.groups import SymbolGroups
    from monitoring.joined import Scorer
    from monitoring.labels import Labels, QualityRows
    from monitoring.paired import PairedInstants, PairedReport
    from monitoring.quality import QualityReport
    from monitoring.quality_instants import Instants
    from monitoring.reference import Floats

_WINDOWS_KEPT = 2
"""Of each scorer the sums of so many windows' panes are kept: the newest one's, and one revised."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Whose window: bounds and horizon in microseconds; `calibration`: ascending |residuals|; `bar_us`: from row to row."""

    scorer: Scorer
    start_us: int
    end_us: int
    horizon_us: int
    bar_us: int | None = None
    calibration: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Summed:
    """A window's sums. `known`: how much is known of its rows, a number that grows with each outcome and each revision."""

    whole: Instants
    parts: Breakdown
    known: int


class QualityWindows:
    """Sums per scorer and pane. One owner, one thread; nothing is stored."""

    def __init__(self, labels: Mapping[int, Labels], *, pane_us: int, panes: int, groups: SymbolGroups | None) -> None:
        """`labels`: of all partitions, the caller's own mapping, read anew at each call."""
        self._labels = labels
        self._pane_us = pane_us
        self._groups = groups
        self._most = _WINDOWS_KEPT * (panes + 1)
        self._sums: dict[Scorer, OrderedDict[int, Summed]] = {}
        self._pairs: dict[tuple[Scorer, Scorer], OrderedDict[int, PairedInstants]] = {}
        self._labelled: dict[Scorer, OrderedDict[int, tuple[int, int]]] = {}

    def changed(self, scorer: Scorer) -> set[int]:
        """Panes of event time whose rows are others than at the last call; what was summed of them is forgotten."""
        found = {pane for labels in self._labels.values() for pane in labels.take_changed(scorer)}
        for (champion, challenger), pairs in self._pairs.items():
            if scorer in (champion, challenger):
                self._forget(pairs, found)
        for of_panes in (self._sums, self._labelled):
            if scorer in of_panes:
                self._forget(of_panes[scorer], found)
        return found

    def touches(self, pane: int, *, start_us: int, end_us: int) -> bool:
        """Whether the pane has event times of (start_us, end_us]."""
        return pane * self._pane_us < end_us and (pane + 1) * self._pane_us > start_us

    def forget(self, scorer: Scorer) -> None:
        """Let go of a scorer."""
        self._sums.pop(scorer, None)
        self._labelled.pop(scorer, None)
        for pair in [p for p in self._pairs if scorer in p]:
            del self._pairs[pair]

    def clear(self) -> None:
        """Let go of everything: labels were read anew."""
        self._sums.clear()
        self._labelled.clear()
        self._pairs.clear()

    def summed(self, asked: Asked) -> Summed:
        """The window's sums."""
        held = self._sums.setdefault(asked.scorer, OrderedDict())
        panes = []
        for end_us in self._ends(asked):
            pane = held.get(end_us)
            if pane is None:
                pane = held[end_us] = self._pane(asked, end_us)
            held.move_to_end(end_us)
            panes.append(pane)
        _bound(held, self._most)
        whole = [p.whole for p in panes if len(p.whole)]
        return Summed(
            joined(whole) if whole else nothing(horizon_us=asked.horizon_us),
            joined_breakdowns([p.parts for p in panes]),
            sum(p.known for p in panes),
        )

    def labelled(self, asked: Asked) -> tuple[int, int]:
        """Rows of the window that were published, and those of them whose outcomes are known. Less work than its sums."""
        held = self._labelled.setdefault(asked.scorer, OrderedDict())
        published = known = 0
        for end_us in self._ends(asked):
            if end_us not in held:
                rows = self._rows(asked.scorer, end_us - self._pane_us, end_us)
                said = np.isfinite(rows.value)
                held[end_us] = (int(said.sum()), int((said & np.isfinite(rows.outcome)).sum()))
            held.move_to_end(end_us)
            published, known = published + held[end_us][0], known + held[end_us][1]
        _bound(held, self._most)
        return published, known

    def report(self, asked: Asked, summed: Summed) -> QualityReport | None:
        """The window's quality; None if nothing was predicted."""
        if not len(summed.whole):
            return None
        return quality_report(summed.whole, horizon_us=asked.horizon_us, bar_us=asked.bar_us)

    def described(self, asked: Asked, summed: Summed, report: QualityReport) -> dict[str, Any]:
        """The report as the performance record has it, with its breakdowns."""
        by_group, by_completeness = breakdown_reports(summed.parts, horizon_us=asked.horizon_us, bar_us=asked.bar_us)
        return {
            "start_us": asked.start_us - asked.horizon_us,
            "end_us": asked.end_us - asked.horizon_us,
            "horizon_us": asked.horizon_us,
            **report.to_dict(),
            "by_group": {name: part.to_dict() for name, part in by_group.items()},
            "by_completeness": {name: part.to_dict() for name, part in by_completeness.items()},
        }

    def paired(self, asked: Asked, champion: Scorer) -> PairedReport | None:
        """The challenger asked for against this champion, on the rows of both; None where there are none."""
        held = self._pairs.setdefault((champion, asked.scorer), OrderedDict())
        panes = []
        for end_us in self._ends(asked):
            pane = held.get(end_us)
            if pane is None:
                rows = [self._rows(s, end_us - self._pane_us, end_us) for s in (champion, asked.scorer)]
                pane = held[end_us] = paired_instants(rows[0], rows[1], horizon_us=asked.horizon_us)
            held.move_to_end(end_us)
            panes.append(pane)
        _bound(held, self._most)
        panes = [p for p in panes if len(p)]
        return paired_report(joined_pairs(panes), bar_us=asked.bar_us) if panes else None

    def _ends(self, asked: Asked) -> range:
        """Ends of the panes, moved back by the horizon, oldest first."""
        start_us, end_us = asked.start_us - asked.horizon_us, asked.end_us - asked.horizon_us
        return range(start_us + self._pane_us, end_us + 1, self._pane_us)

    def _pane(self, asked: Asked, end_us: int) -> Summed:
        rows = self._rows(asked.scorer, end_us - self._pane_us, end_us)
        whole = instants_of(rows, horizon_us=asked.horizon_us, calibration=asked.calibration)
        return Summed(whole, breakdown(rows, whole=whole, groups=self._groups, calibration=asked.calibration), rows.known)

    def _rows(self, scorer: Scorer, start_us: int, end_us: int) -> QualityRows:
        return gathered([self._labels[p].rows(scorer, start_us=start_us, end_us=end_us) for p in sorted(self._labels)])

    def _forget(self, held: OrderedDict[int, Any], changed: set[int]) -> None:
        for end_us in [e for e in held if any(self.touches(c, start_us=e - self._pane_us, end_us=e) for c in changed)]:
            del held[end_us]


def _bound(held: OrderedDict[int, Any], most: int) -> None:
    while len(held) > most:
        held.popitem(last=False)
