"""What the commands about models read from Kafka: the orders of the timeline, and where their switches stand."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from config.sections import Kafka
    from streams.switches import Order

_ANSWER_S = 10.0
_BATCH = 500


class Written(NamedTuple):
    """An order, and when it was written by the Kafka timestamp of its record."""

    order: Order
    written_ms: int


def written_orders(kafka: Kafka) -> list[Written]:
    """The orders that count, by model, role and number. Raises `BrokerError`, `TopicError`."""
    import msgspec

    from streams.reading import as_bytes, records_of
    from streams.switches import Order

    counted: dict[tuple[str, str, int], Written] = {}
    for m in records_of(kafka, kafka.topics.model_timeline, from_beginning=True, follow=False):
        try:
            order = msgspec.json.decode(as_bytes(m.value()) or b"", type=Order)
        except (msgspec.MsgspecError, UnicodeError):
            continue  # workers pass it over too
        counted.setdefault(order.key, Written(order, m.timestamp()[1]))  # of two with one number the first counts
    return sorted(counted.values(), key=lambda w: w.order.key)


def orders_of(written: Iterable[Written], model: str, role: str) -> list[Order]:
    """The orders of one model and role, oldest first."""
    return [w.order for w in written if (w.order.model, w.order.role) == (model, role)]


def moment(us: int) -> str:
    """An instant as people read it.

    >>> moment(1_167_782_400_000_001), moment(-(2**63))
    ('2007-01-03T00:00:00.000001Z', 'the start')
    """
    from models.timeline import FROM_THE_START_US

    if us == FROM_THE_START_US:
        return "the start"
    try:
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    except OverflowError:
        return f"{us} us"
    return at.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


class SwitchWatch:
    """Reads the features topic, from places noted before an order was written, until its switches are found."""

    def __init__(self, kafka: Kafka) -> None:
        from confluent_kafka import Consumer

        from streams.clients import kafka_client_config
        from streams.errors import TopicError
        from streams.topics import existing_topics

        self._topic = kafka.topics.features
        found = existing_topics(kafka, timeout_s=_ANSWER_S).get(self._topic)
        if found is None:
            raise TopicError(f"no topic {self._topic!r} at {kafka.bootstrap_servers}; run `trading-ml topics create`")
        self.partitions = range(found)
        config = kafka_client_config(kafka) | {"fetch.wait.max.ms": round(kafka.fetch_max_wait.total_seconds() * 1000)}
        more = {"group.id": f"{kafka.client_id}-switches", "enable.auto.commit": False, "log_level": 2}
        self._consumer = Consumer({**config, **more})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def ends(self) -> dict[int, int]:
        """Where each partition ends now. Raises `BrokerError`."""
        from confluent_kafka import KafkaException, TopicPartition

        from streams.errors import BrokerError

        try:
            return {p: self._high(TopicPartition(self._topic, p)) for p in self.partitions}
        except KafkaException as e:
            raise BrokerError(f"the end of {self._topic} could not be asked for: {e}") from e

    def find(self, key: tuple[str, str, int], *, after: Mapping[int, int], timeout_s: float) -> dict[int, int]:
        """Partition to offset of the first switch of this order at or after these places; fewer when time is up."""
        from confluent_kafka import TopicPartition

        found: dict[int, int] = {}
        deadline = time.monotonic() + timeout_s
        self._consumer.assign([TopicPartition(self._topic, p, at) for p, at in after.items()])
        while len(found) < len(after) and time.monotonic() < deadline:
            for m in self._consumer.consume(_BATCH, 0.2):
                at: Any = m
                if m.error() is None and at.partition() not in found and _is_switch_of(key, m):
                    found[at.partition()] = at.offset()
                    self._consumer.pause([TopicPartition(self._topic, at.partition())])
        return found

    def _high(self, partition: Any) -> int:
        return int(self._consumer.get_watermark_offsets(partition, timeout=_ANSWER_S)[1])


def _is_switch_of(key: tuple[str, str, int], message: Any) -> bool:
    from streams.reading import as_bytes, headers_of
    from streams.switches import SWITCH, read_switch
    from streams.wire import CONTENT_TYPE

    if not any(name == CONTENT_TYPE and value == SWITCH for name, value in headers_of(message)):
        return False
    switch = read_switch(as_bytes(message.value()))
    return switch is not None and switch.key == key
