"""Versions in force: which rows a version scores, what a switch does to windows, challengers and canaries."""

from __future__ import annotations

import json
from typing import Any

from models.spec import ColumnSpec, Lag
from models.timeline import canary_point
from streams.partitioner import partition_of
from streams.partitions import VERSIONS
from streams.pipeline import STREAM_TIME
from streams.records import PartitionRecords
from streams.switches import NOBODY
from tests.unit.streams.pipes import (
    PARTITIONS,
    X1,
    X,
    Y,
    Z,
    bar,
    bodies,
    handle,
    order_of,
    part,
    put_in_force,
    serve,
    switch,
    total,
)
from tests.unit.streams.wire import nothing

HOME = partition_of(b"A", PARTITIONS)


def at(offset: int) -> dict[int, int]:
    return {HOME: offset}


def test_a_version_scores_rows_from_its_event_time_on_and_the_one_before_scores_late_ones() -> None:
    pipeline = serve(handle("m", [X]))
    pipeline.step(part(bar(10, x=1.0)), nothing)
    put_in_force(pipeline, handle("m", [X], predict=lambda x: total(x) * 10, version="2"), offsets=at(1), from_us=30)
    out = pipeline.step(part(bar(20, x=2.0), bar(30, x=3.0), bar(25, x=4.0), bar(40, x=5.0), first=2), nothing)
    found = {b["ts_event_us"]: (b["version"], b["value"]) for b in bodies(out)}
    assert found == {20: ("1", 2.0), 30: ("2", 30.0), 25: ("1", 4.0), 40: ("2", 50.0)}
    versions = [(b["ts_event_us"], b["prediction_id"]) for b in bodies(out)]
    assert dict(versions)[25] == "m:1:A:25:0"


def test_a_switch_that_comes_late_takes_force_after_all_that_was_scored() -> None:
    pipeline = serve(handle("m", [X]))
    pipeline.step(part(bar(100, x=1.0)), nothing)
    new = handle("m", [X], version="2")
    pipeline.add(new)
    pipeline.know(order_of(new, from_us=50))
    out = pipeline.step(switch(order_of(new, from_us=50), offset=1), nothing)
    assert [(p, o.seq, from_us) for p, o, from_us in out.switched] == [(HOME, 2, 101)]
    late = bodies(pipeline.step(part(bar(60, x=1.0), bar(101, x=1.0), first=2), nothing))
    assert {b["ts_event_us"]: b["version"] for b in late} == {60: "1", 101: "2"}


def test_a_switch_in_the_middle_of_a_chunk_is_one_between_two() -> None:
    def run(*, whole: bool) -> list[dict[str, Any]]:
        pipeline = serve(handle("m", [X, X1]))
        new = handle("m", [X1, Y, Z], depth=7, version="2")
        pipeline.add(new)
        pipeline.know(order_of(new, from_us=20))
        records = [
            *part(bar(10, x=1.0, y=7.0), bar(15, x=2.0, y=8.0))[0].records,
            *switch(order_of(new, from_us=20), offset=2)[0].records,
            *part(bar(20, x=3.0, y=9.0), bar(30, x=4.0, y=1.0), first=3)[0].records,
        ]
        chunks = [records] if whole else [[r] for r in records]
        return [b for c in chunks for b in bodies(pipeline.step([PartitionRecords("f", HOME, c)], nothing))]

    assert run(whole=True) == run(whole=False)
    assert [b["version"] for b in run(whole=True)] == ["1", "1", "2", "2"]


def test_a_switch_keeps_windows_when_the_layout_changes_and_new_features_are_missing_at_first() -> None:
    pipeline = serve(handle("m", [X, X1]))
    pipeline.step(part(bar(10, x=1.0, y=4.0), bar(20, x=2.0, y=5.0)), nothing)
    y1 = ColumnSpec(name="y1", feature_set="bars", feature="y", lag=Lag(bars=1))
    put_in_force(pipeline, handle("m", [X1, Y, y1, Z], depth=7, version="2"), offsets=at(2))
    (body,) = bodies(pipeline.step(part(bar(30, x=3.0, y=6.0), first=3), nothing))
    assert (body["value"], body["missing"]) == (2.0 + 6.0, ["y1", "z"])
    (lagged,) = bodies(pipeline.step(part(bar(40, x=3.0, y=6.0), first=4), nothing))
    assert (lagged["value"], lagged["missing"]) == (3.0 + 6.0 + 6.0, ["z"])


