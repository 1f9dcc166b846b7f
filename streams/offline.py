"""Vectors of rows held in memory, through the very `pipeline.step` the workers call. Core: no clock, no I/O, no Kafka."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from models.handle import ModelHandle
from streams.inference_log import decode_log
from streams.pipeline import Pipeline
from streams.records import MAX_TS_US, PartitionRecords

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.spec import ServingSpec

_SLACK_ROWS = 256
"""Long pieces make a run quick; vectors do not depend on it."""


class Identity(NamedTuple):
    """What a trigger row and its prediction are known by."""

    symbol: str
    ts_event_us: int
    revision: int


@dataclass(frozen=True, slots=True)
class Row:
    """One feature row. `number`: its place in the input, from 1; `ts_known_us`: None where the row does not say.

    `values`: by feature, NaN = missing.
    """

    number: int
    symbol: str
    feature_set: str
    ts_event_us: int
    ts_known_us: int | None
    revision: int
    values: Mapping[str, float]

    @property
    def identity(self) -> Identity:
        """Symbol, event time and revision."""
        return Identity(self.symbol, self.ts_event_us, self.revision)


@dataclass(frozen=True, slots=True)
class Decided:
    """A prediction's vector, float64 (columns,), NaN = missing, and the decision time the prediction states."""

    prediction_id: str
    ts_decision_us: int
    vector: NDArray[np.float64]


Vectorizer = Callable[[Sequence[Row]], Mapping[Identity, Decided]]
"""Rows of one symbol in the order of the log → its predictions, by the identity of their trigger rows."""


class _Record(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def through_pipeline(spec: ServingSpec, *, version: str) -> Vectorizer:
    """Vectors as a worker serving this spec would make them. No model is needed: every value predicted is 0.

    Raises `LayoutError` for a spec that cannot be served.
    """
    # Calibration and reference do not touch vectors, and would be worked through for every row.
    bare = msgspec.structs.replace(
        spec, residuals=(), reference={}, prediction_reference=None, reconstruction=None, loss_estimate=None
    )
    handle = ModelHandle(name=spec.model, version=version, digest="", spec=bare, predict=lambda x: np.zeros(len(x)))
    encode = msgspec.json.Encoder().encode

    def vectorize(rows: Sequence[Row]) -> dict[Identity, Decided]:
        # One partition, one chunk: a symbol's rows share both, and nothing helps an early row not to see a later one.
        pipeline = Pipeline([handle], partitions=1, max_future_us=MAX_TS_US, slack_rows=_SLACK_ROWS)
        records = [_Record(at, 0, row.symbol.encode(), encode(_wire(row))) for at, row in enumerate(rows)]
        out = pipeline.step([PartitionRecords("offline", 0, records)], lambda _partition, _symbol: None)
        found = {}
        for _, data in out.logs:
            log = decode_log(data)
            columns = (log.table[n].to_pylist() for n in ("symbol", "ts_event_us", "revision", "prediction_id", "ts_decision_us"))
            for symbol, event, revision, pid, decision, vector in zip(*columns, log.vectors(), strict=True):
                found[Identity(symbol, event, revision)] = Decided(pid, decision, vector)
        return found

    return vectorize


def _wire(row: Row) -> dict[str, object]:
    # An infinity cannot be sent as JSON: msgspec writes it, like NaN, as null.
    return {
        "symbol": row.symbol,
        "feature_set": row.feature_set,
        "ts_event_us": row.ts_event_us,
        "ts_known_us": row.ts_known_us,
        "revision": row.revision,
        "values": row.values,
    }


class _WireRow(msgspec.Struct):
    symbol: str
    feature_set: str
    ts_event_us: int
    values: dict[str, float | bool | None]
    ts_known_us: int | None = None
    revision: int = 0


_read = msgspec.json.Decoder(_WireRow).decode


def parse_row(number: int, value: bytes) -> Row:
    """A feature row from its wire JSON. Raises `msgspec.MsgspecError` for bytes that are none.

    >>> parse_row(1, b'{"symbol": "A", "feature_set": "s", "ts_event_us": 5, "values": {"x": null, "y": true}}').values
    {'x': nan, 'y': 1.0}
    """
    wire = _read(value)
    values = {name: math.nan if x is None else float(x) for name, x in wire.values.items()}
    return Row(number, wire.symbol, wire.feature_set, wire.ts_event_us, wire.ts_known_us, wire.revision, values)
