"""Records from the future: they count as of now, are told once, and mute no alert of the records that come in time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from streams.logrows import read_log
from streams.operations import AHEAD_US, SAY_AGAIN_US, Ahead, Operations
from streams.wire import PartitionRecords
from tests.record import Record
from tests.unit.streams.monitor_world import COLUMNS, START_US, Worker, home, log_record
from tests.unit.streams.operations_world import DAY_US, LOG, MINUTE_US, REJECTED, RULES, World

if TYPE_CHECKING:
    from pathlib import Path

LATE = ["prediction_latency pending warn", "prediction_latency firing warn"]
AHEAD = [AHEAD_US + 1_000, DAY_US, 100 * 365 * DAY_US]


def late_minutes(world: World, number: int = 6) -> list[str]:
    """Alert events of minutes whose predictions come late."""
    for _ in range(number):
        world.operations.take_log(world.log(latency_us=60_000_000))
        world.operations.close(world.now_us + 1)
        world.now_us += MINUTE_US
    return world.said()


def from_the_future(world: World, by_us: int) -> list[Ahead]:
    """A record that is so far ahead; what there is to say of it."""
    world.operations.take_log(replace(world.log(), log_us=world.now_us + by_us, partition=1))
    world.operations.close(world.now_us)
    told, world.operations.ahead = world.operations.ahead, []
    return told


@pytest.mark.parametrize("by_us", AHEAD)
def test_a_record_from_the_future_mutes_nothing(by_us: int) -> None:
    world = World()
    world.minutes(6)
    assert from_the_future(world, by_us) == [Ahead(LOG, 1, by_us)]
    assert world.operations.flow.live_us == {"m": world.now_us}
    assert late_minutes(world) == LATE
    assert world.operations.flow.late == 0
    assert world.silent(10) == ["input_silence firing warn"]


@pytest.mark.parametrize("by_us", AHEAD)
def test_rejected_records_from_the_future_mute_nothing(by_us: int) -> None:
    world = World()
    world.minutes(6, rows=30)
    world.operations.take_rejected(PartitionRecords(REJECTED, 2, [Record(0, (world.now_us + by_us) // 1000, None, None)] * 3))
    world.operations.close(world.now_us)
    assert [told[:2] for told in world.operations.ahead] == [(REJECTED, 2)]
    assert dict(world.operations.flow.window().rejected) == {"unknown": 1}  # its offset was seen then
    assert late_minutes(world) == LATE


def test_clocks_that_are_a_little_apart_are_no_news() -> None:
    world = World()
    world.minutes(6)
    assert from_the_future(world, AHEAD_US) == []
    assert late_minutes(world) == LATE
    assert world.operations.flow.late == 0


@pytest.mark.parametrize("place", [0, 3, 9])
def test_in_a_backlog_it_is_as_old_as_what_stands_beside_it(place: int) -> None:
    world = World()
    world.minutes(6)
    for minute in range(10):
        if minute == place:
            world.operations.take_log(replace(world.log(latency_us=60_000_000), log_us=world.now_us + 9 * DAY_US))
        world.operations.take_log(world.log(latency_us=60_000_000))
        world.now_us += MINUTE_US
    world.operations.close(world.now_us + DAY_US)
    assert world.said() == LATE
    assert world.operations.flow.late == 0


def test_it_is_told_of_each_partition_once_in_an_hour() -> None:
    world = World()
    told = []
    for _ in range(90):
        world.now_us += MINUTE_US
        told.append(bool(from_the_future(world, DAY_US)))
    hour = SAY_AGAIN_US // MINUTE_US
    assert [n for n, said in enumerate(told) if said] == [0, hour]


def test_a_producer_that_is_always_ahead_is_neither_silent_nor_lost() -> None:
    world = World()
    for _ in range(9):
        from_the_future(world, DAY_US)
        world.now_us += MINUTE_US
    assert world.silent(0) == []
    assert world.operations.flow.window().models["m"].rows == 5 * 30


@pytest.mark.parametrize("told", [True, False])
def test_time_that_had_run_on_comes_back(*, told: bool) -> None:
    """An earlier version stored it, or the monitor's own clock was wrong."""
    world = World()
    world.operations.take_log(replace(world.log(), log_us=world.now_us + 30 * DAY_US, partition=1))
    world.operations.close()
    world.said()
    if told:
        world.operations.close(world.now_us)
        assert world.operations.dirty
        world.said()
    assert late_minutes(world) == LATE
    world.operations.take_log(replace(world.log(), offset=0, partition=1))  # which was counted
    world.operations.close(world.now_us)
    assert world.operations.flow.window().models["m"].rows == 5 * 30
    assert world.silent(10) == ["input_silence firing warn"]


def test_without_a_clock_every_time_is_as_good() -> None:
    world = World()
    world.operations.take_log(replace(world.log(), log_us=world.now_us + 30 * DAY_US))
    world.operations.close()
    assert world.operations.flow.last_us == {"m": world.now_us + 30 * DAY_US}
    assert Operations.unpack(RULES, world.operations.pack()).flow.newest == world.operations.flow.newest


def test_the_monitor_says_it(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    value = log_record(["KO"], START_US, np.zeros((1, len(COLUMNS))), source_partition=0)
    with capture_logs() as logs:
        for offset, ms in enumerate((1_000, 1 << 62, 1 << 62)):
            worker.feed([(LOG, home("KO"), Record(offset, ms, None, value))])
    said: list[Any] = [entry for entry in logs if "ahead of this clock" in entry["event"]]
    assert [(entry["topic"], entry["partition"]) for entry in said] == [(LOG, home("KO"))]


@pytest.mark.parametrize(
    ("ms", "log_us"), [(-(1 << 62), -1_000), (-1, -1_000), (0, 0), (5, 5_000), ((1 << 63) - 1, (1 << 53) - 1)]
)
def test_whatever_time_a_record_says_it_is_a_number_as_any_other(ms: int, log_us: int) -> None:
    value = log_record(["KO"], START_US, np.zeros((1, len(COLUMNS))), source_partition=0)
    ([rows], []) = read_log(PartitionRecords(LOG, 0, [Record(0, ms, None, value)]))
    assert rows.log_us == log_us
