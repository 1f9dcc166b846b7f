"""Several models over one pipeline, and swaps: no model's records depend on which others are served."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.handle import ModelHandle
from models.spec import ColumnSpec, FeatureSetSpec, Lag, ServingSpec
from streams.errors import LayoutError, StateLayoutError
from streams.windows import LagWindows
from tests.unit.streams.pipes import (
    BAR,
    X1,
    X,
    Y,
    Z,
    bar,
    bodies,
    handle,
    order_of,
    part,
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
