"""A worker of the inference group as a real process, rows for it, and a reader that knows nothing but confluent-kafka.

What is right is worked out from the features topic as it was read back, by the oracle of the lag windows.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from config.sections import Kafka
from models.spec import ColumnSpec, FeatureSetSpec, Lag, ServingSpec
from streams.topics import all_topics
from tests.laws.oracle import Oracle, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

COMMAND = ("streams.cli", "worker", "inference")
LIGHT = ("tests.broker.light_worker",)
"""The same worker with a model at hand: it starts without MLflow, which takes seconds to import."""
ROOT = Path(__file__).parents[2]
PARTITIONS = 4
MODEL = "m"
BAR_US = 60_000_000
START_US = 1_700_000_000_000_000
SYMBOLS = [f"S{i:02}" for i in range(24)]
SETS = {"bars": ("x", "y"), "slow": ("z",)}
COLUMNS = (
    ColumnSpec(name="x", feature_set="bars", feature="x"),
    ColumnSpec(name="x1", feature_set="bars", feature="x", lag=Lag(bars=1)),
    ColumnSpec(name="y2", feature_set="bars", feature="y", lag=Lag(bars=2), max_age_us=2 * BAR_US),
    ColumnSpec(name="y90s", feature_set="bars", feature="y", lag=Lag(us=90_000_000)),
    ColumnSpec(name="z", feature_set="slow", feature="z", required=False),
    ColumnSpec(name="z5m", feature_set="slow", feature="z", lag=Lag(us=300_000_000), max_age_us=20 * BAR_US, required=False),
)
FEATURE_SETS = {
    "bars": FeatureSetSpec(features=SETS["bars"], bar_us=BAR_US, depth_rows=6, publication_lag_us=1_000_000),
    "slow": FeatureSetSpec(features=SETS["slow"], bar_us=BAR_US, depth_rows=3, publication_lag_us=2_000_000),
}
SPEC = ServingSpec(model=MODEL, trigger="bars", horizon_us=BAR_US, columns=COLUMNS, feature_sets=FEATURE_SETS)
VERSION = "1"
TOPICS = Kafka(bootstrap_servers="none:1", partitions=PARTITIONS).topics
GROUP = Kafka(bootstrap_servers="none:1").inference_group


def topics_of_the_broker() -> dict[str, int]:
    return {p.name: p.partitions for p in all_topics(Kafka(bootstrap_servers="none:1", partitions=PARTITIONS))}


@cache
def registry() -> str:
    """Address of a registry with one small LightGBM champion, made once for all tests of this process."""
    import lightgbm

    from models.mlflow_client import connect
    from models.publish import publish

    root = Path(tempfile.mkdtemp(prefix="trading-ml-tests-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    uri = f"sqlite:///{root}/mlflow.db"
    connect(uri).search_registered_models()  # makes its tables
    rng = np.random.default_rng(5)
    x = rng.normal(size=(300, len(COLUMNS)))
    y = x @ np.array([0.5, -0.2, 0.1, 0.3, 0.2, 0.1]) + rng.normal(scale=0.1, size=300)
    parameters = {"verbose": -1, "num_leaves": 4, "num_threads": 1, "min_data_in_leaf": 5}
    booster = lightgbm.train(parameters, lightgbm.Dataset(x[:200], y[:200]), num_boost_round=8)
    published = publish(
        booster,
        name=MODEL,
        columns=COLUMNS,
        feature_sets=FEATURE_SETS,
        trigger="bars",
        horizon_us=BAR_US,
        x=x[:200],
        x_calibration=x[200:],
        y_calibration=y[200:],
        tracking_uri=uri,
        artifact_root=root / "artifacts",
    )
    assert published.version == VERSION
    return uri


# ---- what is sent


def message(row: Row) -> dict[str, Any]:
    body = {
        "symbol": row.symbol,
        "feature_set": row.feature_set,
        "ts_event_us": row.event,
        "ts_known_us": row.known,
        "revision": row.revision,
        "values": {k: None if math.isnan(v) else v for k, v in row.values.items()},
    }
    return {"key": row.symbol.encode(), "value": json.dumps(body).encode()}


def stream(seed: int, steps: int) -> Iterator[dict[str, Any]]:
    """Records in the order they are sent: bars of all symbols, the slow set now and then, and all that goes wrong.

    A record that no worker can use says so in a header of its own, which only the test reads.
    """
    rng = random.Random(seed)  # noqa: S311 - the same rows every time
    sent: list[Row] = []
    for step in range(steps):
        event = START_US + step * BAR_US
        for symbol in SYMBOLS:
            name = "slow" if rng.random() < 0.15 else "bars"
            values = {f: math.nan if rng.random() < 0.05 else rng.gauss(0, 1) for f in SETS[name]}
            delay = rng.choice([1_000_000, 1_000_000, 3_000_000, 100_000_000])
            row = Row(0, symbol, name, event, event + delay, 0, values)
            chance = rng.random()
            if chance < 0.04 and sent:  # late, perhaps too late
                old = event - rng.randint(1, 9) * BAR_US + rng.choice([0, 1])
                row = Row(0, symbol, name, max(old, 0), event + delay, 0, values)
            elif chance < 0.07 and sent:  # a revision, a duplicate, a conflict
                again = rng.choice(sent[-60:])
                new = {f: rng.gauss(0, 1) for f in again.values}
                row = rng.choice(
                    [
                        Row(0, again.symbol, again.feature_set, again.event, event + delay, again.revision + 1, new),
                        again,
                        Row(0, again.symbol, again.feature_set, again.event, again.known, again.revision, new),
                    ]
                )
            elif chance < 0.08:
                yield from [_poison(rng, row)]
            sent.append(row)
            yield message(row)


def _poison(rng: random.Random, row: Row) -> dict[str, Any]:
    good = message(row)
    value: bytes = good["value"]
    reason, changes = rng.choice(
        [
            ("undecodable", {"value": b"\xff\x00 no row"}),
            ("undecodable", {"value": b'{"feature_set": ' + b"[" * 5000}),
            ("undecodable", {"value": None}),
            ("undecodable", {"value": value.replace(b'"values"', b'"valves"')}),
            ("unknown_feature_set", {"value": value.replace(row.feature_set.encode(), b"other")}),
            ("key_mismatch", {"key": b"\xfe\xff", "partition": 1}),
            ("wrong_partition", {"partition": (_home(row.symbol) + 1) % PARTITIONS}),
            ("out_of_range", {"value": value.replace(b'"revision": 0', b'"revision": 1024')}),
            ("future", {"value": value.replace(str(row.event).encode(), str(row.event + 10**15).encode(), 1)}),
        ]
    )
    return {**good, **changes, "headers": [("expect", reason.encode())]}


def _home(symbol: str) -> int:
    from streams.partitioner import partition_of

    return partition_of(symbol.encode(), PARTITIONS)


class Feeder:
    """A producer as README tells users to write it; the records' Kafka timestamp lies after all event times."""

    def __init__(self, servers: str) -> None:
        self._producer = Producer({"bootstrap.servers": servers, "partitioner": "murmur2_random", "linger.ms": 1})

    def send(self, records: Sequence[dict[str, Any]]) -> None:
        for r in records:
            self._producer.produce(TOPICS.features, timestamp=START_US // 1000 + 10**9, **r)
        assert self._producer.flush(30) == 0


# ---- what is read


@dataclass(frozen=True)
class Read:
    """One record of a topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


def read_all(servers: str, topic: str, *, timeout_s: float = 20) -> list[Read]:
    """All of a topic, in order within each partition."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader", "enable.auto.commit": False})
    ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in range(PARTITIONS)}
    consumer.assign([TopicPartition(topic, p, 0) for p, end in ends.items() if end])
    found: list[Read] = []
    deadline = time.monotonic() + timeout_s
    while len(found) < sum(ends.values()):
        assert time.monotonic() < deadline, f"{topic}: {len(found)} of {ends} read"
        for m in consumer.consume(1000, timeout=0.2):
            assert m.error() is None, m.error()
            headers = {str(k): bytes(v) for k, v in (m.headers() or [])}
            found.append(Read(m.partition(), m.offset(), m.key(), m.value(), headers))
    consumer.close()
    return sorted(found, key=lambda r: (r.partition, r.offset))


