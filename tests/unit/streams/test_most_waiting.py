"""Of a symbol only so many rows wait: one more is decided at once, and which one it is does not depend on how the log is cut."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.spec import ColumnSpec
from streams import deadlines
from streams.clients import MAX_RECORD_BYTES
from streams.inference_log import decode_log
from streams.layout import MAX_STATE_BYTES
from streams.partitioner import partition_of
from streams.pipeline import Pipeline, StepResult
from streams.state import SymbolState, pack, unpack
from streams.waiting import Waiting
from tests.unit.streams.pipes import PARTITIONS, X, Z, bar, bodies, handle, part, put_in_force, serve
from tests.unit.streams.wire import nothing

MOST = 2
FRESH_Z = ColumnSpec(name="z", feature_set="slow", feature="z", max_age_us=25)
LATER = 10_000


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "MOST_WAITING", MOST)


def slow(event: int, symbol: str = "A") -> dict[str, Any]:
    return {"symbol": symbol, "feature_set": "slow", "ts_event_us": event, "values": {"z": 1.0}}


def clock(time_us: int) -> dict[str, Any]:
    return {"feature_set": "__clock__", "ts_event_us": time_us, "values": {}}


def test_a_row_too_many_abstains_at_once_and_the_others_wait_on() -> None:
    pipeline = serve(handle("m", [X, Z], deadline_us=LATER, min_completeness=1.0))
    out = pipeline.step(part(bar(10, x=1.0), bar(20, x=2.0), bar(30, x=3.0), bar(10, "B", x=9.0)), nothing)
    (away,) = bodies(out)
    assert (away["prediction_id"], away["abstained"], away["reason"]) == ("m:1:A:30:0", True, "incomplete")
    assert (away["missing"], away["ts_decision_us"]) == (["z"], 30)
    (log,) = [decode_log(data).table for _, data in out.logs]
    assert log["decided_offset"].to_pylist() == log["source_offset"].to_pylist() == [2]
    assert (out.counts["waited"], out.counts["timed_out"]) == (1, 1)
    done = bodies(pipeline.step(part(slow(5), first=4), nothing))
    assert [(b["prediction_id"], b["value"]) for b in done] == [("m:1:A:10:0", 2.0), ("m:1:A:20:0", 3.0)]


def test_all_models_of_a_symbol_share_the_places() -> None:
    pipeline = serve(handle("m", [X, Z], deadline_us=LATER), handle("n", [X, Z], deadline_us=LATER))
    assert [b["prediction_id"] for b in bodies(pipeline.step(part(bar(10, x=1.0)), nothing))] == []
    away = bodies(pipeline.step(part(bar(20, x=1.0), first=1), nothing))
    assert [b["prediction_id"] for b in away] == ["m:1:A:20:0", "n:1:A:20:0"]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_challengers_waiting_rows_take_no_champions_place(*, at_once: bool) -> None:
    rows = [bar(10 * n, x=float(n)) for n in range(1, 5)]

    def run(*, challenged: bool) -> list[bytes]:
        pipeline = serve(handle("m", [X, Z], deadline_us=LATER))
        if challenged:
            challenger = handle("m", [X, Z], deadline_us=LATER, version="2")
            put_in_force(pipeline, challenger, offsets={partition_of(b"A", PARTITIONS): 0}, seq=1, role="challenger")
        chunks = [part(*rows, slow(5), first=1)] if at_once else [part(r, first=1 + n) for n, r in enumerate([*rows, slow(5)])]
        outs = [pipeline.step(chunk, nothing) for chunk in chunks]
        assert any(out.shadow for out in outs) == challenged
        return sorted(value for out in outs for _, _, value in out.predictions)

    assert len(run(challenged=False)) == len(rows)
    assert run(challenged=True) == run(challenged=False)


def waiting(pipeline: Pipeline, held: dict[str, int]) -> dict[str, int]:
    """How many rows of each symbol wait, kept up to date."""
    for _, key, value in pipeline.take_dirty():
        if not key.startswith(b"\0"):  # what a partition keeps beside its symbols
            held[key.decode()] = len(unpack(value).waiting)
    return held


def outcome(outs: list[StepResult]) -> tuple[dict[str, Any], dict[str, list[tuple[int, int, str]]]]:
    """Records by id, and of each model and partition the log's rows that waited, in its order."""
    records = {b["prediction_id"]: b for out in outs for b in bodies(out)}
    order: dict[str, list[tuple[int, int, str]]] = {}
    for out in outs:
        for partition, data in out.logs:
            log = decode_log(data)
            of = order.setdefault(f"{log.model}-{partition}", [])
            columns = (log.table[c].to_pylist() for c in ("decided_offset", "source_offset", "prediction_id"))
            of += [row for row in zip(*columns, strict=True) if row[0] is not None]
    return records, order


