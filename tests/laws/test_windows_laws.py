"""Laws of the lag windows, against the oracle: vectors bit for bit, however the stream is cut, evicted and reloaded."""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.handle import ModelHandle
from models.spec import ColumnSpec, FeatureSetSpec, Lag, ServingSpec
from streams.inference_log import decode_log
from streams.partitioner import partition_of
from streams.pipeline import Load, Pipeline, Scan, StepResult
from streams.records import PartitionRecords
from streams.wire import CLOCK
from tests.laws.oracle import Oracle, Row
from tests.record import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

BAR = 10
PARTITIONS = 3
SYMBOLS = ["A", "B", "C", "D"]
SETS = {"bars": ("x", "y"), "slow": ("z",)}

SPEC = ServingSpec(
    model="m",
    trigger="bars",
    horizon_us=BAR,
    columns=(
        ColumnSpec(name="x", feature_set="bars", feature="x"),
        ColumnSpec(name="x1", feature_set="bars", feature="x", lag=Lag(bars=1)),
        ColumnSpec(name="y2", feature_set="bars", feature="y", lag=Lag(bars=2), max_age_us=25),
        ColumnSpec(name="y7us", feature_set="bars", feature="y", lag=Lag(us=7)),
        ColumnSpec(name="x3us", feature_set="bars", feature="x", lag=Lag(us=3), max_age_us=4),
        ColumnSpec(name="z", feature_set="slow", feature="z"),
        ColumnSpec(name="z15", feature_set="slow", feature="z", lag=Lag(us=15), max_age_us=30, required=False),
    ),
    feature_sets={
        "bars": FeatureSetSpec(features=SETS["bars"], bar_us=BAR, depth_rows=6, publication_lag_us=1),
        "slow": FeatureSetSpec(features=SETS["slow"], bar_us=BAR, depth_rows=3, publication_lag_us=2),
    },
)


SESSIONS = ((0, 25), (40, 60), (75, 98))
IN_SESSIONS = msgspec.structs.replace(
    SPEC, feature_sets={n: msgspec.structs.replace(f, sessions=SESSIONS) for n, f in SPEC.feature_sets.items()}
)

WAITING = msgspec.structs.replace(SPEC, deadline_us=15)
"""Trigger rows wait for column z, which has to be of the slow set."""
IMPATIENT = msgspec.structs.replace(IN_SESSIONS, deadline_us=1)
SPECS = st.sampled_from([SPEC, IN_SESSIONS, WAITING, IMPATIENT])


def _sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.nan_to_num(values).sum(axis=1)
    return total


def handle_of(spec: ServingSpec) -> ModelHandle:
    return ModelHandle(name="m", version="1", digest="", spec=spec, predict=_sum)


HANDLE = handle_of(SPEC)


@st.composite
def streams(draw: st.DrawFn) -> list[Row]:
    """Rows of both sets in arrival order, with gaps, late rows, revisions, duplicates and conflicts."""
    n = draw(st.integers(1, 60))
    rows: list[Row] = []
    for offset in range(n):
        if rows and draw(st.integers(0, 6)) == 0:
            again = draw(st.sampled_from(rows))
            values = dict(again.values)
            if draw(st.booleans()):
                values[next(iter(values))] = 99.5
            rows.append(Row(offset, again.symbol, again.feature_set, again.event, again.known, again.revision, values))
            continue
        name = draw(st.sampled_from(["bars", "bars", "slow"]))
        event = draw(st.integers(0, 12)) * draw(st.sampled_from([BAR, BAR, 7]))
        known = event + draw(st.sampled_from([0, 1, 2, 2, 5, 40]))
        values = {f: draw(st.sampled_from([0.0, -0.0, 1.5, -2.25, 1e300, float("nan")])) for f in SETS[name]}
        rows.append(
            Row(offset, draw(st.sampled_from(SYMBOLS)), name, event, known, draw(st.sampled_from([0, 0, 0, 1, 2])), values)
        )
    return rows


def home(symbol: str) -> int:
    return partition_of(symbol.encode(), PARTITIONS)


def wire(row: Row) -> Record:
    values = {k: None if math.isnan(v) else v for k, v in row.values.items()}
    body: dict[str, Any] = {
        "symbol": row.symbol,
        "feature_set": row.feature_set,
        "ts_event_us": row.event,
        "ts_known_us": row.known,
        "revision": row.revision,
        "values": values,
    }
    return Record(row.offset, 10**9, row.symbol.encode(), json.dumps(body).encode())


