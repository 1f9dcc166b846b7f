"""A layout that goes and comes back: what windows forgot in between stays forgotten, though a table value still has it."""

from __future__ import annotations

from models.spec import ColumnSpec, Lag
from streams.partitioner import partition_of
from streams.pipeline import Pipeline
from streams.switches import Cut, History
from tests.unit.streams.pipes import BAR, PARTITIONS, X, Y, Z, bar, bodies, handle, order_of, part, switch
from tests.unit.streams.wire import nothing

HOME = partition_of(b"A", PARTITIONS)
X5 = ColumnSpec(name="x5", feature_set="bars", feature="x", lag=Lag(us=5 * BAR))
Y1 = ColumnSpec(name="y1", feature_set="bars", feature="y", lag=Lag(us=BAR))
VERSIONS = [
    handle("m", [X, X5, Y1, Z], depth=7, version="1"),
    handle("m", [X], depth=2, version="2"),
    handle("m", [X], depth=2, version="3"),
    handle("m", [X, X5, Y, Y1, Z], depth=7, version="4"),
]
ORDERS = [order_of(v, seq=n, from_us=0) for n, v in enumerate(VERSIONS[1:], start=2)]


def pipeline() -> Pipeline:
    made = Pipeline(VERSIONS[:1], partitions=PARTITIONS, max_future_us=10**15, slack_rows=8)
    for v in VERSIONS:
        made.add(v)
    for o in ORDERS:
        made.know(o)
    return made


def test_a_worker_that_starts_from_an_older_table_value_finds_what_one_without_interruption_finds() -> None:
    rows = [bar(BAR * n, x=float(n), y=float(n)) for n in range(1, 7)]
    first = pipeline()
    first.step(part(*rows), nothing)
    table = {(p, key.decode()): value for p, key, value in first.take_dirty()}
    for n, order in enumerate(ORDERS):
        first.step(switch(order, offset=6 + n), nothing)
        table |= {(p, key.decode()): value for p, key, value in first.take_dirty()}
    last = part(bar(BAR * 7, x=7.0, y=7.0), first=9)
    (right,) = bodies(first.step(last, nothing))
    assert (right["missing"], right["value"]) == (["x5", "y1", "z"], 14.0)
    (found,) = bodies(pipeline().step(last, lambda p, key: table.get((p, key))))
    assert found == right


def test_what_a_switch_takes_away_is_noted_and_only_that() -> None:
    line = pipeline()
    line.step(part(bar(BAR, x=1.0)), nothing)
    for n, order in enumerate(ORDERS):
        line.step(switch(order, offset=1 + n), nothing)
    history = line.partitions.history(HOME)
    assert history.cuts == (Cut(2, "bars", ("y",), 2), Cut(2, "slow", ("z",), 0))
    assert History.unpack(history.pack()).cuts == history.cuts
    assert history.before(2).cuts == ()
