"""What the warehouse has is read from its file, from the monitor that has it, in pages, the same everywhere."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import load_settings
from monitoring.duckdb import DuckDBWarehouse
from monitoring.errors import WarehouseError
from monitoring.warehouse import TABLES, arrow_rows, arrow_schema
from streams.asking import Ask, pages, whole
from streams.history import MonitorHistory, WarehouseHistory, history_of, note_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from config import Settings

ROOT = Path(__file__).parents[3]


def outcome(symbol: str, at: int, *, horizon: int = 5, revision: int = 0) -> dict[str, Any]:
    value = {"value": at / 7, "ts_known_us": at + horizon}
    return {"symbol": symbol, "ts_event_us": at, "horizon_us": horizon, "revision": revision, **value}


def place(row: Mapping[str, Any]) -> Any:
    return itemgetter("ts_event_us", "symbol", "horizon_us", "revision")(row)


KEYS = st.tuples(st.sampled_from(["A", "B'; DROP TABLE outcomes --", "Ü"]), st.integers(-3, 6), st.sampled_from([5, 9]))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.builds(lambda k, r: outcome(k[0], k[1], horizon=k[2], revision=r), KEYS, st.integers(0, 2)), max_size=25),
    start=st.integers(-4, 7),
    end=st.integers(-4, 7),
    most=st.integers(1, 30),
)
def test_pages_of_any_size_are_the_rows_of_the_span_in_order(rows: list[dict[str, Any]], start: int, end: int, most: int) -> None:
    expected = sorted({place(r): r for r in rows if start < r["ts_event_us"] <= end}.values(), key=place)
    warehouse = DuckDBWarehouse(":memory:")
    warehouse.append("outcomes", arrow_rows("outcomes", rows))
    ask = Ask.of("outcomes", start_us=start, end_us=end)
    found = list(pages(warehouse, ask, most=most))
    assert [row for page in found for row in page.to_pylist()] == expected
    assert all(0 < len(page) <= most for page in found)
    assert sorted(whole(warehouse, ask).to_pylist(), key=place) == expected
    warehouse.close()


def test_what_is_asked_is_of_the_schema() -> None:
    with pytest.raises(WarehouseError, match="there is no table 'secrets'"):
        Ask.of("secrets")
    with pytest.raises(WarehouseError, match="no column '1; DROP TABLE alerts'"):
        Ask.of("alerts", columns=["event_id", "1; DROP TABLE alerts"])
    with pytest.raises(WarehouseError, match="no column of table 'alerts' is asked for"):
        Ask.of("alerts", columns=[])
    with pytest.raises(WarehouseError, match="is no time"):
        Ask.of("alerts", start_us=1 << 63)
    assert Ask.of("performance").page_rows < Ask.of("features").page_rows < Ask.of("predictions").page_rows


class Twice:
    """A warehouse that stores each row twice, as BigQuery may, and says what it was asked."""

    def __init__(self) -> None:
        self.inner = DuckDBWarehouse(":memory:")
        self.asked: list[tuple[str, list[Any]]] = []

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
        self.asked.append((sql, list(parameters)))
        found = self.inner.query(sql, parameters)
        return pa.concat_tables([found, found])

    def close(self) -> None:
        self.inner.close()


def test_where_each_question_costs_one_is_asked_and_each_row_comes_once() -> None:
    warehouse: Any = Twice()
    rows = [outcome("A", 3), outcome("A", 1), outcome("B", 2)]
    warehouse.inner.append("outcomes", arrow_rows("outcomes", rows))
    history = WarehouseHistory(warehouse, "BigQuery p.d", at_once=True)
    found = history.table("outcomes", start_us=0, end_us=2, model="x", columns=["value", "symbol"])
    assert found.to_pydict() == {"value": [1 / 7, 2 / 7], "symbol": ["A", "B"]}
    ((sql, parameters),) = warehouse.asked
    # BigQuery takes what stands in double quotes for a text.
    assert sql == (
        "SELECT value, symbol, ts_event_us, horizon_us, revision FROM outcomes WHERE ts_event_us > ? AND ts_event_us <= ?"
    )
    assert parameters == [0, 2]
    history.close()


def test_only_the_columns_asked_for_come_and_only_the_model() -> None:
    warehouse = DuckDBWarehouse(":memory:")
    rows = [{"prediction_id": str(i), "model": m, "ts_event_us": i, "value": i / 2} for i, m in enumerate("xyx")]
    warehouse.append("predictions", arrow_rows("predictions", rows))
    history = WarehouseHistory(warehouse, "memory")
    found = history.table("predictions", start_us=-1, end_us=9, model="x", columns=["value", "ts_event_us"])
    assert found.to_pydict() == {"value": [0.0, 1.0], "ts_event_us": [0, 2]}
    history.close()


def test_a_file_of_an_earlier_release_is_read_with_nulls(tmp_path: Path) -> None:
    import duckdb

    path = tmp_path / "old.duckdb"
    with duckdb.connect(str(path)) as old:
        old.execute("CREATE TABLE predictions AS SELECT 'p' AS prediction_id, 'm' AS model, 3::BIGINT AS ts_event_us")
    history = history_of(settings_with(path))
    found = history.table("predictions", start_us=0, end_us=9, model="m")
    assert found.schema == arrow_schema("predictions")
    assert (found["prediction_id"].to_pylist(), found["ts_published_us"].to_pylist()) == (["p"], [None])
    assert len(history.table("performance", start_us=0, end_us=9)) == 0
    history.close()


def settings_with(path: Path, **more: str) -> Settings:
    env = {"TRADING_ML__DATABASE__PATH": str(path), "TRADING_ML__WEB__PORT": "1", **more}
    return load_settings(ROOT / "config" / "local.yaml", env)


def features(rows: int) -> pa.Table:
    numbers = np.arange(rows)
    texts = [name for name, kind in TABLES["features"].columns.items() if kind == "string"]
    columns: dict[str, Any] = {name: [f"{name}-{i}" for i in numbers] for name in texts}
    columns |= {"ts_event_us": numbers, "ts_decision_us": numbers, "vector": [[float(i), float("nan")] for i in numbers]}
    return pa.table(columns, schema=arrow_schema("features"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("history") / "w.duckdb"
    warehouse = DuckDBWarehouse(path)
    warehouse.append("features", features(30_000))
    warehouse.append("alerts", arrow_rows("alerts", [{"event_id": "e", "updated_us": 4, "labels": {"model": "<m>"}}]))
    warehouse.close()
    return path


@contextmanager
def monitor(path: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.unit.streams.history_monitor", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            process.communicate()


def asked(history: Any, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    return history.table(name, start_us=10, end_us=29_000, columns=columns)


def test_the_monitor_that_has_the_file_gives_the_same_as_the_file(filled: Path) -> None:
    direct = history_of(settings_with(filled))
    of_file = {name: asked(direct, name) for name in TABLES}
    some = asked(direct, "features", ["symbol", "vector"])
    direct.close()
    assert "the file" in direct.source
    assert len(of_file["features"]) == 28_990
    with monitor(filled):
        through = history_of(settings_with(filled))
        assert through.source.startswith("the monitor at http://127.0.0.1:")
        for name in TABLES:
            assert asked(through, name).schema == arrow_schema(name)
            assert str(asked(through, name).to_pylist()) == str(of_file[name].to_pylist())  # as text, where NaN is NaN
        assert str(asked(through, "features", ["symbol", "vector"]).to_pylist()) == str(some.to_pylist())
        named = history_of(settings_with(filled.with_name("no file")), monitor_url=through.source.removeprefix("the monitor at "))
        assert len(asked(named, "features", ["symbol"])) == 28_990
    assert not note_of(settings_with(filled).database).exists()  # type: ignore[arg-type]  # DuckDB by these settings


def test_a_file_that_is_held_by_somebody_else_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "held.duckdb"
    program = (
        "import sys; from monitoring.duckdb import DuckDBWarehouse; "
        f"held = DuckDBWarehouse({str(path)!r}); print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(WarehouseError) as refused:
            history_of(settings_with(path))
        holder.communicate()
    said = str(refused.value)
    assert said.startswith(f"{path} is open in another process, and no monitor was found that could be asked for it: start the ")
    assert "--monitor URL" in said
    assert "stop whoever holds the file" in said
    assert "the monitor at http://127.0.0.1:1 does not answer" in said
    assert "\n" not in said


def test_no_file_and_no_address_are_told(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match=r"there is no warehouse at .*nothing.duckdb: start `trading-ml worker monitor`"):
        history_of(settings_with(tmp_path / "nothing.duckdb"))
    for url in ("ftp://127.0.0.1", "127.0.0.1:8000", "http://", "http://h:99999", "http://h?x=1"):
        with pytest.raises(WarehouseError, match="is no address of a monitor"):
            MonitorHistory(url)
