"""The schema, and the warehouse in a DuckDB file."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.duckdb import MEMORY_MB, DuckDBWarehouse
from monitoring.errors import WarehouseError
from monitoring.warehouse import TABLES, Warehouse, arrow_rows, arrow_schema, conform, unique

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[DuckDBWarehouse]:
    it = DuckDBWarehouse(tmp_path / "new folder" / "w.duckdb")
    yield it
    it.close()


def test_it_keeps_a_bounded_part_of_the_file_in_memory(warehouse: DuckDBWarehouse) -> None:
    """DuckDB's own bound is four fifths of the machine, which a worker beside others does not have."""
    (held,) = warehouse.query("SELECT current_setting('memory_limit') AS most").to_pylist()
    assert held == {"most": f"{MEMORY_MB}.0 MiB"}


def log_batch(rows: int, *, first: int = 0) -> pa.RecordBatch:
    """Rows as the inference log has them: more columns than any table, a fixed-size vector, int32 partitions."""
    schema = arrow_schema("predictions")
    numbers = np.arange(first, first + rows)
    columns: dict[str, pa.Array] = {}
    for field in schema:
        if pa.types.is_string(field.type):
            columns[field.name] = pa.array([f"{field.name}-{i}" for i in numbers])
        elif pa.types.is_boolean(field.type):
            columns[field.name] = pa.array(numbers % 2 == 0)
        else:
            columns[field.name] = pa.array(numbers).cast(field.type)
    columns["source_partition"] = columns["source_partition"].cast(pa.int32())
    vector = np.full((rows, 3), 1.5)
    vector[:, 1] = np.nan
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vector.ravel()), 3)
    return pa.RecordBatch.from_pydict(columns)


def test_every_table_names_its_key_and_order_among_its_columns() -> None:
    for spec in TABLES.values():
        assert set(spec.key) <= set(spec.columns)
        assert spec.order is None or spec.columns[spec.order] == "int64"


def test_one_log_batch_feeds_predictions_and_features(warehouse: Warehouse) -> None:
    assert warehouse.append("predictions", log_batch(10)) == 10
    assert warehouse.append("features", log_batch(10)) == 10
    found = warehouse.query("SELECT vector FROM features WHERE prediction_id = ?", ["prediction_id-3"])
    (vector,) = found["vector"].to_pylist()
    assert (vector[0], np.isnan(vector[1]), vector[2]) == (1.5, True, 1.5)
    assert warehouse.query("SELECT source_partition AS p FROM predictions ORDER BY p").to_pylist()[-1] == {"p": 9}


def test_rows_are_unique_by_key_within_a_batch_and_across(warehouse: Warehouse) -> None:
    assert warehouse.append("predictions", log_batch(10)) == 10
    assert warehouse.append("predictions", log_batch(10, first=5)) == 5
    assert warehouse.append("predictions", log_batch(15)) == 0
    twice = pa.Table.from_batches([log_batch(2, first=50), log_batch(2, first=50)])
    assert warehouse.append("predictions", twice) == 2
    assert warehouse.query("SELECT count(*) AS n, count(DISTINCT prediction_id) AS d FROM predictions").to_pylist() == [
        {"n": 17, "d": 17}
    ]


def test_plain_records_become_rows_with_json_as_text(warehouse: Warehouse) -> None:
    alert = {"event_id": "e1", "labels": {"model": "m"}, "updated_us": 5, "not in the table": 1}
    warehouse.append("alerts", arrow_rows("alerts", [alert]))
    warehouse.append("performance", arrow_rows("performance", [{"performance_id": "p", "drift": {"rows": 3}, "quality": None}]))
    assert warehouse.query("SELECT labels->>'model' AS m FROM alerts").to_pylist() == [{"m": "m"}]
    assert warehouse.query("SELECT drift, quality FROM performance").to_pylist() == [{"drift": '{"rows":3}', "quality": None}]


