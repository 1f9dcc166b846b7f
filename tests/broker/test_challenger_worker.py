"""A real worker with a challenger that hangs: every champion's record as without it, shadow abstains, and it leaves in time."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

import pytest

from config import load_settings
from streams.broker import EmbeddedBroker
from streams.pipeline import Pipeline
from streams.records import PartitionRecords
from streams.switches import is_switch
from tests.broker import inference_judge as judging
from tests.broker import inference_rows as making
from tests.broker.inference_rows import MODEL, PARTITIONS, TOPICS, Feeder
from tests.broker.inference_world import Worker, metric, wait_until
from tests.broker.light_worker import AtHand
from tests.laws.oracle import Row
from tests.record import Record
from tests.unit.models.apart_actor import Cue

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.broker
SERVED = json.dumps([{"name": MODEL, "challenger_alias": "next"}])
BUDGET_S = 0.2


def rows(first: int, steps: int, **cues: Cue) -> list[dict[str, Any]]:
    """Bars of all symbols at so many times; a symbol named has a cue in place of a value in each."""
    out = []
    for step in range(first, first + steps):
        event = making.START_US + step * making.BAR_US
        for at, symbol in enumerate(making.SYMBOLS):
            x = float(cues[symbol]) if symbol in cues else math.sin(step * 31 + at)
            out.append(making.message(Row(0, symbol, "bars", event, event + 1_000_000, 0, {"x": x, "y": at / 7.0})))
    return out


def without_challenger(servers: str) -> dict[str, bytes]:
    """By id, what the champion makes of the topic where there is no challenger."""
    by_partition: dict[int, list[Record]] = {}
    for r in judging.read_all(servers, TOPICS.features):
        record = Record(r.offset, making.START_US // 1000 + 10**9, r.key, r.value, tuple(r.headers.items()))
        if not is_switch(record):
            by_partition.setdefault(r.partition, []).append(record)
    max_future_us = int(load_settings(env={}).inference.max_future.total_seconds() * 1_000_000)
    pipeline = Pipeline([AtHand().load(MODEL, "1")], partitions=PARTITIONS, max_future_us=max_future_us, slack_rows=8)
    parts = [PartitionRecords(TOPICS.features, p, records) for p, records in by_partition.items()]
    out = pipeline.step(parts, lambda _p, _s: None)
    return {json.loads(value)["prediction_id"]: value for _, _, value in out.predictions}


def challenger(worker: Worker, name: str) -> float:
    return metric(worker.get("/metrics")[1], name, {"model": MODEL, "version": "2"})


def test_a_challenger_that_hangs_costs_no_champions_record_and_no_time_to_leave(tmp_path: Path) -> None:
    with EmbeddedBroker(making.topics_of_the_broker()) as broker:
        servers = broker.bootstrap_servers
        feeder = Feeder(servers)
        feeder.send(rows(0, 10))
        with Worker(
            tmp_path,
            servers,
            command=("tests.broker.challenged_worker",),
            MODELS=SERVED,
            INFERENCE__CACHE_TTL="0.3s",
            INFERENCE__CHALLENGER_BUDGET=f"{BUDGET_S}s",
        ) as worker:
            worker.wait_ready()
            in_force = {"model": MODEL, "role": "challenger", "version": "2"}
            wait_until(lambda: metric(worker.get("/metrics")[1], "trading_ml_model", in_force) == 1, alive=worker)
            wait_until(judging.all_committed(servers), alive=worker)
            feeder.send(rows(10, 5))
            wait_until(judging.all_committed(servers), alive=worker)
            for step in range(15, 20):
                wait_until(lambda: challenger(worker, "trading_ml_challenger_ready") == 1, alive=worker)
                feeder.send(rows(step, 1, S03=Cue.HANG))
                wait_until(judging.all_committed(servers), alive=worker)
            wait_until(lambda: challenger(worker, "trading_ml_challenger_off") == 1, alive=worker)
            feeder.send(rows(20, 5, S07=Cue.HANG))
            wait_until(judging.all_committed(servers), alive=worker)
            page = worker.get("/metrics")[1]
            started_s = time.monotonic()
            feeder.send(rows(25, 40, S07=Cue.HANG))
            assert worker.stop() == 0
            assert time.monotonic() - started_s < 8
        assert metric(page, "trading_ml_challenger_failures_total", {"model": MODEL}) == 5
        assert "challenger stays off; its rows abstain, the champion goes on" in worker.log
        published = [json.loads(r.value or b"")["prediction_id"] for r in judging.read_all(servers, TOPICS.predictions)]
        bodies = {json.loads(r.value or b"")["prediction_id"]: r.value for r in judging.read_all(servers, TOPICS.predictions)}
        want = without_challenger(servers)
        assert len(published) == len(bodies) >= 25 * len(making.SYMBOLS)
        assert bodies == {pid: want[pid] for pid in bodies}
        shadow = [json.loads(r.value or b"") for r in judging.read_all(servers, TOPICS.predictions_shadow)]
        hashes = {(b["symbol"], b["ts_event_us"]): b["vector_hash"] for b in map(json.loads, want.values())}
        assert all(b["vector_hash"] == hashes[b["symbol"], b["ts_event_us"]] for b in shadow)
        reasons = [b["reason"] for b in sorted(shadow, key=lambda b: b["ts_event_us"])]
        assert set(reasons) == {None, "challenger_unavailable"}
        assert set(reasons[-20:]) == {"challenger_unavailable"}
        assert all(b["value"] is not None for b in shadow if b["reason"] is None)
