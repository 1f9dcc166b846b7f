"""The rows of a soak, made as they are sent: the standard job's, endless; when each was sent, when and how often answered."""

from __future__ import annotations

import time
from array import array
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from benchmarks.job import BAR_US, FEATURE_SET, START_US

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from benchmarks.job import Job


class _Answer(msgspec.Struct):
    """What is read of a prediction record."""

    symbol: str
    ts_event_us: int
    abstained: bool


class Book:
    """Every row by its number: row n is of tick n // symbols and of symbol n % symbols. Times are Kafka's, in ms.

    One thread sends, another enters answers; each writes to arrays of its own.
    """

    def __init__(self, job: Job, *, most: int) -> None:
        """`most`: how many rows there may be."""
        self.sent_ms = array("q", bytes(8 * most))
        self.answered_ms = array("q", bytes(8 * most))
        self.answers = bytearray(most)
        self.sent = 0
        self.answered = 0
        self.abstained = 0
        self.unknown = 0
        self.symbols = [f"SYM{i:04d}" for i in range(job.symbols)]
        self._job = job
        self._number = {s: i for i, s in enumerate(self.symbols)}
        self._decoder = msgspec.json.Decoder(_Answer)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Feature rows as `Feed` takes them, tick by tick, each dated and entered when it is asked for."""
        names = [f"f{i:02d}" for i in range(self._job.features)]
        rng = np.random.default_rng(self._job.seed)
        while True:
            event_us = START_US + self.sent // len(self.symbols) * BAR_US
            for symbol, values in zip(self.symbols, rng.standard_normal((len(self.symbols), len(names))).tolist(), strict=True):
                body = {"symbol": symbol, "feature_set": FEATURE_SET, "ts_event_us": event_us}
                value = msgspec.json.encode({**body, "values": dict(zip(names, values, strict=True))})
                if self.sent == len(self.sent_ms):
                    return
                now_ms = time.time_ns() // 1_000_000
                self.sent_ms[self.sent] = now_ms
                self.sent += 1
                yield {"key": symbol.encode(), "value": value, "timestamp": now_ms}

    def outcomes(self) -> Iterator[dict[str, Any]]:
        """The outcome of every row, one bar after it; send them a tick behind the rows."""
        rng = np.random.default_rng(self._job.seed + 1)
        event_us = START_US
        while True:
            for symbol, value in zip(self.symbols, rng.normal(size=len(self.symbols)).tolist(), strict=True):
                body = {"symbol": symbol, "ts_event_us": event_us, "horizon_us": BAR_US, "value": value}
                yield {"key": symbol.encode(), "value": msgspec.json.encode(body), "timestamp": time.time_ns() // 1_000_000}
            event_us += BAR_US

    def enter(self, body: bytes, at_ms: int) -> None:
        """A prediction record and Kafka's time of it."""
        found = self._decoder.decode(body)
        tick, beside = divmod(found.ts_event_us - START_US, BAR_US)
        n = tick * len(self.symbols) + self._number.get(found.symbol, -1)
        if beside or found.symbol not in self._number or not 0 <= n < self.sent:
            self.unknown += 1
            return
        if not self.answers[n]:
            self.answered_ms[n] = at_ms
            self.answered += 1
            self.abstained += found.abstained
        self.answers[n] = min(self.answers[n] + 1, 255)

    def counts(self) -> dict[str, int]:
        """Every row accounted for."""
        answers = np.frombuffer(self.answers, np.uint8)[: self.sent]
        return {
            "sent": self.sent,
            "answered": int(np.count_nonzero(answers)),
            "lost": int(np.count_nonzero(answers == 0)),
            "repeated": int((answers[answers > 1].astype(int) - 1).sum()),
            "abstained": self.abstained,
            "unknown": self.unknown,
        }

    def latencies(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(time sent, ms until the prediction) of every row answered, int64 (rows,) each."""
        answered = np.frombuffer(self.answers, np.uint8)[: self.sent] > 0
        sent_ms = np.frombuffer(self.sent_ms, np.int64)[: self.sent][answered]
        return sent_ms, np.frombuffer(self.answered_ms, np.int64)[: self.sent][answered] - sent_ms
