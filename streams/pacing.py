"""A producer that never runs far ahead of those who consume: the embedded broker drops what is not read in time.

Shell. How far a consumer group is behind comes from its committed offsets, read by a consumer that carries the group's
id but never joins it, so that the group is not disturbed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from streams.clients import Config, producer_rules
from streams.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from confluent_kafka import KafkaError, Message

MAX_AHEAD = 5_000
"""Records of one partition a paced producer is ahead at most, unless it is told otherwise."""

_REQUEST_S = 10.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Follower:
    """A consumer group that must keep up on a topic: at most `max_behind` records not yet committed in any one partition."""

    group: str
    topic: str
    max_behind: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of the records sent: `sent` = `delivered` + `failed` after a flush; `first_error` explains the failures."""

    sent: int
    delivered: int
    failed: int
    first_error: str | None


class Progress:
    """How far consumer groups are, seen from outside. Close it when done."""

    def __init__(self, config: Mapping[str, str | int | float | bool]) -> None:
        self._config = dict(config)
        self._consumers: dict[str, object] = {}

    def behind(self, group: str, topic: str) -> int:
        """Records that `group` has not committed in the partition of `topic` where it is furthest behind.

        Without a commit, all that the broker still holds.
        Raises `BrokerError` when the broker does not answer within 10 s or has no such topic.
        """
        from confluent_kafka import Consumer, KafkaException, TopicPartition

        consumer = self._consumers.get(group)
        if not isinstance(consumer, Consumer):
            consumer = Consumer({**self._config, "group.id": group, "enable.auto.commit": False, "log_level": 2})
            self._consumers[group] = consumer
        try:
            found = consumer.list_topics(topic, timeout=_REQUEST_S).topics[topic]
            if found.error is not None:
                raise BrokerError(f"no topic {topic!r}: {found.error.str()}; run `trading-ml topics create`")
            partitions = [TopicPartition(topic, p) for p in found.partitions]
            worst = 0
            for at in consumer.committed(partitions, timeout=_REQUEST_S):
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, at.partition), timeout=_REQUEST_S)
                worst = max(worst, high - (at.offset if at.offset >= 0 else low))
        except KafkaException as e:
            raise BrokerError(f"cannot tell how far group {group!r} is on {topic!r}: {e.args[0].str()}") from e
        return worst

    def close(self) -> None:
        """Close its connections."""
        from confluent_kafka import Consumer

        for consumer in self._consumers.values():
            if isinstance(consumer, Consumer):
                consumer.close()
        self._consumers.clear()


class PacedProducer:
    """Send to one topic, never more than `max_ahead` records of a partition ahead of what `group` has committed.

    `also` names further groups to wait for, on this or other topics; without it and `group` nothing is waited for. The limit
    suits the embedded broker when `max_ahead` records take less than its 5 MiB: 5,000 rows of 500 bytes take half of it.
    Raises `BrokerError` when a group commits nothing for `stall_s`, for then its worker is not running.
    """

    def __init__(
        self,
        config: Mapping[str, str | int | float | bool],
        topic: str,
        *,
        group: str | None = None,
        max_ahead: int = MAX_AHEAD,
        also: Sequence[Follower] = (),
        stall_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from confluent_kafka import Producer

        own: tuple[Follower, ...] = () if group is None else (Follower(group, topic, max_ahead),)
        if any(f.max_behind < 1 for f in (*own, *also)):
            raise ValueError("max_ahead and max_behind must be at least 1")
        self._topic = topic
        self._followers = (*own, *also)
        self._stall_s = stall_s
        self._clock = clock
        self._progress = Progress(config)
        rules: Config = {**config, **producer_rules(), "log_level": 2}
        self._producer = Producer(rules)
        self._credit = 0  # records that may be sent before the followers are looked at again
        self._sent = self._delivered = 0
        self._first_error: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def send(
        self,
        key: bytes | None,
        value: bytes,
        *,
        partition: int = -1,
        headers: Sequence[tuple[str, bytes]] = (),
        timestamp_ms: int = 0,
    ) -> None:
        """Hand over one record, after waiting for the followers; its delivery is counted later.

        `partition` -1 is the key's; `timestamp_ms` 0 is now.
        """
        if self._followers and self._credit <= 0:
            self._wait_for_followers()
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    key=key,
                    value=value,
                    partition=partition,
                    headers=list(headers),
                    timestamp=timestamp_ms,
                    on_delivery=self._on_delivery,
                )
                break
            except BufferError:  # its queue is full: let deliveries make room
                self._producer.poll(0.1)
        self._sent += 1
        self._credit -= 1
        self._producer.poll(0)

    def flush(self, timeout_s: float = 30.0) -> Delivery:
        """Wait until every record has been delivered or has failed; what is still open after `timeout_s` counts as failed."""
        self._producer.flush(timeout_s)
        return self.delivery

    @property
    def delivery(self) -> Delivery:
        """Counts so far; records on their way count as failed until they arrive."""
        on_their_way = self._sent - self._delivered
        error = self._first_error
        if error is None and on_their_way > 0:
            error = f"{on_their_way} records not acknowledged yet"
        return Delivery(self._sent, self._delivered, on_their_way, error)

    def behind(self) -> dict[tuple[str, str], int]:
        """Return (group, topic) → records not committed in its worst partition, for every follower."""
        return {(f.group, f.topic): self._progress.behind(f.group, f.topic) for f in self._followers}

    def close(self) -> None:
        """Flush and close the connections."""
        self._producer.flush(_REQUEST_S)
        self._progress.close()

    def _on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self._delivered += 1
        elif self._first_error is None:
            self._first_error = error.str()

    def _wait_for_followers(self) -> None:
        self._producer.flush(_REQUEST_S)  # so that the end of the log counts all that was sent
        last, since = self.behind(), self._clock()
        while True:
            room = [f.max_behind - last[f.group, f.topic] for f in self._followers]
            if min(room) > 0:
                own = [r for f, r in zip(self._followers, room, strict=True) if f.topic == self._topic]
                # Room on another topic does not count in our records: how many of ours make one of its own is not known.
                self._credit = min(own or room)
                return
            if self._clock() - since > self._stall_s:
                late = min(zip(room, self._followers, strict=True), key=lambda pair: pair[0])[1]
                raise BrokerError(
                    f"group {late.group!r} has committed nothing on {late.topic!r} for {self._stall_s:g} s and is "
                    f"{last[late.group, late.topic]} records behind in a partition: is its worker running?"
                )
            time.sleep(_POLL_S)
            self._producer.poll(0)
            now = self.behind()
            if any(now[key] < last[key] for key in now):
                since = self._clock()
            last = now
