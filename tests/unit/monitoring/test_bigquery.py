"""The warehouse in BigQuery, against a small HTTP server that speaks the part of BigQuery's REST API it uses."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from monitoring.bigquery import ROWS_PER_REQUEST, BigQueryWarehouse
from monitoring.errors import WarehouseError
from monitoring.warehouse import TABLES, Warehouse, arrow_rows, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

pytest.importorskip("google.cloud.bigquery", reason="the extra gcp is not installed")


class FakeBigQuery(ThreadingHTTPServer):
    """Datasets, tables and insertAll with insert ids as BigQuery answers them; queries give what `answer` holds."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.datasets: set[str] = set()
        self.tables: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, dict[str, dict[str, Any]]] = {}
        self.requests: list[tuple[str, Any]] = []
        self.answer: dict[str, Any] = {}
        self.insert_errors: list[dict[str, Any]] = []
        self.unavailable = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def respond(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        parts = path.removeprefix("/bigquery/v2/projects/p/").split("/")
        match method, parts:
            case "POST", ["datasets"]:
                return self._create(self.datasets, body["datasetReference"]["datasetId"], body)
            case "GET", ["datasets", name]:
                return 200, {"datasetReference": {"projectId": "p", "datasetId": name}}
            case "POST", ["datasets", "d", "tables"]:
                name = body["tableReference"]["tableId"]
                code, said = self._create(set(self.tables), name, body)
                self.tables.setdefault(name, body)
                return code, said
            case "GET", ["datasets", "d", "tables", name]:
                return 200, self.tables[name]
            case "PATCH", ["datasets", "d", "tables", name]:
                self.tables[name].update(body)
                return 200, self.tables[name]
            case "POST", ["datasets", "d", "tables", name, "insertAll"]:
                return self._insert(name, body)
            case "POST", ["queries"]:
                return 200, {"jobComplete": True, "jobReference": {"projectId": "p", "jobId": "j"}, **self.answer}
        return 404, {"error": {"code": 404, "message": f"{method} {path} is not part of this fake"}}

    def _create(self, there: set[str], name: str, body: Any) -> tuple[int, dict[str, Any]]:
        if name in there:
            return 409, {"error": {"code": 409, "message": "Already Exists", "errors": [{"reason": "duplicate"}]}}
        there.add(name)
        return 200, body

    def _insert(self, name: str, body: Any) -> tuple[int, dict[str, Any]]:
        if self.unavailable:
            self.unavailable -= 1
            return 503, {"error": {"code": 503, "message": "try again", "errors": [{"reason": "backendError"}]}}
        if self.insert_errors:
            return 200, {"insertErrors": self.insert_errors}
        for row in body["rows"]:
            self.rows.setdefault(name, {})[row["insertId"]] = row["json"]
        return 200, {}


class _Handler(BaseHTTPRequestHandler):
    server: FakeBigQuery

    def _answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        path = urlsplit(self.path).path
        self.server.requests.append((path, body))
        code, said = self.server.respond(self.command, path, body)
        data = json.dumps(said).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = _answer  # noqa: N815  # the names http.server calls

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def fake() -> Iterator[FakeBigQuery]:
    server = FakeBigQuery()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def connect(fake: FakeBigQuery, *, project: str = "p") -> BigQueryWarehouse:
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    client = bigquery.Client(
        project="p",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options=ClientOptions(api_endpoint=fake.url),
    )
    return BigQueryWarehouse(project=project, dataset="d", client=client)


def outcomes(rows: int) -> pa.Table:
    one = {"symbol": "A", "horizon_us": 2, "value": 0.5, "ts_known_us": 3, "revision": 0}
    return arrow_rows("outcomes", [one | {"ts_event_us": i} for i in range(rows)])


def test_dataset_and_tables_are_made_once(fake: FakeBigQuery) -> None:
    connect(fake).close()
    connect(fake).close()
    assert fake.datasets == {"d"}
    assert set(fake.tables) == set(TABLES)
    fields = {f["name"]: (f["type"], f["mode"]) for f in fake.tables["features"]["schema"]["fields"]}
    assert fields["ts_event_us"] == ("INT64", "NULLABLE")
    assert fields["vector"] == ("FLOAT64", "REPEATED")


def test_a_table_of_an_earlier_release_gets_the_columns_it_lacks(fake: FakeBigQuery) -> None:
    connect(fake).close()
    fields = fake.tables["performance"]["schema"]["fields"]
    fake.tables["performance"]["schema"]["fields"] = [f for f in fields if f["name"] not in {"paired", "estimate", "concept"}]
    fake.tables["performance"]["schema"]["fields"].insert(0, {"name": "ours", "type": "STRING", "mode": "NULLABLE"})
    connect(fake).close()
    found = [f["name"] for f in fake.tables["performance"]["schema"]["fields"]]
    assert found == ["ours", *TABLES["performance"].columns]
    assert sum(isinstance(body, dict) and set(body) == {"schema"} for _, body in fake.requests) == 1


def test_rows_go_in_parts_with_their_key_as_insert_id(fake: FakeBigQuery) -> None:
    warehouse: Warehouse = connect(fake)
    assert warehouse.append("outcomes", outcomes(ROWS_PER_REQUEST + 1)) == ROWS_PER_REQUEST + 1
    parts = [len(body["rows"]) for path, body in fake.requests if path.endswith("insertAll")]
    assert parts == [ROWS_PER_REQUEST, 1]
    assert fake.rows["outcomes"]["A|7|2|0"] == {
        "symbol": "A", "ts_event_us": 7, "horizon_us": 2, "value": 0.5, "ts_known_us": 3, "revision": 0
    }  # fmt: skip
    warehouse.append("outcomes", outcomes(3))
    assert len(fake.rows["outcomes"]) == ROWS_PER_REQUEST + 1
    warehouse.close()


def test_missing_values_of_a_vector_go_by_name(fake: FakeBigQuery) -> None:
    warehouse = connect(fake)
    row = dict.fromkeys(arrow_schema("features").names) | {"prediction_id": "x", "vector": [1.0, np.nan, -np.inf]}
    warehouse.append("features", arrow_rows("features", [row]))
    stored = fake.rows["features"]["x"]
    assert (stored["vector"], stored["symbol"]) == ([1.0, "NaN", "-Infinity"], None)
    warehouse.close()


def test_a_passing_outage_is_ridden_out(fake: FakeBigQuery) -> None:
    warehouse = connect(fake)
    fake.unavailable = 1
    assert warehouse.append("outcomes", outcomes(2)) == 2
    assert len(fake.rows["outcomes"]) == 2
    warehouse.close()


def test_refused_rows_are_named(fake: FakeBigQuery) -> None:
    warehouse = connect(fake)
    fake.insert_errors = [{"index": 1, "errors": [{"reason": "invalid", "message": "no such field"}]}]
    with pytest.raises(WarehouseError, match=r"refused 1 of 2 rows; row 'A\|1\|2\|0'.*no such field"):
        warehouse.append("outcomes", outcomes(2))
    warehouse.close()


def test_a_query_names_its_dataset_and_types_its_parameters(fake: FakeBigQuery) -> None:
    warehouse = connect(fake)
    fake.answer = {
        "schema": {"fields": [{"name": "n", "type": "INTEGER"}, {"name": "v", "type": "FLOAT"}]},
        "rows": [{"f": [{"v": "3"}, {"v": "NaN"}]}],
        "totalRows": "1",
    }
    (row,) = warehouse.query(
        "SELECT n, v FROM outcomes WHERE symbol = ? AND revision = ? AND value > ?", ["A", 0, 0.5]
    ).to_pylist()
    assert row["n"] == 3
    assert np.isnan(row["v"])
    asked = fake.requests[-1][1]
    assert asked["defaultDataset"] == {"projectId": "p", "datasetId": "d"}
    assert [q["parameterType"]["type"] for q in asked["queryParameters"]] == ["STRING", "INT64", "FLOAT64"]
    warehouse.close()


def test_a_project_out_of_reach_is_said(fake: FakeBigQuery) -> None:
    with pytest.raises(WarehouseError, match=r"dataset elsewhere\.d cannot be opened.*check `database"):
        connect(fake, project="elsewhere")