steps = st.lists(
    st.tuples(st.sampled_from(["bar", "bar", "bar", "slow", "clock"]), st.sampled_from("AB"), st.integers(1, 30)), max_size=40
)


@settings(max_examples=60)
@given(steps, st.lists(st.integers(0, 40), max_size=4))
def test_who_is_turned_away_does_not_depend_on_the_cuts(moves: list[tuple[str, str, int]], cuts: list[int]) -> None:
    now, rows = 100, []
    for kind, symbol, later in moves:
        now += later
        rows.append(
            bar(now, symbol, x=1.0) if kind == "bar" else slow(now - later // 2, symbol) if kind == "slow" else clock(now)
        )
    served = [handle("m", [X, FRESH_Z], deadline_us=40), handle("n", [X, FRESH_Z], deadline_us=90)]
    singly, held, outs = serve(*served, slack=3), dict[str, int](), list[StepResult]()
    for at, row in enumerate(rows):
        before = dict(waiting(singly, held))
        outs.append(singly.step(part(row, first=at), nothing))
        after = waiting(singly, held)
        assert max(after.values(), default=0) <= MOST
        symbol = row.get("symbol", "A")
        if row.get("feature_set") is None and after[symbol] > before.get(symbol, 0):
            assert before.get(symbol, 0) < MOST
    want, order = outcome(outs)
    edges = sorted({0, len(rows), *(c for c in cuts if c < len(rows))})
    pieces = serve(*served, slack=3)
    got, order_got = outcome([pieces.step(part(*rows[a:b], first=a), nothing) for a, b in pairwise(edges)])
    assert got == want
    assert order_got == order
    assert all(of == sorted(of) for of in order.values())


def test_as_many_as_may_wait_fit_a_table_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    most = deadlines.MOST_WAITING
    state = SymbolState(0, {}, tuple(Waiting("m" * 200, n, 0, n, n) for n in range(2 * most)))
    assert len(unpack(pack(state)).waiting) == 2 * most
    assert len(pack(state)) + MAX_STATE_BYTES < MAX_RECORD_BYTES


def test_more_than_may_wait_from_before_wait_on() -> None:
    """A table value of a release that had no bound: nothing of it is decided before its time."""
    model = handle("m", [X, Z], deadline_us=LATER)
    old = serve(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deadlines, "MOST_WAITING", 99)
        assert bodies(old.step(part(*(bar(10 * n, x=1.0) for n in range(1, 6))), nothing)) == []
    table = {(p, key.decode()): value for p, key, value in old.take_dirty()}
    new = serve(model)
    out = new.step(
        part(bar(60, x=1.0), first=5),
        lambda p, s: table.get((p, s)),
        lambda p: [(s, v) for (q, s), v in table.items() if q == p],
    )
    assert [b["prediction_id"] for b in bodies(out)] == ["m:1:A:60:0"]
    assert len(bodies(new.step(part(slow(5), first=6), nothing))) == 5
