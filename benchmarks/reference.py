"""What every contender must answer: each record recomputed from the rows sent, by the plainest means, and compared whole."""

from __future__ import annotations

import hashlib
import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.job import BAR_US, FRAME_ROWS, START_US, Feed
from benchmarks.served import INTERCEPT, VERSION, model_weights, registered_name, trees_text
from streams.predictions import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from benchmarks.served import Model
    from models.spec import ServingSpec


class Reference:
    """Expected predictions of one model, by symbol and event time; `spec` is the served one."""

    def __init__(self, feed: Feed, model: Model, spec: ServingSpec, *, features_topic: str) -> None:
        self._feed = feed
        self._topic = features_topic
        self._model = registered_name(model)
        self._spec = spec
        self._plain: Any = _Linear(feed) if model == "linear" else _Trees(feed)
        self._digest = spec.digest()
        self._residuals = np.array(spec.residuals)
        n = len(self._residuals)
        self._half_width = float(np.sort(np.abs(self._residuals))[math.ceil((n + 1) * spec.level) - 1])
        references = [spec.reference[c.name] for c in spec.columns]
        self._ranges = [(r.low, r.high) for r in references]

    def vector(self, partition: int, row: int) -> list[float]:
        """The vector of a partition's row of this number, NaN = missing."""
        symbol, tick = self._feed.place(partition, row)
        return [float(x) for lag in self._feed.job.lags_bars for x in self._feed.features_at(symbol, tick - lag)]

    def prediction(self, partition: int, row: int, *, in_frames: bool = False) -> dict[str, Any]:
        """The whole record as JSON gives it back."""
        symbol, tick = self._feed.place(partition, row)
        event = START_US + tick * BAR_US
        x = self.vector(partition, row)
        value = self._plain(x)
        present = [not math.isnan(number) for number in x]
        known = [(number, *r) for number, r, there in zip(x, self._ranges, present, strict=True) if there]
        whole = not math.isnan(value)
        up = float((value + self._residuals > 0).mean()) if whole else math.nan
        numbers = {
            "value": value,
            "lower": value - self._half_width,
            "upper": value + self._half_width,
            "p_up": up,
            "confidence": max(up, 1.0 - up),
        }
        return {
            "schema_version": SCHEMA_VERSION,
            "prediction_id": f"{self._model}:{VERSION}:{symbol}:{event}:0",
            "symbol": symbol,
            "model": self._model,
            "version": VERSION,
            "role": "champion",
            "ts_event_us": event,
            "ts_decision_us": event,
            "horizon_us": BAR_US,
            "revision": 0,
            **(numbers if whole else dict.fromkeys(numbers)),
            "level": self._spec.level,
            "ood": sum(number < low or number > high for number, low, high in known) / len(known),
            "completeness": 1.0 - (len(x) - len(known)) / len(x),
            "missing": [c.name for c, there in zip(self._spec.columns, present, strict=True) if not there],
            "stale": [],
            "abstained": not whole,
            "reason": None if whole else "model_output_not_finite",
            "vector_hash": hashlib.blake2b(struct.pack(f"<{len(x)}d", *x), digest_size=8).hexdigest(),
            "spec_digest": self._digest,
            "source": {"topic": self._topic, "partition": partition, "offset": row // FRAME_ROWS if in_frames else row},
            "supersedes": None,
        }

    def check(self, records: Iterable[tuple[int, Mapping[str, Any]]], *, in_frames: bool = False) -> int:
        """Compare (partition of the predictions topic, record) with what is right, bit for bit; returns how many.

        `in_frames`: the rows came in frames, so a record's source is its frame. Raises `ValueError` at the first
        difference.
        """
        count = 0
        for partition, found in records:
            home, row = self._feed.number(found["symbol"], found["ts_event_us"])
            expected = self.prediction(home, row, in_frames=in_frames)
            wrong = {k: (found.get(k), v) for k, v in expected.items() if found.get(k) != v}
            if wrong or found.keys() != expected.keys() or home != partition:
                what = wrong or found.keys() ^ expected.keys() or f"on partition {partition}"
                raise ValueError(f"prediction of row {home}:{row} differs from the reference, (found, right): {what}")
            count += 1
        return count

    def check_log(self, value: bytes) -> int:
        """Compare every fiftieth vector of an Arrow log record; returns how many."""
        from streams.inference_log import decode_log

        batch = decode_log(value)
        vectors = batch.vectors()
        rows = zip(batch.table["symbol"].to_pylist(), batch.table["ts_event_us"].to_pylist(), strict=True)
        sampled = list(enumerate(rows))[::50]
        for at, (symbol, ts_event_us) in sampled:
            place = self._feed.number(symbol, ts_event_us)
            if not np.array_equal(vectors[at], self.vector(*place), equal_nan=True):
                raise ValueError(f"the logged vector of row {place} differs from the reference")
        return len(sampled)


class _Linear:
    """Term by term."""

    def __init__(self, feed: Feed) -> None:
        self._weights = model_weights(feed.job).tolist()

    def __call__(self, x: list[float]) -> float:
        value = INTERCEPT
        for weight, number in zip(self._weights, x, strict=True):
            value += number * weight
        return value


class _Trees:
    """One row at a time."""

    def __init__(self, feed: Feed) -> None:
        import lightgbm

        self._booster: Any = lightgbm.Booster(model_str=trees_text(feed.job))

    def __call__(self, x: list[float]) -> float:
        return float(self._booster.predict(np.array([x]), num_threads=1)[0])
