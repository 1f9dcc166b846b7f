"""Records are printed as a person reads them."""

from __future__ import annotations

import json
import math

import pyarrow as pa

from streams.frame_columns import write_frame
from streams.recordtext import ARROW, CONTENT_TYPE, record_lines
from tests.unit.streams.wire import GOLDEN, golden


def test_an_arrow_batch_is_one_line_per_row_with_the_vector_by_column_name() -> None:
    schema = pa.schema([("symbol", pa.string()), ("vector", pa.list_(pa.float64(), 2))], {"columns": json.dumps(["ret", "vol"])})
    batch = pa.record_batch([pa.array(["A", "B"]), pa.array([[0.5, math.nan], [1.0, 2.0]], schema.field("vector").type)], schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch)
    lines = record_lines(sink.getvalue().to_pybytes(), [(CONTENT_TYPE, ARROW)])
    assert [json.loads(line) for line in lines] == [
        {"symbol": "A", "vector": {"ret": 0.5, "vol": None}},
        {"symbol": "B", "vector": {"ret": 1.0, "vol": 2.0}},
    ]


def test_a_frame_of_predictions_reads_as_the_json_records_would() -> None:
    records = [golden("prediction.json"), golden("prediction_abstained.json")]
    frame = (GOLDEN / "prediction_frame.arrow").read_bytes()
    assert record_lines(frame, [(CONTENT_TYPE, ARROW)]) == [line for r in records for line in record_lines(r, [])]


def test_damaged_arrow_is_said_to_be_damaged() -> None:
    (line,) = record_lines(b"nonsense", [(CONTENT_TYPE, ARROW)])
    assert "not an Arrow stream" in line


def test_a_rejected_record_shows_its_reason_and_its_bytes() -> None:
    headers = [("__connect.errors.stage", b"decode"), ("__connect.errors.offset", b"7"), ("other", None)]
    (line,) = record_lines(b"\xff{", headers)
    assert json.loads(line) == {"stage": "decode", "offset": "7", "value": "\\xff{"}


def test_what_is_no_json_is_shown_as_text() -> None:
    assert record_lines(b"\xffplain", []) == ["\\xffplain"]


def test_nothing_a_record_says_reaches_the_terminal_as_more_than_text() -> None:
    assert record_lines(b"\x1b[2Jgone\nnext", []) == ["\\u001b[2Jgone\\nnext"]
    (line,) = record_lines('{"a": "\x9b1m"}'.encode(), [])
    assert line.isprintable()
    assert json.loads(line) == {"a": "\x9b1m"}


def test_what_cannot_be_shown_is_said_and_what_is_endless_is_cut() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    assert record_lines(deep, []) == [deep.decode()]
    odd = [pa.schema([("t", pa.timestamp("ns"))], {"columns": "{"}), pa.schema([("t", pa.int8())], {b"\xff": b"\xff"})]
    for schema in odd:
        rows = pa.Table.from_arrays([pa.array([1], schema.field(0).type)], schema=schema)
        assert len(record_lines(write_frame(rows), [(CONTENT_TYPE, ARROW)])) == 1
    listed = pa.table({"vector": [[1.0]]}).replace_schema_metadata({"columns": "5"})
    assert record_lines(write_frame(listed), [(CONTENT_TYPE, ARROW)]) == ['{"vector":[1.0]}']
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 2_000, pa.int8()), ["x" * 100_000])
    lines = record_lines(write_frame(pa.table({"w": words})), [(CONTENT_TYPE, ARROW)])
    assert len(lines) < 400
    assert lines[-1] == f"({2_000 - len(lines) + 1} more rows)"
