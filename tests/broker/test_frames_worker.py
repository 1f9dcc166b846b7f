"""A worker that reads frames and JSON rows mixed, over the embedded broker, judged by the oracle row by row."""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer

from streams.broker import EmbeddedBroker
from streams.frames_out import FRAME_HEADERS, frames
from tests.broker import inference_judge as judge
from tests.broker import inference_rows as world
from tests.broker.inference_rows import PARTITIONS, START_US, TOPICS
from tests.broker.inference_world import Worker, registry, wait_until
from tests.laws.oracle import Oracle, Row

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.broker

FEATURES = [f for features in world.SETS.values() for f in features]


def table(rows: list[dict[str, Any]]) -> pa.Table:
    plain = [{**{k: v for k, v in row.items() if k != "values"}, **row["values"]} for row in rows]
    return pa.table({name: [row.get(name) for row in plain] for name in (*list(rows[0])[:-1], *FEATURES)})


def _row(wire: dict[str, Any], offset: int) -> Row:
    values = {f: math.nan if x is None else x for f, x in wire["values"].items()}
    identity = wire["ts_event_us"], wire["ts_known_us"], wire["revision"]
    return Row(offset, wire["symbol"], wire["feature_set"], *identity, values)


def test_rows_mean_the_same_in_whatever_records_they_come(tmp_path: Path) -> None:
    sent = [json.loads(m["value"]) for m in world.stream(17, 70) if "headers" not in m]
    oracle = Oracle(world.SPEC, {n: f.depth_rows for n, f in world.FEATURE_SETS.items()})
    fates: list[str] = []
    with EmbeddedBroker(world.topics_of_the_broker()) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "partitioner": "murmur2_random", "linger.ms": 1})
        later = START_US // 1000 + 10**9

        def send(some: list[dict[str, Any]], *, framed: bool) -> None:
            for partition, data in frames(table(some), partitions=PARTITIONS, rows_per_frame=40) if framed else ():
                producer.produce(TOPICS.features, data, partition=partition, headers=list(FRAME_HEADERS), timestamp=later)
            for row in () if framed else some:
                producer.produce(TOPICS.features, json.dumps(row), key=row["symbol"], timestamp=later)
            fates.extend(oracle.read(_row(row, len(fates) + i)) for i, row in enumerate(some))  # each as a record of its own
            producer.produce(TOPICS.features, b"no frame", partition=1, headers=list(FRAME_HEADERS), timestamp=later)
            assert producer.flush(20) == 0

        with Worker(tmp_path, broker.bootstrap_servers, MLFLOW__TRACKING_URI=registry()) as worker:
            for piece, at in enumerate(range(0, len(sent), 230)):
                send(sent[at : at + 230], framed=piece % 3 != 2)
            worker.wait_ready()
            wait_until(judge.all_committed(broker.bootstrap_servers), alive=worker)
        want = {f"{world.MODEL}:{world.VERSION}:{a.row.symbol}:{a.row.event}:{a.row.revision}": a.vector for a in oracle.answers}
        predictions = [json.loads(r.value or b"") for r in judge.read_all(broker.bootstrap_servers, TOPICS.predictions)]
        assert sorted(p["prediction_id"] for p in predictions) == sorted(want)
        ends = judge.ends(broker.bootstrap_servers)
        assert all(p["source"]["offset"] < ends[p["source"]["partition"]] for p in predictions)
        logged: dict[str, list[float]] = {}
        for r in judge.read_all(broker.bootstrap_servers, TOPICS.inference_log):
            log = pa.ipc.open_stream(r.value).read_all()
            logged.update(zip(log["prediction_id"].to_pylist(), log["vector"].to_pylist(), strict=True))
        bits = {pid: struct.pack(f"<{len(v)}d", *v) for pid, v in logged.items()}
        assert bits == {pid: struct.pack(f"<{len(v)}d", *v) for pid, v in want.items()}
        reasons = [
            r.headers["__connect.errors.exception.class.name"].decode()
            for r in judge.read_all(broker.bootstrap_servers, TOPICS.features_rejected)
        ]
    pieces = -(-len(sent) // 230)
    refused = [fate for fate in fates if fate in {"conflict", "expired"}]
    assert sorted(reasons) == sorted([*refused, *["undecodable"] * pieces])
    assert set(refused) == {"conflict", "expired"}
