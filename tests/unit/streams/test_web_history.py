"""The monitor's web server gives rows of its warehouse: bounded, only what the schema has, to this machine unless opened."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pyarrow as pa
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from config import load_settings
from monitoring.duckdb import DuckDBWarehouse
from monitoring.errors import WarehouseError
from monitoring.warehouse import TABLES, arrow_rows
from streams.history import MonitorHistory
from streams.web import WebServer
from streams.web_history import MOST, WebHistory, refusal, web_history

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.asyncio


class Gated:
    """A warehouse that answers when it is let; from question `fails_at` on it refuses."""

    def __init__(self, *, fails_at: int = 1 << 30) -> None:
        self._inner = DuckDBWarehouse(":memory:")
        rows = [{"symbol": "S", "ts_event_us": i, "horizon_us": 1, "revision": 0, "value": 0.5} for i in range(60_000)]
        self._inner.append("outcomes", arrow_rows("outcomes", rows))
        self.open = threading.Event()
        self.open.set()
        self.all_in = threading.Event()
        self.asked = 0
        self.most_at_once = 0
        self._now = 0
        self._fails_at = fails_at

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
        self.asked += 1
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        if self._now == MOST:
            self.all_in.set()
        try:
            assert self.open.wait(30)
            if self.asked >= self._fails_at:
                raise WarehouseError("disk: /secret/path is gone")
            return self._inner.query(sql, parameters)
        finally:
            self._now -= 1


async def serving(warehouse: Any, *, host: str = "127.0.0.1", slow_s: float = 30.0) -> TestClient[Any, Any]:
    app = web.Application()
    WebHistory(warehouse, host=host, slow_s=slow_s).mount(app)
    client: TestClient[Any, Any] = TestClient(TestServer(app))
    await client.start_server()
    return client


@pytest.fixture
async def client() -> AsyncIterator[TestClient[Any, Any]]:
    one = await serving(Gated())
    yield one
    await one.close()


async def test_rows_come_as_an_arrow_stream_in_pages(client: TestClient[Any, Any]) -> None:
    response = await client.get("/history/outcomes?from_us=99&to_us=59998&columns=ts_event_us")
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/vnd.apache.arrow.stream"
    with pa.ipc.open_stream(await response.read()) as reader:
        batches = list(reader)
    assert [len(b) for b in batches] == [50_000, 9_899]
    assert [batches[0]["ts_event_us"][0].as_py(), batches[-1]["ts_event_us"][-1].as_py()] == [100, 59_998]
    tables = await (await client.get("/history")).json()
    assert tables == {"tables": list(TABLES)}


@pytest.mark.parametrize(
    ("path", "status", "why"),
    [
        ("/history/sqlite_master", 404, "there is no such table; the tables are features"),
        ("/history/outcomes?columns=value,ts_event_us)%20FROM%20alerts%20--", 400, "has no column 'ts_event_us) FROM alerts --'"),
        ("/history/outcomes?from_us=1;DROP", 400, "whole microseconds"),
        ("/history/outcomes?from_us=9999999999999999999", 400, "no time in microseconds"),
        ("/history/outcomes?where=1", 400, "the parameters are from_us, to_us, model, columns"),
        ("/history/outcomes?from_us=1&from_us=2", 400, "each once"),
        ("/history/predictions?model=" + "m" * 3000, 400, "at most 2048 characters"),
    ],
)
async def test_what_is_not_of_the_schema_is_refused(client: TestClient[Any, Any], path: str, status: int, why: str) -> None:
    response = await client.get(path)
    assert response.status == status
    assert why in (await response.json())["error"]


async def test_a_model_is_a_parameter_whatever_it_holds(client: TestClient[Any, Any]) -> None:
    response = await client.get("/history/predictions", params={"model": "m' OR '1'='1"})
    with pa.ipc.open_stream(await response.read()) as reader:
        assert reader.read_all().num_rows == 0


async def test_few_at_once_and_the_loop_turns_meanwhile() -> None:
    warehouse = Gated()
    warehouse.open.clear()
    client = await serving(warehouse)
    under_way = [asyncio.create_task(client.get("/history/outcomes?columns=value")) for _ in range(MOST)]
    await asyncio.to_thread(warehouse.all_in.wait, 30)
    refused = await client.get("/history/outcomes")
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    assert (await client.get("/history")).status == 200
    warehouse.open.set()
    assert [len(await (await task).read()) > 480_000 for task in under_way] == [True] * MOST
    assert (await client.get("/history/outcomes")).status == 200
    assert warehouse.most_at_once == MOST
    await client.close()


async def test_askers_that_take_nothing_are_let_go_and_others_get_their_answer() -> None:
    client = await serving(Gated(), slow_s=0.05)
    stuck = [await asyncio.open_connection("127.0.0.1", client.port, limit=1) for _ in range(MOST)]
    for _, writer in stuck:
        transport: Any = writer.transport
        transport.pause_reading()
        writer.write(b"GET /history/outcomes HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await writer.drain()
    history = MonitorHistory(f"http://127.0.0.1:{client.port}")  # asks again while it is told that others are under way
    found = await asyncio.to_thread(history.table, "outcomes", start_us=-1, end_us=1)
    assert found["ts_event_us"].to_pylist() == [0, 1]
    for _, writer in stuck:
        writer.close()
    await client.close()


async def test_an_answer_that_fails_halfway_is_not_taken_for_whole() -> None:
    client = await serving(Gated(fails_at=3))
    response = await client.get("/history/outcomes")
    assert response.status == 200
    with pytest.raises(aiohttp.ClientPayloadError):
        await response.read()
    await client.close()
    client = await serving(Gated(fails_at=3))
    history = MonitorHistory(f"http://127.0.0.1:{client.port}")
    with pytest.raises(WarehouseError, match="broke off its answer about outcomes"):
        await asyncio.to_thread(history.table, "outcomes", start_us=-1, end_us=60_000)
    await client.close()


async def test_one_that_fails_at_once_says_no_more_than_that() -> None:
    client = await serving(Gated(fails_at=1))
    history = MonitorHistory(f"http://127.0.0.1:{client.port}")
    with pytest.raises(WarehouseError, match="refuses: the warehouse did not answer; the monitor's log says why") as refused:
        await asyncio.to_thread(history.table, "outcomes", start_us=-1, end_us=60_000)
    assert "secret" not in str(refused.value)
    await client.close()


@pytest.mark.parametrize(
    ("listens_on", "peer", "host", "let_through"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1:8001", True),
        ("127.0.0.1", "127.0.0.1", "localhost", True),
        ("::1", "::1", "[::1]:8001", True),
        ("localhost", "127.0.0.1", "localhost:80", True),
        ("127.0.0.1", "127.0.0.1", "rebound.example", False),
        ("127.0.0.1", "127.0.0.1", "", False),
        ("127.0.0.1", "10.1.2.3", "localhost", False),
        ("127.0.0.1", None, "localhost", False),
        ("0.0.0.0", "10.1.2.3", "monitor.trading.svc:8000", True),  # noqa: S104 - nothing listens in this test
        ("10.1.2.3", "10.1.2.4", "monitor", True),
    ],
)
async def test_it_answers_this_machine_unless_the_operator_opened_it(
    listens_on: str, peer: str | None, host: str, let_through: object
) -> None:
    assert (refusal(listens_on=listens_on, peer=peer, host=host) == "") is let_through


async def test_a_name_that_was_made_to_resolve_here_gets_nothing(client: TestClient[Any, Any]) -> None:
    for path in ("/history", "/history/outcomes"):
        response = await client.get(path, headers={"Host": "rebound.example"})
        assert response.status == 403


async def test_a_web_server_that_is_no_monitor_is_told_apart() -> None:
    other: TestClient[Any, Any] = TestClient(TestServer(web.Application()))
    await other.start_server()
    with pytest.raises(WarehouseError, match="is not the web server of a monitor"):
        await asyncio.to_thread(MonitorHistory(f"http://127.0.0.1:{other.port}").look)
    await other.close()


class Idle:
    """A group that does nothing."""

    ready = True

    def assignment(self) -> list[int]:
        return []

    def lag(self) -> int:
        return 0


async def test_the_worker_s_web_server_has_it_and_leaves_word_where(tmp_path: Path) -> None:
    env = {"TRADING_ML__DATABASE__PATH": str(tmp_path / "w.duckdb")}
    settings = load_settings(ROOT / "config" / "local.yaml", env)
    group: Any = Idle()
    warehouse: Any = Gated()
    server = WebServer(group, "monitor", host="127.0.0.1", port=0, history=web_history(settings, warehouse))
    await server.on_start()
    note = tmp_path / "w.duckdb.monitor"
    url = note.read_text(encoding="utf-8").strip()
    found = await asyncio.to_thread(MonitorHistory(url).table, "outcomes", start_us=7, end_us=8)
    assert found["ts_event_us"].to_pylist() == [8]
    async with aiohttp.ClientSession() as session, session.get(f"{url}/healthz") as response:
        assert response.status == 200
    await server.on_stop()
    assert not note.exists()
