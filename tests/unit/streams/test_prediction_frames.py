"""Frames of predictions: the golden one, how they are cut, what any Arrow reader sees, and a ValueError for what is none."""

from __future__ import annotations

import json
import re
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.inference_log import COLUMNS, encode_log, log_batch, log_schema
from streams.partitioner import partition_of
from streams.pipeline import Pipeline
from streams.prediction_frames import SCHEMA, FrameWriter, decode_predictions
from streams.predictions import Prediction
from tests.unit.streams import pipes, wire

NAMES = ["a", "b ü"]


def writer() -> FrameWriter:
    return FrameWriter(model="m", version="1", role="champion", spec_digest="0" * 16, columns=NAMES)


def log(rows: int, **changes: Any) -> pa.RecordBatch:
    text = {"prediction_id", "symbol", "vector_hash", "spec_digest", "source_topic"}
    data: dict[str, Any] = {n: [f"{n}{i}" for i in range(rows)] if n in text else np.arange(rows) for n in COLUMNS}
    data |= {"abstained": np.zeros(rows, dtype=bool), "reason": [None] * rows} | changes
    schema = log_schema(model="m", version="1", role="champion", columns=NAMES)
    return log_batch(schema, data, np.zeros((rows, len(NAMES))))


def batch(frames: FrameWriter, rows: int, *, topic: str = "f", **changes: Any) -> pa.RecordBatch:
    more: dict[str, Any] = {
        "missing": np.zeros((rows, 2), dtype=bool),
        "stale": np.zeros((rows, 2), dtype=bool),
        "supersedes": {},
    }
    more |= {k: changes.pop(k) for k in list(changes) if k in more}
    return frames.batch(log(rows, **changes), topic=topic, **more)


def golden_frame() -> list[tuple[int, bytes]]:
    """What `wire.predicted` leads to when the model publishes frames."""
    serving = wire.spec()
    pipeline = Pipeline(
        list(wire.pipeline(serving).partitions.handles.values()),
        partitions=wire.PARTITIONS,
        max_future_us=300_000_000,
        slack_rows=1000,
        framed=[serving.model],
    )
    first = wire.golden("feature_row.json")
    revised = first.replace(b'"revision":0', b'"revision":1').replace(b"0.013", b"null")
    return pipeline.step([wire.part([first, revised])], wire.nothing).frames


def test_the_golden_frame_holds_the_golden_records_and_is_written_so_today() -> None:
    data = (wire.GOLDEN / "prediction_frame.arrow").read_bytes()
    records = [json.loads(wire.golden(f)) for f in ("prediction.json", "prediction_abstained.json")]
    assert decode_predictions(data) == records
    ((partition, now),) = golden_frame()
    assert partition == records[0]["source"]["partition"]
    assert decode_predictions(now) == records
    table, again = pa.ipc.open_stream(data).read_all(), pa.ipc.open_stream(now).read_all()
    assert again.schema.equals(table.schema, check_metadata=True)
    assert again.schema.to_string(element_size_limit=200).encode() == wire.golden("prediction_frame_schema.txt")
    assert again.equals(table)


def test_fields_are_those_of_the_json_record_in_its_order() -> None:
    assert SCHEMA.names == list(Prediction.__struct_fields__)


def test_a_plain_arrow_reader_sees_ordinary_columns() -> None:
    ((_, data),) = golden_frame()
    frame = pa.ipc.open_stream(data).read_pandas()
    assert frame["model"].astype(str).tolist() == ["goog_ret_5d"] * 2
    assert frame["abstained"].tolist() == [False, True]
    assert frame["value"].isna().tolist() == [False, True]
    assert list(frame["missing"][1]) == json.loads(wire.golden("prediction_abstained.json"))["missing"]
    assert frame["source"][0]["offset"] == 41


def test_a_number_that_is_none_is_null() -> None:
    frames = writer()
    value = np.array([0.5, np.nan, np.inf, -np.inf])
    (data,) = frames.frames(batch(frames, 4, value=value, lower=value, upper=value, p_up=value, confidence=value))
    for name in ("value", "lower", "upper", "p_up", "confidence"):
        assert [row[name] for row in decode_predictions(data)] == [0.5, None, None, None]


def test_names_of_marked_columns_and_ids_superseded_stand_in_their_rows() -> None:
    frames = writer()
    missing = np.array([[False, False], [True, True], [False, True]])
    rows = decode_predictions(
        next(frames.frames(batch(frames, 3, missing=missing, stale=missing & [True, False], supersedes={2: "x"})))
    )
    assert [row["missing"] for row in rows] == [[], ["a", "b ü"], ["b ü"]]
    assert [row["stale"] for row in rows] == [[], ["a"], []]
    assert [row["supersedes"] for row in rows] == [None, None, "x"]


