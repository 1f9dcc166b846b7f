"""Wrong ways to write the chunk path, each of which the simulation must find."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from functools import partialmethod
from typing import TYPE_CHECKING, Any
from unittest import mock

from streams import checkpoint, group, lanes, pipeline
from streams.checkpoint import EXPLAINS, Checkpoint
from streams.group import RULES
from streams.inference import InferenceHandler
from streams.outbox import Epoch, Outbox
from streams.partitions import Partitions
from streams.records import PartitionRecords
from streams.ring import SetWindows
from streams.spans import SpanTracker
from streams.state import unpack
from streams.switches import History, is_switch
from streams.topics import WINDOWS_TABLE
from streams.windows import LagWindows
from tests.simulation import store
from tests.simulation.world import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from streams.checkpoint import TableRecord
    from streams.records import Record
    from streams.state import SetState, SymbolState
    from streams.switches import InForce, Order


async def _run(self: Any, *, commit_first: bool = False, table_first: bool = False, wait: bool = True) -> bool:
    """`Checkpoint._run`, with a stage left out or at another place."""
    offsets = {tp: o for tp, o in self._consumer.tracker.committable().items() if self._committed.get(tp) != o}
    if not offsets or self._refused:
        return False
    standing = {tp: self._committed.get(tp, first) for tp, first in self._consumer.tracker.began().items() if tp in offsets}
    dirty = self._source.take_dirty()
    outputs = self._outbox.turn()
    try:
        if wait:
            await self._outbox.confirmed(outputs)
        if commit_first:
            await self._consumer._commit_offsets(offsets)
        held = await self._to_changelog(dirty, standing) if dirty else {}
        if held is None:
            return bool(self._refuse(len(dirty)))
        if table_first:
            await asyncio.to_thread(self._table.write, dirty, held)
        committed: bool = await self._consumer._commit_offsets(offsets)
        if not committed:
            return bool(self._refuse(len(dirty)))
        if not table_first:
            await asyncio.to_thread(self._table.write, dirty, held)
    except Exception as e:
        self._on_failure(e)
        raise
    self._committed.update(offsets)
    return committed


def _no_applied_offset(data: bytes) -> SymbolState:
    return replace(unpack(data), applied_offset=-1)


def _in_part(self: store.File, batch: store.Batch) -> None:
    """All but one entry, now and then, and nobody is told."""
    self.folder.on_write()
    self.entries.update(batch.puts[len(self.entries) % 3 == 0 :])


def _in_flight_too(self: SpanTracker) -> dict[Any, int]:
    return self._ready | {tp: spans[-1].end for tp, spans in self._spans.items() if spans}


async def _believed(_self: Outbox, _epoch: Any) -> None:
    """Nothing is waited for, no failure is seen."""
    await asyncio.sleep(0)


def _kept(_self: Any, _partitions: Any) -> None:
    """Windows of revoked partitions stay."""


def _last(_key: bytes, _held: bytes, came: bytes) -> bytes:
    """Faust's own rule."""
    return came


def _alone(_self: Epoch, _topic: str, _partition: int, **_: Any) -> bool:
    return True


_then, _move, _trimmed = History.then, LagWindows.move, LagWindows._state


def _at_the_ordered_time(self: History, order: Order, *, offset: int, stream_time_us: int) -> History:
    """However late the switch is."""
    return _then(self, order, offset=offset, stream_time_us=min(-1, stream_time_us))


def _newest(held: Sequence[InForce], _ts_event_us: int) -> InForce | None:
    return held[-1] if held else None


def _switches_first(part: PartitionRecords) -> Iterator[tuple[PartitionRecords, Record | None]]:
    """All of a chunk's switches before all of its rows."""
    switches = [r for r in part.records if r.headers and is_switch(r)]
    for s in switches:
        yield PartitionRecords(part.topic, part.partition, []), s
    yield PartitionRecords(part.topic, part.partition, [r for r in part.records if r not in switches]), None


def _explaining_last(records: Sequence[TableRecord]) -> list[Sequence[TableRecord]]:
    first = [r for r in records if r[1].startswith(EXPLAINS)]
    return [[r for r in records if r not in first], first] if first else [records]


def _with_slack(self: LagWindows, slot: int) -> SymbolState:
    """As `_state`, with the rows that happen to be in memory still."""
    depths = {name: w.depth for name, w in self.sets.items()}
    for w in self.sets.values():
        w.depth = w.capacity
    try:
        return _trimmed(self, slot)
    finally:
        for name, w in self.sets.items():
            w.depth = depths[name]