def test_outcome_revisions_are_rows_of_their_own(warehouse: Warehouse) -> None:
    one = {"symbol": "A", "ts_event_us": 1, "horizon_us": 2, "value": 0.5, "ts_known_us": 3, "revision": 0}
    assert warehouse.append("outcomes", arrow_rows("outcomes", [one, one | {"revision": 1}, one])) == 2


def test_a_table_without_order_is_unique_too(warehouse: Warehouse) -> None:
    names = arrow_rows("vector_columns", [{"spec_digest": "d", "model": "m", "version": "1", "columns": ["a", "b"]}])
    assert [warehouse.append("vector_columns", names), warehouse.append("vector_columns", names)] == [1, 0]
    assert warehouse.query("SELECT columns FROM vector_columns").to_pylist() == [{"columns": ["a", "b"]}]


def test_nothing_to_store_is_nothing(warehouse: Warehouse) -> None:
    assert warehouse.append("alerts", arrow_rows("alerts", [])) == 0


def test_times_are_utc(warehouse: Warehouse) -> None:
    assert warehouse.query("SELECT make_timestamptz(0)::VARCHAR AS t").to_pylist() == [{"t": "1970-01-01 00:00:00+00"}]


def test_reading_goes_on_while_another_thread_appends(warehouse: Warehouse) -> None:
    failed: list[BaseException] = []
    done = threading.Event()

    def write() -> None:
        try:
            for i in range(40):
                warehouse.append("predictions", log_batch(100, first=100 * i))
        except BaseException as e:  # noqa: BLE001  # shown by the assertion below
            failed.append(e)
        finally:
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = [0]
    while not done.is_set():
        seen.append(warehouse.query("SELECT count(*) AS n FROM predictions").to_pylist()[0]["n"])
    writer.join()
    assert failed == []
    assert seen == sorted(seen)
    assert all(n % 100 == 0 for n in seen)
    assert warehouse.query("SELECT count(*) AS n FROM predictions").to_pylist() == [{"n": 4000}]


def test_rows_that_waited_since_an_earlier_release_have_nulls(warehouse: Warehouse) -> None:
    rows = pa.Table.from_batches([log_batch(2)]).drop_columns(["ts_published_us"])
    assert warehouse.append("predictions", rows) == 2
    assert warehouse.query("SELECT DISTINCT ts_published_us AS t FROM predictions").to_pylist() == [{"t": None}]


@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 2), st.integers(0, 1)), max_size=12), st.integers(0, 12))
def test_of_rows_with_one_key_the_first_is_taken(keys: list[tuple[str, int, int]], cut: int) -> None:
    rows = [
        {"symbol": s, "ts_event_us": t, "horizon_us": 1, "value": float(i), "ts_known_us": None, "revision": r}
        for i, (s, t, r) in enumerate(keys)
    ]
    parts = [arrow_rows("outcomes", some) for some in (rows[:cut], rows[cut:])]
    first: dict[tuple[str, int, int], float] = {}
    for i, key in enumerate(keys):
        first.setdefault(key, float(i))
    assert unique("outcomes", pa.concat_tables(parts))["value"].to_pylist() == list(first.values())


@pytest.mark.parametrize(
    ("table", "rows", "says"),
    [
        ("nowhere", log_batch(1), "no table 'nowhere'; the tables are features"),
        ("outcomes", log_batch(1), "lack the columns ts_known_us"),
        ("predictions", log_batch(1).set_column(0, "prediction_id", pa.nulls(1, pa.string())), "have no prediction_id"),
        ("predictions", log_batch(1).set_column(5, "ts_event_us", pa.array(["x"])), "not of the table's types"),
    ],
)
def test_rows_that_do_not_fit_are_refused(table: str, rows: pa.RecordBatch, says: str) -> None:
    with pytest.raises(WarehouseError, match=says):
        conform(table, rows)


@pytest.mark.parametrize(
    "sql", ["SELECT nothing", "SELECT * FROM nowhere", "SELECT * FROM", "DROP TABLE alerts", "SELECT 1; SELECT 2"]
)
def test_a_bad_query_is_said(warehouse: Warehouse, sql: str) -> None:
    with pytest.raises(WarehouseError, match="query"):
        warehouse.query(sql)
