"""Reads topics beside the workers, from their first record, as any outside consumer would. Shell.

It joins no group and commits nothing. A gap in the offsets (the embedded broker dropped records before they were read)
is reported, never skipped in silence.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import Message

    from streams.clients import Config

_BATCH = 2_000
_POLL_S = 0.1
_REQUEST_S = 10.0


class Reader:
    """One thread that hands every record of some topics to its topic's handler.

    `handlers`: topic → function of the message, called in that thread; `on_gap`: called with what is missing.
    An error in the thread ends it and is raised by `check`.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        handlers: Mapping[str, Callable[[Message], None]],
        *,
        partitions: int,
        on_gap: Callable[[str], None],
    ) -> None:
        self._servers = bootstrap_servers
        self._handlers = dict(handlers)
        self._partitions = partitions
        self._on_gap = on_gap
        self._next: dict[tuple[str, int], int] = {}
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="demo-reader", daemon=True)

    def start(self) -> None:
        """Begin reading."""
        self._thread.start()

    def close(self) -> None:
        """Stop reading and wait for the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self._error is not None:
            raise self._error

    def behind(self) -> int:
        """How many records the topics hold that were not handed over yet."""
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer(self._config("trading-ml-demo-watermarks"))
        try:
            ends = {
                (topic, p): consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=_REQUEST_S)[1]
                for topic in self._handlers
                for p in range(self._partitions)
            }
        finally:
            consumer.close()
        return sum(end - self._next.get(place, 0) for place, end in ends.items())

    def _config(self, group: str) -> Config:
        return {
            "bootstrap.servers": self._servers,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
            "log_level": 2,
        }

    def _run(self) -> None:
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        consumer = Consumer(self._config("trading-ml-demo-reader"))
        try:
            consumer.assign([TopicPartition(t, p, OFFSET_BEGINNING) for t in self._handlers for p in range(self._partitions)])
            while not self._stop.is_set():
                for message in consumer.consume(_BATCH, _POLL_S):
                    self._take(message)
        except BaseException as e:  # noqa: BLE001 - handed to the main thread by `check`
            self._error = e
        finally:
            consumer.close()

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.fatal():
                raise RuntimeError(str(error))
            return
        topic, partition, offset = str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)
        expected = self._next.get((topic, partition), 0)
        if offset > expected:
            self._on_gap(f"{offset - expected} records of {topic}[{partition}] were dropped by the broker before they were read")
        self._next[topic, partition] = offset + 1
        self._handlers[topic](message)