def committed(servers: str) -> dict[int, int]:
    """The group's committed offsets; asking does not join it."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": GROUP})
    found = consumer.committed([TopicPartition(TOPICS.features, p) for p in range(PARTITIONS)], timeout=10)
    consumer.close()
    return {tp.partition: max(tp.offset, 0) for tp in found}


def ends(servers: str) -> dict[int, int]:
    """The ends of the features topic."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader"})
    found = {p: consumer.get_watermark_offsets(TopicPartition(TOPICS.features, p), timeout=10)[1] for p in range(PARTITIONS)}
    consumer.close()
    return found


@dataclass
class Expected:
    """What must come of a features topic."""

    vectors: dict[str, list[float]] = field(default_factory=dict)
    stale: dict[str, list[str]] = field(default_factory=dict)
    rejected: dict[tuple[int, int], str] = field(default_factory=dict)
    fates: dict[str, int] = field(default_factory=dict)


def expected(features: Sequence[Read]) -> Expected:
    """Each row's fate in offset order, one oracle a symbol (windows are never shared between symbols)."""
    out = Expected()
    oracles: dict[str, Oracle] = {}
    for r in features:
        if "expect" in r.headers:
            out.rejected[r.partition, r.offset] = r.headers["expect"].decode()
            continue
        assert r.value is not None
        d = json.loads(r.value)
        values = {f: math.nan if d["values"].get(f) is None else d["values"][f] for f in SETS[d["feature_set"]]}
        row = Row(r.offset, d["symbol"], d["feature_set"], d["ts_event_us"], d["ts_known_us"], d["revision"], values)
        oracle = oracles.setdefault(row.symbol, Oracle(SPEC, {n: f.depth_rows for n, f in FEATURE_SETS.items()}))
        fate, vector, stale = oracle.read(row)
        out.fates[fate] = out.fates.get(fate, 0) + 1
        if fate in {"conflict", "expired"}:
            out.rejected[r.partition, r.offset] = fate
        if vector is not None:
            pid = f"{MODEL}:{VERSION}:{row.symbol}:{row.event}:{row.revision}"
            out.vectors[pid], out.stale[pid] = vector, stale
    return out


