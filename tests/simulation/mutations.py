"""Wrong ways to write the chunk path, each of which the simulation must find."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from functools import partialmethod
from typing import TYPE_CHECKING, Any
from unittest import mock

from streams import pipeline
from streams.checkpoint import Checkpoint
from streams.group import RULES
from streams.inference import InferenceHandler
from streams.outbox import Epoch, Outbox
from streams.spans import SpanTracker
from streams.state import unpack
from streams.topics import WINDOWS_TABLE
from tests.simulation import store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streams.state import SymbolState


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
}
NAMES = sorted(_PLACES)
IN_THE_GAP = {
    "the table is written before the commit",
    "recovery holds what came last",
    "nobody looks for records of others",
}
"""Found where pauses fall between the question whether the worker is still a member and the arrival of its changelog."""


@contextlib.contextmanager
def mutated(name: str) -> Iterator[None]:
    """Code with one thing wrong."""
    with _PLACES[name]():
        yield
