"""Numbered rows into the features topic, with all that goes wrong with rows; beside what happens, at a pace."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer

from tests.broker.inference_rows import BAR_US, START_US, stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_TICK_S = 0.04

NUMBER = "n"
"""Header with a row's number; only the ledger reads it."""

TIMESTAMP_MS = START_US // 1000 + 10**10
"""Kafka's time of every row: after all event times, so that a row from the future is one by its own fault."""

MOST_STEPS = 10**10 * 1000 // BAR_US


def numbered(seed: int, rows: int) -> list[dict[str, Any]]:
    """Records of `inference_rows.stream` (late, duplicate, revised, conflicting, poison), each with its number."""
    return list(itertools.islice(endless(seed), rows))


def endless(seed: int) -> Iterator[dict[str, Any]]:
    """The same, as long as event time stays below `TIMESTAMP_MS`: some millions."""
    for n, r in enumerate(stream(seed, MOST_STEPS)):
        yield {**r, "headers": [*r.get("headers", []), (NUMBER, str(n).encode())]}


class Feed:
    """A producer as the README tells users to write it, which counts what was acknowledged."""

    def __init__(self, servers: str, topic: str) -> None:
        # Rows wait as long as a broker is away: a run is about what happens to rows that were written.
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "partitioner": "murmur2_random",
                "linger.ms": 2,
                "enable.idempotence": True,
                "delivery.timeout.ms": 900_000,
                "log_level": 2,
            }
        )
        self._topic = topic
        self.sent = 0
        self.acknowledged = 0
        self.failures: list[str] = []

    def send(self, records: Sequence[dict[str, Any]]) -> None:
        """Hand over; does not wait."""
        for r in records:
            self.sent += 1
            while True:
                try:
                    self._producer.produce(self._topic, on_delivery=self._delivered, **{"timestamp": TIMESTAMP_MS, **r})
                except BufferError:
                    self._producer.poll(0.1)
                else:
                    break
        self._producer.poll(0)

    def flush(self, timeout_s: float = 120) -> None:
        """Wait until all is acknowledged."""
        left = self._producer.flush(timeout_s)
        assert (left, self.failures) == (0, [])

    def _delivered(self, error: Any, _message: Any) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self.failures.append(str(error))


class Flow:
    """Records sent by a thread at `rate` a second until there are no more or it is told to stop."""

    def __init__(self, feed: Feed, records: Iterable[dict[str, Any]], rate: float) -> None:
        self._feed = feed
        self._records = iter(records)
        self._rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flow", daemon=True)
        self.done = False

    def _run(self) -> None:
        started, out = time.monotonic(), 0
        while not self._stop.wait(_TICK_S):
            due = int((time.monotonic() - started) * self._rate) - out
            piece = list(itertools.islice(self._records, due))
            self._feed.send(piece)
            out += len(piece)
            if len(piece) < due:
                break
        self.done = True

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float = 120) -> None:
        """Send no more; wait until what was sent is acknowledged. May be called again."""
        self._stop.set()
        self._thread.join()
        self._feed.flush(timeout_s)


@contextmanager
def flowing(feed: Feed, records: Iterable[dict[str, Any]], *, rate: float) -> Iterator[Flow]:
    """Records flow while the block runs; leaving it ends the flow, with what is out acknowledged."""
    flow = Flow(feed, records, rate)
    flow.start()
    try:
        yield flow
    finally:
        flow.stop()
