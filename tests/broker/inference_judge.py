"""A reader that knows nothing but confluent-kafka, and its judgement of what the inference group published.

What is right is worked out from the features topic as it was read back, by the oracle of the lag windows.
"""

from __future__ import annotations

import json
import math
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, TopicPartition

from tests.broker.inference_rows import COLUMNS, FEATURE_SETS, GROUP, MODEL, PARTITIONS, SETS, SPEC, TOPICS, VERSION
from tests.laws.oracle import Oracle, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


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
            read: Any = m  # its types allow what a record without an error never has
            headers = {str(k): bytes(v) for k, v in read.headers() or []}
            found.append(Read(read.partition(), read.offset(), read.key(), read.value(), headers))
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
    depth = {n: f.depth_rows for n, f in FEATURE_SETS.items()}
    oracles: dict[str, Oracle] = {}
    for r in features:
        if "expect" in r.headers:
            out.rejected[r.partition, r.offset] = r.headers["expect"].decode()
            continue
        assert r.value is not None
        d = json.loads(r.value)
        values = {f: math.nan if d["values"].get(f) is None else d["values"][f] for f in SETS[d["feature_set"]]}
        row = Row(r.offset, d["symbol"], d["feature_set"], d["ts_event_us"], d["ts_known_us"], d["revision"], values)
        oracle = oracles.setdefault(row.symbol, Oracle(SPEC, depth))
        fate = oracle.read(row)
        out.fates[fate] = out.fates.get(fate, 0) + 1
        if fate in {"conflict", "expired"}:
            out.rejected[r.partition, r.offset] = fate
    for answer in (a for oracle in oracles.values() for a in oracle.answers):
        pid = f"{MODEL}:{VERSION}:{answer.row.symbol}:{answer.row.event}:{answer.row.revision}"
        out.vectors[pid], out.stale[pid] = answer.vector, answer.stale
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


def all_committed(servers: str) -> Callable[[], bool]:
    """Whether the group has committed the features topic to its end."""

    def check() -> bool:
        return committed(servers) == ends(servers)

    return check
