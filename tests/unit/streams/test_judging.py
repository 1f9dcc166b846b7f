"""What windows say of labels: quality revised, training asked for, challengers; and what the clock and rejected records say."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from streams.inference_log import decode_log, encode_log
from tests.record import Record
from tests.unit.streams.monitor_world import (
    COLUMNS,
    MINUTE_US,
    PANE_US,
    START_US,
    SYMBOLS,
    WINDOW_US,
    Market,
    Placed,
    Worker,
    by_id,
    home,
    log_record,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

QUIET = 1_000
"""A bar no market comes to: nothing drifts."""


def split(stream: Sequence[Placed], topic: str) -> tuple[list[Placed], list[Placed]]:
    """What is of the topic, and what is not."""
    return [p for p in stream if p[0] == topic], [p for p in stream if p[0] != topic]


def settle(worker: Worker, *, durable: bool = True) -> None:
    """Time passes in which nothing comes: what changed is looked at, and found settled."""
    for _ in range(3):
        worker.now_s += 10
        if durable:
            worker.checkpoint()
        else:
            worker.handler.say()


def revisions(worker: Worker) -> list[dict[str, Any]]:
    return [r for r in worker.performance() if r["revision"]]


class TestRevisions:
    def test_late_outcomes_bring_the_windows_they_belong_to_again(self, tmp_path: Path) -> None:
        stream = Market(bars=60, drift_bar=QUIET).stream()
        outcomes, logs = split(stream, "trading.outcomes")
        worker = run(Worker(tmp_path), logs)
        first = worker.performance()
        assert {r["quality"]["label_coverage"] for r in first if r["quality"]} == {0.0}
        run(worker, outcomes, size=10_000)
        settle(worker)
        again = revisions(worker)
        assert sorted(r["window_end_us"] for r in again) == [r["window_end_us"] for r in first if r["quality"]]
        assert all(r["drift"] is None and r["quality"]["label_coverage"] == 1.0 for r in again)
        by_id(worker.performance(), "performance_id")

    def test_it_is_the_quality_that_windows_with_outcomes_in_time_have(self, tmp_path: Path) -> None:
        stream = Market(bars=60, drift_bar=QUIET).stream()
        outcomes, logs = split(stream, "trading.outcomes")
        late = run(Worker(tmp_path / "late"), logs)
        run(late, outcomes, size=10_000)
        settle(late)
        in_time = run(Worker(tmp_path / "in_time"), stream)
        assert not revisions(in_time)
        expected = {r["window_end_us"]: r["quality"] for r in in_time.performance()}
        for record in revisions(late):
            known = expected[record["window_end_us"]]
            assert record["quality"].keys() == known.keys()
            for name, value in record["quality"].items():
                assert value == (pytest.approx(known[name]) if isinstance(value, float) else known[name]), name

    def test_a_flood_is_not_reported_row_by_row(self, tmp_path: Path) -> None:
        stream = Market(bars=60, drift_bar=QUIET).stream()
        outcomes, logs = split(stream, "trading.outcomes")
        worker = run(Worker(tmp_path), logs)
        run(worker, outcomes, size=6)  # a checkpoint for every bar's outcomes
        settle(worker)
        each = [r["window_end_us"] for r in revisions(worker)]
        assert len(each) == len(set(each))

    def test_what_a_crash_brings_again_contradicts_nothing(self, tmp_path: Path) -> None:
        stream = Market(bars=60, drift_bar=QUIET).stream()
        outcomes, logs = split(stream, "trading.outcomes")
        worker = run(Worker(tmp_path), logs)
        for at in range(0, len(outcomes), 60):
            worker.feed(outcomes[at : at + 60])
            settle(worker, durable=False)
            worker.restart()  # nothing of it was made durable
        run(worker, outcomes, size=60)
        settle(worker)
        told = by_id(worker.performance(), "performance_id")
        newest = {r["window_end_us"]: r for r in sorted(map(json.loads, told.values()), key=lambda r: r["revision"])}
        assert {r["quality"]["label_coverage"] for r in newest.values() if r["quality"]} == {1.0}

    def test_a_revised_outcome_gives_a_greater_revision(self, tmp_path: Path) -> None:
        market = Market(bars=60, drift_bar=QUIET)
        worker = run(Worker(tmp_path), market.stream())
        worker.feed([market.outcome(SYMBOLS[0], 30, 5.0, revision=1)])
        settle(worker)
        at_us = START_US + 30 * MINUTE_US
        bounds = [(r["quality"]["start_us"], r["quality"]["end_us"]) for r in revisions(worker)]
        assert len(bounds) == WINDOW_US // PANE_US
        assert all(start < at_us <= end for start, end in bounds)

    def test_after_a_restart_nothing_is_told_that_was_told(self, tmp_path: Path) -> None:
        stream = Market(bars=60, drift_bar=QUIET).stream()
        worker = run(Worker(tmp_path), stream)
        told = len(worker.performance())
        worker.restart()
        worker.feed(stream[-1:])
        settle(worker)
        assert len(worker.performance()) == told


class TestTraining:
    def test_drift_asks_once_with_its_evidence(self, tmp_path: Path) -> None:
        worker = run(Worker(tmp_path), Market().stream())
        (request,) = worker.requests()
        assert (request["model"], request["version"], request["suppressed"]) == ("m", "1", 0)
        assert request["evidence"]["columns"][0]["column"] == "b"
        (firing,) = [a for a in worker.alerts() if a["state"] == "firing" and a["labels"]["alertname"] == "feature_drift"]
        assert request["evidence"]["alerts"][0]["event_id"] == firing["event_id"]
        assert list(worker.warehouse.tables["retrain_requests"]) == [(request["request_id"],)]

    def test_a_restart_asks_nothing_again(self, tmp_path: Path) -> None:
        stream = Market().stream()
        worker = Worker(tmp_path)
        for at in range(0, len(stream), 40):
            worker.feed(stream[at : at + 40])
            worker.checkpoint()
            worker.restart()
        assert len(by_id(worker.requests(), "request_id")) == 1


class TestChallenger:
    def test_it_is_held_against_the_champion_on_the_same_rows(self, tmp_path: Path) -> None:
        worker = run(Worker(tmp_path), Both(bars=60, drift_bar=QUIET).stream())
        records = [r for r in worker.performance() if r["role"] == "challenger" and r["quality"]]
        assert all(r["paired"] is None for r in worker.performance() if r["role"] == "champion")
        paired = records[-1]["paired"]
        assert paired["champion"] == "1"
        assert paired["rows"] == len(SYMBOLS) * WINDOW_US // MINUTE_US
        assert paired["squared_error"]["difference"] > 0  # its answers are twice as far off


class TestOperations:
    def test_rejected_records_are_an_alert(self, tmp_path: Path) -> None:
        market = Market(bars=60, drift_bar=QUIET)
        worker = Worker(tmp_path)
        stream = market.stream()
        at_ms = stream[0][2].timestamp
        for minute in range(30):
            chunk = [moved(p, at_ms + minute * 60_000) for p in stream[minute * 8 : minute * 8 + 8]]
            chunk += [moved(market.place("trading.features.rejected", 0, b"K", b"?"), at_ms + minute * 60_000) for _ in range(5)]
            worker.feed(chunk)
            worker.checkpoint()
        fired = [a for a in worker.alerts() if a["state"] == "firing"]
        assert "rejected_share" in [a["labels"]["alertname"] for a in fired]

    def test_silence_is_seen_by_the_clock_and_said_once_durable(self, tmp_path: Path) -> None:
        stream = Market(bars=60, drift_bar=QUIET).stream()
        now_us = stream[0][2].timestamp * 1000
        live = log_record(["AAPL"], now_us - MINUTE_US, np.zeros((1, len(COLUMNS))), source_offset=np.array([1 << 30]))
        worker = Worker(tmp_path)
        (served,) = {m.name for m in worker.settings.models} - {"m"}
        worker.handler._served = frozenset({"m"})
        assert served
        partition = home("AAPL")
        worker.feed([moved((stream[0][0], partition, record(live)), now_us // 1000)])
        worker.checkpoint()
        worker.handler.look_at_the_clock(now_us + 30 * MINUTE_US, caught_up=False)
        assert not worker.handler.urgent()
        worker.handler.look_at_the_clock(now_us + 30 * MINUTE_US, caught_up=True)
        assert worker.handler.urgent()
        assert not worker.alerts()
        worker.checkpoint()
        (alert,) = worker.alerts()
        assert (alert["labels"], alert["state"]) == ({"alertname": "input_silence", "model": "m"}, "firing")
        assert worker.handler.urgent()  # that it was said is to be written too, or a restart says it again
        worker.checkpoint()
        assert not worker.handler.urgent()


def moved(placed: Placed, at_ms: int) -> Placed:
    return placed[0], placed[1], replace(placed[2], timestamp=at_ms)


def record(value: bytes) -> Record:
    return Record(0, 0, None, value)


class Both(Market):
    """A market with a challenger whose answers are twice the champion's."""

    def _stream(self) -> Any:
        for placed in super()._stream():
            yield placed
            if placed[0] == "trading.inference-log":
                yield self.place(placed[0], placed[1], None, doubled(placed[2].value or b""))


def doubled(value: bytes) -> bytes:
    """A record of the log as a challenger's, with answers twice as large."""
    batch = decode_log(value).batch
    arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
    arrays |= {name: pa.array(batch[name].to_numpy() * 2) for name in ("value", "lower", "upper")}
    schema = batch.schema.with_metadata({**(batch.schema.metadata or {}), b"version": b"2", b"role": b"challenger"})
    return encode_log(pa.RecordBatch.from_arrays(list(arrays.values()), schema=schema))
