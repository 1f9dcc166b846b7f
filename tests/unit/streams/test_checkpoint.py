"""The order in which a checkpoint makes things durable, and that nothing follows a stage that failed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from streams.checkpoint import Checkpoint, TableRecord
from streams.errors import DeliveryError
from streams.spans import SpanTracker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DIRTY: list[TableRecord] = [(0, b"A", b"1"), (1, b"B", b"2")]
WHOLE = ["dirty", "turn", "outputs", "commit 0", "changelog", "changelog confirmed", "commit 10", "table"]


class World:
    """Consumer, outbox, state and table at once; writes down what is asked of it, and fails at one stage."""

    changelog_topic = "log"

    def __init__(self, *, fail: str | None = None, dirty: Sequence[TableRecord] = DIRTY) -> None:
        self.tracker = SpanTracker()
        self.did: list[str] = []
        self.fail = fail
        self.dirty = list(dirty)
        self.member = True
        self.answers: list[bool] = []
        self.others: list[set[int]] = []
        self.sent: list[list[TableRecord]] = []
        self.end = 7
        self.gate: asyncio.Event | None = None
        self.failures: list[BaseException] = []
        self.now = 0.0
        self.stands: dict[Any, int] = {}
        self.urgent = False

    def checkpoint(self) -> Checkpoint:
        me: Any = self
        return Checkpoint(me, me, me, me, clock=self.clock, on_failure=self.failures.append, urgent=lambda: self.urgent)

    def clock(self) -> float:
        self.now += 1.0
        return self.now

    def stood(self) -> dict[Any, int]:
        return self.stands

    def _stage(self, name: str) -> None:
        self.did.append(name)
        if self.fail == name:
            raise DeliveryError(f"{name} failed")

    def take_dirty(self) -> list[TableRecord]:
        self._stage("dirty")
        taken, self.dirty = self.dirty, []
        return taken

    def turn(self) -> Epoch:
        self._stage("turn")
        return Epoch("outputs")

    def send_changelog(self, topic: str, records: Sequence[TableRecord]) -> Epoch:
        assert topic == "log"
        assert records
        self._stage("changelog")
        self.sent.append(list(records))
        return Epoch("changelog confirmed", offset=7 + len(self.sent), others=self.others.pop(0) if self.others else set())

    async def confirmed(self, epoch: Epoch) -> None:
        if self.gate is not None:
            await self.gate.wait()
        self._stage(epoch.name)

    def offset(self, partition: int) -> int | None:
        return {0: self.end, 1: None}[partition]

    def items(self, partition: int) -> list[tuple[bytes, bytes]]:
        return [(b"A", b"before"), (b"C", b"3")] if partition == 0 else []

    def write(self, records: Sequence[TableRecord], offsets: Mapping[tuple[str, int], int]) -> None:
        assert list(records) == DIRTY
        assert offsets == {("log", 0): 7 + len(self.sent)}
        self._stage("table")
        self.end = offsets["log", 0]

    async def _commit_offsets(self, offsets: Mapping[Any, int]) -> bool:
        await asyncio.sleep(0)
        self._stage("commit " + " ".join(str(o) for o in offsets.values()))
        return self.answers.pop(0) if self.answers else self.member


class Epoch:
    """`others`: partitions in which others wrote since."""

    def __init__(self, name: str, *, offset: int = 0, others: set[int] | None = None) -> None:
        self.name = name
        self.offsets = {("log", 0): offset}
        self._others = others or set()

    def alone(self, topic: str, partition: int, *, after: int | None) -> bool:
        assert topic == "log"
        assert after == {0: self.offsets["log", 0] - 1, 1: None}[partition]
        return partition not in self._others


def chunk(world: World, first: int, end: int, *, partition: str = "p", done: bool = True) -> None:
    span = world.tracker.add(partition, first=first, end=end)
    if done:
        world.tracker.finish(span)


async def test_each_stage_follows_the_confirmation_of_the_one_before() -> None:
    world = World()
    chunk(world, 0, 10)
    checkpoint = world.checkpoint()
    assert await checkpoint.run()
    assert world.did == WHOLE
    assert (checkpoint.stats.checkpoints, checkpoint.stats.table_records, checkpoint.stats.last_duration_s) == (1, 2, 1.0)


async def test_nothing_finished_nothing_done() -> None:
    world = World()
    chunk(world, 0, 10, done=False)
    assert not await world.checkpoint().run()
    assert world.did == []


async def test_what_is_committed_is_not_committed_again() -> None:
    world = World()
    chunk(world, 5, 10)
    checkpoint = world.checkpoint()
    await checkpoint.run()
    world.did.clear()
    assert not await checkpoint.run()
    assert world.did == []
    chunk(world, 10, 12)
    world.dirty = list(DIRTY)
    await checkpoint.run()
    assert [d for d in world.did if d.startswith("commit")] == [
        "commit 10",
        "commit 12",
    ]  # the first asks whether we are a member
    checkpoint.forget()
    assert not await checkpoint.run()  # what was read before the revocation counts for nothing
    chunk(world, 10, 12)
    assert await checkpoint.run()  # the same offset as before it


async def test_rows_that_changed_no_state_need_no_changelog() -> None:
    world = World(dirty=[])
    chunk(world, 0, 10)
    assert await world.checkpoint().run()
    assert world.did == ["dirty", "turn", "outputs", "commit 10"]


@pytest.mark.parametrize("stage", WHOLE)
async def test_a_failing_stage_is_told_and_nothing_comes_after_it(stage: str) -> None:
    world = World(fail=stage)
    chunk(world, 0, 10)
    with pytest.raises(DeliveryError, match=f"{stage} failed"):
        await world.checkpoint().run()
    assert world.did == WHOLE[: WHOLE.index(stage) + 1]
    assert [str(e) for e in world.failures] == [f"{stage} failed"]


async def test_a_worker_whose_partitions_went_to_others_writes_no_state() -> None:
    world = World()
    world.member = False
    chunk(world, 0, 10)
    assert not await world.checkpoint().run()
    assert world.did == ["dirty", "turn", "outputs", "commit 0"]
    assert world.failures == []


async def test_state_that_was_refused_is_never_committed_past() -> None:
    """Its dirty windows were taken and are in no file: a later commit would leave a hole in the state of whoever comes next."""
    world = World()
    world.member = False
    chunk(world, 0, 10)
    checkpoint = world.checkpoint()
    assert not await checkpoint.run()
    world.member = True  # it has joined again, or the broker took it for nobody in particular
    chunk(world, 10, 20)
    world.did.clear()
    assert not await checkpoint.run()
    assert world.did == []
    checkpoint.forget()
    world.dirty = list(DIRTY)
    chunk(world, 0, 10)
    assert await checkpoint.run()
    assert world.did == WHOLE


async def test_a_worker_that_was_out_when_its_changelog_arrived_keeps_it_out_of_its_table() -> None:
    """Paused between the answer and the arrival: its records may follow newer ones, which its table must not claim to hold."""
    world = World()
    world.answers = [True, False]
    chunk(world, 0, 10)
    checkpoint = world.checkpoint()
    assert not await checkpoint.run()
    assert world.did == WHOLE[:-1]
    chunk(world, 10, 20)
    assert not await checkpoint.run()  # nor is anything committed past it
    assert world.did == WHOLE[:-1]


async def test_where_others_wrote_the_owner_sends_all_entries_of_the_partition_again() -> None:
    world = World()
    world.others = [{0}, {0}, set()]
    chunk(world, 0, 10)
    assert await world.checkpoint().run()
    once = ["commit 0", "changelog", "changelog confirmed"]
    assert world.did == ["dirty", "turn", "outputs", *once, *once, *once, "commit 10", "table"]
    assert world.sent == [DIRTY, [(0, b"A", b"1"), (0, b"C", b"3")], [(0, b"A", b"1"), (0, b"C", b"3")]]


async def test_where_others_wrote_because_the_partition_is_theirs_now_nothing_more_is_sent() -> None:
    world = World()
    world.others = [{0}]
    world.answers = [True, False]
    chunk(world, 0, 10)
    assert not await world.checkpoint().run()
    assert world.did == [*WHOLE[:6], "commit 0"]


async def test_a_revocation_waits_for_the_checkpoint_under_way() -> None:
    world = World()
    world.gate = asyncio.Event()
    chunk(world, 0, 10)
    checkpoint = world.checkpoint()
    running = asyncio.create_task(checkpoint.run())
    await asyncio.sleep(0)
    quiet = asyncio.create_task(checkpoint.quiet())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not quiet.done()
    world.gate.set()
    await quiet
    assert world.did == WHOLE
    assert await running
    await checkpoint.quiet()  # with none under way, at once


async def test_offsets_state_and_outputs_all_end_at_the_same_chunk() -> None:
    world = World()
    world.gate = asyncio.Event()
    chunk(world, 0, 10)
    running = asyncio.create_task(world.checkpoint().run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert world.did == ["dirty", "turn"]
    chunk(world, 10, 99)  # the agent goes on meanwhile
    world.gate.set()
    assert await running
    assert world.did == WHOLE


async def test_a_checkpoint_goes_through_when_its_caller_is_cancelled() -> None:
    world = World()
    world.gate = asyncio.Event()
    chunk(world, 0, 10)
    checkpoint = world.checkpoint()
    caller = asyncio.create_task(checkpoint.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    world.gate.set()
    assert not await checkpoint.run()  # waits for the one under way, after which nothing is left to do
    assert world.did == WHOLE
