"""The inference log's Arrow: back and forth, and a ValueError for what is none. Its golden schema: test_schemas_produced.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.inference_log import COLUMNS, decode_log, encode_log, log_batch, log_schema

SCHEMA = log_schema(model="m", version="1", role="champion", columns=["a", "b ü"])


def data(rows: int, **changes: Any) -> dict[str, Any]:
    text = {"prediction_id", "symbol", "vector_hash", "spec_digest", "source_topic"}
    given: dict[str, Any] = {n: [f"{n}{i}" for i in range(rows)] if n in text else np.arange(rows) for n in COLUMNS}
    return given | {"abstained": np.zeros(rows, dtype=bool), "reason": [None] * rows} | changes


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_what_was_encoded_comes_back(rows: int) -> None:
    vectors = np.arange(2.0 * rows).reshape(rows, 2)
    vectors[: rows // 2, 1] = np.nan
    log = decode_log(encode_log(log_batch(SCHEMA, data(rows, level=0.9, source_topic="f"), vectors)))
    assert (log.model, log.version, log.role, log.columns) == ("m", "1", "champion", ("a", "b ü"))
    assert log.table.schema.equals(SCHEMA, check_metadata=True)
    assert log.vectors().tobytes() == vectors.tobytes()
    assert log.table["level"].to_pylist() == [0.9] * rows
    assert log.table["source_topic"].to_pylist() == ["f"] * rows
    assert log.table["ts_event_us"].to_pylist() == list(range(rows))


def test_a_slice_is_encoded_alone() -> None:
    batch = log_batch(SCHEMA, data(10), np.arange(20.0).reshape(10, 2))
    part = encode_log(batch.slice(3, 2))
    assert decode_log(part).vectors().tolist() == [[6.0, 7.0], [8.0, 9.0]]
    assert decode_log(part).table["symbol"].to_pylist() == ["symbol3", "symbol4"]


def _stream(schema: pa.Schema, *batches: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("cuts", [(), (0,), (4,), (1, 0, 3)])
def test_a_stream_of_several_batches_or_none_is_one(cuts: tuple[int, ...]) -> None:
    vectors = np.arange(2.0 * sum(cuts)).reshape(-1, 2)
    whole = log_batch(SCHEMA, data(sum(cuts)), vectors)
    starts = [sum(cuts[:i]) for i in range(len(cuts))]
    log = decode_log(_stream(SCHEMA, *(whole.slice(at, n) for at, n in zip(starts, cuts, strict=True))))
    assert log.batch.equals(whole)
    assert log.vectors().tobytes() == vectors.tobytes()


def test_a_column_of_a_later_release_may_have_a_dictionary() -> None:
    batch = log_batch(SCHEMA, data(3), np.zeros((3, 2))).append_column("news", pa.array(["x", "y", "x"]).dictionary_encode())
    for _ in range(2):
        log = decode_log(_stream(batch.schema, batch))
        assert log.batch["news"].to_pylist() == ["x", "y", "x"]
        assert log.columns == ("a", "b ü")


def test_records_of_models_in_turn_each_have_their_own_names() -> None:
    other = log_schema(model="n", version="2", role="challenger", columns=["c"])
    values = [encode_log(log_batch(SCHEMA, data(1), np.zeros((1, 2)))), encode_log(log_batch(other, data(1), np.ones((1, 1))))]
    first, second, third = (decode_log(v) for v in (*values, values[0]))
    assert (first.model, first.columns, second.model, second.role, second.columns) == (
        "m",
        ("a", "b ü"),
        "n",
        "challenger",
        ("c",),
    )
    assert first.about is third.about  # what a schema says is found once


def _with(**metadata: str | None) -> bytes:
    given = {"model": "m", "version": "1", "role": "champion", "columns": '["a"]'} | metadata
    schema = pa.schema([pa.field("x", pa.int64())], {k: v for k, v in given.items() if v is not None})
    return encode_log(pa.record_batch([pa.array([1])], schema=schema))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x00" * 64,
        b"{}",
        _with(model=None),
        _with(columns=None),
        _with(columns="no json"),
        _with(columns="5"),
        _with(columns="null"),
        _with(columns="[" * 100_000),
        encode_log(pa.record_batch([pa.array([1])], names=["x"])),
    ],
)
def test_what_is_no_log_is_a_value_error(value: bytes) -> None:
    with pytest.raises(ValueError, match="not an inference-log record"):
        decode_log(value)


@settings(max_examples=200)
@given(st.data())
def test_damage_is_a_value_error_or_a_table(draw: st.DataObject) -> None:
    value = bytearray(encode_log(log_batch(SCHEMA, data(3), np.zeros((3, 2)))))
    for _ in range(draw.draw(st.integers(1, 3))):
        value[draw.draw(st.integers(0, len(value) - 1))] = draw.draw(st.integers(0, 255))
    cut = draw.draw(st.integers(0, len(value)))
    try:
        decode_log(bytes(value[:cut] if draw.draw(st.booleans()) else value))
    except ValueError as e:
        assert "not an inference-log record" in str(e)  # noqa: PT017 - it need not be raised
