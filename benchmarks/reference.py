"""What every contender must answer: each record recomputed from the rows sent, by the plainest means, and compared whole."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.job import BAR_US, INTERCEPT, MODEL, START_US, VERSION, Feed, make_handle, model_weights
from streams.predictions import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable


class Reference:
    """Expected predictions by source partition and offset."""

    def __init__(self, feed: Feed, *, features_topic: str) -> None:
        self._feed = feed
        self._topic = features_topic
        self._spec = make_handle(feed.job).spec
        self._weights = model_weights(feed.job).tolist()
        self._digest = self._spec.digest()
        self._residuals = np.array(self._spec.residuals)
        n = len(self._residuals)
        self._half_width = float(np.sort(np.abs(self._residuals))[math.ceil((n + 1) * self._spec.level) - 1])
        references = [self._spec.reference[c.name] for c in self._spec.columns]
        self._ranges = [(r.low, r.high) for r in references]

    def vector(self, partition: int, offset: int) -> list[float]:
        """The vector of the row there, NaN = missing."""
        symbol, tick = self._feed.place(partition, offset)
        return [float(x) for lag in self._feed.job.lags_bars for x in self._feed.features_at(symbol, tick - lag)]

    def prediction(self, partition: int, offset: int) -> dict[str, Any]:
        """The whole record as JSON gives it back."""
        symbol, tick = self._feed.place(partition, offset)
        event = START_US + tick * BAR_US
        x = self.vector(partition, offset)
        value = INTERCEPT
        for weight, number in zip(self._weights, x, strict=True):
            value += number * weight
        present = [not math.isnan(number) for number in x]
        known = [(number, *r) for number, r, there in zip(x, self._ranges, present, strict=True) if there]
        whole = all(present)
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
            "prediction_id": f"{MODEL}:{VERSION}:{symbol}:{event}:0",
            "symbol": symbol,
            "model": MODEL,
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
            "source": {"topic": self._topic, "partition": partition, "offset": offset},
            "supersedes": None,
        }

    def check(self, records: Iterable[tuple[int, int, bytes]]) -> int:
        """Compare (partition, offset in the predictions topic, JSON) with what is right, bit for bit; returns how many.

        One row gives one prediction, in order, so both topics have the same offsets. Raises `ValueError` at the first
        difference.
        """
        count = 0
        for partition, offset, value in records:
            found, expected = json.loads(value), self.prediction(partition, offset)
            wrong = {k: (found.get(k), v) for k, v in expected.items() if found.get(k) != v}
            if wrong or found.keys() != expected.keys():
                raise ValueError(
                    f"prediction {partition}:{offset} differs from the reference, (found, right): {wrong or found.keys()}"
                )
            count += 1
        return count

    def check_log(self, value: bytes) -> int:
        """Compare every fiftieth vector of an Arrow log record; returns how many."""
        from streams.inference_log import decode_log

        batch = decode_log(value)
        vectors = batch.vectors()
        sources = zip(batch.table["source_partition"].to_pylist(), batch.table["source_offset"].to_pylist(), strict=True)
        rows = list(enumerate(sources))[::50]
        for row, (partition, offset) in rows:
            if not np.array_equal(vectors[row], self.vector(partition, offset), equal_nan=True):
                raise ValueError(f"the logged vector of row {partition}:{offset} differs from the reference")
        return len(rows)
