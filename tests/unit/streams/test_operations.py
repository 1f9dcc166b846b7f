"""Operational alerts: each raises and clears at its thresholds, never on little or on history, and survives restarts."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from monitoring.errors import StateError
from monitoring.rules import AlertRules, InputLagRule, InputSilenceRule, LatencyRule
from streams.logrows import LogRows
from streams.operations import Operations
from streams.wire import PartitionRecords
from tests.record import Record
from tests.unit.streams.operations_world import DAY_US, MINUTE_US, REJECTED, RULES, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


LATE = ("prediction_latency", "input_lag", "rejected_share")


def test_where_all_is_well_nothing_is_said() -> None:
    world = World()
    assert world.minutes(30, rejected=0) == []
    assert world.silent(0) == []
    assert world.operations.alerts == {}


def test_predictions_that_come_late() -> None:
    world = World()
    world.minutes(6)
    # A window closes a minute after its end, and says it when a record of the minute after that comes.
    assert world.minutes(2, latency_us=60_000_000) == []
    assert world.minutes(1, latency_us=60_000_000) == ["prediction_latency pending warn"]
    assert world.minutes(1, latency_us=60_000_000) == ["prediction_latency firing warn"]
    assert world.minutes(6, latency_us=300_000_000) == ["prediction_latency firing critical"]
    assert world.minutes(8, latency_us=20_000_000) == []  # between the two thresholds
    assert world.minutes(8) == ["prediction_latency resolved critical"]


def test_input_that_comes_later_than_usual() -> None:
    world = World()
    assert world.minutes(9, lag_us=50_000_000) == []  # less than a bar
    assert world.minutes(4, lag_us=90_000_000) == ["input_lag pending warn", "input_lag firing warn"]
    assert world.minutes(9, lag_us=2_000_000) == ["input_lag resolved warn"]
    (event,) = [a for a in world.operations.alerts.values() if a.labels["alertname"] == "input_lag"]
    assert event.labels == {"alertname": "input_lag", "model": "m"}


def test_a_single_slow_minute_and_few_rows_raise_nothing() -> None:
    world = World()
    world.minutes(6)
    assert world.minutes(2, rejected=0) == world.minutes(1, latency_us=300_000_000, lag_us=DAY_US, rejected=20) == []
    assert world.minutes(9) == [f"{name} pending critical" for name in LATE] + [f"{name} inactive critical" for name in LATE]
    assert World().minutes(30, rows=3, latency_us=60_000_000, lag_us=DAY_US) == []  # 15 in five minutes


def test_lag_is_not_judged_before_it_is_known_what_is_usual() -> None:
    world = World()
    assert world.minutes(9, model="new", lag_us=5 * DAY_US) == []


def test_history_of_two_years_ago_raises_nothing_at_all() -> None:
    world = World()
    assert world.minutes(20, latency_us=730 * DAY_US) == []
    assert world.silent(600) == []


def test_challengers_are_no_rows() -> None:
    world = World()
    world.minutes(6)
    assert world.minutes(9, role="challenger", latency_us=60_000_000) == []
    assert world.operations.flow.window().models["m"].rows == 5 * 30


def test_records_that_are_rejected_with_their_reasons() -> None:
    world = World()
    world.minutes(6, rows=500)
    assert world.minutes(8, rows=500, rejected=1) == []  # 5 in five minutes are few
    assert world.minutes(5, rows=500, rejected=12) == ["rejected_share pending warn", "rejected_share firing warn"]
    (alert,) = world.operations.alerts.values()
    assert alert.labels == {"alertname": "rejected_share"}
    assert alert.annotations["description"].endswith("rows of the busiest model; 38 late")
    assert world.minutes(9, rows=500) == ["rejected_share resolved warn"]


def test_rejected_records_alone_are_heard() -> None:
    world = World()
    assert world.minutes(5, rows=0, rejected=50) == ["rejected_share pending critical", "rejected_share firing critical"]


def test_a_record_without_a_reason_is_rejected_too() -> None:
    world = World()
    part = world.rejected(1)
    plain = PartitionRecords(REJECTED, 0, [Record(99, world.now_us // 1000, None, None), Record(100, -1, None, None)])
    for records in (part, part, plain):
        world.operations.take_rejected(records)
    world.operations.close()
    assert dict(world.operations.flow.window().rejected) == {"late": 1, "unknown": 1}


def test_a_record_read_again_counts_once_and_of_what_is_not_closed_nothing_is_kept() -> None:
    world = World()
    record = world.log()
    world.operations.take_log(record)
    with pytest.raises(RuntimeError, match="call close first"):
        world.operations.pack()
    world.operations.take_log(record)
    world.operations.close()
    world.said()
    world.operations.take_log(record)
    world.operations.close()
    assert world.operations.flow.window().models["m"].rows == 30


def test_what_is_not_watched_is_not_observed_and_what_it_raised_ends() -> None:
    off = AlertRules(input_silence=None, input_lag=None, prediction_latency=None, rejected_share=None)
    world = World(off)
    assert world.minutes(9, latency_us=60_000_000, lag_us=DAY_US, rejected=50) == []
    assert world.silent(30) == []
    fired = World()
    fired.minutes(5, latency_us=60_000_000)
    assert [a.state for a in fired.operations.alerts.values()] == ["firing"]
    fired.operations = Operations.unpack(off, fired.operations.pack())
    fired.operations.silence(fired.now_us, caught_up=True)
    assert [(e["state"], e["annotations"]["summary"]) for e in fired.operations.unsaid] == [
        ("resolved", "its rule is not enabled any more")
    ]


def test_rules_of_ones_own() -> None:
    rules = replace(
        RULES,
        prediction_latency=LatencyRule(above_us=1_000_000, clear_us=500_000, critical_ratio=100.0),
        input_lag=InputLagRule(bars=0.1, at_least_us=1_000_000, critical_ratio=100.0),
        input_silence=InputSilenceRule(after_bars=2, severity="critical"),
    )
    world = World(rules)
    said = world.minutes(5, latency_us=2_000_000, lag_us=12_000_000)
    assert {line for line in said if "firing" in line} == {"prediction_latency firing warn", "input_lag firing warn"}
    assert world.silent(2) == ["input_silence firing critical"]


@pytest.mark.parametrize("seed", range(5))
def test_values_within_the_band_never_flap(seed: int) -> None:
    """Latencies that swing between the two thresholds: however they do, an alert changes once at the most."""
    rng = random.Random(seed)  # noqa: S311 - the same swings every time
    world = World()
    fires = rng.random() < 0.5
    if fires:
        world.minutes(6, latency_us=60_000_000)
    said = [line for _ in range(60) for line in world.minutes(1, latency_us=rng.randint(19_000_000, 25_000_000))]
    assert said == []


def partitions(world: World) -> Iterator[tuple[int, LogRows | PartitionRecords]]:
    """Ten minutes on three partitions, each in its own order."""
    for minute in range(10):
        for partition in range(3):
            rows = replace(world.log(latency_us=60_000_000 if minute > 4 else 1_000), partition=partition)
            yield minute, rows
            yield minute, PartitionRecords(REJECTED, partition, world.rejected(2).records)
        world.now_us += MINUTE_US


def fed(chunks: Iterable[list[LogRows | PartitionRecords]]) -> Operations:
    operations = Operations(RULES)
    for chunk in chunks:
        for record in chunk:
            if isinstance(record, LogRows):
                operations.take_log(record)
            else:
                operations.take_rejected(record)
        operations.close()
        operations = Operations.unpack(RULES, operations.pack())
    return operations


def test_a_backlog_read_partition_by_partition_is_what_it_was_when_it_came() -> None:
    stream = [record for _, record in partitions(World())]
    live = fed([record] for record in stream)
    by_partition = sorted(stream, key=lambda record: record.partition)
    assert fed([by_partition]).pack() == live.pack()
    assert fed([stream[:17], stream[17:]]).pack() == live.pack()
    assert [e["state"] for e in live.unsaid if e["labels"]["alertname"] == "prediction_latency"] == ["pending", "firing"]


def test_it_knows_whether_it_must_be_stored() -> None:
    world = World()
    operations = world.operations
    operations.silence(world.now_us, caught_up=True)
    operations.take_rejected(world.rejected(0))
    operations.close()
    assert not operations.dirty
    operations.take_rejected(world.rejected(1))
    operations.close()
    assert operations.dirty
    operations.take_log(world.log())
    operations.close()
    operations.dirty = False
    operations.silence(world.now_us + 9 * MINUTE_US, caught_up=True)
    assert (operations.dirty, len(operations.unsaid)) == (True, 1)
    operations.dirty = False
    operations.silence(world.now_us + 10 * MINUTE_US, caught_up=True)
    assert not operations.dirty


def test_another_layout_and_damage_are_refused() -> None:
    packed = World().operations.pack()
    with pytest.raises(StateError, match="has layout 7, this version reads 1"):
        Operations.unpack(RULES, bytes([7, 0]) + packed[2:])
    for end in range(2, len(packed), 9):
        with pytest.raises(StateError):
            Operations.unpack(RULES, packed[:end])
