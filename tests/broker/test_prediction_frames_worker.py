"""A worker whose model publishes frames: row by row what JSON records would have said, each once, and after a kill no other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from config import load_settings
from streams.broker import EmbeddedBroker
from streams.pipeline import Pipeline
from streams.prediction_frames import decode_predictions
from streams.records import PartitionRecords
from streams.wire import ARROW_STREAM
from tests.broker import inference_judge as judging
from tests.broker import inference_rows as making
from tests.broker.inference_rows import MODEL, PARTITIONS, TOPICS, Feeder
from tests.broker.inference_world import LIGHT, Worker, metric, wait_until
from tests.broker.light_worker import AtHand
from tests.record import Record

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.broker

FRAMES = json.dumps([{"name": MODEL, "publish": "frames"}])


def published(servers: str) -> list[dict[str, Any]]:
    """The rows of all records of the predictions topic."""
    rows = []
    for r in judging.read_all(servers, TOPICS.predictions):
        assert (r.key, r.headers) == (None, {"content-type": ARROW_STREAM})
        frame = decode_predictions(r.value or b"")
        assert {row["source"]["partition"] for row in frame} == {r.partition}
        rows += frame
    return rows


def as_rows(servers: str) -> list[dict[str, Any]]:
    """What the JSON records would be: the features topic through the pipeline of a model that publishes rows."""
    by_partition: dict[int, list[Record]] = {}
    timestamp = making.START_US // 1000 + 10**9
    for r in judging.read_all(servers, TOPICS.features):
        by_partition.setdefault(r.partition, []).append(Record(r.offset, timestamp, r.key, r.value, tuple(r.headers.items())))
    inference = load_settings(env={}).inference
    max_future_us = int(inference.max_future.total_seconds() * 1_000_000)
    pipeline = Pipeline([AtHand().load(MODEL, "1")], partitions=PARTITIONS, max_future_us=max_future_us, slack_rows=8)
    parts = [PartitionRecords(TOPICS.features, p, records) for p, records in by_partition.items()]
    return [json.loads(value) for _, _, value in pipeline.step(parts, lambda _p, _s: None).predictions]


def by_id(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["prediction_id"]: row for row in rows}


def test_each_row_is_delivered_once_and_says_what_its_json_record_would(tmp_path: Path) -> None:
    with EmbeddedBroker(making.topics_of_the_broker()) as broker:
        servers = broker.bootstrap_servers
        feeder = Feeder(servers)
        rows = list(making.stream(23, 90))
        third = len(rows) // 3
        feeder.send(rows[:third])
        with Worker(tmp_path, servers, command=LIGHT, MODELS=FRAMES) as worker:
            worker.wait_ready()
            feeder.send(rows[third : 2 * third])
            wait_until(judging.all_committed(servers), alive=worker)
            found, expected = published(servers), as_rows(servers)
            assert len(found) == len(expected) > 500
            assert by_id(found) == by_id(expected)
            assert metric(worker.get("/metrics")[1], "trading_ml_predictions_total") == len(found)
            assert len(judging.read_all(servers, TOPICS.predictions)) < len(found) / 2
            feeder.send(rows[2 * third :])
            wait_until(lambda: worker.rows() > 2 * third, alive=worker)
            worker.kill()
        with Worker(tmp_path, servers, command=LIGHT, MODELS=FRAMES) as worker:
            worker.wait_ready()
            wait_until(judging.all_committed(servers), alive=worker)
            assert worker.stop() == 0
        found, expected = published(servers), as_rows(servers)
        assert by_id(found) == by_id(expected)
        assert all(row == by_id(expected)[row["prediction_id"]] for row in found)
