"""Laws of frames: rows mean the same as frames, as JSON rows, or as any mixture of both, however the stream is cut."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.frame_columns import write_frame
from streams.inference_log import decode_log
from streams.pipeline import Pipeline, StepResult
from streams.records import PartitionRecords
from streams.wire import ARROW_STREAM, CLOCK
from tests.laws.oracle import Row
from tests.laws.test_windows_laws import PARTITIONS, SETS, SPECS, SYMBOLS, bits, handle_of, home, reader_of, streams, wire
from tests.record import Record

if TYPE_CHECKING:
    from models.handle import ModelHandle
    from models.spec import ServingSpec

HEADERS = (("content-type", ARROW_STREAM),)
FEATURES = [f for features in SETS.values() for f in features]


def frame(rows: list[Row], *, batches: int, nan: bool) -> bytes:
    """The rows as one frame; what is missing is null, or NaN, of the row's own features."""
    columns: dict[str, Any] = {
        "symbol": pa.array([r.symbol for r in rows]).dictionary_encode(),
        "feature_set": [r.feature_set for r in rows],
        "ts_event_us": [r.event for r in rows],
        "ts_known_us": [r.known for r in rows],
        "revision": pa.array([r.revision for r in rows], pa.int16()),
    }
    for f in FEATURES:
        columns[f] = pa.array(np.array([r.values.get(f, np.nan) for r in rows]), from_pandas=not nan)
    table = pa.table(columns)
    if batches == 1:
        return write_frame(table)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.unify_dictionaries(), max_chunksize=-(-len(rows) // batches))
    return bytes(sink.getvalue())


Records = dict[int, list[tuple[Record, list["Row"]]]]
"""By partition: each record with the rows it holds."""


@st.composite
def grouped(draw: st.DrawFn) -> tuple[list[Row], Records]:
    """Rows, clock rows among them, and the same as records of their partitions: frames and JSON mixed, offsets with gaps."""
    rows = draw(streams())
    for at in sorted(draw(st.sets(st.integers(0, len(rows)), max_size=3)), reverse=True):
        us = draw(st.integers(0, 150))
        rows.insert(at, Row(0, draw(st.sampled_from(SYMBOLS)), CLOCK, us, us, 0, {}))
    rows = [replace(row, offset=offset) for offset, row in enumerate(rows)]
    out: Records = {}
    for partition in range(PARTITIONS):
        left = [r for r in rows if home(r.symbol) == partition]
        offset = draw(st.integers(0, 5))
        while left:
            n = draw(st.integers(0, 25))
            some, left = left[: max(n, 1)], left[max(n, 1) :]
            if n == 0:
                record = Record(offset, 10**9, some[0].symbol.encode(), wire(some[0]).value)
            else:
                data = frame(some, batches=draw(st.integers(1, 3)), nan=draw(st.booleans()))
                record = Record(offset, 10**9, draw(st.sampled_from([None, b"any"])), data, HEADERS)
            out.setdefault(partition, []).append((record, some))
            offset += draw(st.integers(1, 3))
    return rows, out


def run(chunks: list[list[PartitionRecords]], handle: ModelHandle, *, slack: int, evict_after: set[int]) -> StepResult:
    table: dict[tuple[int, str], bytes] = {}
    pipeline = Pipeline([handle], partitions=PARTITIONS, max_future_us=10**15, slack_rows=slack)
    total = StepResult()
    for number, parts in enumerate(chunks):
        out = pipeline.step(parts, *reader_of(table))
        total.predictions += out.predictions
        total.rejected += out.rejected
        total.counts += out.counts
        total.logs += out.logs
        if number in evict_after:
            table.update({(p, k.decode()): v for p, k, v in pipeline.take_dirty()})
            pipeline = Pipeline([handle], partitions=PARTITIONS, max_future_us=10**15, slack_rows=slack)
    return total


def cut(parts: dict[int, list[Any]], pieces: int) -> list[list[PartitionRecords]]:
    """Each partition's records in so many chunks, as even as can be."""
    chunks = []
    for i in range(pieces):
        some = {p: r[len(r) * i // pieces : len(r) * (i + 1) // pieces] for p, r in sorted(parts.items())}
        chunks.append([PartitionRecords("f", p, r) for p, r in some.items() if r])
    return chunks


def plain(out: StepResult) -> dict[tuple[int, str], dict[str, Any]]:
    """Predictions by partition and id, without where they came from, with their logged vector."""
    found = {(p, (record := json.loads(value))["prediction_id"]): record for p, _, value in out.predictions}
    for partition, data in out.logs:
        log = decode_log(data)
        for pid, vector in zip(log.table["prediction_id"].to_pylist(), log.vectors().tolist(), strict=True):
            found[partition, pid]["vector"] = bits(vector)
    for record in found.values():
        record["source"].pop("offset")
    return found


@settings(max_examples=150)
@given(grouped(), st.integers(1, 4), st.integers(1, 40), st.sets(st.integers(0, 3)), SPECS)
def test_frames_lead_to_what_json_rows_lead_to(
    drawn: tuple[list[Row], Records],
    pieces: int,
    slack: int,
    evict_after: set[int],
    spec: ServingSpec,
) -> None:
    rows, records = drawn
    handle = handle_of(spec)
    of_partition = {p: [r for r in rows if home(r.symbol) == p] for p in records}
    expected = run(cut({p: [wire(r) for r in some] for p, some in of_partition.items()}, 1), handle, slack=4, evict_after=set())
    found = run(
        cut({p: [r for r, _ in some] for p, some in records.items()}, pieces), handle, slack=slack, evict_after=evict_after
    )
    assert plain(found) == plain(expected)
    assert len(found.predictions) == len(expected.predictions)
    for what in ("rows", "late", "duplicate", "predictions", "rejected"):
        assert found.counts[what] == expected.counts[what]


@settings(max_examples=100)
@given(grouped(), SPECS)
def test_what_leaves_the_worker_names_the_record_a_row_came_in(drawn: tuple[list[Row], Records], spec: ServingSpec) -> None:
    rows, records = drawn
    offset_of = {(p, id(row)): record.offset for p, some in records.items() for record, its in some for row in its}
    of_partition = {p: [r for r in rows if home(r.symbol) == p] for p in records}
    expected = run(
        cut({p: [wire(r) for r in some] for p, some in of_partition.items()}, 1), handle_of(spec), slack=9, evict_after=set()
    )
    found = run(cut({p: [r for r, _ in some] for p, some in records.items()}, 2), handle_of(spec), slack=9, evict_after={0})
    by_offset = {(p, r.offset): offset_of[p, id(r)] for p, some in of_partition.items() for r in some}

    def sources(out: StepResult) -> dict[str, tuple[int, int]]:
        return {r["prediction_id"]: (p, r["source"]["offset"]) for p, _, value in out.predictions for r in [json.loads(value)]}

    assert sources(found) == {pid: (p, by_offset[p, offset]) for pid, (p, offset) in sources(expected).items()}
    logged = {
        (p, pid): offset
        for p, data in found.logs
        for log in [decode_log(data)]
        for pid, offset in zip(log.table["prediction_id"].to_pylist(), log.table["source_offset"].to_pylist(), strict=True)
    }
    assert logged == {(p, pid): offset for pid, (p, offset) in sources(found).items()}


@settings(max_examples=100)
@given(grouped(), SPECS)
def test_a_rejected_row_of_a_frame_is_a_json_row_that_says_the_same(drawn: tuple[list[Row], Records], spec: ServingSpec) -> None:
    rows, records = drawn
    of_partition = {p: [r for r in rows if home(r.symbol) == p] for p in records}
    by_offset = {(p, r.offset): r for p, some in of_partition.items() for r in some}
    of_record = {(p, record.offset): (record, its) for p, some in records.items() for record, its in some}
    expected = run(
        cut({p: [wire(r) for r in some] for p, some in of_partition.items()}, 1), handle_of(spec), slack=9, evict_after=set()
    )
    found = run(cut({p: [r for r, _ in some] for p, some in records.items()}, 3), handle_of(spec), slack=9, evict_after={1})

    def identity(row: Row) -> tuple[Any, ...]:
        return row.symbol, row.feature_set, row.event, row.known, row.revision, repr(row.values)

    right = sorted((r.partition, r.reason, identity(by_offset[r.partition, r.offset])) for r in expected.rejected)
    got = []
    for r in found.rejected:
        record, its = of_record[r.partition, r.offset]
        if not record.headers:
            assert (r.key, r.value) == (record.key, record.value)
            got.append((r.partition, r.reason, identity(its[0])))
            continue
        row = its[int(r.detail.split()[1])]
        assert r.key == row.symbol.encode()
        assert r.value is not None
        said = json.loads(r.value)
        assert said.pop("values") == {k: v for k, v in row.values.items() if v == v}  # noqa: PLR0124 - not NaN
        assert tuple(said.values()) == (row.symbol, row.feature_set, row.event, row.known, row.revision)
        got.append((r.partition, r.reason, identity(row)))
    assert sorted(got) == right


@settings(max_examples=150)
@given(grouped(), st.integers(0, 6), st.integers(0, 6), st.sets(st.integers(0, 6)), SPECS)
def test_a_replay_of_frames_over_newer_state_skips_or_repeats_identically(
    drawn: tuple[list[Row], Records], committed: int, crashed: int, written: set[int], spec: ServingSpec
) -> None:
    """All state is written up to `committed`, that of some symbols up to `crashed`: frames between come again."""
    committed, crashed = sorted((committed, crashed))
    chunks = cut({p: [r for r, _ in some] for p, some in drawn[1].items()}, 6)
    straight = {v for _, _, v in run(chunks, handle_of(spec), slack=4, evict_after=set()).predictions}
    table: dict[tuple[int, str], bytes] = {}
    sent: set[bytes] = set()

    def feed(pipeline: Pipeline, some: list[list[PartitionRecords]]) -> None:
        for parts in some:
            sent.update(v for _, _, v in pipeline.step(parts, *reader_of(table)).predictions)

    first, second = (Pipeline([handle_of(spec)], partitions=PARTITIONS, max_future_us=10**15, slack_rows=4) for _ in range(2))
    feed(first, chunks[:committed])
    table.update({(p, k.decode()): v for p, k, v in first.take_dirty()})
    feed(first, chunks[committed:crashed])
    table.update({(p, k.decode()): v for i, (p, k, v) in enumerate(first.take_dirty()) if i in written})
    feed(second, chunks[committed:])
    assert sent == straight