def _as_written(_self: LagWindows, _partition: int, name: str, state: SymbolState) -> SetState | None:
    return state.sets.get(name)


def _moved_whole(self: LagWindows, partition: int, other: LagWindows) -> None:
    with mock.patch.object(LagWindows, "_state", _with_slack):
        _move(self, partition, other)


_PLACES: dict[str, Callable[[], Any]] = {
    "offsets are committed before the changelog": lambda: mock.patch.object(
        Checkpoint, "_run", partialmethod(_run, commit_first=True)
    ),
    "the table is written before the commit": lambda: mock.patch.object(
        Checkpoint, "_run", partialmethod(_run, table_first=True)
    ),
    "recovery holds what came last": lambda: mock.patch.dict(RULES, {WINDOWS_TABLE: _last}),
    "nobody looks for records of others": lambda: mock.patch.object(Epoch, "alone", _alone),
    "outputs are not waited for": lambda: mock.patch.object(Checkpoint, "_run", partialmethod(_run, wait=False)),
    "no delivery is waited for": lambda: mock.patch.object(Outbox, "confirmed", _believed),
    "the applied offset is not kept": lambda: mock.patch.object(pipeline, "unpack", _no_applied_offset),
    "a batch written in part counts as written": lambda: mock.patch.object(store.File, "write", _in_part),
    "what is in flight is committed too": lambda: mock.patch.object(SpanTracker, "committable", _in_flight_too),
    "windows outlive their revocation": lambda: mock.patch.object(InferenceHandler, "revoked", _kept),
    "a version scores from the time ordered, however late": lambda: mock.patch.object(History, "then", _at_the_ordered_time),
    "the newest version scores late rows too": lambda: mock.patch.object(lanes, "_at", _newest),
    "a switch holds for all of its chunk": lambda: mock.patch.object(pipeline, "_stretches", _switches_first),
    "windows are sent before what explains them": lambda: mock.patch.object(checkpoint, "_explaining_first", _explaining_last),
    "reading again begins with later switches in force": lambda: mock.patch.object(History, "before", lambda h, _offset: h),
    "windows of a later layout are taken as they are": lambda: mock.patch.object(Partitions, "ahead", return_value=False),
    "what was in force is held as it came last": lambda: mock.patch.object(group, "joined_histories", lambda _held, came: came),
    "a deeper window takes what a shallower one forgot": lambda: mock.patch.object(SetWindows, "_floor", return_value=0),
    "a layout that comes back finds what it had": lambda: mock.patch.object(LagWindows, "_after_cuts", _as_written),
    "windows move with rows beyond their depth": lambda: mock.patch.object(LagWindows, "move", _moved_whole),
}
NAMES = sorted(_PLACES)

USUAL = Plan(0, rows=250, pauses=3)
_GAPS = Plan(
    0, rows=150, kills=0, kills_at_a_stage=0, pauses=0, pauses_at_a_stage=2, pauses_in_the_gap=8, wipes=0, refusals=0, swaps=0
)
"""Workers that live long, and are paused between the question whether they are still members and the arrival of the changelog."""
_SWAPS_IN_GAPS = replace(_GAPS, swaps=10)
_KILLS = Plan(
    0, rows=150, kills=0, kills_at_a_stage=12, pauses=0, pauses_at_a_stage=0, pauses_in_the_gap=0, wipes=0, refusals=4, swaps=10
)
PLANS = {
    "the table is written before the commit": _GAPS,
    "recovery holds what came last": _GAPS,
    "nobody looks for records of others": _GAPS,
    "outputs are not waited for": _KILLS,
    "the applied offset is not kept": _KILLS,
    "windows are sent before what explains them": replace(_KILLS, refusals=0),
    "reading again begins with later switches in force": _SWAPS_IN_GAPS,
    "windows of a later layout are taken as they are": _SWAPS_IN_GAPS,
    "what was in force is held as it came last": _SWAPS_IN_GAPS,
    "a layout that comes back finds what it had": Plan(0, rows=150, kills=4, swaps=14, roles=True),
    "a deeper window takes what a shallower one forgot": Plan(0, rows=250, kills=4, kills_at_a_stage=10, swaps=10),
}
"""Worlds in which it soon shows, where `USUAL` ones take long."""


@contextlib.contextmanager
def mutated(name: str) -> Iterator[None]:
    """Code with one thing wrong."""
    with _PLACES[name]():
        yield
