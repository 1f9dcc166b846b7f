"""Records on their way to Kafka, and the proof that they arrived. Shell, over confluent-kafka's producer.

Sends are grouped into epochs: `turn` closes the running one, `confirmed` waits until every record of it has been
acknowledged by all in-sync replicas. One failed delivery fails the outbox for good: nothing is committed after it,
and the worker leaves with a loud exit, to start again from the last checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.errors import DeliveryError

POLL_S = 0.002
Headers = Sequence[tuple[str, bytes]]


class Epoch:
    """Records sent between two turns."""

    __slots__ = ("_first", "_records", "confirmed", "failure", "offsets", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.confirmed = 0
        self.failure: str | None = None
        self.offsets: dict[tuple[str, int], int] = {}
        """Greatest offset by (topic, partition), of records whose offset matters."""
        self._first: dict[tuple[str, int], int] = {}
        self._records: dict[tuple[str, int], int] = {}

    def delivered(self, error: Any, message: Any) -> None:
        """Delivery report of one record."""
        if error is not None:
            self.failure = f"record for {message.topic()} was not delivered: {error}"
        self.confirmed += 1

    def delivered_at(self, error: Any, message: Any) -> None:
        """Delivery report of one record whose offset matters (changelog)."""
        self.delivered(error, message)
        if error is None:
            key, offset = (message.topic(), message.partition()), message.offset()
            self._records[key] = self._records.get(key, 0) + 1
            if offset >= 0:  # unknown of a record that was sent twice and taken once
                self.offsets[key] = max(self.offsets.get(key, -1), offset)
                self._first[key] = min(self._first.get(key, offset), offset)

    def alone(self, topic: str, partition: int, *, after: int | None) -> bool:
        """Whether these records lie in the partition without others between them, nor between them and the offset `after`.

        None: what lies before them is not looked at. Without transactions a partition's offsets have no gaps of their own.
        """
        key = topic, partition
        first, last = self._first.get(key), self.offsets.get(key)
        if first is None or last is None or last - first + 1 != self._records[key]:
            return False
        return after is None or first == after + 1


class Outbox:
    """All that leaves a worker goes through here. Not thread-safe: one event loop owns it."""

    def __init__(self, config: Mapping[str, Any], *, room: int = 50_000) -> None:
        self._producer = Producer(dict(config))
        self._room = room
        self._epoch = Epoch()
        self._failure: str | None = None

    def connect(self, timeout_s: float = 10.0) -> None:
        """Reach a broker now, so that the first record does not wait for the idempotent producer's id."""
        with contextlib.suppress(KafkaException):  # a broker that is away is waited for where it matters, at a checkpoint
            self._producer.list_topics(timeout=timeout_s)

    def __len__(self) -> int:
        """Records not yet confirmed."""
        return len(self._producer)

    def send_many(self, topic: str, records: Iterable[tuple[int, bytes | None, bytes]]) -> None:
        """Send (partition, key, value) records of one topic."""
        # One call a partition: `produce_batch` does not read a message's own "partition", whatever its docs say.
        by_partition: dict[int, list[dict[str, Any]]] = {}
        for p, k, v in records:
            by_partition.setdefault(p, []).append({"key": k, "value": v})
        for partition, messages in by_partition.items():
            self._epoch.sent += len(messages)
            self._send_batch(topic, partition, messages)

    def _send_batch(self, topic: str, partition: int, messages: list[dict[str, Any]]) -> None:
        report = self._epoch.delivered
        while messages:
            if self._producer.produce_batch(topic, messages, partition=partition, on_delivery=report) == len(messages):
                return
            again = []
            for m in messages:
                error = m.pop("_error", None)
                if error is None:
                    continue
                if error.code() != KafkaError._QUEUE_FULL:  # noqa: SLF001 - confluent-kafka's public name for it
                    self._epoch.failure = f"record for {topic} was not accepted: {error}"
                    self._check()
                again.append(m)
            messages = again
            if messages:
                self._producer.poll(0.05)
                self._check()

    def send(self, topic: str, *, partition: int, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Send one record."""
        self._epoch.sent += 1
        while True:
            try:
                self._producer.produce(
                    topic, value, key, partition, on_delivery=self._epoch.delivered, headers=list(headers) or None
                )
            except BufferError:
                self._producer.poll(0.05)
                self._check()
            else:
                return

    def send_changelog(self, topic: str, records: Sequence[tuple[int, bytes, bytes]]) -> Epoch:
        """Send (partition, key, value) table records in an epoch of their own, which knows their offsets."""
        epoch = Epoch()
        for partition, key, value in records:
            epoch.sent += 1
            while True:
                try:
                    self._producer.produce(topic, value, key, partition, on_delivery=epoch.delivered_at)
                except BufferError:
                    self._producer.poll(0.05)
                    self._check()
                else:
                    break
        return epoch

    def turn(self) -> Epoch:
        """Close the running epoch and begin another."""
        epoch, self._epoch = self._epoch, Epoch()
        return epoch

    async def confirmed(self, epoch: Epoch) -> None:
        """Wait until every record of the epoch is acknowledged; raises `DeliveryError` when one is not."""
        while epoch.confirmed < epoch.sent:
            self._producer.poll(0)
            if epoch.confirmed < epoch.sent:
                await asyncio.sleep(POLL_S)
        if epoch.failure is not None:
            self._failure = epoch.failure
        self._check()

    async def room(self) -> None:
        """Wait while too much is unconfirmed: the back-pressure of a slow or absent broker."""
        self._producer.poll(0)
        while len(self._producer) > self._room:
            await asyncio.sleep(POLL_S)
            self._producer.poll(0)
        self._check()

    def _check(self) -> None:
        failure = self._failure or self._epoch.failure
        if failure is not None:
            self._failure = failure
            raise DeliveryError(f"{failure}; nothing after the last checkpoint was committed, the worker starts again from there")

    def flush(self, timeout_s: float) -> int:
        """Wait for what is under way; returns how many records are still unconfirmed."""
        return int(self._producer.flush(timeout_s))
