"""A real worker whose champion a Vertex AI endpoint scores: the same numbers as without one, and none missing when it fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.registry import Registry
from streams.broker import EmbeddedBroker
from tests.broker import inference_judge as judging
from tests.broker import inference_rows as making
from tests.broker.inference_rows import MODEL, VERSION, Feeder
from tests.broker.inference_world import Worker, metric, registry, wait_until
from tests.unit.models.token_server import granting
from tests.unit.models.vertex_server import Fault, serving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.broker


def scored(worker: Worker, by: str) -> float:
    return metric(worker.get("/metrics")[1], "trading_ml_endpoint_rows_total", {"by": by, "model": MODEL})


def test_the_endpoint_scores_and_the_local_copy_where_it_fails(tmp_path: Path) -> None:
    uri = registry()
    handle = Registry(uri, tmp_path / "own-cache", trial=False).load(MODEL, VERSION)
    with EmbeddedBroker(making.topics_of_the_broker()) as broker, serving() as vertex, granting() as google:
        vertex.deploy(handle, deployed_id="7", vertex_version="1")
        servers = broker.bootstrap_servers
        feeder = Feeder(servers)
        rows = list(making.stream(17, 40))
        feeder.send(rows[: len(rows) // 2])
        endpoint = {
            "ENABLED": "true",
            "PROJECT": "p",
            "LOCATION": "us-central1",
            "ENDPOINT_ID": "1",
            "TIMEOUT": "0.5s",
            "API_ENDPOINT": vertex.url,
            "CREDENTIALS_FILE": str(google.write_key(tmp_path / "key.json")),
        }
        settings = {f"VERTEX__{k}": v for k, v in endpoint.items()}
        with Worker(tmp_path, servers, MLFLOW__TRACKING_URI=uri, **settings) as worker:
            worker.wait_ready()
            wait_until(judging.all_committed(servers), alive=worker)
            by_endpoint = scored(worker, "endpoint")
            assert by_endpoint > 0
            assert scored(worker, "local") == 0
            vertex.always = Fault(status=503)
            feeder.send(rows[len(rows) // 2 :])
            wait_until(judging.all_committed(servers), alive=worker)
            assert scored(worker, "local") > 0
            assert scored(worker, "endpoint") == by_endpoint
            assert worker.stop() == 0
        outcome, want = judging.judge(servers)
        assert outcome.faults == {}
        bodies = [json.loads(r.value or b"") for r in judging.read_all(servers, making.TOPICS.predictions)]
        here = handle.predict(np.array([want.vectors[b["prediction_id"]] for b in bodies]))
        assert [b["value"] for b in bodies] == here.tolist()
        assert len(vertex.bodies) > 1
