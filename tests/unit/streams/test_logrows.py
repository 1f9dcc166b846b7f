"""Inference-log records as the monitor reads them: checked, and in the order of time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.joined import Scorer
from monitoring.panes import AT_ONCE
from streams.inference_log import PLACES, encode_log
from streams.logrows import LogRows, read_log
from streams.records import PartitionRecords
from streams.wire import position_of
from tests.record import Record
from tests.unit.streams.monitor_world import COLUMNS, HORIZON_US, START_US, log_record

TOPIC = "trading.inference-log"


def read(value: bytes | None) -> tuple[list[LogRows], list[Any]]:
    return read_log(PartitionRecords(TOPIC, 1, [Record(9, 0, None, value)]))


def table_of(value: bytes) -> pa.Table:
    return pa.ipc.open_stream(value).read_all()


def encoded(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def compressed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    many = pa.concat_tables([table] * 200).combine_chunks()
    with pa.ipc.new_stream(sink, many.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(many)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def vectors(rows: int) -> Any:
    return np.arange(rows * len(COLUMNS), dtype=np.float64).reshape(rows, len(COLUMNS))


def test_rows_are_read_with_abstentions_as_missing_values() -> None:
    values = vectors(2)
    values[1, 0] = np.nan
    (rows,), rejected = read(log_record(["A", "B"], START_US, values))
    assert rejected == []
    assert (rows.scorer, rows.columns) == (Scorer("m", "1", "champion"), COLUMNS)
    assert (rows.source, rows.offset, rows.horizon_us) == ("trading.features-0", 9, HORIZON_US)
    assert rows.abstained.tolist() == [False, True]
    assert rows.value[0] == 0.0
    assert np.isnan(rows.value[1])
    np.testing.assert_array_equal(rows.vectors, values)


def test_places_are_those_of_the_source_not_of_the_log() -> None:
    at: dict[str, Any] = {"source_topic": "f", "source_partition": 3, "source_offset": [70, 71, 71], "source_index": [0, 4, 5]}
    ends: dict[str, Any] = {"decided_offset": [None, 71, 80], "decided_index": [None, 4, 2]}
    ((rows,), _), ((at_once,), _) = (read(log_record(list("ABC"), 1, vectors(3), **at, **more)) for more in (ends, {}))
    assert rows.source == at_once.source == "f-3"
    assert rows.own.tolist() == at_once.own.tolist() == [position_of(70), position_of(71, 4), position_of(71, 5)]
    assert rows.decided.tolist() == [AT_ONCE, position_of(71, 4), position_of(80, 2)]
    assert at_once.decided.tolist() == [AT_ONCE] * 3


def test_rows_of_an_earlier_release_stand_where_their_record_stands_in_the_log() -> None:
    table = table_of(log_record(["A", "B"], START_US, vectors(2)))
    (rows,), rejected = read(encoded(table.drop_columns(list(PLACES))))
    assert rejected == []
    assert (rows.source, rows.own.tolist(), rows.decided.tolist()) == (f"{TOPIC}-1", [0, 1], [9, 9])


def test_columns_this_version_does_not_know_are_ignored() -> None:
    table = table_of(log_record(["A"], START_US, vectors(1)))
    wider = table.append_column("news", pa.array(["x"])).replace_schema_metadata(table.schema.metadata)
    (rows,), _ = read(encoded(wider))
    assert len(rows) == 1


def test_a_record_without_rows_is_nothing() -> None:
    assert read(log_record([], START_US, vectors(0))) == ([], [])


def bad_records() -> dict[str, bytes | None]:
    good = log_record(["A"], START_US, vectors(1))
    table = table_of(good)
    metadata = dict(table.schema.metadata)
    at = table.schema.get_field_index("value")
    nulls = pa.schema([f.with_nullable(nullable=True) for f in table.schema], metadata)
    return {
        "empty value": None,
        "not an inference-log record": b"",
        "cut short: a message is longer than the record": good[:-40],
        "'value' must be double, it is absent": encoded(table.drop_columns(["value"])),
        "'value' must be double, it is int64": encoded(table.set_column(at, "value", pa.array([1]))),
        "'value' has nulls": encoded(table.set_column(at, "value", pa.array([None], pa.float64())).cast(nulls)),
        r"must lie in \[0,": log_record(["A"], -1, vectors(1)),
        "horizon_us must be positive and the same": log_record(["A", "B"], 1, vectors(2), horizon_us=np.array([1, 2])),
        r"'vector' must be fixed_size_list<.*>\[1\]": encoded(table.replace_schema_metadata(metadata | {b"columns": b'["a"]'})),
        r"source_offset must lie in \[0,": log_record(["A"], 1, vectors(1), source_offset=1 << 43),
        "source_index in": log_record(["A"], 1, vectors(1), source_index=1 << 20),
        "decided_offset must lie in": log_record(["A"], 1, vectors(1), decided_offset=-2, decided_index=0),
        "both must be null or neither": log_record(["A"], 1, vectors(1), decided_offset=9),
        "before the row's own place": log_record(["A"], 1, vectors(1), source_offset=9, decided_offset=8, decided_index=0),
        "the same in all rows": log_record(["A", "B"], 1, vectors(2), source_partition=[0, 1]),
        "'decided_index' must be int32, it is absent": encoded(table.drop_columns(["decided_index"])),
        "must be texts": encoded(table.replace_schema_metadata(metadata | {b"columns": b"[1, 2, 3]"})),
        "'int' object is not iterable": encoded(table.replace_schema_metadata(metadata | {b"columns": b"3"})),
        "compressed": compressed(table),
        "KeyError": encoded(table.replace_schema_metadata({})),
    }


@pytest.mark.parametrize("why", bad_records())
def test_a_bad_record_is_refused_and_says_why(why: str) -> None:
    value = bad_records()[why]
    rows, (refused,) = read(value)
    assert rows == []
    assert (refused.reason, refused.value, refused.offset) == ("undecodable", value, 9)
    with pytest.raises(ValueError, match=why):
        raise ValueError(refused.detail)


@given(st.data())
def test_a_damaged_record_is_read_or_refused(data: st.DataObject) -> None:
    good = bytearray(log_record(["A", "B"], START_US, vectors(2)))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    rows, rejected = read(bytes(good))
    assert len(rows) + len(rejected) <= 1
    for read_rows in rows:
        read_rows.table.to_pylist()


def test_encoding_twice_gives_the_same_record() -> None:
    value = log_record(["A"], START_US, vectors(1))
    (batch,) = table_of(value).to_batches()
    assert encode_log(batch) == value
