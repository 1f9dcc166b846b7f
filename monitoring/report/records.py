"""Performance records as the report needs them: of each window little, of the last ones all. Core.

A month of windows every five minutes, each with its 80 columns, is hundreds of megabytes of JSON. So records are taken piece by
piece, in any order, and reduced at once: a window keeps its columns' PSI and verdict, and its quality; only the newest windows
of a scorer keep their counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from monitoring.joined import Scorer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KEPT_WHOLE: Final = 12
"""Newest windows of a scorer whose counts are kept."""


class Column(msgspec.Struct, frozen=True):
    """One column of one window, as `monitoring.drift` judged it."""

    name: str
    verdict: str = "insufficient_data"
    psi: float | None = None
    p_adjusted: float | None = None
    rows: int = 0
    effective_rows: float | None = None
    missing_rate: float | None = None
    missing_rate_trained: float | None = None
    below_rate: float | None = None
    above_rate: float | None = None
    ks: float | None = None
    kind: str = "numeric"
    warming: bool = False
    counts: list[int] = []


class Drift(msgspec.Struct, frozen=True):
    """Drift of one window."""

    rows: int = 0
    threshold: float = 0.1
    min_samples: int = 0
    false_discovery_rate: float = 0.05
    verdict: str = "insufficient_data"
    columns: list[Column] = []


@dataclass(slots=True)
class Window:
    """One window of one scorer. Of every part what the greatest revision that has it says; drift is in the first alone."""

    start_us: int
    end_us: int
    verdict: str | None = None
    psi: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Column → PSI (NaN where it could not be told) and verdict."""
    drift: Drift | None = None
    revision: int = -1
    quality: Mapping[str, Any] | None = None
    paired: Mapping[str, Any] | None = None
    estimate: Mapping[str, Any] | None = None
    concept: Mapping[str, Any] | None = None


class Records:
    """All windows, by scorer. One owner."""

    def __init__(self) -> None:
        self.rows = 0
        self.threshold: float | None = None
        self._windows: dict[Scorer, dict[tuple[int, int], Window]] = {}

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take performance records: dicts as they are in the topic, or rows of the warehouse, whose parts are JSON."""
        touched = set()
        for row in rows:
            self.rows += 1
            scorer = Scorer(row["model"], row["version"], row["role"])
            touched.add(scorer)
            bounds = (int(row["window_start_us"]), int(row["window_end_us"]))
            window = self._windows.setdefault(scorer, {}).setdefault(bounds, Window(*bounds))
            self._take(window, row)
        for scorer in touched:
            windows = sorted(self._windows[scorer].values(), key=lambda w: w.end_us)
            for window in windows[:-KEPT_WHOLE]:
                window.drift = None

    def windows(self) -> dict[Scorer, list[Window]]:
        """Oldest first."""
        return {s: sorted(ws.values(), key=lambda w: (w.end_us, w.start_us)) for s, ws in sorted(self._windows.items())}

    def _take(self, window: Window, row: Mapping[str, Any]) -> None:
        drift = _drift(row.get("drift"))
        if drift is not None:
            window.drift, window.verdict = drift, drift.verdict
            window.psi = {c.name: (math.nan if c.psi is None else c.psi, c.verdict) for c in drift.columns}
            self.threshold = drift.threshold
        revision = int(row["revision"])
        newer = revision > window.revision
        window.revision = max(revision, window.revision)
        for part in ("quality", "paired", "estimate", "concept"):
            found = _plain(row.get(part))
            # A revision says nothing of what it does not change.
            if found is not None and (newer or getattr(window, part) is None):
                setattr(window, part, found)


def value_of(quality: Mapping[str, Any] | None, name: str) -> float:
    """A number of a record's part, NaN where it is absent or null.

    >>> value_of({"ic": None}, "ic")
    nan
    """
    found = None if quality is None else quality.get(name)
    return float(found) if isinstance(found, int | float) else math.nan


def disjoint(windows: Iterable[Window]) -> list[Window]:
    """The newest window, the newest that ends before it begins, and so on; oldest first: no row counts twice.

    >>> [(w.start_us, w.end_us) for w in disjoint([Window(0, 20), Window(10, 30), Window(20, 40)])]
    [(0, 20), (20, 40)]
    """
    chosen: list[Window] = []
    for window in sorted(windows, key=lambda w: w.end_us, reverse=True):
        if not chosen or window.end_us <= chosen[-1].start_us:
            chosen.append(window)
    return chosen[::-1]


def _drift(part: Any) -> Drift | None:
    if part is None:
        return None
    return msgspec.json.decode(part, type=Drift) if isinstance(part, str | bytes) else msgspec.convert(part, type=Drift)


def _plain(part: Any) -> Mapping[str, Any] | None:
    found = msgspec.json.decode(part) if isinstance(part, str | bytes) else part
    return found if isinstance(found, dict) else None
