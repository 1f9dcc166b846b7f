"""Valid messages of every kind, which the fuzzer damages, and rows that are wrong in one systematic way."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from streams.frame_columns import write_frame
from streams.frames_out import frames
from streams.inference_log import encode_log, log_batch, log_schema
from streams.partitioner import partition_of
from streams.state import SetState, SymbolState, pack
from streams.waiting import Waiting
from tests.unit.streams import wire

if TYPE_CHECKING:
    import random

PARTITIONS = 3
HOME = 1
NOW_MS = 1_000_000
"""Kafka timestamp of every record, so that times above it and `MAX_FUTURE_US` are in the future."""
MAX_FUTURE_US = 1_000_000
LATEST_US = NOW_MS * 1000 + MAX_FUTURE_US


def at_home(start: str, number: int) -> list[str]:
    """So many symbols of the partition."""
    found = (s for i in range(999) if partition_of((s := f"{start}{i}").encode(), PARTITIONS) == HOME)
    return [next(found) for _ in range(number)]


WITNESSES = at_home("the-witness-", 3)
"""Symbols of the good rows beside the bad ones: no fuzzed message has them."""
SYMBOLS = at_home("M", 5)
AWAY = next(s for s in ("X", "Y", "Z", "W") if partition_of(s.encode(), PARTITIONS) != HOME)


def row(rng: random.Random, **changes: Any) -> dict[str, Any]:
    """A good feature row; a change to `...` leaves a field out."""
    slow = rng.random() < 0.2
    event = rng.randrange(0, 500) * 10
    values = {"z": rng.random()} if slow else {"x": rng.randint(-9, 9), "y": rng.choice((None, 0.5, -1e300, True))}
    whole: dict[str, Any] = {
        "symbol": rng.choice(SYMBOLS),
        "feature_set": "slow" if slow else "bars",
        "ts_event_us": event,
        "ts_known_us": event + rng.choice((0, 1, 30)),
        "revision": rng.choice((0, 0, 0, 1, 2)),
        "values": values,
    }
    return {k: v for k, v in (whole | changes).items() if v is not ...}


def wrong_row(rng: random.Random) -> tuple[bytes | None, bytes]:
    """Key and value of a row that is wrong in one way, or just odd."""
    good = row(rng)
    name = rng.choice([*good, "also"])
    odd: list[Any] = [None, ..., "", "x" * 300, "\x00", -1, 0, 1023, 1024, 2**53, 2**53 - 1, 2**63, -(2**63), 10**300, 1.5, 1e-7]
    odd += [
        True,
        [],
        {},
        [[]],
        {"a": {"b": [1]}},
        "NaN",
        "ä" * 129,
        "\ud800",
        "__clock__",
        "bars",
        AWAY,
        LATEST_US,
        LATEST_US + 1,
    ]
    value = rng.choice(odd)
    if name == "values" and rng.random() < 0.7:
        value = {**good["values"], rng.choice(("x", "z", "q", "", "\x1f", "ü" * 9)): value if value is not ... else None}
    row_ = {k: v for k, v in {**good, name: value}.items() if v is not ...}
    symbol = row_.get("symbol")
    key: bytes | None = symbol.encode(errors="replace") if isinstance(symbol, str) else b"M"
    if rng.random() < 0.1:
        key = rng.choice((None, b"", b"\xff\xfe", b"other", AWAY.encode(), (key or b"") + b"\x00", b"k" * 5000))
    data = json.dumps(row_, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
    return key, data


def frame(rng: random.Random) -> bytes:
    """A frame of a few rows, most of them good, in one of Arrow's layouts."""
    n = rng.choice((1, 2, 5, 20))
    rows = [row(rng) for _ in range(n)]
    columns = {
        "symbol": [r["symbol"] if rng.random() < 0.95 else rng.choice((None, "", AWAY, "ä" * 200, "A\x00")) for r in rows],
        "feature_set": [r["feature_set"] if rng.random() < 0.95 else rng.choice((None, "other", "__clock__")) for r in rows],
        "ts_event_us": [r["ts_event_us"] if rng.random() < 0.95 else rng.choice((None, -1, 2**53, LATEST_US + 1)) for r in rows],
    }
    text = rng.choice((pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())))
    arrays = {
        name: pa.array(some, pa.int64() if name == "ts_event_us" else pa.string()).cast(
            pa.int64() if name == "ts_event_us" else text
        )
        if not pa.types.is_dictionary(text) or name == "ts_event_us"
        else pa.array(some, pa.string()).dictionary_encode()
        for name, some in columns.items()
    }
    if rng.random() < 0.7:
        arrays["ts_known_us"] = pa.array([r["ts_known_us"] if rng.random() < 0.9 else None for r in rows], pa.int64())
    if rng.random() < 0.5:
        arrays["revision"] = pa.array([r["revision"] for r in rows], rng.choice((pa.int8(), pa.uint64(), pa.int64())))
    numbers = [rng.choice((None, 1.5, -0.0, math.inf, math.nan)) for _ in rows]
    arrays["x"] = pa.array(numbers, pa.float64())
    arrays["z"] = pa.array([rng.choice((None, 1, 7)) for _ in rows], rng.choice((pa.float32(), pa.int16(), pa.float64())))
    if rng.random() < 0.2:
        arrays["nested"] = pa.array([[{"a": 1}]] * n)
    table = pa.table(arrays)
    return write_frame(table.replace_schema_metadata({"m": "x"}) if rng.random() < 0.1 else table)


