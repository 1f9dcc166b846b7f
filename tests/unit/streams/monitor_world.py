"""A small market for tests of the monitor (bars, a model's log of them, outcomes), and what stands around a worker."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from config import load_settings
from models.spec import ColumnReference, ColumnSpec, FeatureSetSpec, ServingSpec
from monitoring.errors import WarehouseError
from monitoring.warehouse import TABLES, conform
from streams.chunks import Chunk
from streams.inference_log import encode_log, log_batch, log_schema
from streams.monitor import MonitorHandler
from streams.partitioner import partition_of
from streams.records import PartitionRecords
from streams.spans import SpanTracker
from tests.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from config import Settings

PARTITIONS = 2
SYMBOLS = ("AAPL", "GOOG", "IBM", "KO", "MSFT", "XOM")
COLUMNS = ("a", "b", "c")
MINUTE_US = 60_000_000
START_US = 1_167_782_400_000_000
BARS, DRIFT_BAR = 90, 45
HORIZON_US = 2 * MINUTE_US
PANE_US, WINDOW_US = 5 * MINUTE_US, 20 * MINUTE_US

LOCAL = Path(__file__).parents[3] / "config" / "local.yaml"


def settings(folder: Path) -> Settings:
    env = {
        "TRADING_ML__STORAGE__STATE_DIR": str(folder),
        "TRADING_ML__KAFKA__PARTITIONS": str(PARTITIONS),
        "TRADING_ML__MONITORING__METRICS_WINDOW": "20m",
        "TRADING_ML__MONITORING__PANES": "4",
        "TRADING_ML__MONITORING__MIN_SAMPLES": "50",
    }
    return load_settings(LOCAL, env)


Placed = tuple[str, int, Record]
"""Topic, partition, record."""


def spec(model: str = "m") -> ServingSpec:
    """Trained on a standard normal in every column, its answer among them."""
    deciles = (-1.28, -0.84, -0.52, -0.25, 0.0, 0.25, 0.52, 0.84, 1.28)
    trained = ColumnReference(edges=deciles, counts=(1000,) * 10 + (0,), low=-4.0, high=4.0)
    return ServingSpec(
        model=model,
        trigger="bars",
        horizon_us=HORIZON_US,
        columns=tuple(ColumnSpec(name=c, feature_set="bars", feature=c) for c in COLUMNS),
        feature_sets={"bars": FeatureSetSpec(features=COLUMNS, bar_us=MINUTE_US, depth_rows=2)},
        reference=dict.fromkeys(COLUMNS, trained),
        prediction_reference=trained,
    )


@dataclass
class Registry:
    """A registry that answers, or not."""

    down: bool = False
    asked: int = 0

    def load_spec(self, name: str, version: str) -> ServingSpec:
        self.asked += 1
        if self.down:
            raise OSError(f"no answer about {name} {version}")
        return spec(name)


@dataclass
class Outbox:
    """What was sent."""

    sent: list[tuple[str, int, bytes | None, bytes | None, dict[str, bytes]]] = field(default_factory=list)

    def send(
        self,
        topic: str,
        *,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        self.sent.append((topic, partition, key, value, dict(headers)))

    def records(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(value) for t, _, _, value, _ in self.sent if t == topic and value is not None]


@dataclass
class Warehouse:
    """Tables by key; refuses while down."""

    down: bool = False
    tables: dict[str, dict[Any, Any]] = field(default_factory=lambda: {name: {} for name in TABLES})

    def append(self, table: str, rows: pa.Table | pa.RecordBatch) -> int:
        if self.down:
            raise WarehouseError("the warehouse is down")
        fresh = conform(table, rows)
        for row in fresh.to_pylist():
            self.tables[table].setdefault(tuple(row[k] for k in TABLES[table].key), json.dumps(row))
        return len(fresh)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
        raise NotImplementedError

    def close(self) -> None:
        pass


@dataclass
class Table:
    """A group's table."""

    entries: dict[int, dict[bytes, bytes]] = field(default_factory=lambda: {p: {} for p in range(PARTITIONS)})

    def items(self, partition: int) -> list[tuple[bytes, bytes]]:
        return list(self.entries[partition].items())

    def get(self, partition: int, key: bytes) -> bytes | None:
        return self.entries[partition].get(key)

    def write(self, records: Sequence[tuple[int, bytes, bytes]]) -> None:
        for partition, key, value in records:
            self.entries[partition][key] = value


class Worker:
    """A monitor with everything around it; `restart` keeps only what outlives a process."""

    def __init__(self, folder: Path, *, registry: Registry | None = None) -> None:
        self.settings = settings(folder)
        self.registry = Registry() if registry is None else registry
        self.outbox, self.warehouse, self.table = Outbox(), Warehouse(), Table()
        self.now_s = 0.0
        self.restart()

    def restart(self) -> None:
        outbox: Any = self.outbox
        self.handler = MonitorHandler(self.settings, self.registry, outbox, self.warehouse, clock=lambda: self.now_s)
        self.handler.references.start = lambda ask: ask()  # the answer is there at once
        self.handler.use_table(self.table)

    def feed(self, records: Sequence[Placed]) -> None:
        """Take these as one chunk."""
        by_place: dict[tuple[str, int], list[Record]] = {}
        for topic, partition, record in records:
            by_place.setdefault((topic, partition), []).append(record)
        parts = [PartitionRecords(t, p, rs) for (t, p), rs in by_place.items()]
        self.handler.process(Chunk(parts, [], SpanTracker()))

    def checkpoint(self) -> None:
        dirty = self.handler.take_dirty()
        self.handler.wait_kept()
        self.table.write(dirty)
        self.handler.say()

    def performance(self) -> list[dict[str, Any]]:
        return [r for r in self.outbox.records(self.settings.kafka.topics.performance) if "performance_id" in r]

    def requests(self) -> list[dict[str, Any]]:
        return [r for r in self.outbox.records(self.settings.kafka.topics.performance) if "request_id" in r]

    def alerts(self) -> list[dict[str, Any]]:
        return self.outbox.records(self.settings.kafka.topics.alerts)


