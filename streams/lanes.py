"""A lane: the windows of all partitions that keep the same features equally deep, and the versions served from them. Core.

What windows keep decides what vectors find. So it too is decided by a partition's log: its lane is the layout of the versions
in force there (`switches`), and when a switch changes the layout the partition moves to another lane, its windows cut to what
the old layout promised, features it did not keep missing until rows bring them. Without such a switch there is one lane.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import numpy as np

from models.timeline import FROM_THE_START_US
from streams.records import FeatureDecoder
from streams.served import Served
from streams.switches import NOBODY
from streams.windows import LagWindows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from models.handle import ModelHandle
    from streams.layout import Layout
    from streams.records import FeatureBatch
    from streams.switches import History, InForce, Role

_UNTIL: Final = 2**63 - 1
_MOST_SHARES: Final = 1 << 18


def canary_point(symbol: str) -> float:
    """Where a symbol stands between 0 and 1: it is the canary's if below the share. The same everywhere and for ever.

    The first 8 bytes of BLAKE2b of its UTF-8 as a big-endian integer, divided by 2**64. A greater share only adds symbols.

    >>> round(canary_point("GOOG"), 6), round(canary_point("AAPL"), 6)
    (0.357201, 0.419113)
    """
    return int.from_bytes(blake2b(symbol.encode(), digest_size=8).digest(), "big") / 2**64


class Lane:
    """One layout's decoder, windows and served versions, for the partitions that are in it."""

    def __init__(
        self,
        layout: Layout,
        *,
        handle: Callable[[str, str], ModelHandle],
        models: Sequence[str],
        partitions: int,
        max_future_us: int,
        slack_rows: int,
        framed: Collection[str],
    ) -> None:
        """`handle`: of a (model, version) that was added; `models`: those served, in the order of their records."""
        self.layout = layout
        self.decoder = FeatureDecoder(layout, partitions=partitions, max_future_us=max_future_us)
        self.windows = LagWindows(layout, slack_rows=slack_rows)
        self.histories: dict[int, History] = {}
        self._handle = handle
        self._models = models
        self._framed = framed
        self._served: dict[tuple[str, str, Role], Served] = {}
        self._steady: dict[tuple[str, Role], tuple[int, Served | None] | None] = {}
        self._points: dict[str, float] = {}

    def set(self, partition: int, history: History) -> None:
        """This is in force in one of its partitions."""
        self.histories[partition] = history
        self.windows.grown[partition] = history.grown
        self._steady.clear()

    def leave(self, partition: int) -> None:
        """The partition and its windows are no longer here."""
        self.histories.pop(partition, None)
        self.windows.drop(partition)
        self.windows.grown.pop(partition, None)
        self._steady.clear()

    def scorers(self, rows: FeatureBatch) -> Iterator[tuple[Served, NDArray[np.intp] | None]]:
        """Who scores trigger rows of a set: (version, positions of its rows; None: all), champions and canaries first."""
        roles: tuple[Role, ...] = ("champion", "challenger")
        for role in roles:
            for model in self._models:
                yield from self._of_role(model, role, rows)

    def scorer(self, model: str, role: Role, partition: int, symbol: str, ts_event_us: int) -> Served | None:
        """Who scores one row; None if nobody does."""
        history = self.histories.get(partition)
        if history is None or model not in self._models:
            return None
        if role == "champion":
            canary = _at(history.of(model, "canary"), ts_event_us)
            if canary is not None and canary.order.version != NOBODY and self._point(symbol) < canary.order.share:
                return self._version(model, canary.order.version, "canary")
        held = history.of(model, role)
        entry = _at(held, ts_event_us)
        if entry is None and role == "champion" and held:
            entry = held[0]
        return None if entry is None or entry.order.version == NOBODY else self._version(model, entry.order.version, role)

    def _of_role(self, model: str, role: Role, rows: FeatureBatch) -> Iterator[tuple[Served, NDArray[np.intp] | None]]:
        at = model, role
        if at not in self._steady:
            self._steady[at] = self._find_steady(model, role)
        steady = self._steady[at]
        if steady is not None and (steady[0] == FROM_THE_START_US or int(rows.ts_event_us.min()) >= steady[0]):
            served = steady[1]
            if served is not None and served.plan.trigger == rows.feature_set:
                yield served, None
            return
        found: dict[Served, list[int]] = {}
        columns = rows.partition.tolist(), rows.symbols, rows.ts_event_us.tolist()
        for i, (partition, symbol, event) in enumerate(zip(*columns, strict=True)):
            one = self.scorer(model, role, partition, symbol, event)
            if one is not None and one.plan.trigger == rows.feature_set:
                found.setdefault(one, []).append(i)
        for one, positions in found.items():
            yield one, None if len(positions) == len(rows.symbols) else np.array(positions, dtype=np.intp)

    def _find_steady(self, model: str, role: Role) -> tuple[int, Served | None] | None:
        """(event time, version) if from that time on the version scores all rows of all partitions, None if none does so."""
        if role == "champion" and any(_active(h.of(model, "canary")) for h in self.histories.values()):
            return None
        last = [h.of(model, role)[-1:] for h in self.histories.values()]
        versions = {e[0].order.version if e else NOBODY for e in last}
        if len(versions) != 1:
            return None
        version = versions.pop()
        alone = all(len(h.of(model, role)) == 1 for h in self.histories.values())
        from_us = (
            FROM_THE_START_US
            if alone and role == "champion"
            else max((e[0].from_us for e in last if e), default=FROM_THE_START_US)
        )
        return from_us, None if version == NOBODY else self._version(model, version, role)

    def _version(self, model: str, version: str, role: Role) -> Served:
        at = model, version, role
        served = self._served.get(at)
        if served is None:
            served = self._served[at] = Served(self._handle(model, version), role, self.layout, framed=model in self._framed)
        return served

    def _point(self, symbol: str) -> float:
        point = self._points.get(symbol)
        if point is None:
            if len(self._points) >= _MOST_SHARES:
                self._points.clear()
            point = self._points[symbol] = canary_point(symbol)
        return point


def _active(held: Sequence[InForce]) -> bool:
    return any(e.order.version != NOBODY for e in held)


def _at(held: Sequence[InForce], ts_event_us: int) -> InForce | None:
    """The one that serves an event time."""
    for entry in reversed(held):
        if entry.from_us <= ts_event_us:
            return entry
    return None


def key_of(layout: Layout) -> tuple[object, ...]:
    """Layouts for which this is equal are one lane."""
    return tuple(layout[name] for name in sorted(layout))