def producers_frames(rng: random.Random) -> list[bytes]:
    """Frames as `streams.frames_out` makes them."""
    rows = [row(rng, feature_set="bars", values=...) | {"x": 1.0, "y": rng.random()} for _ in range(12)]
    return [data for partition, data in frames(pa.Table.from_pylist(rows), partitions=PARTITIONS) if partition == HOME]


def outcome(rng: random.Random) -> dict[str, Any]:
    event = rng.randrange(10**6)
    good = {
        "symbol": rng.choice(SYMBOLS),
        "ts_event_us": event,
        "horizon_us": 10,
        "value": rng.random(),
        "ts_known_us": event + 99,
    }
    return good | {"revision": rng.choice((0, 3))}


def log(rng: random.Random, rows: int = 3) -> bytes:
    """A record of the inference log."""
    names = ("x", "x1")
    text = [rng.choice(SYMBOLS) for _ in range(rows)]
    data: dict[str, Any] = dict.fromkeys(("lower", "upper", "level", "p_up", "confidence", "ood", "completeness", "value"), 0.5)
    data |= {"prediction_id": text, "symbol": text, "vector_hash": "h", "spec_digest": "d", "source_topic": "f", "reason": None}
    data |= {"ts_event_us": np.arange(rows), "ts_decision_us": np.arange(rows), "horizon_us": 10, "revision": 0}
    data |= {"abstained": np.zeros(rows, dtype=bool), "source_partition": HOME, "source_offset": np.arange(rows)}
    data |= {"source_index": rng.choice((0, np.arange(rows)))}
    if rng.random() < 0.5:
        data |= {"decided_offset": np.arange(rows) + 1, "decided_index": 0}
    schema = log_schema(model="m", version="1", role="champion", columns=names)
    return encode_log(log_batch(schema, data, np.ones((rows, len(names)))))


def state(rng: random.Random) -> bytes:
    """A table value."""
    n = rng.randrange(4)
    whole = np.arange(n, dtype=np.int64)
    held = SetState(("x", "y"), whole << 10, whole, whole, np.ones((n, 2)))
    return pack(SymbolState(5, {"bars": held}, (Waiting("m", 1, 0, 2, 3),) * rng.randrange(3)))


def predictions() -> bytes:
    """A frame of predictions."""
    return (wire.GOLDEN / "prediction_frame.arrow").read_bytes()