def test_a_switch_in_one_partition_is_none_in_another() -> None:
    symbols = {partition_of(s.encode(), PARTITIONS): s for s in "ABCDEFGHIJ"}
    pipeline = serve(handle("m", [X]))
    pipeline.step(part(*(bar(10, s, x=1.0) for s in symbols.values())), nothing)
    put_in_force(pipeline, handle("m", [X, Z], version="2"), offsets=at(100))
    assert len(pipeline.lanes) == 2
    out = pipeline.step(part(*(bar(20, s, x=2.0) for s in symbols.values()), first=101), nothing)
    assert {b["symbol"]: b["version"] for b in bodies(out)} == {s: "2" if p == HOME else "1" for p, s in symbols.items()}
    others = {p: 200 for p in symbols if p != HOME}
    put_in_force(pipeline, handle("m", [X, Z], version="2"), offsets=others)
    assert len(pipeline.lanes) == 1


def test_a_switch_to_the_same_layout_leaves_windows_alone() -> None:
    pipeline = serve(handle("m", [X, X1]))
    pipeline.step(part(bar(10, x=1.0)), nothing)
    (before,) = pipeline.lanes
    put_in_force(pipeline, handle("m", [X, X1], predict=lambda x: total(x) * 2, version="2"), offsets=at(1))
    assert list(pipeline.lanes) == [before]
    (body,) = bodies(pipeline.step(part(bar(20, x=2.0), first=2), nothing))
    assert body["value"] == 6.0


def test_a_switch_keeps_what_is_not_yet_written_and_replays_once() -> None:
    pipeline = serve(handle("m", [X]))
    rows = part(bar(10, x=1.0), bar(20, x=2.0))
    pipeline.step(rows, nothing)
    put_in_force(pipeline, handle("m", [X, Y], version="2"), offsets=at(2))
    assert [(p, key) for p, key, _ in pipeline.take_dirty()] == [
        (HOME, VERSIONS.encode()),
        (HOME, b"A"),
        (HOME, STREAM_TIME.encode()),
    ]
    again = pipeline.step(rows, nothing)
    assert (again.predictions, again.counts["replayed"]) == ([], 2)


def test_challengers_score_the_same_vectors_apart_and_canaries_their_share_of_the_symbols() -> None:
    symbols = [f"S{i}" for i in range(200)]
    pipeline = serve(handle("m", [X]))
    ends = dict.fromkeys(range(PARTITIONS), 0)
    put_in_force(pipeline, handle("m", [X], version="2"), offsets=ends, seq=1, role="challenger")
    put_in_force(pipeline, handle("m", [X], version="3"), offsets=ends, seq=1, role="canary", share=0.25)
    out = pipeline.step(part(*(bar(10, s, x=1.0) for s in symbols), first=1), nothing)
    champions = {b["symbol"]: (b["version"], b["role"]) for b in bodies(out)}
    assert champions == {s: ("3", "canary") if canary_point(s) < 0.25 else ("1", "champion") for s in symbols}
    assert 25 < sum(v == "3" for v, _ in champions.values()) < 75
    shadow = [json.loads(v) for _, _, v in out.shadow]
    assert {b["symbol"]: (b["version"], b["role"]) for b in shadow} == dict.fromkeys(symbols, ("2", "challenger"))
    hashes = {b["symbol"]: b["vector_hash"] for b in bodies(out)}
    assert {b["symbol"]: b["vector_hash"] for b in shadow} == hashes
    put_in_force(pipeline, handle("m", [X], version=NOBODY), offsets=dict.fromkeys(ends, 300), seq=2, role="challenger")
    after = pipeline.step(part(*(bar(20, s, x=1.0) for s in symbols), first=301), nothing)
    assert (len(after.predictions), after.shadow) == (len(symbols), [])


def test_an_order_that_nobody_gave_is_refused() -> None:
    pipeline = serve(handle("m", [X]))
    stranger = order_of(handle("m", [X], version="9"), seq=7)
    assert [r.reason for r in pipeline.step(switch(stranger, offset=0), nothing).rejected] == ["bad_switch"]
    (body,) = bodies(pipeline.step(part(bar(10, x=1.0), first=1), nothing))
    assert body["version"] == "1"