def parts_of(rows: list[Row]) -> list[PartitionRecords]:
    by_partition: dict[int, list[Record]] = {}
    for row in rows:
        by_partition.setdefault(home(row.symbol), []).append(wire(row))
    return [PartitionRecords("f", p, r) for p, r in sorted(by_partition.items())]


def reader_of(table: dict[tuple[int, str], bytes]) -> tuple[Load, Scan]:
    return lambda p, s: table.get((p, s)), lambda p: [(s, v) for (q, s), v in table.items() if q == p]


def run(
    rows: list[Row], cuts: list[int], *, slack: int, evict_after: set[int], handle: ModelHandle = HANDLE
) -> tuple[StepResult, dict[str, list[float]]]:
    """All rows through `step` in chunks ended at `cuts`; after the chunks in `evict_after` memory is lost, the table is not."""
    table: dict[tuple[int, str], bytes] = {}
    pipeline = Pipeline([handle], partitions=PARTITIONS, max_future_us=10**15, slack_rows=slack)
    total = StepResult()
    vectors: dict[str, list[float]] = {}
    for number, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(rows)], strict=True)):
        out = pipeline.step(parts_of(rows[start:stop]), *reader_of(table))
        total.predictions += out.predictions
        total.rejected += out.rejected
        total.counts += out.counts
        total.logs += out.logs
        if number in evict_after:
            table.update({(p, k.decode()): v for p, k, v in pipeline.take_dirty()})
            pipeline = Pipeline([handle], partitions=PARTITIONS, max_future_us=10**15, slack_rows=slack)
    for _, data in total.logs:
        batch = decode_log(data)
        vectors.update(zip(batch.table["prediction_id"].to_pylist(), batch.vectors().tolist(), strict=True))
    return total, vectors


def bits(vector: list[float]) -> list[bytes]:
    return [struct.pack("<d", x) for x in vector]


cut_lists = st.lists(st.integers(0, 60), max_size=6)


@settings(max_examples=250)
@given(streams(), cut_lists, st.integers(1, 5), st.sets(st.integers(0, 6)), SPECS)
def test_vectors_equal_the_oracle_for_any_arrival_chunking_and_eviction(
    rows: list[Row], cuts: list[int], slack: int, evict_after: set[int], spec: ServingSpec
) -> None:
    cuts = sorted(c for c in cuts if c <= len(rows))
    oracle = Oracle(spec, {n: f.depth_rows for n, f in spec.feature_sets.items()}, home)
    fates = [oracle.read(row) for row in rows]
    expected = {f"m:1:{a.row.symbol}:{a.row.event}:{a.row.revision}": a for a in oracle.answers}
    assert len(expected) == len(oracle.answers)
    out, vectors = run(rows, cuts, slack=slack, evict_after=evict_after, handle=handle_of(spec))
    assert {k: bits(v) for k, v in vectors.items()} == {k: bits(a.vector) for k, a in expected.items()}
    records = [json.loads(value) for _, _, value in out.predictions]
    assert sorted(r["prediction_id"] for r in records) == sorted(expected)
    for r in records:
        answer = expected[r["prediction_id"]]
        assert r["stale"] == answer.stale
        assert r["missing"] == [c.name for c, v in zip(SPEC.columns, answer.vector, strict=True) if math.isnan(v)]
        assert (r["ts_decision_us"], r["source"]["offset"]) == (answer.decision, answer.row.offset)
    assert sorted(r.offset for r in out.rejected) == [i for i, fate in enumerate(fates) if fate in {"conflict", "expired"}]
    assert {r.offset: r.reason for r in out.rejected} == {i: f for i, f in enumerate(fates) if f in {"conflict", "expired"}}
    assert out.counts["duplicate"] == fates.count("duplicate")


@settings(max_examples=100)
@given(streams(), cut_lists, SPECS)
def test_chunking_changes_no_byte_of_any_record(rows: list[Row], cuts: list[int], spec: ServingSpec) -> None:
    cuts = sorted(c for c in cuts if c <= len(rows))
    whole, _ = run(rows, [], slack=4, evict_after=set(), handle=handle_of(spec))
    pieces, _ = run(rows, cuts, slack=4, evict_after={0, 2}, handle=handle_of(spec))
    assert sorted(whole.predictions) == sorted(pieces.predictions)


