"""What producers send in a world: bars and a slow set, late, twice, revised, contradicting, broken; rows, frames, clock rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from models.handle import ModelHandle
from models.spec import ColumnSpec, FeatureSetSpec, Lag, ServingSpec
from streams.frames_out import FRAME_HEADERS
from streams.partitioner import partition_of
from streams.wire import CLOCK
from tests.laws.oracle import Row

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from numpy.typing import NDArray

PARTITIONS = 3
BAR = 10
SYMBOLS = ["A", "B", "C", "D", "E", "F", "G"]
SETS = {"bars": ("x", "y", "w"), "slow": ("z",)}
COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec(name="x", feature_set="bars", feature="x"),
    ColumnSpec(name="x1", feature_set="bars", feature="x", lag=Lag(bars=1)),
    ColumnSpec(name="y2", feature_set="bars", feature="y", lag=Lag(bars=2), max_age_us=25),
    ColumnSpec(name="z", feature_set="slow", feature="z", max_age_us=40),
    ColumnSpec(name="z15", feature_set="slow", feature="z", lag=Lag(us=15), required=False),
)
FEATURE_SETS = {
    "bars": FeatureSetSpec(features=("x", "y"), bar_us=BAR, depth_rows=4, publication_lag_us=1),
    "slow": FeatureSetSpec(features=SETS["slow"], bar_us=BAR, depth_rows=3, publication_lag_us=2),
}
DEADLINES_US = (0, 15, 15, 60)
"""How long a bar waits for a slow row that is not older than 40, a world's choice."""


@dataclass(frozen=True)
class Sent:
    """A record as it is produced."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    rows: tuple[Row, ...] = ()
    """What there is to read in it."""


def spec(deadline_us: int, *, wide: bool = False) -> ServingSpec:
    """The model's spec; a wide one has a column more, of a feature the others do not read, and deeper windows."""
    columns, sets = COLUMNS, FEATURE_SETS
    if wide:
        columns = (*COLUMNS, ColumnSpec(name="w1", feature_set="bars", feature="w", lag=Lag(bars=1)))
        bars = msgspec.structs.replace(sets["bars"], features=SETS["bars"], depth_rows=6)
        sets = {**sets, "bars": bars}
    return ServingSpec(model="m", trigger="bars", horizon_us=BAR, columns=columns, feature_sets=sets, deadline_us=deadline_us)


def version(number: int, deadline_us: int, *, wide: bool = False) -> ModelHandle:
    """A version of the model; its answers are its own."""

    def predict(x: NDArray[np.float64]) -> NDArray[np.float64]:
        total: NDArray[np.float64] = np.nan_to_num(x).sum(axis=1) * number
        return total

    return ModelHandle(name="m", version=str(number), digest="", spec=spec(deadline_us, wide=wide), predict=predict)


def home(symbol: str) -> int:
    return partition_of(symbol.encode(), PARTITIONS)


def body(row: Row) -> dict[str, Any]:
    values = {k: None if math.isnan(v) else v for k, v in row.values.items()}
    return {
        "symbol": row.symbol,
        "feature_set": row.feature_set,
        "ts_event_us": row.event,
        "ts_known_us": row.known,
        "revision": row.revision,
        "values": values,
    }


def sent(row: Row) -> Sent:
    return Sent(home(row.symbol), row.symbol.encode(), msgspec.json.encode(body(row)), rows=(row,))


def stream(rng: random.Random, rows: int) -> Iterator[Sent]:
    """So many rows, in the order they are sent."""
    made: list[Row] = []
    now = 0
    framed: list[Row] = []
    for _ in range(rows):
        now += rng.choice([0, 1, 1, 2, 5, 12])
        row = _row(rng, now, made)
        chance = rng.random()
        if chance < 0.03:
            yield _broken(rng, row)
        elif chance < 0.12 or framed:
            framed.append(row)
            if len(framed) > rng.randint(0, 12):
                yield from _frames(framed)
                framed = []
        else:
            yield sent(row)
        if row.feature_set != CLOCK:
            made.append(row)
            del made[:-40]
    yield from _frames(framed)


def _row(rng: random.Random, now: int, made: list[Row]) -> Row:
    symbol, name = rng.choice(SYMBOLS), rng.choice(["bars", "bars", "bars", "slow"])
    if rng.random() < 0.02:
        return Row(0, symbol, CLOCK, now, now, 0, {})
    values = {f: math.nan if rng.random() < 0.05 else float(rng.randint(-9, 9)) for f in SETS[name]}
    chance = rng.random()
    if made and chance < 0.12:
        again = rng.choice(made)
        new = {f: float(rng.randint(-9, 9)) for f in again.values}
        known, revision, given = rng.choice(
            [(again.known, again.revision, again.values), (again.known, again.revision, new), (now, again.revision + 1, new)]
        )
        return Row(0, again.symbol, again.feature_set, again.event, known, revision, given)
    event = max(0, now - rng.choice([0, 0, 0, 0, 3, 30, 80]))
    return Row(0, symbol, name, event - event % rng.choice([BAR, BAR, 1]), now + rng.choice([0, 0, 1, 3, 25]), 0, values)


def _frames(rows: list[Row]) -> Iterator[Sent]:
    import pyarrow as pa

    from streams.frame_columns import write_frame

    for partition in range(PARTITIONS):
        mine = [r for r in rows if home(r.symbol) == partition]
        if mine:
            columns: dict[str, Any] = {
                "symbol": pa.array([r.symbol for r in mine]).dictionary_encode(),
                "feature_set": pa.array([r.feature_set for r in mine]).dictionary_encode(),
                "ts_event_us": [r.event for r in mine],
                "ts_known_us": [r.known for r in mine],
                "revision": [r.revision for r in mine],
            }
            for f in ("x", "y", "w", "z"):
                columns[f] = [r.values.get(f, math.nan) for r in mine]
            yield Sent(partition, None, write_frame(pa.table(columns)), FRAME_HEADERS, tuple(mine))


def _broken(rng: random.Random, row: Row) -> Sent:
    good = sent(row)
    value = good.value or b""
    return rng.choice(
        [
            Sent(good.partition, good.key, value[:-5]),
            Sent(good.partition, good.key, None),
            Sent(good.partition, b"\xfe\xff", value),
            Sent((good.partition + 1) % PARTITIONS, good.key, value),
            Sent(good.partition, good.key, value.replace(b'"revision":', b'"revision":9999')),
            Sent(good.partition, good.key, value.replace(row.feature_set.encode(), b"other")),
            Sent(good.partition, None, value, FRAME_HEADERS),
        ]
    )