@dataclass
class Outcome:
    """What was published, and how it differs from what must be: all lists empty if nothing does."""

    lost: list[str]
    unknown: list[str]
    contradictory: list[str]
    repeated: list[str]
    wrong: list[str]
    rejected_wrong: list[tuple[int, int]]

    @property
    def faults(self) -> dict[str, list[Any]]:
        """Everything that must never be, however often a worker was killed."""
        names = ("lost", "unknown", "contradictory", "wrong", "rejected_wrong")
        return {n: getattr(self, n)[:5] for n in names if getattr(self, n)}


def judge(servers: str) -> tuple[Outcome, Expected]:
    """Compare predictions, log and rejected records with what the features topic demands."""
    import pyarrow as pa

    features = read_all(servers, TOPICS.features)
    want = expected(features)
    bodies: dict[str, list[bytes]] = {}
    for r in read_all(servers, TOPICS.predictions):
        assert r.value is not None
        body = json.loads(r.value)
        assert (r.key, r.partition) == (body["symbol"].encode(), body["source"]["partition"])
        bodies.setdefault(body["prediction_id"], []).append(r.value)
    logged: dict[str, set[bytes]] = {}
    for r in read_all(servers, TOPICS.inference_log):
        assert r.headers["content-type"] == b"application/vnd.apache.arrow.stream"
        table = pa.ipc.open_stream(r.value).read_all()
        for pid, vector in zip(table["prediction_id"].to_pylist(), table["vector"].to_pylist(), strict=True):
            logged.setdefault(pid, set()).add(struct.pack(f"<{len(vector)}d", *vector))
    wrong = []
    for pid, vector in want.vectors.items():
        missing = [c.name for c, v in zip(COLUMNS, vector, strict=True) if math.isnan(v)]
        bits = {struct.pack(f"<{len(vector)}d", *vector)}
        if pid not in bodies:
            continue
        body = json.loads(bodies[pid][0])
        if logged.get(pid) != bits or body["missing"] != missing or body["stale"] != want.stale[pid]:
            wrong.append(pid)
    rejected: dict[tuple[int, int], str] = {}
    rejected_wrong = []
    origin = {(f.partition, f.offset): f for f in features}
    for r in read_all(servers, TOPICS.features_rejected):
        h = {k.removeprefix("__connect.errors."): v.decode() for k, v in r.headers.items()}
        at = int(h["partition"]), int(h["offset"])
        rejected[at] = h["exception.class.name"]
        same = (r.key, r.value, r.partition) == (origin[at].key, origin[at].value, at[0])
        if not same or h["topic"] != TOPICS.features or not h["exception.message"]:
            rejected_wrong.append(at)
    rejected_wrong += [at for at in {*rejected, *want.rejected} if rejected.get(at) != want.rejected.get(at)]
    outcome = Outcome(
        lost=sorted(set(want.vectors) - set(bodies)),
        unknown=sorted(set(bodies) - set(want.vectors)),
        contradictory=sorted(pid for pid, b in bodies.items() if len(set(b)) > 1),
        repeated=sorted(pid for pid, b in bodies.items() if len(b) > 1),
        wrong=wrong,
        rejected_wrong=rejected_wrong,
    )
    return outcome, want


