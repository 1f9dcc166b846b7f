"""Storing rows beside the DuckDB file that is broken off: by a full disk, or because the process is killed."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from monitoring import duckdb as warehouse_module
from monitoring import segments
from monitoring.duckdb import DuckDBWarehouse
from monitoring.errors import WarehouseError
from tests.unit.monitoring.test_segments import BATCH, count, files, rows_of, small

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def patched() -> Iterator[pytest.MonkeyPatch]:
    with small() as it:
        yield it


class _Full:
    """What a full disk says, at the next call only."""

    def __init__(self, then: object) -> None:
        self.then, self.calls = then, 0

    def __call__(self, *args: object, **named: object) -> object:
        self.calls += 1
        if self.calls == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.then(*args, **named)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("where", "has_files"),
    [*((where, has) for where in ("write", "fsync", "rename", "_sync") for has in (False, True)), ("_show", False)],
)
def test_a_full_disk_is_said_and_leaves_no_part(
    patched: pytest.MonkeyPatch, tmp_path: Path, where: str, *, has_files: bool
) -> None:
    path = tmp_path / "w.duckdb"
    it = DuckDBWarehouse(path)
    there = it.append("predictions", rows_of("predictions", range(100, 100 + BATCH))) if has_files else 0
    before = files(path)
    rows = rows_of("predictions", range(2 * BATCH))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if where == "write":
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))  # the system itself refuses to write on
    else:
        on = {"fsync": os, "rename": Path, "_sync": segments, "_show": it}[where]
        patched.setattr(on, where, _Full(getattr(on, where)))
    try:
        with pytest.raises(WarehouseError, match=r"refused 16 rows for table 'predictions': .*(No space|too large)"):
            it.append("predictions", rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    if where == "rename":
        patched.undo()
        patched.setattr(warehouse_module, "BATCH_ROWS", BATCH)
    assert count(it) == there
    if where == "_show":  # the file is whole, only not shown yet
        assert it.append("predictions", rows_of("predictions", range(200, 201))) == 1
        assert count(it) == 2 * BATCH + 1
        it.close()
        return
    assert files(path) == before
    assert it.append("predictions", rows_of("predictions", range(4, 4 + 2 * BATCH))) == 2 * BATCH
    assert it.append("predictions", rows) == 4
    assert count(it) == there + 2 * BATCH + 4
    it.close()


@pytest.mark.usefixtures("patched")
def test_what_a_killed_process_had_begun_is_cleared_away(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    it = DuckDBWarehouse(path)
    it.append("predictions", rows_of("predictions", range(BATCH)))
    begun = tmp_path / "w.duckdb.segments" / "predictions-000000000002-0-3.begun"
    begun.write_bytes(b"PAR1 and no more")
    assert count(it) == BATCH
    assert it.append("predictions", rows_of("predictions", range(18, 42))) == 24, "under that very name"
    begun.write_bytes(b"PAR1 and no more")
    it.close()
    reader = DuckDBWarehouse(path, read_only=True)
    assert count(reader) == BATCH + 24
    reader.close()
    assert begun.exists(), "reading changes nothing"
    it = DuckDBWarehouse(path)
    assert not begun.exists()
    assert count(it) == BATCH + 24
    it.close()


APPENDS = [range(at, at + n) for at, n in zip(range(0, 4000, 20), [3, 20, 9, 20] * 50, strict=True)]
CHILD = """
import sys
from monitoring import duckdb, recent_keys
from tests.unit.monitoring.test_duckdb_broken_off import APPENDS
from tests.unit.monitoring.test_segments import BATCH, rows_of
duckdb.BATCH_ROWS, recent_keys.MOST_BATCHES = BATCH, 2
it = duckdb.DuckDBWarehouse(sys.argv[1])
for keys in APPENDS:
    it.append("predictions", rows_of("predictions", keys))
    print(len(keys), flush=True)
"""


@pytest.mark.parametrize("kill_after", [1, 2, 7, 30])
@pytest.mark.usefixtures("patched")
def test_of_a_killed_process_each_append_is_there_whole_or_not_at_all(tmp_path: Path, kill_after: int) -> None:
    path = tmp_path / "w.duckdb"
    root = Path(__file__).parents[3]
    with subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, cwd=root) as child:
        assert child.stdout is not None
        for _ in range(kill_after):
            assert child.stdout.readline()
        child.kill()
        said = kill_after + len(child.stdout.read().splitlines())
    it = DuckDBWarehouse(path)
    there = {row["id"] for row in it.query("SELECT prediction_id AS id FROM predictions").to_pylist()}
    whole = [len(there & {f"p{k}" for k in keys}) / len(keys) for keys in APPENDS]
    assert set(whole) <= {0, 1}
    assert whole[:said] == [1] * said
    added = [it.append("predictions", rows_of("predictions", keys)) for keys in APPENDS]
    assert added == [0 if part else len(keys) for part, keys in zip(whole, APPENDS, strict=True)]
    assert count(it) == sum(map(len, APPENDS))
    it.close()
