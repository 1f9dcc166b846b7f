"""The warehouse through the monitor's web server, since DuckDB lets nobody else read a file that the monitor writes. Shell.

    GET /history                                                       which tables there are
    GET /history/{table}?from_us=&to_us=&model=&columns=a,b            rows with from_us < time <= to_us, as an Arrow IPC stream

Tables and columns are fixed (`streams.asking`), everything else is bound as a parameter. Queries run in threads, so the event
loop turns; answers leave page by page, so memory holds one page each; at most `MOST` are given at once, else 429.

There is no login here, as there is none at `/metrics`. Listening on loopback, as the default is, it answers this machine only,
and only requests that name it so: a web page that had its own name resolve to 127.0.0.1 gets 403. `web.host` set to another
address opens it, like the metrics, to whom the network lets through.
"""

from __future__ import annotations

import asyncio
import io
import ipaddress
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from monitoring.errors import WarehouseError
from monitoring.warehouse import TABLES
from streams.asking import FOREVER_US, Ask, pages
from streams.history import ARROW, PATH, note_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from config import Settings
    from monitoring.warehouse import Warehouse

log = structlog.get_logger()

MOST: Final = 2
"""Answers given at once."""

SLOW_S: Final = 30.0
"""An asker that takes nothing for so long is let go, so that it does not keep others out."""

_ASKED = ("from_us", "to_us", "model", "columns")
_MOST_TEXT = 2048


def web_history(settings: Settings, warehouse: Warehouse) -> WebHistory:
    """Answers of the monitor with these settings from its warehouse. BigQuery is asked by everybody itself and needs no note."""
    note = note_of(settings.database) if settings.database.type == "duckdb" else None
    return WebHistory(warehouse, host=settings.web.host, note=note)


class WebHistory:
    """Answers of one monitor."""

    def __init__(self, warehouse: Warehouse, *, host: str, note: Path | None = None, slow_s: float = SLOW_S) -> None:
        """`host`: the address listened on; `note`: the file that tells commands where that is."""
        self._warehouse = warehouse
        self._host = host
        self._note = note
        self._slow_s = slow_s
        self._under_way = 0

    def mount(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get(PATH, self._tables)
        app.router.add_get(PATH + "/{table}", self._rows)

    def announce(self, port: int) -> None:
        """Leave word of where this is; what goes wrong there only makes commands ask for the address."""
        if self._note is None:
            return
        host = self._host if self._host not in {"0.0.0.0", "::", ""} else "127.0.0.1"  # noqa: S104 - compared, not bound
        try:
            self._note.write_text(f"http://{f'[{host}]' if ':' in host else host}:{port}\n", encoding="utf-8")
        except OSError as e:
            log.warning("commands will have to be told --monitor", note=str(self._note), error=str(e))

    def withdraw(self) -> None:
        """Take that word back."""
        if self._note is not None:
            self._note.unlink(missing_ok=True)

    async def _tables(self, request: web.Request) -> web.Response:
        refused = self._refusal(request)
        return _said(403, refused) if refused else web.json_response({"tables": list(TABLES)})

    async def _rows(self, request: web.Request) -> web.StreamResponse:
        refused = self._refusal(request)
        if refused:
            return _said(403, refused)
        table = request.match_info["table"]
        if table not in TABLES:
            return _said(404, f"there is no such table; the tables are {', '.join(TABLES)}")
        try:
            ask = _ask(table, request)
        except (ValueError, WarehouseError) as e:
            return _said(400, str(e))
        if self._under_way >= MOST:
            return _said(429, f"{MOST} answers are under way; ask again in a moment", {"Retry-After": "1"})
        self._under_way += 1
        try:
            return await self._stream(request, _parts(self._warehouse, ask))
        finally:
            self._under_way -= 1

    async def _stream(self, request: web.Request, parts: Iterator[bytes]) -> web.StreamResponse:
        try:
            part = await asyncio.to_thread(next, parts)  # what the warehouse refuses, it refuses here
        except WarehouseError as e:
            log.warning("a question about the warehouse failed", error=str(e))
            return _said(503, "the warehouse did not answer; the monitor's log says why")
        response = web.StreamResponse(headers={"Content-Type": ARROW, "Cache-Control": "no-store"})
        await response.prepare(request)
        try:
            while part:
                await asyncio.wait_for(response.write(part), self._slow_s)
                part = await asyncio.to_thread(next, parts)
            await asyncio.wait_for(response.write_eof(), self._slow_s)
        except (WarehouseError, TimeoutError) as e:
            log.warning("an answer about the warehouse was broken off", error=str(e) or "its asker takes nothing")
            if request.transport is not None:
                request.transport.abort()  # without the last chunk, so that nobody takes it for whole
        return response

    def _refusal(self, request: web.Request) -> str:
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        return refusal(listens_on=self._host, peer=peer[0] if peer else None, host=request.headers.get("Host", ""))


def refusal(*, listens_on: str, peer: str | None, host: str) -> str:
    """Why a request from address `peer` that names us `host` gets nothing; empty if it is let through.

    >>> refusal(listens_on="127.0.0.1", peer="127.0.0.1", host="localhost:8001")
    ''
    >>> refusal(listens_on="127.0.0.1", peer="127.0.0.1", host="rebound.example:8001")
    'web.host is 127.0.0.1, which is for this machine: ask as localhost or 127.0.0.1'
    """
    if not _loopback(listens_on):
        return ""
    if _loopback(peer or "") and _loopback(urlsplit(f"//{host}").hostname or ""):
        return ""
    return f"web.host is {listens_on}, which is for this machine: ask as localhost or 127.0.0.1"


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _ask(table: str, request: web.Request) -> Ask:
    said: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in _ASKED or name in said or len(value) > _MOST_TEXT:
            raise ValueError(f"the parameters are {', '.join(_ASKED)}, each once, of at most {_MOST_TEXT} characters")
        said[name] = value
    columns = said.get("columns")
    return Ask.of(
        table,
        start_us=_time(said.get("from_us"), -FOREVER_US),
        end_us=_time(said.get("to_us"), FOREVER_US),
        model=said.get("model"),
        columns=None if columns is None else columns.split(","),
    )


def _time(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII):
        raise ValueError("from_us and to_us are whole microseconds since 1970")
    return int(text)


def _parts(warehouse: Warehouse, ask: Ask) -> Iterator[bytes]:
    """An Arrow IPC stream in parts, a page each; then nothing but empty parts."""
    import pyarrow as pa

    sink = io.BytesIO()

    def taken() -> bytes:
        part = sink.getvalue()
        sink.seek(0)
        sink.truncate()
        return part

    with pa.ipc.new_stream(sink, ask.schema) as writer:
        for page in pages(warehouse, ask):
            writer.write_table(page)
            yield taken()
    yield taken()
    yield b""


def _said(status: int, why: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": why}, status=status, headers=headers)
