"""Several models over one pipeline, and swaps: no model's records depend on which others are served."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.handle import ModelHandle
from models.spec import ColumnSpec, FeatureSetSpec, Lag, ServingSpec
from streams.errors import LayoutError, StateLayoutError
from streams.lanes import canary_point
from streams.partitioner import partition_of
from streams.partitions import VERSIONS
from streams.pipeline import STREAM_TIME
from streams.records import PartitionRecords
from streams.switches import NOBODY
from streams.windows import LagWindows
from tests.unit.streams.pipes import (
    BAR,
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
    vectors,
)
from tests.unit.streams.wire import nothing


def test_models_with_different_triggers_answer_their_own_rows() -> None:
    pipeline = serve(handle("fast", [X, Z]), handle("slow", [Z, X], trigger="slow"))
    slow = {"feature_set": "slow", "ts_event_us": 15, "values": {"z": 7.0}}
    out = pipeline.step(part(bar(10, x=1.0), slow, bar(20, x=2.0)), nothing)
    assert [(b["model"], b["ts_event_us"], b["value"]) for b in sorted(bodies(out), key=lambda b: b["ts_event_us"])] == [
        ("fast", 10, 1.0),
        ("slow", 15, 8.0),
        ("fast", 20, 9.0),
    ]


@st.composite
def arrivals(draw: st.DrawFn) -> list[dict[str, Any]]:
    rows = []
    for n in range(draw(st.integers(1, 40))):
        event = max(0, (n // 2) * BAR - draw(st.sampled_from([0, 0, 0, BAR, 3 * BAR, 9 * BAR])))
        values = {"x": float(n), "y": draw(st.sampled_from([1.0, None]))}
        rows.append(bar(event, draw(st.sampled_from("AB")), draw(st.sampled_from([0, 0, 1])), **values))
    return rows


@settings(max_examples=60)
@given(arrivals(), st.integers(1, 6), st.booleans())
def test_a_models_records_do_not_depend_on_which_others_are_served(
    rows: list[dict[str, Any]],
    slack: int,
    cut: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    def run(*handles: ModelHandle) -> tuple[dict[str, dict[str, Any]], dict[str, bytes], set[int]]:
        pipeline = serve(*handles, slack=slack)
        seen: dict[str, dict[str, Any]] = {}
        logged: dict[str, bytes] = {}
        rejected = set()
        for start, piece in [(0, rows[:7]), (7, rows[7:])] if cut else [(0, rows)]:
            out = pipeline.step(part(*piece, first=start), nothing)
            seen |= {b["prediction_id"]: b for b in bodies(out) if b["model"] == "m"}
            logged |= {k: v for k, v in vectors(out).items() if k.startswith("m:")}
            rejected |= {r.offset for r in out.rejected}
        return seen, logged, rejected

    me = handle("m", [X, X1, Y], depth=3)
    alone, alone_vectors, refused = run(me)
    twin = handle("twin", [X, X1, Y], depth=3, predict=lambda x: -total(x))
    together, together_vectors, _ = run(handle("deep", [X, Z], depth=9), twin, me, handle("other", [Y], trigger="slow", depth=2))
    more = set(together) - set(alone)
    # What is too old for this model alone is refused; beside a deeper model, which uses the row, it abstains.
    assert {together[k]["reason"] for k in more} <= {"expired"}
    assert {together[k]["source"]["offset"] for k in more} <= refused
    assert {k: v for k, v in together.items() if k not in more} == alone
    assert {k: v for k, v in together_vectors.items() if k not in more} == alone_vectors


def test_models_that_read_the_same_share_their_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    build = LagWindows.vectors

    def counted(*args: Any) -> Any:
        made.append(args)
        return build(*args)

    monkeypatch.setattr(LagWindows, "vectors", counted)
    pipeline = serve(
        handle("a", [X, X1]),
        handle("b", [X, X1], predict=lambda x: -total(x)),
        handle("c", [X1, X]),
        handle("d", [X, X1], depth=3),
    )
    out = pipeline.step(part(bar(10, x=1.0), bar(20, x=5.0)), nothing)
    assert len(made) == 3
    assert {(b["model"], b["ts_event_us"]): b["value"] for b in bodies(out)} == {
        ("a", 10): 1.0,
        ("b", 10): -1.0,
        ("c", 10): 1.0,
        ("d", 10): 1.0,
        ("a", 20): 6.0,
        ("b", 20): -6.0,
        ("c", 20): 6.0,
        ("d", 20): 6.0,
    }
    hashes = {b["model"]: b["vector_hash"] for b in bodies(out) if b["ts_event_us"] == 20}
    assert hashes["a"] == hashes["b"] == hashes["d"] != hashes["c"]


def test_a_row_too_old_for_one_of_two_models_is_never_silence_nor_a_guess() -> None:
    rows = part(*(bar(10 * n, x=float(n)) for n in range(5)), bar(5, x=99.0))
    shallow, deep = handle("shallow", [X], depth=2), handle("deep", [X], depth=9)
    assert [(r.offset, r.reason) for r in serve(shallow).step(rows, nothing).rejected] == [(5, "expired")]
    out = serve(shallow, deep).step(rows, nothing)
    late = {b["model"]: (b["abstained"], b["reason"], b["value"]) for b in bodies(out) if b["ts_event_us"] == 5}
    assert late == {"shallow": (True, "expired", None), "deep": (False, None, 99.0)}
    assert out.rejected == []


def test_models_that_contradict_each_other_are_refused() -> None:
    other = handle("n", [X])
    sets = {"bars": FeatureSetSpec(features=("x",), bar_us=BAR, publication_lag_us=3, depth_rows=4)}
    spec = ServingSpec(model="n", trigger="bars", horizon_us=1, columns=(X,), feature_sets=sets)
    with pytest.raises(LayoutError):
        serve(handle("m", [X]), ModelHandle(name="n", version="1", digest="", spec=spec, predict=total))
    wrong = ModelHandle(name="n", version="2", digest="", spec=spec, predict=total)
    pipeline = serve(handle("m", [X]), other)
    pipeline.add(wrong)
    pipeline.know(order_of(wrong))
    refused = pipeline.step(switch(order_of(wrong), offset=0), nothing)
    assert [(r.reason, "publication lag" in r.detail) for r in refused.rejected] == [("bad_switch", True)]
    found = bodies(pipeline.step(part(bar(10, x=1.0), first=1), nothing))
    assert [(b["model"], b["version"]) for b in found] == [("m", "1"), ("n", "1")]  # as if nothing had been asked


# ---- versions in force


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


def test_state_written_under_another_layout_is_read_by_name() -> None:
    old = serve(handle("m", [X, Y]))
    old.step(part(bar(10, x=1.0, y=9.0)), nothing)
    table = {(p, s): value for p, s, value in ((p, k.decode(), v) for p, k, v in old.take_dirty())}
    new = serve(handle("m", [X1, Z, ColumnSpec(name="y1", feature_set="bars", feature="y", lag=Lag(bars=1))], depth=2))
    (body,) = bodies(new.step(part(bar(20), first=1), lambda p, s: table.get((p, s))))
    assert (body["value"], body["missing"]) == (10.0, ["z"])


def test_damaged_state_is_not_taken_for_empty() -> None:
    with pytest.raises(StateLayoutError):
        serve(handle("m", [X])).step(part(bar(10, x=1.0)), lambda _p, _s: b"\x07 whatever")


def test_what_a_waiting_revision_supersedes_does_not_depend_on_a_restart() -> None:
    # The first revision lies deeper than a checkpoint keeps by the time the wait for `slow` ends, though memory still has it.
    rows = [bar(10, x=1.0), bar(20, x=1.0), bar(30, x=1.0), bar(40, x=1.0), bar(10, revision=1, x=2.0)]
    clock = {"feature_set": "__clock__", "ts_event_us": 500, "values": {}}
    model = handle("m", [X, Z], depth=4, deadline_us=100)
    told = []
    for restart in (False, True):
        pipeline, table = serve(model), {}
        first = pipeline.step(part(*rows), nothing)
        assert bodies(first) == []
        if restart:
            table = {(p, key.decode()): value for p, key, value in pipeline.take_dirty()}
            pipeline = serve(model)
        out = pipeline.step(
            part(clock, first=5),
            lambda p, s, held=table: held.get((p, s)),  # type: ignore[misc]  # mypy wants no defaults in lambdas
            lambda p, held=table: [(s, v) for (q, s), v in held.items() if q == p],  # type: ignore[misc]  # the same
        )
        told.append({b["prediction_id"]: b["supersedes"] for b in bodies(out)})
    assert told[0] == told[1]
    assert told[0]["m:1:A:10:1"] is None