def test_frames_are_cut_where_they_would_be_too_large_and_lose_no_row() -> None:
    frames = writer()
    missing = np.zeros((1000, 2), dtype=bool)
    missing[::3] = True
    whole = batch(frames, 1000, missing=missing, supersedes={999: "x"})
    (one,) = frames.frames(whole)
    many = list(frames.frames(whole, max_bytes=40_000))
    assert len(one) > 40_000
    assert len(many) > 4
    assert all(len(data) <= 40_000 for data in many)
    assert [row for data in many for row in decode_predictions(data)] == decode_predictions(one)
    assert len(list(frames.frames(whole.slice(3, 5), max_bytes=1))) == 5  # a row is not cut


def test_one_writer_writes_batches_of_any_length_and_topic() -> None:
    frames = writer()
    for rows, topic in ((1, "f"), (3, "f"), (2, "g"), (500, "g"), (7, "f")):
        (data,) = frames.frames(batch(frames, rows, topic=topic))
        found = decode_predictions(data)
        assert [row["symbol"] for row in found] == [f"symbol{i}" for i in range(rows)]
        assert [row["source"] for row in found] == [{"topic": topic, "partition": i, "offset": i} for i in range(rows)]
        assert {row["model"] for row in found} == {"m"}


def test_a_model_goes_on_publishing_as_it_is_set_after_a_swap() -> None:
    a, b = pipes.handle("a", [pipes.X]), pipes.handle("b", [pipes.X])
    pipeline = Pipeline([a, b], partitions=pipes.PARTITIONS, max_future_us=10**15, slack_rows=8, framed=["a", "c"])
    kinds = []
    for number, event in enumerate((10, 20, 30), 1):
        if number > 1:
            new = [pipes.handle(name, [pipes.X], version=str(number)) for name in ("a", "b")]
            pipes.put_in_force(pipeline, *new, offsets={partition_of(b"A", pipes.PARTITIONS): event - 1}, seq=number)
        out = pipeline.step(pipes.part(pipes.bar(event, x=1.0), first=event), lambda _p, _s: None)
        kinds.append((len(out.predictions), len(out.frames), out.counts["predictions"]))
        assert json.loads(out.predictions[0][2])["version"] == str(number)
    assert kinds == [(1, 1, 2)] * 3


def _other(name: str, kind: pa.DataType) -> bytes:
    fields = [f if f.name != name else pa.field(name, kind) for f in SCHEMA]
    return encode_log(pa.RecordBatch.from_pylist([], schema=pa.schema([f for f in fields if not pa.types.is_null(f.type)])))


def test_a_frame_cut_short_anywhere_is_a_value_error() -> None:
    whole = (wire.GOLDEN / "prediction_frame.arrow").read_bytes()
    for end in range(len(whole)):
        with pytest.raises(ValueError, match="not a frame of predictions"):
            decode_predictions(whole[:end])


@pytest.mark.parametrize(
    "value",
    [b"", b"{}", b"\x00" * 64, _other("value", pa.null()), _other("value", pa.string()), wire.predicted().logs[0][1]],
    ids=["empty", "json", "zeros", "without a field", "another type", "an inference log"],
)
def test_what_is_no_frame_of_predictions_is_a_value_error(value: bytes) -> None:
    with pytest.raises(ValueError, match="not a frame of predictions"):
        decode_predictions(value)


def test_a_field_added_later_is_left_out() -> None:
    table = pa.ipc.open_stream((wire.GOLDEN / "prediction_frame.arrow").read_bytes()).read_all()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.append_column("new", pa.array([1, 2])).schema) as stream:
        stream.write_table(table.append_column("new", pa.array([1, 2])))
    assert decode_predictions(sink.getvalue().to_pybytes()) == table.to_pylist()


@settings(max_examples=200)
@given(st.data())
def test_damage_is_a_value_error_or_rows(draw: st.DataObject) -> None:
    value = bytearray((wire.GOLDEN / "prediction_frame.arrow").read_bytes())
    for _ in range(draw.draw(st.integers(1, 3))):
        value[draw.draw(st.integers(0, len(value) - 1))] = draw.draw(st.integers(0, 255))
    end = draw.draw(st.integers(0, len(value)))
    try:
        decode_predictions(bytes(value[:end] if draw.draw(st.booleans()) else value))
    except ValueError as e:
        assert "not a frame of predictions" in str(e)  # noqa: PT017 - it need not be raised


def test_the_readers_on_the_page_of_frames_read_both_kinds() -> None:
    _, program = re.findall(r"```python\n(.*?)```", (wire.GOLDEN.parents[1] / "docs" / "frames.md").read_text("utf-8"), re.DOTALL)
    page: dict[str, Any] = {}
    exec(program, page)  # noqa: S102 - a program of our own, as a user would run it
    record, abstained = wire.golden("prediction.json"), wire.golden("prediction_abstained.json")
    frame = Mock(headers=lambda: [page["FRAME"]], value=(wire.GOLDEN / "prediction_frame.arrow").read_bytes)
    assert page["predictions"](frame) == [json.loads(record), json.loads(abstained)]
    assert page["predictions"](Mock(headers=lambda: None, value=lambda: record)) == [json.loads(record)]
    symbols, values = page["values"](frame)
    assert symbols == ["GOOG", "GOOG"]
    np.testing.assert_array_equal(values, [json.loads(record)["value"], np.nan])
