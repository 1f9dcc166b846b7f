"""The programs for others run as they are, against a broker."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from confluent_kafka import Consumer, Producer

from streams.broker import EmbeddedBroker
from streams.partitioner import partition_of
from tests.unit.deploy.house import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXAMPLES = ROOT / "examples"
PARTITIONS = 8
DEADLINE_S = 20.0


@pytest.fixture
def broker() -> Iterator[str]:
    with EmbeddedBroker({"trading.features": PARTITIONS, "trading.predictions": PARTITIONS}) as running:
        yield running.bootstrap_servers


def prediction(number: int, *, abstained: bool = False) -> dict[str, Any]:
    """A record as the inference group writes it, as far as a consumer reads it."""
    return {
        "prediction_id": f"m:1:GOOG:{number}:0",
        "symbol": "GOOG",
        "model": "m",
        "version": "1",
        "ts_event_us": number,
        "value": None if abstained else 0.5,
        "lower": None if abstained else 0.1,
        "upper": None if abstained else 0.9,
        "level": 0.9,
        "p_up": None if abstained else 0.7,
        "abstained": abstained,
        "reason": "incomplete" if abstained else None,
    }


def test_rows_land_keyed_by_symbol_on_the_partition_that_faust_would_choose(broker: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "produce_features.py"), broker]
    run = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=DEADLINE_S)
    assert run.stdout == "2 rows written to trading.features\n"
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "test", "auto.offset.reset": "earliest"})
    consumer.subscribe(["trading.features"])
    try:
        messages = consumer.consume(2, timeout=DEADLINE_S)
    finally:
        consumer.close()
    rows = {}
    for message in messages:
        key, value = message.key() or b"", message.value() or b""
        assert message.partition() == partition_of(key, PARTITIONS)
        rows[key.decode()] = json.loads(value)
    assert sorted(rows) == ["GOOG", "MSFT"]
    for symbol, row in rows.items():
        assert set(row) == {"symbol", "feature_set", "ts_event_us", "ts_known_us", "revision", "values"}
        assert row["symbol"] == symbol
        assert row["ts_known_us"] >= row["ts_event_us"]
    assert rows["MSFT"]["values"]["vol_20"] is None


def test_a_repeated_prediction_is_read_once_in_whatever_records_it_comes(broker: str, tmp_path: Path) -> None:
    producer = Producer({"bootstrap.servers": broker, "partitioner": "murmur2_random"})
    home = partition_of(b"GOOG", PARTITIONS)
    headers: list[tuple[str, str | bytes | None]] = [("content-type", b"application/vnd.apache.arrow.stream")]
    for records in (
        [prediction(1)],
        [prediction(1)],
        [prediction(2, abstained=True), prediction(1), prediction(4)],
        [prediction(3)],
    ):
        if len(records) == 1:
            producer.produce("trading.predictions", key=b"GOOG", value=json.dumps(records[0]))
        else:
            producer.produce("trading.predictions", frame(records), partition=home, headers=headers)
    assert producer.flush(DEADLINE_S) == 0
    command = [sys.executable, str(EXAMPLES / "read_predictions.py"), broker]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        try:
            lines = [reader.stdout.readline() for _ in range(4)]
        finally:
            reader.terminate()
    assert lines == [
        "GOOG at 1 by m:1: 0.5000 in [0.1000, 0.9000], up 70%\n",
        "GOOG at 2 by m:1: none, incomplete\n",
        "GOOG at 4 by m:1: 0.5000 in [0.1000, 0.9000], up 70%\n",
        "GOOG at 3 by m:1: 0.5000 in [0.1000, 0.9000], up 70%\n",
    ]


def frame(records: list[dict[str, Any]]) -> bytes:
    """The same records as an Arrow stream."""
    table = pa.Table.from_pylist(records)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded
