"""Records are printed as a person reads them."""

from __future__ import annotations

import json
import math

import pyarrow as pa

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
