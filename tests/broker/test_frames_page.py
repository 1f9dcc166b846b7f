"""The program on the page of frames sends what a worker reads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from confluent_kafka import Consumer, TopicPartition
from typer.testing import CliRunner

from config.sections import Kafka
from streams.broker import EmbeddedBroker
from streams.broker_process import BOOTSTRAP_VARIABLE
from streams.cli import app
from streams.layout import SetLayout
from streams.records import FeatureBatch, FeatureDecoder, PartitionRecords
from streams.topics import all_topics
from tests.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]
PARTITIONS = 8
TOPIC = "trading.features"


@pytest.fixture(name="servers")
def fixture_servers() -> Iterator[str]:
    """A broker with as many partitions as the page says."""
    with EmbeddedBroker(
        {p.name: p.partitions for p in all_topics(Kafka(bootstrap_servers="none:1", partitions=PARTITIONS))}
    ) as b:
        yield b.bootstrap_servers


@pytest.fixture(name="table")
def fixture_table(tmp_path: Path) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    n = 5_000
    table = pd.DataFrame(
        {
            "symbol": [f"S{i % 37}" for i in range(n)],
            "ts_event_us": pd.date_range("2024-01-01", periods=n, freq="min"),
            "ret": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
            "vol": rng.normal(size=n).astype(np.float32),
            "unread": range(n),
        }
    )
    table.to_parquet(tmp_path / "rows.parquet")
    return table


def read_back(servers: str) -> list[FeatureBatch]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader", "enable.auto.commit": False})
    parts = []
    for p in range(PARTITIONS):
        end = consumer.get_watermark_offsets(TopicPartition(TOPIC, p), timeout=10)[1]
        consumer.assign([TopicPartition(TOPIC, p, 0)])
        records: list[Record] = []
        while len(records) < end:
            for m in consumer.consume(end, timeout=10):
                headers: Any = tuple(m.headers() or ())
                records.append(Record(m.offset() or 0, m.timestamp()[1], m.key(), m.value(), headers))
        if records:
            parts.append(PartitionRecords(TOPIC, p, records))
    consumer.close()
    layout = {"bars_1d": SetLayout("bars_1d", ("ret", "vol"), publication_lag_us=0, depth_rows=1)}
    batches, rejected = FeatureDecoder(layout, partitions=PARTITIONS, max_future_us=0).decode(parts)
    assert rejected == []
    return batches


def check(servers: str, table: pd.DataFrame) -> None:
    (batch,) = read_back(servers)
    found = pd.DataFrame(
        {"symbol": batch.symbols, "ts_event_us": batch.ts_event_us, "ret": batch.values[:, 0], "vol": batch.values[:, 1]}
    )
    for symbol, rows in table.groupby("symbol"):
        of_symbol = found[found["symbol"] == symbol]
        assert of_symbol["ts_event_us"].tolist() == rows["ts_event_us"].astype("datetime64[us]").astype("int64").tolist()
        assert np.array_equal(of_symbol[["ret", "vol"]], rows[["ret", "vol"]].astype(float), equal_nan=True)


def test_the_program_shown_sends_every_row(servers: str, table: pd.DataFrame, tmp_path: Path) -> None:
    program, _ = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "frames.md").read_text(encoding="utf-8"), re.DOTALL)
    assert "127.0.0.1:9092" in program
    (tmp_path / "program.py").write_text(program.replace("127.0.0.1:9092", servers), encoding="utf-8")
    subprocess.run([sys.executable, "program.py"], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True, timeout=60)
    check(servers, table)


def test_so_does_the_command(servers: str, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BOOTSTRAP_VARIABLE, servers)
    table["ts_event_us"] = table["ts_event_us"].astype("datetime64[us]").astype("int64")
    for name in ("rows.parquet", "rows.csv"):
        file = tmp_path / name
        table.to_csv(file, index=False) if name.endswith("csv") else table.to_parquet(file)
        sent = CliRunner().invoke(app, ["produce", str(file), "--feature-set", "bars_1d", "--frames"])
        assert sent.exit_code == 0, sent.output
        frames = re.fullmatch(r"(\d+) of (\d+) frames delivered to trading.features\n", sent.output)
        assert frames is not None
        assert int(frames[1]) == int(frames[2]) < 100
    (batch,) = read_back(servers)
    assert len(batch.symbols) == 2 * len(table)
    assert not np.isinf(batch.values).any()
