"""What a frame may cost: a small one cannot become a large one, nor make Arrow read what is not there."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from streams.frame_columns import write_frame
from streams.frames import MOST_LONE_BYTES, rejected_rows
from streams.records import PartitionRecords
from tests.unit.streams.framing import HOME, decode, decoder, record, table


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view()])
def test_a_long_word_in_every_row_costs_what_it_costs_once(kind: pa.DataType) -> None:
    words = pa.array(["x" * 100_000, *[""] * 5_000], kind)
    symbols = pa.DictionaryArray.from_arrays(pa.array(np.zeros(4_000, dtype=np.int32)), words)
    batches, rejected, counts = decode(table(*[{}] * 4_000).set_column(0, "symbol", symbols))
    assert (batches, {r.reason for r in rejected}, counts["rows"]) == ([], {"out_of_range"}, 4_000)
    whole = [r for r in rejected if r.value is not None]
    assert 100 < len(whole) < 400
    assert sum(len(r.value or b"") for r in whole) <= MOST_LONE_BYTES
    rest = rejected[len(whole)]
    assert (rest.key, rest.value) == (None, None)
    assert rest.detail.endswith("bytes left out; it stands in f at this offset)")
    assert rejected[-1].detail.startswith("row 3999 of the frame")


def test_views_that_come_to_far_more_than_they_look_at_are_refused() -> None:
    text = b"x" * 100_000
    view = struct.pack("<i4sii", len(text), text[:4], 0, 0)
    column = pa.Array.from_buffers(pa.string_view(), 1_000, [None, pa.py_buffer(view * 1_000), pa.py_buffer(text)])
    rows = table(*[{}] * 1_000)
    assert "come to 100000000 bytes" in decode(rows.set_column(0, "symbol", column))[1][0].detail
    words = pa.DictionaryArray.from_arrays(pa.array(np.arange(1_000)), column)
    assert "come to 100000000 bytes" in decode(rows.set_column(0, "symbol", words))[1][0].detail


@pytest.mark.parametrize("length", [-5, -(2**31), 2**31 - 1, 100])
@pytest.mark.parametrize("alone", [False, True])
def test_what_stands_in_the_place_of_a_null_is_not_read(*, length: int, alone: bool) -> None:
    views = struct.pack("<i12si12s", 1, b"A", length, b"")
    column = pa.Array.from_buffers(pa.string_view(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(views)])
    if alone:
        column = pa.DictionaryArray.from_arrays(pa.array([0, 1]), column)
    (batch,), (bad,), _ = decode(table({}, {}).set_column(0, "symbol", column))
    assert (batch.symbols, bad.key, bad.reason) == (["A"], None, "undecodable")


def test_rows_with_a_long_column_name_are_rejected_without_their_bytes_beyond_a_bound() -> None:
    long: dict[str, Any] = {"n" * 200_000: 1.0}
    rows = table(*[{"ts_event_us": -1}] * 500, **long)
    rejected = decode(rows)[1]
    assert 100 < sum(r.value is not None for r in rejected) < 200
    assert [r.key for r in rejected] == [b"A"] * 500
    good = table(*[{"ts_event_us": i} for i in range(500)], **long)
    parts = [PartitionRecords("f", HOME, [record(write_frame(good))])]
    (batch,), _ = decoder().decode(parts)
    refused = rejected_rows(parts, batch.take(np.array([3, 7])), [("conflict", "no")] * 2)
    assert [(r.key, r.value) for r in refused] == [(b"A", None)] * 2
    assert refused[1].detail.startswith("row 7 of the frame, counted from 0: no (row of about")
