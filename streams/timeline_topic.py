"""The topic `model-timeline`: every order ever given, read by each worker from its beginning. Shell.

Orders of a model stand in one partition. Of two with the same (model, role, seq), written by two workers that both thought
it theirs to write, the one with the lower offset counts, for every reader. So each record has a key of its own: compaction
may remove none, and there are as few as there were swaps.
"""

from __future__ import annotations

import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from streams.clients import kafka_client_config, producer_config
from streams.errors import BrokerError
from streams.partitioner import partition_of
from streams.switches import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from config.sections import Kafka

log = structlog.get_logger()
_POLL_S = 0.2
_decode = msgspec.json.Decoder(Order).decode


class TimelineTopic:
    """What was read so far. `read` catches up and blocks; `watch` goes on reading in a thread of its own."""

    def __init__(self, kafka: Kafka) -> None:
        from confluent_kafka import Consumer

        self._topic = kafka.topics.model_timeline
        self._partitions = kafka.partitions
        self._producer_config = producer_config(kafka, linger_ms=0)
        config = kafka_client_config(kafka) | {
            "group.id": f"{kafka.inference_group}-timeline",
            "enable.auto.commit": False,
            "enable.partition.eof": False,
            "fetch.wait.max.ms": 100,  # the embedded broker holds an empty fetch so long, whatever comes meanwhile
        }
        self._consumer = Consumer(config)
        # Asked for ends, a client whose thread reads without pause may never answer, and one that fetches answers late.
        self._asked = Consumer(config)
        self._orders: dict[tuple[str, str, int], Order] = {}
        self._next: dict[int, int] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._assign()

    def orders(self) -> list[Order]:
        """Those that count, in the order they were read."""
        return list(self._orders.values())

    def read(self, *, timeout_s: float = 30.0) -> list[Order]:
        """Read to where the topic ends now. Raises `BrokerError` when that cannot be done in time."""
        from confluent_kafka import KafkaException, TopicPartition

        deadline = time.monotonic() + timeout_s
        try:
            ends = {
                p: self._asked.get_watermark_offsets(TopicPartition(self._topic, p), timeout=timeout_s)[1]
                for p in range(self._partitions)
            }
        except KafkaException as e:
            raise BrokerError(f"the end of {self._topic} could not be asked for: {e}") from e
        while any(self._next.get(p, 0) < end for p, end in ends.items()):
            self._poll(0.05)
            if time.monotonic() > deadline:
                raise BrokerError(f"{self._topic} could not be read to its end within {timeout_s:g} s")
        return self.orders()

    def append(self, order: Order, *, timeout_s: float = 30.0) -> Order:
        """Write an order and return the one that counts for its (model, role, seq). Raises `BrokerError`."""
        from confluent_kafka import Producer

        failed: list[Any] = []
        producer = Producer(self._producer_config)
        producer.produce(
            self._topic,
            partition=partition_of(order.model.encode(), self._partitions),
            key=f"{order.model}:{order.role}:{order.seq}:{uuid.uuid4().hex}".encode(),
            value=msgspec.json.encode(order),
            on_delivery=lambda error, _: failed.append(error) if error is not None else None,
        )
        if producer.flush(timeout_s) or failed:
            raise BrokerError(f"an order could not be written to {self._topic}: {failed or 'no answer'}")
        self.read(timeout_s=timeout_s)
        return self._orders[order.key]

    def watch(self, heard: Callable[[Order], Any] | None = None) -> None:
        """Go on reading in the background until `close`."""

        def run() -> None:
            while not self._over.is_set():
                for order in self._poll(_POLL_S):
                    if heard is not None:
                        heard(order)

        threading.Thread(target=run, name="timeline", daemon=True).start()

    def close(self) -> None:
        """Stop reading."""
        self._over.set()

    def _assign(self) -> None:
        from confluent_kafka import OFFSET_BEGINNING, TopicPartition

        self._consumer.assign([TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in range(self._partitions)])

    def _poll(self, timeout_s: float) -> Iterable[Order]:
        """Take what is there; the orders among it that count. None if another thread is at it: it notes them for all."""
        if not self._lock.acquire(timeout=timeout_s):  # one that reads without pause would keep others waiting for ever
            return []
        try:  # one reader at a time: what is read is noted in the order of its offsets
            found = []
            for message in self._consumer.consume(500, timeout_s):
                if message.error() is not None:
                    continue
                at: Any = message
                try:
                    order = _decode(message.value() or b"")
                except (msgspec.MsgspecError, UnicodeError) as e:
                    log.warning("not an order, passed over", topic=self._topic, offset=message.offset(), error=str(e))
                else:
                    if order.key not in self._orders:
                        self._orders[order.key] = order
                        found.append(order)
                self._next[at.partition()] = at.offset() + 1  # last: who sees it finds the order too
            return found
        finally:
            self._lock.release()
