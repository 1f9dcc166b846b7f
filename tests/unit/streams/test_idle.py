"""Idle partitions are moved past deadlines through the log, by a record that says nothing of the wall clock."""

from __future__ import annotations

import json

from models.handle import ModelHandle
from models.spec import ColumnSpec, FeatureSetSpec, ServingSpec
from streams.idle import IdleClock
from streams.partitioner import partition_of
from streams.pipeline import Pipeline
from streams.waiting import Waiting
from streams.wire import PartitionRecords
from tests.record import Record

ROW = Waiting("m", 100, 0, 110, 7)
LATER = Waiting("m", 200, 0, 210, 8)
SECOND_US = 1_000_000


def test_a_record_with_the_deadline_comes_once_the_wait_has_lasted_as_long_by_the_wall_clock() -> None:
    clock = IdleClock(bound_s=1.0)
    waiting = [(3, "A", (ROW, LATER))]
    assert clock.due(waiting, {"m": 5 * SECOND_US}, 50.0) == []
    assert clock.due(waiting, {"m": 5 * SECOND_US}, 55.9) == []
    (record,) = clock.due(waiting, {"m": 5 * SECOND_US}, 56.0)
    assert (record.partition, record.key) == (3, b"A")
    assert json.loads(record.value)["ts_known_us"] == 210 + 5 * SECOND_US
    assert clock.due(waiting, {"m": 5 * SECOND_US}, 56.1) == []  # it is on its way
    assert clock.due(waiting, {"m": 5 * SECOND_US}, 62.1) != []  # and was lost


def test_rows_that_stop_waiting_are_forgotten_and_models_not_served_wait_on() -> None:
    clock = IdleClock(bound_s=0.0)
    clock.due([(0, "A", (ROW,))], {"m": 0}, 1.0)
    assert clock.due([], {"m": 0}, 2.0) == []
    assert clock.due([(0, "A", (ROW,))], {}, 90.0) == []


def test_the_record_ends_the_wait_in_the_pipeline() -> None:
    columns = (
        ColumnSpec(name="x", feature_set="bars", feature="x"),
        ColumnSpec(name="z", feature_set="slow", feature="z"),
    )
    sets = {n: FeatureSetSpec(features=(f,), bar_us=10, depth_rows=4) for n, f in (("bars", "x"), ("slow", "z"))}
    spec = ServingSpec(model="m", trigger="bars", horizon_us=10, columns=columns, feature_sets=sets, deadline_us=15)
    handle = ModelHandle(name="m", version="1", digest="", spec=spec, predict=lambda x: x[:, 0])
    pipeline = Pipeline([handle], partitions=4, max_future_us=10**15, slack_rows=4)
    home = partition_of(b"A", 4)
    body = {"symbol": "A", "feature_set": "bars", "ts_event_us": 100, "values": {"x": 2.5}}

    def feed(offset: int, value: bytes) -> list[bytes]:
        parts = [PartitionRecords("f", home, [Record(offset, 10**9, b"A", value)])]
        return [v for _, _, v in pipeline.step(parts, lambda _p, _s: None).predictions]

    assert feed(0, json.dumps(body).encode()) == []
    clock = IdleClock(bound_s=0.0)
    clock.due(pipeline.waiting(), {"m": 15}, 0.0)
    (record,) = clock.due(pipeline.waiting(), {"m": 15}, 1.0)
    (prediction,) = map(json.loads, feed(1, record.value))
    assert (prediction["ts_decision_us"], prediction["missing"], prediction["value"]) == (115, ["z"], 2.5)
    assert prediction["source"]["offset"] == 0
    assert pipeline.waiting() == []
