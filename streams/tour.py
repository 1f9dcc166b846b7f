"""One receiver told by one worker, from where it was told last: reads the topic `alerts`, sends, notes how far. Shell."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from monitoring.alerts import rebuild
from monitoring.deliveries import Answer, Deliveries, Event, Firing
from monitoring.errors import StateError
from monitoring.notices import told, wanted
from streams import metrics
from streams.clients import kafka_client_config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from config.monitoring import Receiver
    from config.sections import Kafka

log = structlog.get_logger()

RECOMMIT_S = 3600.0
"""Kafka forgets a group that commits nothing for days."""
MOST_SEEN = 10_000
"""Ids by which an event that stands in the topic twice is known."""
_KAFKA_S = 10.0


class Tour:
    """From `begin` to `end` on one thread. `send` tells the receiver of one event, or again of several that fire."""

    def __init__(
        self,
        kafka: Kafka,
        receiver: Receiver,
        send: Callable[[Sequence[Mapping[str, Any]]], Awaitable[Answer]],
        *,
        rng: Callable[[], float],
    ) -> None:
        from confluent_kafka import Consumer

        self._topic = kafka.topics.alerts
        self._partitions = kafka.partitions
        self._receiver = receiver
        self._send = send
        self._rng = rng
        self._waiting = Deliveries()
        self._firing = Firing(receiver.resend.total_seconds())
        self._past: dict[str, Event] = {}
        self._told_from: dict[int, int | None] = {}
        self._ends: dict[int, int] = {}
        self._seen: dict[str, None] = {}
        self._committed: dict[int, int] = {}
        self._committed_s = 0.0
        self._consumer = Consumer(
            kafka_client_config(kafka)
            | {
                "group.id": f"{kafka.monitor_group}-notify-{receiver.name}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": 4096,
                "on_commit": self._on_commit,
            }
        )

    def begin(self) -> None:
        """Ask how far the receiver has been told, and read from the beginning: what fires since long must be known too."""
        from confluent_kafka import OFFSET_BEGINNING, TopicPartition

        partitions = [TopicPartition(self._topic, p) for p in range(self._partitions)]
        committed = {tp.partition: tp.offset for tp in self._consumer.committed(partitions, timeout=_KAFKA_S)}
        for tp in partitions:
            low, end = self._consumer.get_watermark_offsets(tp, timeout=_KAFKA_S)
            known = 0 <= committed[tp.partition] <= end  # else new here, or the topic was made anew
            self._told_from[tp.partition] = committed[tp.partition] if known else None
            self._ends[tp.partition] = end
            self._waiting.passed(tp.partition, low)
        self._consumer.assign([TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in range(self._partitions)])

    async def step(self) -> bool:
        """Read what is there, send one thing that is due; whether anything was done."""
        read = 0 if self._waiting.full else self._read()
        now_s = time.monotonic()
        event = self._waiting.due(now_s)
        if event is not None:
            await self._tell(event)
        elif self._receiver.kind == "alertmanager" and self._caught_up and now_s >= self._waiting.held_until_s:
            await self._tell_again(now_s)
        self._commit()
        metrics.NOTIFICATIONS_WAITING.labels(self._receiver.name).set(len(self._waiting))
        return read > 0 or event is not None

    def end(self) -> None:
        """Let go of Kafka, with what was told noted."""
        self._commit()
        self._consumer.close()

    @property
    def _caught_up(self) -> bool:
        return all(self._waiting.positions[p] >= end for p, end in self._ends.items())

    def _read(self) -> int:
        from confluent_kafka import KafkaError

        messages = self._consumer.consume(100, 0.0)
        for message in messages:
            at: Any = message  # its types allow what a record without an error never has
            error = at.error()
            if error is None:
                self._take(at)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - confluent-kafka's public name for it
                self._waiting.passed(at.partition(), at.offset())
        if self._past and self._caught_up:
            for event in sorted(self._past.values(), key=lambda e: (e.partition, e.offset)):
                self._waiting.add(event)
            self._past.clear()
        return len(messages)

    def _take(self, message: Any) -> None:
        partition, offset = message.partition(), message.offset()
        self._waiting.passed(partition, offset + 1)
        record = self._record(message.value(), offset)
        if record is None or self._repeated(record["event_id"]):
            return
        event = Event(partition, offset, record, message.timestamp()[1] / 1000)
        wants = wanted(record, min_severity=self._receiver.min_severity)
        if offset >= self._fresh_from(partition):
            if wants:
                self._waiting.add(event)
            return
        # What it was told before, or, new here, was never told: of that only what still fires counts.
        fires = wants and told(record) == "firing"
        if self._told_from[partition] is not None:
            self._firing.told(record if fires else {**record, "state": "resolved"})
        elif fires:
            self._past[record["fingerprint"]] = event
        else:
            self._past.pop(record["fingerprint"], None)

    def _repeated(self, event_id: str) -> bool:
        """Whether this event was read before: a monitor that was killed says again what it said."""
        if event_id in self._seen:
            return True
        self._seen[event_id] = None
        if len(self._seen) > MOST_SEEN:
            del self._seen[next(iter(self._seen))]
        return False

    def _fresh_from(self, partition: int) -> int:
        told_from = self._told_from[partition]
        return self._ends[partition] if told_from is None else told_from

    def _record(self, value: bytes | None, offset: int) -> Mapping[str, Any] | None:
        try:
            record: Mapping[str, Any] = msgspec.json.decode(value or b"", type=dict[str, Any])
            rebuild([record])
        except (msgspec.MsgspecError, UnicodeError, StateError) as e:
            log.warning("not an alert, passed over", topic=self._topic, offset=offset, error=str(e))
            return None
        return record

    async def _tell(self, event: Event) -> None:
        answer = await self._send([event.record])
        fate = self._waiting.settle(event, answer, now_s=time.monotonic(), wall_s=time.time(), chance=self._rng())
        if fate == "delivered" and self._receiver.kind == "alertmanager":
            self._firing.told(event.record, now_s=time.monotonic())
        self._count(answer)
        if fate == "dead":
            self._count(Answer("delivered"), "dead")
            log.error(
                "an alert was given up, it stays in its topic",
                receiver=self._receiver.name,
                event_id=event.record["event_id"],
                alert=event.record["labels"].get("alertname"),
                state=event.record["state"],
                reason=answer.why,
            )
        elif fate == "again":
            log.warning("an alert was not taken, it is sent again later", receiver=self._receiver.name, reason=answer.why)

    async def _tell_again(self, now_s: float) -> None:
        """Say again what fires: an Alertmanager takes silence for the end."""
        due = self._firing.due(now_s)
        if not due:
            return
        answer = await self._send(due)
        self._count(answer)
        self._waiting.hold(answer, now_s=time.monotonic(), chance=self._rng())
        if answer.verdict != "away":  # what it refuses now it would refuse at once again
            for record in due:
                self._firing.told(record, now_s=now_s)

    def _count(self, answer: Answer, outcome: str | None = None) -> None:
        metrics.NOTIFICATIONS.labels(self._receiver.name, outcome or answer.verdict).inc()

    def _commit(self) -> None:
        """Note in Kafka how far the receiver was told; never less than was noted before."""
        from confluent_kafka import TopicPartition

        now_s = time.monotonic()
        old = now_s - self._committed_s > RECOMMIT_S
        settled = {p for p, told_from in self._told_from.items() if told_from is not None or (self._caught_up and not self._past)}
        found = {
            p: o
            for p, o in self._waiting.committable().items()
            if p in settled and o >= (self._told_from[p] or 0) and (old or self._committed.get(p) != o)
        }
        if found:
            self._committed |= found
            self._committed_s = now_s if old else self._committed_s
            offsets = [TopicPartition(self._topic, p, o) for p, o in found.items()]
            self._consumer.commit(offsets=offsets)

    def _on_commit(self, error: Any, partitions: Sequence[Any]) -> None:
        if error is not None:
            log.warning("how far a receiver was told could not be noted", receiver=self._receiver.name, error=str(error))
        for tp in partitions:
            if error is not None or tp.error is not None:
                self._committed.pop(tp.partition, None)