@settings(max_examples=150)
@given(streams(), st.integers(0, 60), st.integers(0, 60), st.sets(st.integers(0, 6)), SPECS)
def test_a_replay_over_newer_state_skips_or_repeats_identically(
    rows: list[Row], committed: int, crashed: int, written: set[int], spec: ServingSpec
) -> None:
    """Committed up to `committed`; the next checkpoint, at `crashed`, wrote only some table entries: rows between come again."""
    committed, crashed = sorted((min(committed, len(rows)), min(crashed, len(rows))))
    straight, _ = run(rows, [], slack=4, evict_after=set(), handle=handle_of(spec))
    table: dict[tuple[int, str], bytes] = {}
    sent: list[tuple[int, bytes, bytes]] = []

    def feed(pipeline: Pipeline, some: list[Row]) -> None:
        sent.extend(pipeline.step(parts_of(some), *reader_of(table)).predictions)

    first = Pipeline([handle_of(spec)], partitions=PARTITIONS, max_future_us=10**15, slack_rows=4)
    feed(first, rows[:committed])
    table.update({(p, k.decode()): v for p, k, v in first.take_dirty()})
    feed(first, rows[committed:crashed])
    table.update({(p, k.decode()): v for i, (p, k, v) in enumerate(first.take_dirty()) if i in written})
    second = Pipeline([handle_of(spec)], partitions=PARTITIONS, max_future_us=10**15, slack_rows=4)
    feed(second, rows[committed:])
    assert {v for _, _, v in sent} == {v for _, _, v in straight.predictions}


@st.composite
def one_partition(draw: st.DrawFn) -> list[Row]:
    """Rows of a few symbols of one partition, time going on, the slow set often late or absent: many waits."""
    now, rows = 0, []
    for offset in range(draw(st.integers(4, 30))):
        now += draw(st.sampled_from([0, 1, 3, 8, 20]))
        name = draw(st.sampled_from(["bars", "bars", "bars", "bars", "slow", CLOCK]))
        event = now - draw(st.sampled_from([0, 0, 2, 9]))
        values = dict.fromkeys(SETS.get(name, ()), float(offset))
        rows.append(Row(offset, draw(st.sampled_from(["A", "B", "C"])), name, max(event, 0), now, 0, values))
    return rows


def bar(offset: int, symbol: str, known: int) -> Row:
    return Row(offset, symbol, "bars", known, known, 0, {"x": 1.0, "y": 1.0})


# Time had passed A's deadline when the crash came, and was written; that A's slow row came first must still count.
TIME_AHEAD = [bar(0, "A", 10), bar(1, "B", 11), bar(2, "A", 20), Row(3, "A", "slow", 20, 22, 0, {"z": 5.0}), bar(4, "B", 60)]


@settings(max_examples=300)
@example(TIME_AHEAD, 2, 5, {2}, 15)
@given(one_partition(), st.integers(0, 30), st.integers(0, 30), st.sets(st.integers(0, 3)), st.sampled_from([3, 15]))
def test_waits_end_at_the_same_row_after_a_crash(
    rows: list[Row], committed: int, crashed: int, written: set[int], deadline_us: int
) -> None:
    committed, crashed = sorted((min(committed, len(rows)), min(crashed, len(rows))))
    handle = handle_of(msgspec.structs.replace(SPEC, deadline_us=deadline_us))
    table: dict[tuple[int, str], bytes] = {}

    def worker() -> Pipeline:
        return Pipeline([handle], partitions=1, max_future_us=10**15, slack_rows=4)

    def feed(pipeline: Pipeline, some: list[Row]) -> list[bytes]:
        parts = [PartitionRecords("f", 0, [wire(r) for r in some])] if some else []
        return [value for _, _, value in pipeline.step(parts, *reader_of(table)).predictions]

    straight = worker()
    expected = [value for row in rows for value in feed(straight, [row])]
    first = worker()
    sent = feed(first, rows[:committed])
    table.update({(p, k.decode()): v for p, k, v in first.take_dirty()})
    sent += feed(first, rows[committed:crashed])
    table.update({(p, k.decode()): v for i, (p, k, v) in enumerate(first.take_dirty()) if i in written})
    sent += feed(worker(), rows[committed:])
    assert set(sent) == set(expected)
    oracle = Oracle(handle.spec, {n: f.depth_rows for n, f in SPEC.feature_sets.items()})
    for row in rows:
        oracle.read(row)
    assert len(expected) == len(oracle.answers)
