"""Which partitions are in which lane, and how a switch moves one to another. Core: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from models.timeline import FROM_THE_START_US
from streams.errors import LayoutError
from streams.lanes import Lane, key_of
from streams.layout import merge_specs
from streams.state import any_waiting, unpack
from streams.switches import ROLES, Cut, Grown, History, Order, read_switch
from streams.wire import position_of

if TYPE_CHECKING:
    from models.handle import ModelHandle
    from streams.layout import Layout
    from streams.records import Record
    from streams.switches import Role

Load = Callable[[int, str], bytes | None]
"""(partition, symbol) → the table value, None if there is none; `STREAM_TIME`, `VERSIONS` stand where a symbol would."""

Scan = Callable[[int], Iterable[tuple[str, bytes]]]
"""partition → all its table entries, (symbol, value)."""

NUL = "\x00"
"""What no symbol begins with."""

VERSIONS = NUL + NUL + "versions"
"""What is in force in a partition is kept under this (`checkpoint.EXPLAINS`)."""


def first_orders(handles: Iterable[ModelHandle]) -> list[Order]:
    """These versions as champions from the beginning of time."""
    return [
        Order(model=h.name, role="champion", seq=1, version=h.version, effective_from_us=FROM_THE_START_US, digest=h.digest)
        for h in handles
    ]


class Partitions:
    """Orders and versions known, and by partition what is in force and where its windows are."""

    def __init__(
        self, models: Sequence[str], *, partitions: int, max_future_us: int, slack_rows: int, framed: Collection[str]
    ) -> None:
        """`models`: those served, in the order of their records; the rest as for a `Pipeline`."""
        self.models = models
        self.handles: dict[tuple[str, str], ModelHandle] = {}
        self.apart: dict[tuple[str, str], ModelHandle] = {}
        """How versions score as challengers, where that is another way."""
        self.orders: dict[tuple[str, str, int], Order] = {}
        self._new_lane = partial(
            Lane,
            handle=self._handle,
            models=models,
            partitions=partitions,
            max_future_us=max_future_us,
            slack_rows=slack_rows,
            framed=framed,
        )
        self._lanes: dict[Hashable, Lane] = {}
        self._lane_of: dict[int, Lane] = {}
        self._coming: dict[int, list[int]] = {}
        self._dirty: set[int] = set()

    def __contains__(self, partition: int) -> bool:
        return partition in self._lane_of

    def __iter__(self) -> Iterator[int]:
        return iter(self._lane_of)

    @property
    def lanes(self) -> Collection[Lane]:
        """One for each layout in force."""
        return self._lanes.values()

    def lane(self, partition: int) -> Lane:
        """Where a partition that is read is."""
        return self._lane_of[partition]

    def history(self, partition: int) -> History:
        """What is in force in a partition that is read."""
        return self._lane_of[partition].histories[partition]

    def wanted(self, partition: int, first_offset: int, load: Load, roles: Sequence[Role] = ROLES) -> list[tuple[str, str]]:
        """(model, version) of what must be at hand, in these roles, before it is read, for the first time, from this offset."""
        return self._found(load(partition, VERSIONS), first_offset).before(first_offset).versions(self.models, roles)

    def begin(self, partition: int, first_offset: int, load: Load, scan: Scan) -> None:
        """Read a partition from this offset on. Its waiting rows are made resident."""
        held = load(partition, VERSIONS)
        if held is None:
            self._dirty.add(partition)
        history = self._found(held, first_offset)
        self._coming[partition] = [position_of(o) for o in history.offsets_from(first_offset)]
        history = history.before(first_offset)
        self._enter(partition, history, self.layout_of(history))
        self._admit_waiting(partition, scan)

    def read_from(self, partition: int, offset: int) -> None:
        """Records from this offset on come next; switches before it that did not come are gone from the topic."""
        coming = self._coming[partition]
        while coming and coming[0] < position_of(offset):
            coming.pop(0)

    def ahead(self, partition: int, applied: int) -> bool:
        """Whether windows were written after a switch that reading has yet to come to, so in the layout of then."""
        coming = self._coming[partition]
        return bool(coming) and applied > coming[0]

    def switch(self, partition: int, record: Record, scan: Scan, *, stream_time_us: int) -> tuple[Order, int] | None:
        """Put an order in force; returns it and from which event time on, None if it was already.

        Raises `LayoutError` for one that is none, or that cannot be served with the others.
        """
        switch = read_switch(record.value)
        order = None if switch is None else self.orders.get(switch.key)
        lane, history = self.lane(partition), self.history(partition)
        repeated = self.ahead(partition, position_of(record.offset, 1))
        self.read_from(partition, record.offset + 1)
        if order is None:
            raise LayoutError("no order on the timeline has this model, role and number; only workers write switches")
        after = history.then(order, offset=record.offset, stream_time_us=stream_time_us)
        if after is history:
            return None
        layout = self.layout_of(after)
        after = after.changing(*_changes(lane.layout, layout, record.offset))
        self._dirty.add(partition)
        if key_of(layout) == key_of(lane.layout):
            lane.set(partition, after)
        else:
            lane.windows.move(partition, self._enter(partition, after, layout).windows)
            self._leave(lane, partition)
        if repeated:
            self._admit_waiting(partition, scan)
        return order, after.of(order.model, order.role)[-1].from_us

    def drop(self, partition: int) -> None:
        """Forget a partition and its windows."""
        self._coming.pop(partition, None)
        self._dirty.discard(partition)
        lane = self._lane_of.pop(partition, None)
        if lane is not None:
            self._leave(lane, partition)

    def take_dirty(self) -> list[tuple[int, bytes, bytes]]:
        """(partition, key, value) of what is in force where that changed since the last call."""
        out = [(p, VERSIONS.encode(), self.history(p).pack()) for p in sorted(self._dirty)]
        self._dirty.clear()
        return out

    def layout_of(self, history: History) -> Layout:
        """The layout of all versions that count there."""
        return merge_specs((self.handles if at in self.handles else self.apart)[at].spec for at in history.versions(self.models))

    def _handle(self, model: str, version: str, role: Role) -> ModelHandle:
        at = model, version
        return self.apart[at] if role == "challenger" and at in self.apart else self.handles[at]

    def _found(self, held: bytes | None, first_offset: int) -> History:
        if held is None:
            return History.starting(list(self.orders.values()), first_offset=first_offset)
        return History.unpack(held)

    def _enter(self, partition: int, history: History, layout: Layout) -> Lane:
        key = key_of(layout)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = self._new_lane(layout)
        lane.set(partition, history)
        self._lane_of[partition] = lane
        return lane

    def _leave(self, lane: Lane, partition: int) -> None:
        lane.leave(partition)
        if not lane.histories:
            del self._lanes[key_of(lane.layout)]

    def _admit_waiting(self, partition: int, scan: Scan) -> None:
        windows = self.lane(partition).windows
        for symbol, value in scan(partition):
            if not symbol.startswith(NUL) and any_waiting(value) and not windows.holds(symbol):
                state = unpack(value)
                if not self.ahead(partition, state.applied_offset):
                    windows.admit(partition, symbol, state)


def _changes(before: Layout, after: Layout, offset: int) -> tuple[list[Grown], list[Cut]]:
    """What windows gain in depth, and what they lose, at a switch from one layout to another."""
    grown, cuts = [], []
    for name, held in before.items():
        depth_rows = after[name].depth_rows if name in after else 0
        lost = tuple(f for f in held.features if name not in after or f not in after[name].features)
        if depth_rows > held.depth_rows:
            grown.append(Grown(offset, name, held.depth_rows))
        if lost or depth_rows < held.depth_rows:
            cuts.append(Cut(offset, name, lost, depth_rows))
    return grown, cuts
