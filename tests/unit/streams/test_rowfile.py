"""Files of rows become wire records, or name the line that is wrong."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streams.errors import RowFileError
from streams.rowfile import Kind, read_rows

if TYPE_CHECKING:
    from pathlib import Path


def _read(path: Path, kind: Kind = "features", feature_set: str | None = "bars_1d") -> list[tuple[bytes, dict[str, Any], int]]:
    return [(r.key, json.loads(r.value), r.ts_us) for r in read_rows(path, kind=kind, feature_set=feature_set)]


def test_csv_columns_become_features_and_empty_cells_are_missing(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("\ufeffsymbol,ts_event_us,ts_known_us,ret,vol\nNA,10,15,0.5,\nBRK.B,20,,1,nan\n", encoding="utf-8")
    assert _read(file) == [
        (
            b"NA",
            {
                "symbol": "NA",
                "feature_set": "bars_1d",
                "ts_event_us": 10,
                "ts_known_us": 15,
                "revision": 0,
                "values": {"ret": 0.5, "vol": None},
            },
            15,
        ),
        (
            b"BRK.B",
            {"symbol": "BRK.B", "feature_set": "bars_1d", "ts_event_us": 20, "revision": 0, "values": {"ret": 1.0, "vol": None}},
            20,
        ),
    ]


def test_csv_types_are_given_so_a_fraction_far_down_is_read(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    lines = "".join(f"A,{i},1\n" for i in range(200_000))
    file.write_text(f"symbol,ts_event_us,x\n{lines}A,200000,0.5\n")
    *_, (_, last, _) = _read(file)
    assert last["values"] == {"x": 0.5}


def test_parquet_rows_with_revisions(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    table = {"symbol": ["A", "A"], "ts_event_us": [1, 1], "revision": [0, 1], "x": [1.5, math.nan]}
    pq.write_table(pa.table(table), file)
    assert [(v["revision"], v["values"]["x"]) for _, v, _ in _read(file)] == [(0, 1.5), (1, None)]


def test_outcome_tables(tmp_path: Path) -> None:
    file = tmp_path / "outcomes.csv"
    file.write_text("symbol,ts_event_us,horizon_us,value,ts_known_us,revision\nA,1,5,0.25,6,0\n")
    wire = {"symbol": "A", "ts_event_us": 1, "ts_known_us": 6, "revision": 0, "horizon_us": 5, "value": 0.25}
    assert _read(file, "outcomes", None) == [(b"A", wire, 6)]


def test_ndjson_is_sent_as_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    line = b'{"symbol": "A", "feature_set": "s", "ts_event_us": 3, "values": {"x": null}, "unknown": 1}'
    file.write_bytes(line + b"\n\n" + line)
    assert [(r.value, r.ts_us) for r in read_rows(file, kind="features", feature_set=None)] == [(line, 3)] * 2


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", "", "ends in .csv"),
        ("a.csv", "ts_event_us,x\n1,2\n", "no column symbol"),
        ("a.csv", "symbol,ts_event_us,x\nA,1,high\n", "high"),
        ("a.csv", "symbol,ts_event_us,x\n,1,2\n", "row 1: symbol and ts_event_us must not be empty"),
        ("a.ndjson", '{"symbol": "A"}\n', "line 1: not a row of features"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, content: str, says: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(RowFileError, match=says):
        _read(file)


def test_a_missing_file_a_missing_feature_set_and_a_strange_outcome_column_are_named(tmp_path: Path) -> None:
    with pytest.raises(RowFileError, match="no file"):
        _read(tmp_path / "none.csv")
    file = tmp_path / "a.csv"
    file.write_text("symbol,ts_event_us,horizon_us,value,x\nA,1,5,0.25,6\n")
    with pytest.raises(RowFileError, match="--feature-set"):
        _read(file, "features", None)
    with pytest.raises(RowFileError, match="has no column x"):
        _read(file, "outcomes", None)