# ---- the worker


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
    return port


class Worker:
    """`trading-ml worker inference` in a process of its own; what it says on standard error is in `log`.

    `command` replaces it by another program with the same settings.
    """

    def __init__(
        self, folder: Path, servers: str, *, state: str = "state", command: Sequence[str] = COMMAND, **settings: str
    ) -> None:
        self.port = free_port()
        self.state = folder / state
        self._err = folder / f"{state}-{self.port}.log"
        changes = {
            "KAFKA__BOOTSTRAP_SERVERS": servers,
            "KAFKA__PARTITIONS": str(PARTITIONS),
            "KAFKA__SESSION_TIMEOUT": "2s",
            "MODELS": json.dumps([{"name": MODEL}]),
            "STORAGE__STATE_DIR": str(self.state),
            "STORAGE__CACHE_DIR": str(folder / "cache"),
            "INFERENCE__BATCH_SIZE": "100",
            "INFERENCE__COMMIT_INTERVAL": "0.3s",
            "WEB__PORT": str(self.port),
            **settings,
        }
        env = {**os.environ, "CONFIG_PATH": str(ROOT / "config" / "local.yaml"), "PYTHONPATH": str(ROOT)}
        env |= {f"TRADING_ML__{k}": v for k, v in changes.items()}
        with self._err.open("wb") as err:
            self.process = subprocess.Popen([sys.executable, "-m", *command], cwd=folder, env=env, stderr=err, stdout=err)

    @property
    def log(self) -> str:
        return self._err.read_text(errors="replace")

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()
        except OSError:
            return 0, ""

    def rows(self) -> float:
        """Records taken so far."""
        return metric(self.get("/metrics")[1], "trading_ml_rows_total", {"group": "inference"})

    def partitions(self) -> list[int]:
        """Source partitions this worker serves; none while it is not ready."""
        status, body = self.get("/readyz")
        found: list[int] = json.loads(body)["partitions"] if status == 200 else []
        return found

    def wait_ready(self, timeout_s: float = 40) -> None:
        wait_until(lambda: self.get("/readyz")[0] == 200, timeout_s, alive=self)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(10)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


def wait_until(condition: Callable[[], bool], timeout_s: float = 30, *, alive: Worker | None = None) -> None:
    """Wait for a condition; fails when the worker that should bring it about has ended."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if alive is not None and alive.process.poll() is not None:
            raise AssertionError(f"the worker left with {alive.process.returncode}:\n{alive.log[-4000:]}")
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s\n{alive.log[-4000:] if alive else ''}")
        time.sleep(0.05)


def all_committed(servers: str) -> Callable[[], bool]:
    """Whether the group has committed the features topic to its end."""

    def check() -> bool:
        return committed(servers) == ends(servers)

    return check


def metric(text: str, name: str, labels: Mapping[str, str] | None = None) -> float:
    """One sample of a Prometheus page, 0 where there is none yet."""
    want = "{" + ",".join(f'{k}="{v}"' for k, v in (labels or {}).items()) + "}" if labels else ""
    for line in text.splitlines():
        if line.startswith(f"{name}{want} "):
            return float(line.rsplit(" ", 1)[1])
    return 0.0
