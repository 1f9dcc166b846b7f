"""Several who ask for a checkpoint at once."""

from __future__ import annotations

import asyncio

from streams.errors import DeliveryError
from tests.unit.streams.test_checkpoint import DIRTY, WHOLE, World, chunk


async def test_checkpoints_run_one_at_a_time_however_many_ask() -> None:
    world = World()
    world.gate = asyncio.Event()
    chunk(world, 0, 10)
    checkpoint = world.checkpoint()
    askers = [asyncio.create_task(checkpoint.run()) for _ in range(4)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    chunk(world, 10, 20)
    world.dirty = list(DIRTY)
    world.gate.set()
    assert sorted(await asyncio.gather(*askers)) == [False, False, True, True]
    second = [*WHOLE[:3], "commit 10", *WHOLE[4:6], "commit 20", "table"]
    assert world.did == WHOLE + second  # never interleaved: the second begins where the first has ended


async def test_those_who_wait_for_a_failing_checkpoint_fail_with_it() -> None:
    world = World(fail="outputs")
    world.gate = asyncio.Event()
    chunk(world, 0, 10)
    checkpoint = world.checkpoint()
    askers = [asyncio.create_task(checkpoint.run()) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    world.gate.set()
    assert [type(e) for e in await asyncio.gather(*askers, return_exceptions=True)] == [DeliveryError] * 2
    assert len(world.failures) == 1
