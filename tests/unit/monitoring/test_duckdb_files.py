"""The DuckDB file: its lock, readers, files of earlier releases, how rows are written into it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import duckdb
import pytest

from monitoring.duckdb import DuckDBWarehouse
from monitoring.errors import WarehouseError
from monitoring.warehouse import BATCH_ROWS, TABLES, arrow_rows
from tests.unit.monitoring.test_duckdb import log_batch

if TYPE_CHECKING:
    from pathlib import Path


def test_rows_survive_reopening(tmp_path: Path) -> None:
    for expected in (10, 0):
        it = DuckDBWarehouse(tmp_path / "w.duckdb")
        assert it.append("predictions", log_batch(10)) == expected
        it.close()


def test_a_file_open_in_another_process_is_said_plainly(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(WarehouseError, match="open in another process; DuckDB allows one process per file"):
            DuckDBWarehouse(path)
        other.communicate()


def test_it_is_said_to_readers_too(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(WarehouseError, match=r"open in another process.*Conflicting lock"):
            DuckDBWarehouse(path, read_only=True)
        other.communicate()


def test_reading_only_sees_the_rows_makes_nothing_and_stores_nothing(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    DuckDBWarehouse(path).close()
    with duckdb.connect(path) as made:
        made.execute("DROP TABLE alerts")
    before = path.read_bytes()
    it = DuckDBWarehouse(path, read_only=True)
    tables = it.query("SELECT table_name AS t FROM information_schema.tables WHERE table_catalog = current_catalog()")
    in_file = {f"{name}_rows" for name, spec in TABLES.items() if spec.bulk}
    assert set(tables["t"].to_pylist()) == set(TABLES) - {"alerts"} | in_file
    with pytest.raises(WarehouseError, match="read-only"):
        it.append("predictions", log_batch(1))
    it.close()
    assert path.read_bytes() == before


def test_a_file_is_open_once_in_a_process(tmp_path: Path) -> None:
    """Opened a second time and closed, it would have lost its lock, and another process could write into it."""
    it = DuckDBWarehouse(tmp_path / "w.duckdb")
    (tmp_path / "link").symlink_to(tmp_path)
    for read_only in (False, True):
        with pytest.raises(WarehouseError, match="open in this process already; use that one"):
            DuckDBWarehouse(tmp_path / "link" / "w.duckdb", read_only=read_only)
    code = "import duckdb, sys; duckdb.connect(sys.argv[1])"
    other = subprocess.run([sys.executable, "-c", code, it.path], capture_output=True, text=True, check=False)
    assert "Conflicting lock" in other.stderr
    it.close()
    DuckDBWarehouse(tmp_path / "w.duckdb").close()


def test_a_path_may_have_a_quote_in_it(tmp_path: Path) -> None:
    DuckDBWarehouse(tmp_path / "it's.duckdb").close()
    assert (tmp_path / "it's.duckdb").exists()


@pytest.mark.parametrize("group_rows", [2_048, 122_880])
def test_rows_go_into_a_file_with_groups_of_another_size(tmp_path: Path, group_rows: int) -> None:
    """Files of earlier releases have groups of 122,880 rows, the last of them not full."""
    path = tmp_path / "w.duckdb"
    DuckDBWarehouse(path).close()
    with duckdb.connect() as old:
        old.execute(f"ATTACH '{path}' AS w (ROW_GROUP_SIZE {group_rows})")
        old.execute("INSERT INTO w.predictions_rows (prediction_id, ts_event_us) SELECT 'old-' || range, 0 FROM range(3000)")
    it = DuckDBWarehouse(path)
    assert [it.append("predictions", log_batch(n, first=f)) for f, n in ((0, BATCH_ROWS), (BATCH_ROWS, 10))] == [BATCH_ROWS, 10]
    it.close()
    with duckdb.connect(path, read_only=True) as plain:  # as people and other tools open it
        found = plain.execute("SELECT count(*), count(DISTINCT prediction_id) FROM predictions").fetchone()
    assert found == (3_000 + BATCH_ROWS + 10,) * 2


def test_whole_batches_bypass_the_log(tmp_path: Path) -> None:
    """That is what makes them cheap: they are compressed and written once."""
    path = tmp_path / "w.duckdb"
    it = DuckDBWarehouse(path)
    wal = path.with_name(f"{path.name}.wal")
    before = wal.stat().st_size
    it.append("predictions", log_batch(BATCH_ROWS))
    assert wal.stat().st_size - before < BATCH_ROWS
    before = wal.stat().st_size
    it.append("predictions", log_batch(BATCH_ROWS - 1, first=BATCH_ROWS))
    assert wal.stat().st_size - before > 100 * BATCH_ROWS
    it.close()


def test_two_processes_may_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    DuckDBWarehouse(path).close()
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        it = DuckDBWarehouse(path, read_only=True)
        assert it.query("SELECT count(*) AS n FROM predictions").to_pylist() == [{"n": 0}]
        it.close()
        other.communicate()


def test_reading_a_file_that_is_not_there_makes_none(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="is not there: a monitor makes it when it starts"):
        DuckDBWarehouse(tmp_path / "below" / "w.duckdb", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_an_earlier_release_gets_the_columns_it_lacks(tmp_path: Path) -> None:
    """Its tables as the first release made them, with a row in each of those that changed."""
    path = tmp_path / "w.duckdb"
    old = duckdb.connect(path)
    old.execute(
        "CREATE TABLE predictions (prediction_id VARCHAR, symbol VARCHAR, model VARCHAR, version VARCHAR, role VARCHAR, "
        "ts_event_us BIGINT, ts_decision_us BIGINT, horizon_us BIGINT, revision BIGINT, value DOUBLE, lower DOUBLE, "
        "upper DOUBLE, level DOUBLE, p_up DOUBLE, confidence DOUBLE, ood DOUBLE, completeness DOUBLE, abstained BOOLEAN, "
        "reason VARCHAR, vector_hash VARCHAR, spec_digest VARCHAR, source_topic VARCHAR, source_partition BIGINT, "
        "source_offset BIGINT)"
    )
    old.execute("INSERT INTO predictions (prediction_id, ts_event_us) VALUES ('prediction_id-0', 0)")
    old.execute(
        "CREATE TABLE performance (performance_id VARCHAR, model VARCHAR, version VARCHAR, role VARCHAR, "
        "window_start_us BIGINT, window_end_us BIGINT, revision BIGINT, drift VARCHAR, quality VARCHAR)"
    )
    old.execute("INSERT INTO performance (performance_id, window_end_us) VALUES ('p', 1)")
    old.close()
    for added in (1, 0):  # opened again, it has them already
        it = DuckDBWarehouse(path)
        assert it.append("predictions", log_batch(2)) == added
        told = arrow_rows("performance", [{"performance_id": "q", "window_end_us": 2, "paired": {"rows": 3}}])
        assert it.append("performance", told) == added
        published = it.query("SELECT ts_published_us AS t FROM predictions ORDER BY prediction_id").to_pylist()
        assert published == [{"t": None}, {"t": 1}]
        rows = it.query("SELECT paired, estimate, concept FROM performance ORDER BY performance_id").to_pylist()
        nothing = dict.fromkeys(("paired", "estimate", "concept"))
        assert rows == [nothing, nothing | {"paired": '{"rows":3}'}]
        for name, spec in TABLES.items():
            columns = it.query(f"SELECT * FROM {name} LIMIT 0").column_names  # noqa: S608  # names of tables
            assert set(columns) == set(spec.columns)
        it.close()


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    path.write_text("not a database, but long enough to be looked at" * 100)
    with pytest.raises(WarehouseError, match="cannot be opened"):
        DuckDBWarehouse(path)
