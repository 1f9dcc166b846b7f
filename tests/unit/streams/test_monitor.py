"""The monitor's handler over real Arrow and JSON records: drift found once, replays and crashes change nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from streams.inference_log import decode_log, encode_log
from tests.unit.streams.monitor_world import (
    BARS,
    COLUMNS,
    DRIFT_BAR,
    HORIZON_US,
    MINUTE_US,
    PANE_US,
    START_US,
    SYMBOLS,
    WINDOW_US,
    Market,
    Placed,
    Worker,
    by_id,
    cut,
    home,
    result,
    run,
)

if TYPE_CHECKING:
    from pathlib import Path

DRIFT_US = START_US + DRIFT_BAR * MINUTE_US


@pytest.fixture(scope="module")
def stream() -> list[Placed]:
    return Market().stream()


@pytest.fixture(scope="module")
def undisturbed(stream: list[Placed], tmp_path_factory: pytest.TempPathFactory) -> Worker:
    return run(Worker(tmp_path_factory.mktemp("state")), stream)


def test_the_drifted_column_raises_one_alert_at_the_right_time(undisturbed: Worker) -> None:
    alerts = undisturbed.alerts()
    # The window that ends one pane after the drift began is the first to see it; two in a row fire.
    assert [(a["state"], a["updated_us"]) for a in alerts] == [
        ("pending", DRIFT_US + PANE_US),
        ("firing", DRIFT_US + 2 * PANE_US),
    ]
    firing = alerts[-1]
    assert firing["severity"] == "critical"
    assert firing["labels"] == {"alertname": "feature_drift", "column": "b", "model": "m", "version": "1", "role": "champion"}


def test_alerts_are_cloud_events_keyed_by_their_fingerprint(undisturbed: Worker) -> None:
    topic = undisturbed.settings.kafka.topics.alerts
    for _, partition, key, value, headers in [s for s in undisturbed.outbox.sent if s[0] == topic]:
        assert key is not None
        assert value is not None
        record = json.loads(value)
        assert (key, partition) == (record["fingerprint"].encode(), home(record["fingerprint"]))
        assert headers == {
            "content-type": b"application/json",
            "ce_specversion": b"1.0",
            "ce_id": record["event_id"].encode(),
            "ce_type": f"trading-ml.alert.{record['state']}".encode(),
            "ce_source": b"/trading-ml-monitor",
        }


def test_every_closed_window_is_reported_with_drift_and_quality(undisturbed: Worker) -> None:
    records = undisturbed.performance()
    ends = [r["window_end_us"] for r in records]
    assert ends == list(range(ends[0], ends[-1] + 1, PANE_US))
    assert len(by_id(records, "performance_id")) == len(records)
    full = records[6]
    assert full["drift"]["rows"] == len(SYMBOLS) * WINDOW_US // MINUTE_US
    assert [c["name"] for c in full["drift"]["columns"]] == [*COLUMNS, "prediction"]
    quality = full["quality"]
    assert quality["start_us"] == full["window_start_us"] - HORIZON_US
    assert quality["end_us"] == full["window_end_us"] - HORIZON_US
    assert (quality["rows"], quality["label_coverage"]) == (len(SYMBOLS) * WINDOW_US // MINUTE_US, 1.0)
    assert quality["ic"] == pytest.approx(1.0)
    assert quality["overlap"] == 2.0


def test_the_warehouse_has_every_row_once(undisturbed: Worker) -> None:
    tables = undisturbed.warehouse.tables
    assert len(tables["predictions"]) == len(tables["features"]) == BARS * len(SYMBOLS)
    assert len(tables["outcomes"]) == (BARS - 2) * len(SYMBOLS)
    assert len(tables["performance"]) == len(undisturbed.performance())
    assert len(tables["alerts"]) == len(undisturbed.alerts())
    assert json.loads(tables["vector_columns"]["digest-1", "m", "1"])["columns"] == list(COLUMNS)


@pytest.mark.parametrize("size", [1, 7, 150, 10_000])
def test_how_records_are_cut_into_chunks_changes_nothing(
    stream: list[Placed], undisturbed: Worker, tmp_path: Path, size: int
) -> None:
    assert result(run(Worker(tmp_path), stream, size=size)) == result(undisturbed)


def test_chunks_taken_again_count_nothing_twice(stream: list[Placed], undisturbed: Worker, tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    chunks = list(cut(stream, 60))
    for at, chunk in enumerate(chunks):
        for again in chunks[max(0, at - 2) : at]:
            worker.feed(again)
        worker.feed(chunk)
        worker.checkpoint()
    assert result(worker) == result(undisturbed)
    assert len(worker.performance()) == len(undisturbed.performance())


@pytest.mark.parametrize("arrived", ["nothing", "all", "home", "others", "half"])
def test_a_crash_at_any_chunk_boundary_changes_nothing(
    stream: list[Placed], undisturbed: Worker, tmp_path: Path, arrived: str
) -> None:
    chunks = list(cut(stream, 100))
    for crash in range(1, len(chunks)):
        worker = Worker(tmp_path / str(crash))
        committed = 0
        for at, chunk in enumerate(chunks[:crash]):
            worker.feed(chunk)
            if at % 3 == 2:
                worker.checkpoint()
                committed = at + 1
        dirty = list(worker.handler.take_dirty())  # a checkpoint that was begun: its outputs and rows are out
        worker.handler.wait_kept()
        keep = {
            "nothing": [],
            "all": dirty,
            "home": [d for d in dirty if d[0] == 0],
            "others": [d for d in dirty if d[0] != 0],
            "half": dirty[: len(dirty) // 2],
        }
        worker.table.write(keep[arrived])
        worker.restart()
        for chunk in chunks[committed:]:
            worker.feed(chunk)
        worker.checkpoint()
        assert result(worker) == result(undisturbed)


def test_rows_that_an_inference_worker_repeats_in_other_records_count_once(
    stream: list[Placed], undisturbed: Worker, tmp_path: Path
) -> None:
    """Every tenth record of the log the last five of its partition come again, cut otherwise, before it goes on."""
    again = Market(bars=0)
    placed: list[Placed] = []
    logs: dict[int, list[bytes]] = {}
    for topic, partition, record in stream:
        placed.append(again.place(topic, partition, record.key, record.value))
        if topic != "trading.inference-log":
            continue
        held = logs.setdefault(partition, [])
        held.append(record.value or b"")
        if len(held) % 10 == 0:
            whole = pa.concat_tables([decode_log(value).table for value in held[-5:]]).combine_chunks()
            pieces = [encode_log(b) for b in whole.to_batches(max_chunksize=7)]
            placed += [again.place(topic, partition, None, value) for value in pieces]
    assert len(placed) > len(stream)
    for size in (7, 10_000):
        assert result(run(Worker(tmp_path / str(size)), placed, size=size)) == result(undisturbed)


def test_revoked_partitions_are_read_again(stream: list[Placed], undisturbed: Worker, tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    chunks = list(cut(stream, 60))
    for at, chunk in enumerate(chunks):
        worker.feed(chunk)
        worker.checkpoint()
        if at % 4 == 0:
            worker.feed(chunks[at + 1])  # not committed: comes again
            worker.handler.revoked({0, 1} if at % 8 else {at // 8 % 2})
    assert result(worker) == result(undisturbed)


def test_a_version_replaced_has_its_alerts_ended(tmp_path: Path) -> None:
    worker = run(Worker(tmp_path), Market(bars=110, versions={0: "1", 70: "2"}).stream())
    old = [a for a in worker.alerts() if a["labels"]["version"] == "1"]
    assert [a["state"] for a in old][-2:] == ["firing", "resolved"]
    assert old[-1]["annotations"]["summary"] == "version 2 serves in place of 1"
    assert {r["version"] for r in worker.performance()} == {"1", "2"}
