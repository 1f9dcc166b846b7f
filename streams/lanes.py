"""A lane: the windows of all partitions that keep the same features equally deep, and the versions served from them. Core.

What windows keep decides what vectors find. So it too is decided by a partition's log: its lane is the layout of the versions
in force there (`switches`), and when a switch changes the layout the partition moves to another lane, its windows cut to what
the old layout promised, features it did not keep missing until rows bring them. Without such a switch there is one lane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from models.timeline import FROM_THE_START_US, canary_point
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


class Lane:
    """One layout's decoder, windows and served versions, for the partitions that are in it."""

    def __init__(
        self,
        layout: Layout,
        *,
        handle: Callable[[str, str, Role], ModelHandle],
        models: Sequence[str],
        partitions: int,
        max_future_us: int,
        slack_rows: int,
        framed: Collection[str],
    ) -> None:
        """`handle`: of a (model, version) that was added, in a role; `models`: those served, in the order of their records."""
        self.layout = layout
        self.decoder = FeatureDecoder(layout, partitions=partitions, max_future_us=max_future_us)
        self.windows = LagWindows(layout, slack_rows=slack_rows)
        self.histories: dict[int, History] = {}
        self._handle = handle
        self._models = models
        self._framed = framed
        self._served: dict[tuple[str, str, Role], Served] = {}
        self._steady: dict[tuple[str, Role], list[tuple[int, int, Served | None]]] = {}
        self._points: dict[str, float] = {}

    def set(self, partition: int, history: History) -> None:
        """This is in force in one of its partitions."""
        self.histories[partition] = history
        self.windows.grown[partition] = history.grown
        self.windows.cuts[partition] = history.cuts
        self._steady.clear()
        counted = {at for h in self.histories.values() for at in h.versions(self._models)}
        self._served = {at: s for at, s in self._served.items() if at[:2] in counted}  # a model takes memory

    def leave(self, partition: int) -> None:
        """The partition and its windows are no longer here."""
        self.histories.pop(partition, None)
        self.windows.drop(partition)
        self.windows.grown.pop(partition, None)
        self.windows.cuts.pop(partition, None)
        self._steady.clear()

    def serves(self, model: str) -> bool:
        """Whether it is one of the models served."""
        return model in self._models

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
        for from_us, until_us, served in self._steady[at]:
            if from_us > FROM_THE_START_US and int(rows.ts_event_us.min()) < from_us:
                continue
            if until_us < _UNTIL and int(rows.ts_event_us.max()) >= until_us:
                continue
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

    def _find_steady(self, model: str, role: Role) -> list[tuple[int, int, Served | None]]:
        """(from, until, version or nobody): between these event times one answer holds for all rows of all partitions."""
        histories = self.histories.values()
        if role == "champion" and any(_active(h.of(model, "canary")) for h in histories):
            return []
        spans = [_spans(h.of(model, role), first_serves_all=role == "champion") for h in histories]
        out: list[tuple[int, int, Served | None]] = []
        for back in (1, 2):  # the one in force, and the one before it, which scores until the other's time has come
            these = [s[-back] for s in spans if len(s) >= back]
            versions = {version for _, _, version in these}
            if len(these) != len(spans) or len(versions) != 1:
                break
            version = versions.pop()
            served = None if version == NOBODY else self._version(model, version, role)
            out.append((max(s[0] for s in these), min(s[1] for s in these), served))
        return out

    def _version(self, model: str, version: str, role: Role) -> Served:
        at = model, version, role
        served, handle = self._served.get(at), self._handle(model, version, role)
        if served is None or served.handle is not handle:
            served = self._served[at] = Served(handle, role, self.layout, framed=model in self._framed)
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


def _spans(held: Sequence[InForce], *, first_serves_all: bool) -> list[tuple[int, int, str]]:
    """(from, until, version) over all event times, ascending."""
    starts = [e.from_us for e in held]
    versions = [e.order.version for e in held]
    if first_serves_all and starts:
        starts[0] = FROM_THE_START_US
    elif not starts or starts[0] > FROM_THE_START_US:
        starts, versions = [FROM_THE_START_US, *starts], [NOBODY, *versions]
    return list(zip(starts, [*starts[1:], _UNTIL], versions, strict=True))


def _at(held: Sequence[InForce], ts_event_us: int) -> InForce | None:
    """The one that serves an event time."""
    for entry in reversed(held):
        if entry.from_us <= ts_event_us:
            return entry
    return None


def key_of(layout: Layout) -> tuple[object, ...]:
    """Layouts for which this is equal are one lane."""
    return tuple(layout[name] for name in sorted(layout))
