"""What the warehouse has, for commands, also while the workers run. Shell.

DuckDB lets one process write a file or any number read it, so the way in depends on who has it:

| the warehouse is             | it is read                                                                     |
|------------------------------|--------------------------------------------------------------------------------|
| a DuckDB file nobody writes  | from the file, which nobody can open for writing meanwhile (seconds)           |
| a DuckDB file of the monitor | through the monitor's web server (`streams.web_history`)                       |
| in BigQuery                  | there, whoever writes                                                          |
| anywhere, `monitor_url` given | through that monitor                                                          |
"""

from __future__ import annotations

import http.client
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote, urlencode, urlsplit

from monitoring.errors import WarehouseError
from streams.asking import Ask, columns_there, pages, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from config import Settings
    from config.sections import DuckdbDatabase
    from monitoring.warehouse import Warehouse

PATH: Final = "/history"
"""Where the monitor's web server answers: `PATH/{table}`."""

ARROW: Final = "application/vnd.apache.arrow.stream"
_ANSWER_S = 60.0
_BUSY_S = 30.0
_LOOK_S = 2.0
_MOST_OF_AN_ERROR = 4096


class History(Protocol):
    """Rows that were stored, by time."""

    source: str
    """Where they are read, in words."""
    at_once: bool
    """Whether a long span is better asked in one piece: each question costs, however little it brings."""

    def table(
        self, name: str, *, start_us: int, end_us: int, model: str | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Rows of a table with start_us < time <= end_us, in time order; a table without a time order is given whole.

        `model` narrows tables that have such a column, others are given for all models. `columns`: default all.
        Raises `WarehouseError`.
        """
        ...

    def close(self) -> None:
        """Let go of file or connection."""


def history_of(settings: Settings, *, monitor_url: str | None = None) -> History:
    """The way into the warehouse the settings name, or of the monitor at `monitor_url`. Raises `WarehouseError`."""
    if monitor_url is not None:
        monitor = MonitorHistory(monitor_url)
        monitor.look()
        return monitor
    database = settings.database
    if database.type == "bigquery":
        from monitoring.bigquery import BigQueryWarehouse

        warehouse = BigQueryWarehouse(project=database.project, dataset=database.dataset)
        return WarehouseHistory(warehouse, f"BigQuery {database.project}.{database.dataset}", at_once=True)
    return _of_file(database, settings)


def note_of(database: DuckdbDatabase) -> Path:
    """The file beside a DuckDB file in which the monitor that has it leaves its address."""
    return Path(f"{database.path}.monitor")


class WarehouseHistory:
    """Read from the warehouse itself."""

    def __init__(self, warehouse: Warehouse, source: str, *, at_once: bool = False) -> None:
        self._warehouse = warehouse
        self.source = source
        self.at_once = at_once
        self._there: dict[str, tuple[str, ...]] = {}

    def table(
        self, name: str, *, start_us: int, end_us: int, model: str | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """As `History.table`."""
        import pyarrow as pa

        ask = Ask.of(name, start_us=start_us, end_us=end_us, model=model, columns=columns)
        if self.at_once:
            return whole(self._warehouse, ask)
        if name not in self._there:
            self._there[name] = columns_there(self._warehouse, name)
        return pa.concat_tables([ask.schema.empty_table(), *pages(self._warehouse, ask, there=self._there[name])])

    def close(self) -> None:
        """Let go of the file or connection."""
        self._warehouse.close()


class MonitorHistory:
    """Read through a monitor's web server."""

    at_once = False

    def __init__(self, url: str, *, answer_s: float = _ANSWER_S) -> None:
        """`url`: root of the monitor's web server, such as http://127.0.0.1:8001. Nothing is asked yet."""
        self.source = f"the monitor at {url}"
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or parts.query or parts.fragment:
            raise WarehouseError(f"{url!r} is no address of a monitor; give its web server's, such as http://127.0.0.1:8001")
        self._tls = parts.scheme == "https"
        self._address = parts.hostname, port
        self._root = parts.path.rstrip("/")
        self._answer_s = answer_s

    def look(self) -> None:
        """Raise `WarehouseError` unless a monitor answers there."""
        connection = self._connect(_LOOK_S)
        try:
            self._asked(connection, PATH).read()
        finally:
            connection.close()

    def table(
        self, name: str, *, start_us: int, end_us: int, model: str | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """As `History.table`."""
        import pyarrow as pa

        ask = Ask.of(name, start_us=start_us, end_us=end_us, model=model, columns=columns)
        said: dict[str, str] = {"from_us": str(start_us), "to_us": str(end_us)}
        said |= {} if model is None else {"model": model}
        said |= {} if columns is None else {"columns": ",".join(ask.columns)}
        connection = self._connect(self._answer_s)
        try:
            response = self._asked(connection, f"{PATH}/{quote(name)}?{urlencode(said)}")
            with pa.ipc.open_stream(pa.PythonFile(response, mode="r")) as reader:
                table = reader.read_all()
            response.read()  # an answer broken off between two batches ends here, not at the last batch
            table.validate(full=True)
            return table.select(list(ask.columns)).cast(ask.schema)
        except (OSError, http.client.HTTPException, pa.ArrowException, KeyError) as e:
            raise WarehouseError(f"{self.source} broke off its answer about {name} ({e}); ask again") from e
        finally:
            connection.close()

    def close(self) -> None:
        """Nothing is held between questions."""

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        # Not urllib's opener: no proxy of the environment, no redirects.
        kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        return kind(*self._address, timeout=timeout_s)

    def _asked(self, connection: http.client.HTTPConnection, path: str) -> http.client.HTTPResponse:
        """The answer, once the monitor is free to give one."""
        deadline = time.monotonic() + _BUSY_S
        while True:
            try:
                connection.request("GET", self._root + path)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as e:
                raise WarehouseError(
                    f"{self.source} does not answer ({e}); start it, or give the address of its web server"
                ) from e
            if response.status == http.client.OK:
                return response
            body = response.read(_MOST_OF_AN_ERROR)
            connection.close()
            if response.status == http.client.NOT_FOUND and not body.startswith(b"{"):
                raise WarehouseError(
                    f"{self.source.removeprefix('the monitor at ')} is not the web server of a monitor of this release: "
                    "give that of `trading-ml worker monitor`, as its --web-port says"
                )
            if response.status != http.client.TOO_MANY_REQUESTS or time.monotonic() > deadline:
                raise WarehouseError(f"{self.source} refuses: {_error(body)} (HTTP {response.status})")
            time.sleep(0.5)


def _of_file(database: DuckdbDatabase, settings: Settings) -> History:
    from monitoring.duckdb import DuckDBWarehouse

    if not database.path.exists():
        raise WarehouseError(
            f"there is no warehouse at {database.path}: start `trading-ml worker monitor`, which makes it, "
            "set `database.path`, or give the address of the monitor that has it with --monitor URL"
        )
    try:
        return WarehouseHistory(DuckDBWarehouse(database.path, read_only=True), f"the file {database.path}")
    except WarehouseError as locked:
        if not re.search(r"\block\b", str(locked)):
            raise
        tried = []
        for url in _addresses(database, settings):
            try:
                monitor = MonitorHistory(url)
                monitor.look()
            except WarehouseError as e:
                tried.append(str(e))
                continue
            return monitor
        raise WarehouseError(
            f"{database.path} is open in another process, and no monitor was found that could be asked for it: start the "
            f"monitor, give the address of its web server with --monitor URL, or stop whoever holds the file ({'; '.join(tried)})"
        ) from locked


def _addresses(database: DuckdbDatabase, settings: Settings) -> list[str]:
    """Where the monitor may be: where it said, where the settings say."""
    host = settings.web.host if settings.web.host not in {"0.0.0.0", "::", ""} else "127.0.0.1"  # noqa: S104 - read, not bound
    said = f"http://{f'[{host}]' if ':' in host else host}:{settings.web.port}" if settings.web.port else None
    try:
        left = note_of(database).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError):
        left = None
    return [url for url in dict.fromkeys((left, said)) if url]


def _error(body: bytes) -> str:
    try:
        said = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        said = body.decode("utf-8", "backslashreplace")
    return str(said)[:500]
