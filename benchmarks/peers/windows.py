"""What the peers share beside their framework: a window as a list of rows, its vector, a record for one row.

A row is a tuple (ts_event_us, value, value, …), a window the newest rows of a symbol, oldest first. A row that comes alone
is scored in plain Python, which takes a tenth of what numpy takes for one row: in the peers' favour.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec
import numpy as np

from benchmarks.answers import Answers, lags_of, row_decoder
from benchmarks.served import INTERCEPT, read_model, read_weights
from streams.predictions import SCHEMA_VERSION, Prediction, Source, vector_hashes

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from numpy.typing import NDArray

Row: TypeAlias = "Sequence[Any]"


class Place(NamedTuple):
    """Whose prediction is wanted, and where its row stands in the features topic."""

    symbol: str
    event_us: int
    partition: int
    offset: int


class Shared:
    """Decoding, vectors and records for the job's linear model."""

    def __init__(self, args: argparse.Namespace) -> None:
        handle = read_model(args.model)
        bars = handle.spec.feature_sets[handle.spec.trigger]
        self.handle = handle
        self.depth = bars.depth_rows
        self.features = len(bars.features)
        self._lags = [(n, n * bars.bar_us) for n in lags_of(handle)]
        self._none = [math.nan] * self.features
        self._decode = row_decoder(handle)
        self._answers = Answers(handle, features_topic=args.features)
        self._one = _OneRow(handle, read_weights(args.model), args.features)

    def decode(self, value: bytes) -> tuple[str, tuple[Any, ...]]:
        """(symbol, row) of a JSON row."""
        row = self._decode(value)
        return row.symbol, (row.ts_event_us, *msgspec.structs.astuple(row.values))

    def vector(self, window: Sequence[Row]) -> list[float]:
        """The vector of a window's newest row: lag by lag all its features, NaN where no row was."""
        event = window[-1][0]
        vector: list[float] = []
        for bars, us in self._lags:
            there = len(window) > bars and window[-1 - bars][0] == event - us
            vector += window[-1 - bars][1:] if there else self._none
        return vector

    def record(self, place: Place, vector: list[float]) -> bytes:
        """The prediction record of one row."""
        return self._one(place, vector)

    def records(self, places: Sequence[Place], vectors: Sequence[Sequence[float]] | NDArray[np.float64]) -> list[bytes]:
        """The prediction records of many rows, scored in one call."""
        symbols, events, partitions, offsets = zip(*places, strict=True)
        return self._answers(symbols, events, partitions, offsets, np.asarray(vectors, dtype=np.float64)).records


class _OneRow:
    """`models.score` for one row, in plain Python."""

    def __init__(self, handle: Any, weights: list[float], topic: str) -> None:
        ready, spec = handle.prepared, handle.spec
        self._weights = weights
        self._residuals: list[float] = ready.residuals.tolist()
        self._half_width = ready.half_width
        self._low, self._high = ready.low.tolist(), ready.high.tolist()
        self._names = [c.name for c in spec.columns]
        self._head = f"{handle.name}:{handle.version}:"
        self._model = (handle.name, handle.version, "champion")
        self._horizon, self._level, self._digest, self._topic = spec.horizon_us, spec.level, spec.digest(), topic
        self._encode = msgspec.json.Encoder().encode

    def __call__(self, place: Place, vector: list[float]) -> bytes:
        value = INTERCEPT
        for number, weight in zip(vector, self._weights, strict=True):
            value += number * weight
        missing: Sequence[str] = ()
        known = len(vector)
        if not math.isfinite(value):
            missing = [name for name, number in zip(self._names, vector, strict=True) if math.isnan(number)]
            known -= len(missing)
            value = math.nan
        abstained = math.isnan(value)
        n = len(self._residuals)
        up = math.nan if abstained else (n - bisect_right(self._residuals, -value)) / n
        outside = sum([number < low or number > high for number, low, high in zip(vector, self._low, self._high, strict=True)])
        symbol, event, partition, offset = place
        return self._encode(
            Prediction(
                SCHEMA_VERSION, f"{self._head}{symbol}:{event}:0", symbol, *self._model, event, event, self._horizon, 0,
                value, value - self._half_width, value + self._half_width, self._level, up, max(up, 1.0 - up),
                outside / max(known, 1), 1.0 - len(missing) / len(vector), missing, (), abstained,
                "model_output_not_finite" if abstained else None,
                vector_hashes(np.array([vector]))[0], self._digest, Source(self._topic, partition, offset), None,
            )
        )  # fmt: skip
