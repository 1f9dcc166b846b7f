"""Rows that wait while versions change: who scores them, that none waits for ever, that a replay takes up those it finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams.idle import IdleClock
from streams.partitioner import partition_of
from streams.switches import NOBODY
from tests.unit.streams.pipes import PARTITIONS, X, Z, bar, bodies, handle, order_of, part, put_in_force, serve, switch
from tests.unit.streams.wire import nothing

if TYPE_CHECKING:
    from streams.pipeline import Pipeline

HOME = partition_of(b"A", PARTITIONS)
OTHER = next(s for s in map(chr, range(66, 91)) if partition_of(s.encode(), PARTITIONS) == HOME)
WAITS: dict[str, Any] = {"deadline_us": 50}


def slow(event: int, symbol: str = "A") -> dict[str, Any]:
    return {"symbol": symbol, "feature_set": "slow", "ts_event_us": event, "values": {"z": 1.0}}


def test_a_row_that_waits_is_scored_by_the_version_of_its_event_time_even_if_it_ends_after_a_switch() -> None:
    pipeline = serve(handle("m", [X, Z], **WAITS))
    assert bodies(pipeline.step(part(bar(10, x=1.0)), nothing)) == []
    put_in_force(pipeline, handle("m", [X, Z], version="2", **WAITS), offsets={HOME: 1}, from_us=15)
    assert bodies(pipeline.step(part(bar(20, x=2.0), first=2), nothing)) == []
    done = bodies(pipeline.step(part(slow(10), first=3), nothing))
    assert {b["ts_event_us"]: b["version"] for b in done} == {10: "1", 20: "2"}


def test_a_row_whose_challenger_counts_no_more_does_not_wait_for_ever() -> None:
    """Else clock records would be appended for it for ever, and it would stay in the symbol's state."""
    pipeline = serve(handle("m", [X]))
    put_in_force(pipeline, handle("m", [X, Z], version="2", **WAITS), offsets={HOME: 0}, seq=1, role="challenger")
    out = pipeline.step(part(bar(10, x=1.0), first=1), nothing)
    assert (len(out.predictions), out.shadow, len(pipeline.waiting())) == (1, [], 1)
    put_in_force(pipeline, handle("m", [X, Z], version="3", **WAITS), offsets={HOME: 2}, seq=2, role="challenger")
    gone = handle("m", [X, Z], version=NOBODY, **WAITS)
    pipeline.know(order_of(gone, seq=3, role="challenger"))
    pipeline.step(switch(order_of(gone, seq=3, role="challenger"), offset=3), nothing)
    pipeline.step(part(bar(500, OTHER, x=1.0), first=4), nothing)
    assert pipeline.waiting() == []
    assert IdleClock(bound_s=0.0).due(pipeline.waiting(), pipeline.deadlines_us(), 1e9) == []


def test_a_replay_takes_up_rows_that_wait_in_windows_of_a_later_layout_where_it_comes_to_the_switch() -> None:
    new = handle("m", [X, Z], depth=7, version="2", **WAITS)
    order = order_of(new, from_us=0)

    def pipeline() -> Pipeline:
        made = serve(handle("m", [X], **WAITS))
        made.add(new)
        made.know(order)
        return made

    first = pipeline()
    first.step(part(bar(10, OTHER, x=1.0)), nothing)
    first.step(switch(order, offset=1), nothing)
    assert first.step(part(bar(20, x=2.0), first=2), nothing).predictions == []
    table = {(p, key.decode()): value for p, key, value in first.take_dirty()}
    again = pipeline()

    def load(p: int, key: str) -> bytes | None:
        return table.get((p, key))

    def scan(p: int) -> list[tuple[str, bytes]]:
        return [(key, value) for (at, key), value in table.items() if at == p]

    assert bodies(again.step(part(bar(10, OTHER, x=1.0)), load, scan)) == []
    assert again.waiting() == []
    again.step(switch(order, offset=1), load, scan)
    assert [(p, s) for p, s, _ in again.waiting()] == [(HOME, "A")]
    ends = part(bar(500, OTHER, x=1.0), first=3)
    late = again.step(ends, load, scan)
    one = first.step(ends, nothing)
    assert sorted(late.predictions) == sorted(one.predictions)
    assert {b["symbol"] for b in bodies(one)} >= {"A"}
