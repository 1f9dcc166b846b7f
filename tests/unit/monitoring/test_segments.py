"""Tables that lie in the DuckDB file and in Parquet files beside it: each key once, each append whole, for every reader."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring import duckdb as warehouse_module
from monitoring import recent_keys
from monitoring.duckdb import DuckDBWarehouse
from monitoring.errors import WarehouseError
from monitoring.warehouse import arrow_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

BATCH = 8
"""Rows from which on an append is a file here."""


@contextlib.contextmanager
def small() -> Iterator[pytest.MonkeyPatch]:
    """Files already of few rows, and few batches remembered."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(warehouse_module, "BATCH_ROWS", BATCH)
        patched.setattr(recent_keys, "MOST_BATCHES", 2)
        yield patched


@pytest.fixture
def patched() -> Iterator[pytest.MonkeyPatch]:
    with small() as it:
        yield it


def rows_of(table: str, keys: Iterable[int], *, value: float = 0.0) -> pa.Table:
    """A row per key, six keys to an instant, the first instants before 1970; `value` counts on."""
    numbers = list(keys)
    given = {
        "prediction_id": [f"p{k}" for k in numbers],
        "symbol": ["AB"[k % 2] for k in numbers],
        "ts_event_us": [k // 6 - 3 for k in numbers],
        "horizon_us": [5 for _ in numbers],
        "revision": [k % 6 // 2 for k in numbers],
        "value": [value + i for i in range(len(numbers))],
    }
    schema = arrow_schema(table)
    nothing = [None] * len(numbers)
    return pa.table([pa.array(given.get(field.name, nothing), field.type) for field in schema], schema=schema)


BATCHES = st.lists(st.integers(0, 60), max_size=20) | st.builds(
    lambda at, n: list(range(at, at + n)), st.integers(0, 60), st.integers(1, 20)
)
STEPS = st.lists(BATCHES | st.just("reopen"), max_size=8)


def values(rows: pa.Table, table: str) -> list[tuple[object, ...]]:
    key = ("prediction_id",) if table == "predictions" else ("symbol", "ts_event_us", "horizon_us", "revision")
    return list(zip(*(rows[name].to_pylist() for name in (*key, "value")), strict=True))


@pytest.mark.parametrize("table", ["predictions", "outcomes"])
@settings(max_examples=50)  # each opens a file several times
@given(steps=STEPS)
def test_a_table_holds_the_first_row_of_every_key(table: str, steps: Sequence[list[int] | str]) -> None:
    """Whatever the order of times, the sizes, the repeats, what is forgotten meanwhile, and however often it is reopened."""
    first: dict[tuple[object, ...], object] = {}
    value = 0.0
    with small(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.duckdb"
        it = DuckDBWarehouse(path)
        for step in steps:
            if isinstance(step, str):
                it.close()
                it = DuckDBWarehouse(path)
                continue
            rows = rows_of(table, step, value=value)
            value += len(step)
            before = len(first)
            for *key, held in values(rows, table):
                first.setdefault(tuple(key), held)
            assert it.append(table, rows) == len(first) - before
        expected = sorted((*key, held) for key, held in first.items())
        assert sorted(values(it.query(f"SELECT * FROM {table}"), table)) == expected  # noqa: S608
        it.close()
        with duckdb.connect(path, read_only=True) as plain:  # as people and other tools open it
            assert sorted(values(plain.sql(f"SELECT * FROM {table}").to_arrow_table(), table)) == expected  # noqa: S608


def files(path: Path) -> list[str]:
    return sorted(file.name for file in path.with_name(f"{path.name}.segments").glob("*"))


def count(it: DuckDBWarehouse) -> int:
    found = it.query("SELECT count(*) AS n, count(DISTINCT prediction_id) AS d FROM predictions").to_pylist()[0]
    assert found["n"] == found["d"], "a key stands twice"
    return int(found["n"])


@pytest.mark.usefixtures("patched")
def test_many_rows_are_a_file_and_few_are_not(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    it = DuckDBWarehouse(path)
    it.append("predictions", rows_of("predictions", range(BATCH - 1)))
    assert files(path) == []
    it.append("predictions", rows_of("predictions", range(BATCH)))
    assert files(path) == [], "most of it was there already"
    it.append("predictions", rows_of("predictions", range(6, 6 + BATCH)))
    assert files(path) == ["predictions-000000000001--2--1.parquet"], "times before 1970"
    it.close()
    it = DuckDBWarehouse(path)
    assert it.append("predictions", rows_of("predictions", range(60, 60 + BATCH))) == BATCH
    assert files(path)[-1] == "predictions-000000000002-7-8.parquet"
    assert count(it) == 14 + BATCH
    it.close()


@pytest.mark.usefixtures("patched")
def test_rows_without_a_time_are_remembered_with_those_beside_them(tmp_path: Path) -> None:
    it = DuckDBWarehouse(tmp_path / "w.duckdb")
    rows = rows_of("predictions", range(BATCH))
    at = rows.schema.get_field_index("ts_event_us")
    untimed = rows.set_column(at, "ts_event_us", pa.array([*rows["ts_event_us"].to_pylist()[:-1], None], pa.int64()))
    assert it.append("predictions", untimed) == BATCH
    assert it.append("predictions", rows.slice(0, BATCH - 1)) == 0
    assert it.append("predictions", pa.concat_tables([rows.slice(0, BATCH - 1), rows_of("predictions", range(40, 60))])) == 20
    assert count(it) == BATCH + 20
    it.close()


@pytest.mark.parametrize("name", ["it's", 'a "b"', "version=7", "prediction_id=7", "{a,b} é %20#", "[ab]", "a*"])
@pytest.mark.usefixtures("patched")
def test_the_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    """Also one that DuckDB could take for a pattern (then all rows stay in the file) or for a column and its value."""
    path = tmp_path / name / "w.duckdb"
    for added in (BATCH, 0):
        it = DuckDBWarehouse(path)
        assert it.append("predictions", rows_of("predictions", range(BATCH))) == added
        assert count(it) == BATCH
        assert it.query("SELECT DISTINCT version AS v FROM predictions").to_pylist() == [{"v": None}]
        it.close()
    assert len(files(path)) == (0 if set("[*") & set(name) else 1)
    with duckdb.connect(path, read_only=True) as plain:
        assert plain.execute("SELECT count(*), count(version) FROM predictions").fetchone() == (BATCH, 0)


@pytest.mark.usefixtures("patched")
def test_a_reader_in_another_thread_sees_whole_appends_only(tmp_path: Path) -> None:
    it = DuckDBWarehouse(tmp_path / "w.duckdb")
    failed: list[BaseException] = []

    def write() -> None:
        try:
            for at in range(0, 3_000, 50):
                it.append("predictions", rows_of("predictions", range(at, at + 50)))
        except BaseException as e:  # noqa: BLE001  # shown by the assertion below
            failed.append(e)

    writer = threading.Thread(target=write)
    writer.start()
    seen = [0]
    while writer.is_alive():
        seen.append(count(it))
    writer.join()
    assert failed == []
    assert seen == sorted(seen)
    assert all(n % 50 == 0 for n in seen)
    assert count(it) == 3_000
    it.close()


@pytest.mark.usefixtures("patched")
def test_a_table_of_an_earlier_release_is_taken_over_with_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    with duckdb.connect(path) as old:
        rows = rows_of("features", range(10))  # noqa: F841  # DuckDB finds it by its name
        old.execute("CREATE TABLE features AS SELECT * FROM rows")
    for added in (20, 0):
        it = DuckDBWarehouse(path)
        assert it.append("features", rows_of("features", range(30))) == added
        assert it.query("SELECT count(*) AS n FROM features").to_pylist() == [{"n": 30}]
        it.close()
    assert len(files(path)) == 1


@pytest.mark.usefixtures("patched")
def test_files_removed_by_hand_are_missed_and_others_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    it = DuckDBWarehouse(path)
    it.append("predictions", rows_of("predictions", range(BATCH)))
    it.close()
    (held,) = (tmp_path / "w.duckdb.segments").iterdir()
    with pytest.raises(WarehouseError, match=r"copy\.parquet is no file of the warehouse; move it out of that folder"):
        DuckDBWarehouse(held.rename(held.with_name("predictions-copy.parquet")).parents[1] / "w.duckdb")
    held.with_name("predictions-copy.parquet").unlink()
    reader = DuckDBWarehouse(path, read_only=True)
    with pytest.raises(WarehouseError, match=r"No files found that match the pattern .*w\.duckdb\.segments/predictions-"):
        reader.query("SELECT count(*) FROM predictions")
    reader.close()


@pytest.mark.usefixtures("patched")
def test_a_copy_and_a_file_that_was_moved_have_their_own_rows(tmp_path: Path) -> None:
    """A view holds the path it was made with: so read, the copy would show the original's new rows."""
    first, copy = tmp_path / "first", tmp_path / "it's a copy"
    it = DuckDBWarehouse(first / "w.duckdb")
    it.append("predictions", rows_of("predictions", range(BATCH)))
    it.close()
    shutil.copytree(first, copy)
    it = DuckDBWarehouse(first / "w.duckdb")
    it.append("predictions", rows_of("predictions", range(30, 50)))
    it.close()
    for there in (copy, first.rename(tmp_path / "moved")):
        rows = BATCH if there == copy else BATCH + 20
        for read_only in (True, False):
            it = DuckDBWarehouse(there / "w.duckdb", read_only=read_only)
            assert count(it) == rows
            it.close()
        with duckdb.connect(there / "w.duckdb", read_only=True) as plain:  # a writer had it open there
            assert plain.execute("SELECT count(*) FROM predictions").fetchone() == (rows,)


@pytest.mark.usefixtures("patched")
def test_files_where_duckdb_cannot_read_them_are_said(tmp_path: Path) -> None:
    it = DuckDBWarehouse(tmp_path / "a" / "w.duckdb")
    it.append("predictions", rows_of("predictions", range(BATCH)))
    it.close()
    with pytest.raises(WarehouseError, match=r"its path has \*, \? or \[ in it"):
        DuckDBWarehouse((tmp_path / "a").rename(tmp_path / "[a]") / "w.duckdb")
