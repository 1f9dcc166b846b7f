"""A worker that would ask the registry again in an hour asks at once when the registry's webhook calls."""

from __future__ import annotations

import time
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

from streams.broker import EmbeddedBroker
from streams.web import WEBHOOK_PATH
from streams.webhook import DELIVERY_ID, SIGNATURE, TIMESTAMP, Webhook
from tests.broker import inference_rows as making
from tests.broker.inference_world import Worker, metric, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.broker

KEY = "s3cret-of-the-registry"


def post(worker: Worker, *, key: str) -> int:
    body, now = b"{}", str(int(time.time()))
    headers = {DELIVERY_ID: key, TIMESTAMP: now, SIGNATURE: Webhook(key).signature(key, now, body)}
    connection = HTTPConnection("127.0.0.1", worker.port, timeout=5)
    try:
        connection.request("POST", WEBHOOK_PATH, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def in_force(worker: Worker, version: str) -> bool:
    labels = {"model": making.MODEL, "role": "champion", "version": version}
    return metric(worker.get("/metrics")[1], "trading_ml_model", labels) == 1


def test_a_signed_call_brings_the_new_version_into_force_long_before_the_registry_would_be_asked(tmp_path: Path) -> None:
    (tmp_path / "alias").write_text("1")
    with EmbeddedBroker(making.topics_of_the_broker()) as broker:
        more = {"INFERENCE__CACHE_TTL": "1h", "MLFLOW__WEBHOOK_SECRET": KEY}
        with Worker(tmp_path, broker.bootstrap_servers, command=("tests.broker.alias_worker",), **more) as worker:
            worker.wait_ready()
            (tmp_path / "alias").write_text("2")
            assert post(worker, key="of somebody else") == 401
            assert post(worker, key=KEY) == 202
            wait_until(lambda: in_force(worker, "2"), 20, alive=worker)
            assert metric(worker.get("/metrics")[1], "trading_ml_webhooks_total", {"result": "bad_signature"}) == 1
            assert KEY not in worker.log
