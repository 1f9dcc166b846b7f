"""A small model's spec, and rows for it with all that goes wrong with rows; a producer as README tells users to write one."""

from __future__ import annotations

import json
import math
import random
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer

from config.sections import Kafka
from models.spec import ColumnSpec, FeatureSetSpec, Lag, ServingSpec
from streams.partitioner import partition_of
from streams.topics import all_topics
from tests.laws.oracle import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    ways: list[tuple[str, dict[str, Any]]] = [
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
    reason, changes = rng.choice(ways)
    return {**good, **changes, "headers": [("expect", reason.encode())]}


def _home(symbol: str) -> int:
    return partition_of(symbol.encode(), PARTITIONS)


class Feeder:
    """A producer as README tells users to write it; the records' Kafka timestamp lies after all event times."""

    def __init__(self, servers: str) -> None:
        self._producer = Producer({"bootstrap.servers": servers, "partitioner": "murmur2_random", "linger.ms": 1})

    def send(self, records: Sequence[dict[str, Any]]) -> None:
        for r in records:
            self._producer.produce(TOPICS.features, timestamp=START_US // 1000 + 10**9, **r)
        assert self._producer.flush(30) == 0
