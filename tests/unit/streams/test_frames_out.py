"""Tables become frames that read back as the rows they were made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.frames_out import MAX_BYTES, frames
from streams.partitioner import partition_of

HOMES = {s: partition_of(s.encode(), 4) for s in "ABCDEFGH"}


def read(frame: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pa.ipc.open_stream(frame).read_all().to_pylist()
    return rows


def rows(n: int) -> pa.Table:
    return pa.table({"symbol": ["ABCDEFGH"[i * 5 % 8] for i in range(n)], "ts_event_us": range(n), "x": np.arange(n) / 2})


def made(table: pa.Table | pd.DataFrame, *, feature_set: str | None = "bars", **more: Any) -> list[tuple[int, bytes]]:
    return list(frames(table, partitions=4, feature_set=feature_set, **more))


@given(st.lists(st.sampled_from("ABCDEFGH"), max_size=60), st.integers(1, 9), st.integers(500, 3_000))
def test_every_row_is_in_one_frame_of_its_partition_in_order(symbols: list[str], most: int, max_bytes: int) -> None:
    table = pa.table({"symbol": pa.array(symbols, pa.string()), "ts_event_us": range(len(symbols)), "x": [1.0] * len(symbols)})
    out = [(p, read(f), len(f)) for p, f in made(table, rows_per_frame=most, max_bytes=max_bytes)]
    for partition in range(4):
        found = [(r["symbol"], r["ts_event_us"]) for p, some, _ in out if p == partition for r in some]
        assert found == [(s, i) for i, s in enumerate(symbols) if HOMES[s] == partition]
    assert all(len(some) <= most and (size <= max_bytes or len(some) == 1) for _, some, size in out)
    first = [some[0]["ts_event_us"] for _, some, _ in out]
    assert first == sorted(first)


def test_frames_are_as_full_as_they_may_be() -> None:
    sizes = [len(read(f)) for _, f in made(rows(4_000))]
    assert max(sizes) == 500
    assert len(sizes) <= 4_000 / 500 + 4


def test_wide_rows_stay_under_the_size_kafka_takes() -> None:
    wide = pa.table({"symbol": ["A"] * 1_000, "ts_event_us": range(1_000), **{f"f{i}": np.ones(1_000) for i in range(600)}})
    out = made(wide)
    assert [r["ts_event_us"] for _, f in out for r in read(f)] == list(range(1_000))
    assert MAX_BYTES / 3 < min(len(f) for _, f in out) <= max(len(f) for _, f in out) <= MAX_BYTES


def test_a_data_frame_is_taken_with_its_own_types() -> None:
    frame = pd.DataFrame(
        {
            "symbol": pd.Categorical(["A", "A", "A"]),
            "ts_event_us": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"]),
            "ts_known_us": pd.to_datetime(pd.Series(["2024-01-01 01:00", None, "2024-01-03 01:00"]))
            .dt.tz_localize("US/Eastern")
            .array,
            "revision": [0, None, 2],
            "flag": [True, False, True],
            "count": pd.array([1, None, 2**40], dtype="Int64"),
            "x": np.array([0.1, np.nan, np.inf], dtype=np.float32),
            "none": [None, None, None],
        },
        index=[7, 8, 9],
    )
    ((partition, data),) = made(frame)
    day = 86_400_000_000
    start = 1_704_067_200_000_000
    assert partition == HOMES["A"]
    found = read(data)
    assert [r["ts_event_us"] for r in found] == [start, start + day, start + 2 * day]
    assert [r["ts_known_us"] for r in found] == [start + 6 * day // 24, None, start + 54 * day // 24]
    assert [r["revision"] for r in found] == [0, None, 2]
    assert [(r["flag"], r["count"], r["none"]) for r in found] == [(1.0, 1.0, None), (0.0, None, None), (1.0, 2.0**40, None)]
    assert [r["x"] for r in found] == [float(np.float32(0.1)), None, math.inf]
    assert {r["feature_set"] for r in found} == {"bars"}
    assert "index" not in pa.ipc.open_stream(data).schema.names


def test_a_table_may_name_the_feature_set_of_each_row() -> None:
    table = rows(3).append_column("feature_set", pa.array(["bars", "slow", "bars"]))
    found = sorted((r["ts_event_us"], r["feature_set"]) for _, f in made(table, feature_set=None) for r in read(f))
    assert found == [(0, "bars"), (1, "slow"), (2, "bars")]


def test_a_table_without_rows_is_no_frame() -> None:
    assert made(rows(0)) == []


@pytest.mark.parametrize(
    ("table", "more", "says"),
    [
        (rows(1).drop_columns("symbol"), {}, "no column 'symbol'; its columns are ts_event_us, x"),
        (rows(1).drop_columns("ts_event_us"), {}, "no column 'ts_event_us'"),
        (rows(1), {"feature_set": None}, "no column 'feature_set'"),
        (rows(1).append_column("feature_set", pa.array(["bars"])), {}, "no feature set may be named beside it"),
        (rows(1).append_column("x", pa.array([1.0])), {}, "column 'x' 2 times"),
        (rows(1).append_column("y", pa.array(["one"])), {}, "column 'y' is string"),
        (rows(1).append_column("y", pa.array([[1.0]])), {}, "column 'y' is list"),
        (rows(1).append_column("revision", pa.array([1.5])), {}, "column 'revision' is double"),
        (rows(2).set_column(0, "symbol", pa.array(["A", None])), {}, "column 'symbol' has 1 empty values"),
        (rows(2).set_column(1, "ts_event_us", pa.array([None, 1])), {}, "column 'ts_event_us' has 1 empty values"),
        (rows(1).set_column(1, "ts_event_us", pa.array([1], pa.timestamp("ns"))), {}, "column 'ts_event_us' is timestamp"),
        (rows(1).set_column(1, "ts_event_us", pa.array([1.5])), {}, "column 'ts_event_us' is double"),
        (rows(2).set_column(0, "symbol", pa.array(["A", "x" * 257])), {}, "cannot be: symbol must be 1 to 256 bytes"),
        (rows(1), {"partitions": 0}, "partitions must be at least 1"),
        (rows(1), {"rows_per_frame": 0}, "rows_per_frame in"),
        (rows(1), {"rows_per_frame": 1 << 20}, "rows_per_frame in"),
    ],
)
def test_a_table_that_cannot_be_sent_is_refused_before_the_first_frame(table: pa.Table, more: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {"partitions": 4, "feature_set": "bars"} | more
    with pytest.raises(ValueError, match=says):
        frames(table, **given)
