"""A checkpoint for which no row came: state that time alone changed becomes durable, offsets are committed where they stand."""

from __future__ import annotations

import asyncio

import pytest

from streams.errors import DeliveryError
from tests.unit.streams.test_checkpoint import DIRTY, WHOLE, World, chunk


def at(offset: int, *, to: int | None = None) -> list[str]:
    """All stages, with the commits of a worker that stands at `offset`, and goes `to` another or stays."""
    return [*WHOLE[:3], f"commit {offset}", *WHOLE[4:6], f"commit {offset if to is None else to}", "table"]


def world(**stands: int) -> World:
    """One whose partitions have these committed offsets, and which has something to say."""
    made = World()
    made.stands = dict(stands)
    made.urgent = True
    return made


async def test_after_a_start_it_commits_what_was_committed_before() -> None:
    w = world(p=40)
    checkpoint = w.checkpoint()
    assert await checkpoint.run()
    assert w.did == at(40)
    assert (checkpoint.stats.checkpoints, checkpoint.stats.table_records) == (1, 2)


async def test_after_a_commit_it_commits_that_again_and_not_where_reading_began() -> None:
    w = world(p=5)
    checkpoint = w.checkpoint()
    chunk(w, 5, 10)
    assert await checkpoint.run()
    assert w.did == at(5, to=10)
    w.did.clear()
    w.dirty = list(DIRTY)
    assert await checkpoint.run()
    assert w.did == at(10)


async def test_after_an_urgent_one_it_stands_where_it_stood() -> None:
    w = world(p=5)
    checkpoint = w.checkpoint()
    for _ in range(2):
        w.dirty = list(DIRTY)
        w.did.clear()
        assert await checkpoint.run()
        assert w.did == at(5)
    w.urgent = False
    w.did.clear()
    w.dirty = list(DIRTY)
    chunk(w, 5, 10)
    assert await checkpoint.run()  # the rows that then come are committed as ever
    assert w.did == at(5, to=10)


async def test_rows_under_way_are_not_committed_by_it() -> None:
    w = world(p=5)
    checkpoint = w.checkpoint()
    chunk(w, 5, 10, done=False)
    assert await checkpoint.run()
    assert w.did == at(5)


async def test_rows_under_way_of_a_partition_never_committed_stay_uncommitted() -> None:
    w = world()
    chunk(w, 3, 10, done=False)
    assert await w.checkpoint().run()
    assert w.did == at(3)  # where reading began, which says no more than nothing does


async def test_all_partitions_are_committed_where_each_stands() -> None:
    w = world(p=40, q=7)
    checkpoint = w.checkpoint()
    chunk(w, 40, 50, partition="p")
    assert await checkpoint.run()
    w.did.clear()
    w.dirty = list(DIRTY)
    assert await checkpoint.run()
    assert w.did == [d.replace("commit 0", "commit 50 7").replace("commit 10", "commit 50 7") for d in WHOLE]


async def test_new_offsets_alone_are_committed_where_there_are_some() -> None:
    w = world(p=40, q=7)
    chunk(w, 40, 50, partition="p")
    assert await w.checkpoint().run()
    assert w.did == at(40, to=50)


async def test_with_nothing_ever_committed_it_waits_and_loses_nothing() -> None:
    w = world()
    checkpoint = w.checkpoint()
    assert not await checkpoint.run()
    assert w.did == []
    assert w.dirty == DIRTY
    assert checkpoint.stats.checkpoints == 0
    chunk(w, 0, 10)  # the first rows take it along
    assert await checkpoint.run()
    assert w.did == WHOLE


async def test_where_nothing_is_urgent_nothing_is_done() -> None:
    w = world(p=40)
    w.urgent = False
    assert not await w.checkpoint().run()
    assert w.did == []
    assert w.dirty == DIRTY


async def test_urgency_is_asked_anew_each_time() -> None:
    w = world(p=40)
    checkpoint = w.checkpoint()
    assert await checkpoint.run()
    w.urgent = False
    w.did.clear()
    assert not await checkpoint.run()
    assert w.did == []


@pytest.mark.parametrize("answers", [[False], [True, False]])
async def test_one_that_is_refused_writes_no_table_and_ends_all_until_the_revocation(answers: list[bool]) -> None:
    w = world(p=40)
    w.answers = list(answers)
    checkpoint = w.checkpoint()
    assert not await checkpoint.run()
    assert w.did == at(40)[: 4 if len(answers) == 1 else 7]
    assert w.failures == []
    assert checkpoint.stats.checkpoints == 0
    w.did.clear()
    w.dirty = list(DIRTY)
    chunk(w, 40, 50)
    assert not await checkpoint.run()
    assert w.did == []
    w.stands = {}
    checkpoint.forget()
    assert not await checkpoint.run()  # revoked: what stood before is no longer known, and nothing is committed
    assert w.did == []
    w.stands = {"p": 40}
    w.dirty = []  # forgotten by its owner
    assert await checkpoint.run()
    assert w.did == ["dirty", "turn", "outputs", "commit 40"]


async def test_after_a_revocation_it_goes_by_where_the_new_owner_left_off() -> None:
    w = world(p=5)
    checkpoint = w.checkpoint()
    chunk(w, 5, 10)
    assert await checkpoint.run()
    checkpoint.forget()
    w.stands = {"p": 99}
    w.did.clear()
    w.dirty = list(DIRTY)
    assert await checkpoint.run()
    assert w.did == at(99)


@pytest.mark.parametrize("stage", at(40))
async def test_a_failing_stage_is_told_and_nothing_comes_after_it(stage: str) -> None:
    w = world(p=40)
    w.fail = stage
    with pytest.raises(DeliveryError, match=f"{stage} failed"):
        await w.checkpoint().run()
    assert w.did == at(40)[: at(40).index(stage) + 1]
    assert [str(e) for e in w.failures] == [f"{stage} failed"]


async def test_urgent_without_changes_commits_once_and_writes_nothing() -> None:
    w = world(p=40)
    w.dirty = []
    assert await w.checkpoint().run()
    assert w.did == ["dirty", "turn", "outputs", "commit 40"]


async def test_what_becomes_urgent_under_way_is_taken_by_the_next() -> None:
    w = world(p=40)
    w.gate = asyncio.Event()
    checkpoint = w.checkpoint()
    askers = [asyncio.create_task(checkpoint.run()) for _ in range(2)]
    for _ in range(2):
        await asyncio.sleep(0)
    assert w.did == ["dirty", "turn"]
    w.dirty = list(DIRTY)  # changed after it was captured
    w.gate.set()
    assert await asyncio.gather(*askers) == [True, True]
    assert w.did == at(40) + at(40)