def home(symbol: str) -> int:
    return partition_of(symbol.encode(), PARTITIONS)


class Market:
    """The stream of both topics in the order of time. Column b leaves its training distribution at `drift_bar`."""

    def __init__(self, *, bars: int = BARS, drift_bar: int = DRIFT_BAR, versions: Mapping[int, str] | None = None) -> None:
        """`versions`: from which bar on which version serves."""
        self.bars = bars
        self.drift_bar = drift_bar
        self.versions = {0: "1"} if versions is None else versions
        self._offsets: dict[tuple[str, int], int] = {}
        self._rng = np.random.default_rng(7)

    def stream(self) -> list[Placed]:
        return list(self._stream())

    def _stream(self) -> Iterator[Placed]:
        values: dict[tuple[int, str], float] = {}
        for bar in range(self.bars):
            ts = START_US + bar * MINUTE_US
            for partition in range(PARTITIONS):
                symbols = [s for s in SYMBOLS if home(s) == partition]
                vectors = self._rng.standard_normal((len(symbols), len(COLUMNS)))
                vectors[:, 1] += 2.0 if bar >= self.drift_bar else 0.0
                values |= {(bar, s): float(v) for s, v in zip(symbols, vectors[:, 0], strict=True)}
                version = self.versions[max(b for b in self.versions if b <= bar)]
                record = log_record(symbols, ts, vectors, version=version, source_partition=partition)
                yield self.place("trading.inference-log", partition, None, record)
            for symbol in SYMBOLS:
                due = bar - HORIZON_US // MINUTE_US
                if due >= 0:
                    yield self.outcome(symbol, due, values[due, symbol] / 2)

    def outcome(self, symbol: str, bar: int, value: float, **changes: Any) -> Placed:
        body = {"symbol": symbol, "ts_event_us": START_US + bar * MINUTE_US, "horizon_us": HORIZON_US, "value": value}
        return self.place("trading.outcomes", home(symbol), symbol.encode(), json.dumps(body | changes).encode())

    def place(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> Placed:
        offset = self._offsets.get((topic, partition), 0)
        self._offsets[topic, partition] = offset + 1
        return topic, partition, Record(offset, START_US // 1000 + 86_400_000, key, value)


def log_record(symbols: Sequence[str], ts: int, vectors: Any, *, version: str = "1", **changes: Any) -> bytes:
    """One record of the inference log; the model's answer is its first column, NaN an abstention. Offsets grow with time."""
    n = len(symbols)
    value = np.asarray(vectors[:, 0])
    data: dict[str, Any] = {
        "prediction_id": [f"m:{version}:{s}:{ts}:0" for s in symbols],
        "symbol": list(symbols),
        "ts_event_us": np.full(n, ts),
        "ts_decision_us": np.full(n, ts),
        "horizon_us": HORIZON_US,
        "revision": np.zeros(n, np.int64),
        "value": value,
        "lower": value - 1.0,
        "upper": value + 1.0,
        "level": 0.9,
        "p_up": np.clip(value / 4 + 0.5, 0, 1),
        "confidence": np.full(n, 0.6),
        "ood": np.zeros(n),
        "completeness": np.ones(n),
        "abstained": np.isnan(value),
        "reason": [None] * n,
        "vector_hash": ["0" * 16] * n,
        "spec_digest": f"digest-{version}",
        "source_topic": "trading.features",
        "source_partition": np.zeros(n, np.int32),
        "source_offset": ts // MINUTE_US * 1000 + np.arange(n),
        "source_index": 0,
    }
    schema = log_schema(model="m", version=version, role="champion", columns=COLUMNS)
    return encode_log(log_batch(schema, data | changes, vectors))


def cut(stream: Sequence[Placed], size: int) -> Iterator[list[Placed]]:
    for at in range(0, len(stream), size):
        yield list(stream[at : at + size])


def run(worker: Worker, stream: Sequence[Placed], *, size: int = 40) -> Worker:
    for chunk in cut(stream, size):
        worker.feed(chunk)
        worker.checkpoint()
    return worker


def by_id(records: Sequence[dict[str, Any]], name: str) -> dict[str, str]:
    """Body by id; a repeated id must have the same body."""
    found: dict[str, str] = {}
    for record in records:
        body = json.dumps(record)
        assert found.setdefault(record[name], body) == body
    return found


def result(worker: Worker) -> tuple[Any, ...]:
    return by_id(worker.performance(), "performance_id"), by_id(worker.alerts(), "event_id"), worker.warehouse.tables
