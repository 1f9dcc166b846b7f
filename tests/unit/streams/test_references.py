"""The registry is asked for references beside the event loop; where it answers no row is lost, where it is down nothing waits."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from msgspec.structs import replace

from streams import references
from streams.chunks import Chunk
from streams.records import PartitionRecords
from streams.references import RETRY_S, References
from streams.spans import SpanTracker
from tests.record import Record
from tests.unit.monitoring.receiver import wait_until
from tests.unit.streams.monitor_world import COLUMNS, START_US, Market, Worker, cut, log_record, result, run, spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from models.spec import ServingSpec
    from tests.unit.streams.monitor_world import Placed

LOG = "trading.inference-log"


@dataclass
class Slow:
    """A registry that answers once it may, and says how many questions it had at once."""

    down: bool = False
    asked: list[str] = field(default_factory=list)
    may: threading.Event = field(default_factory=threading.Event)
    at_once: int = 0
    most_at_once: int = 0

    def load_spec(self, name: str, version: str) -> ServingSpec:
        self.asked.append(version)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            assert self.may.wait(20)
            if self.down:
                raise OSError("no answer")
            return spec(name)
        finally:
            self.at_once -= 1


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def registry() -> Iterator[Slow]:
    made = Slow()
    yield made
    made.may.set()


def chunk_of(records: Sequence[Placed]) -> Chunk:
    places = dict.fromkeys(r[:2] for r in records)
    return Chunk([PartitionRecords(t, p, [r[2] for r in records if r[:2] == (t, p)]) for t, p in places], [], SpanTracker())


def chunk(*values: bytes | None, topic: str = LOG) -> Chunk:
    return chunk_of([(topic, 0, Record(n, 0, None, value)) for n, value in enumerate(values)])


def version(name: str) -> bytes:
    return log_record(["KO"], START_US, np.zeros((1, len(COLUMNS))), version=name, source_partition=0)


async def while_it_waits(waiting: asyncio.Task[None], *, until: Callable[[], bool]) -> None:
    """Other things of the loop go on, and it waits still."""
    async with asyncio.timeout(20):
        while not until():  # noqa: ASYNC110 - a thread brings it about
            await asyncio.sleep(0.001)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()


def test_rows_of_a_new_version_wait_for_its_reference_and_the_loop_does_not(tmp_path: Path, registry: Slow) -> None:
    stream = Market(bars=60, drift_bar=20).stream()
    worker = Worker(tmp_path / "slow", registry=registry)  # type: ignore[arg-type]
    worker.handler.references.start = references.in_a_thread

    async def feed(records: list[Placed]) -> None:
        taken = chunk_of(records)
        waiting = asyncio.create_task(worker.handler.prepare(taken))
        if not registry.may.is_set():
            await while_it_waits(waiting, until=lambda: bool(registry.asked))
            registry.may.set()
        await waiting
        worker.handler.process(taken)
        worker.checkpoint()

    async def main() -> None:
        for records in cut(stream, 40):
            await feed(records)

    asyncio.run(main())
    assert result(worker)[:2] == result(run(Worker(tmp_path / "usual"), stream))[:2]
    assert registry.asked == ["1"]


def test_a_registry_that_is_down_is_asked_again_aside_and_its_rows_are_skipped_meanwhile(tmp_path: Path, registry: Slow) -> None:
    stream = Market(bars=90, drift_bar=0).stream()
    worker = Worker(tmp_path, registry=registry)  # type: ignore[arg-type]
    worker.handler.references.start = references.in_a_thread
    chunks = [chunk_of(records) for records in cut(stream, 40)]
    registry.down = True
    registry.may.set()
    for each in chunks[:3]:
        asyncio.run(worker.handler.prepare(each))
        worker.handler.process(each)
    assert registry.asked == ["1"]
    registry.may.clear()
    worker.now_s += RETRY_S
    for each in chunks[3:6]:  # neither waits, though the answer is not there
        asyncio.run(worker.handler.prepare(each))
        worker.handler.process(each)
    wait_until(lambda: registry.asked == ["1", "1"])
    assert worker.handler._state.watches == {}
    registry.down = False
    registry.may.set()
    wait_until(lambda: worker.handler.references.known("m", "1") is not None)
    for each in chunks[6:]:
        worker.handler.process(each)
    assert worker.performance()[-1]["drift"]["verdict"] == "critical"
    assert registry.asked == ["1", "1"]


def test_a_question_of_the_clock_neither_blocks_nor_is_asked_twice(registry: Slow) -> None:
    refs = References(registry, clock=Clock())
    assert refs.known("m", "1") is None
    assert refs.known("m", "1") is refs.known("m", "2") is None

    async def main() -> None:
        waiting = asyncio.create_task(refs.prepare(chunk(version("1")), LOG))
        await while_it_waits(waiting, until=lambda: bool(registry.asked))
        registry.may.set()
        await waiting

    asyncio.run(main())
    assert refs.get("m", "1", COLUMNS) is refs.known("m", "1") is not None
    assert registry.asked == ["1"]


def test_it_asks_one_thing_at_a_time_and_each_at_most_every_ten_seconds(registry: Slow) -> None:
    clock = Clock()
    refs = References(registry, clock=clock)
    registry.down = True
    registry.may.set()
    asyncio.run(refs.prepare(chunk(*map(version, "123")), LOG))
    assert registry.asked == ["1", "2", "3"]
    for rounds in (2, 3):
        clock.now_s += RETRY_S
        wait_until(lambda: [refs.known("m", v) for v in "123"] == [None] * 3 and len(registry.asked) == 3 * rounds)  # noqa: B023 - called before the next round
        assert sorted(registry.asked) == sorted(rounds * "123")
    assert registry.most_at_once == 1


def test_a_first_answer_is_not_waited_for_for_ever(registry: Slow) -> None:
    refs = References(registry, clock=Clock(), first_s=0.05)

    async def main() -> None:
        for _ in range(3):  # once
            await refs.prepare(chunk(version("1")), LOG)
        assert refs.known("m", "1") is None
        registry.may.set()  # or the loop, at its end, waits for the thread

    asyncio.run(main())
    wait_until(lambda: refs.known("m", "1") is not None)
    assert registry.asked == ["1"]


def test_what_is_no_record_of_the_log_is_not_asked_about(registry: Slow) -> None:
    refs = References(registry, clock=Clock())
    whole = version("1")
    broken = [None, b"", b"\xff" * 20, whole[:50], whole[:-20], b"\xff\xff\xff\xff\xff\xff\xff\x7f" + whole[8:]]
    asyncio.run(refs.prepare(chunk(*broken), LOG))
    asyncio.run(refs.prepare(chunk(whole, topic="trading.outcomes"), LOG))
    assert registry.asked == []


def test_schemas_beyond_what_is_remembered_lead_to_no_question_more(registry: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "_MOST_SCHEMAS", 2)
    refs = References(registry, clock=Clock())
    registry.may.set()
    for _ in range(2):
        asyncio.run(refs.prepare(chunk(*map(version, "12345")), LOG))
    assert registry.asked == list("12345")


def test_a_spec_that_cannot_be_measured_against_is_asked_for_again() -> None:
    specs: list[Any] = [replace(spec(), trigger="nothing"), spec()]
    asked: list[str] = []

    class Mended:
        def load_spec(self, _name: str, version: str) -> ServingSpec:
            asked.append(version)
            found: ServingSpec = specs.pop(0)
            return found

    clock = Clock()
    refs = References(Mended(), clock=clock, start=lambda ask: ask())
    assert refs.known("m", "1") is refs.known("m", "1") is None
    assert asked == ["1"]
    clock.now_s += RETRY_S
    assert refs.known("m", "1") is not None
    assert asked == ["1", "1"]
