"""What leaves a worker: epochs, confirmations, and a failure that is never forgotten."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams import outbox as module
from streams.errors import DeliveryError
from streams.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable

Report = Any


class Message:
    def __init__(self, topic: str, partition: int, offset: int) -> None:
        self._at = topic, partition, offset

    def topic(self) -> str:
        return self._at[0]

    def partition(self) -> int:
        return self._at[1]

    def offset(self) -> int:
        return self._at[2]


class FakeProducer:
    """confluent-kafka's producer without Kafka: `deliver` and `fail` are its delivery reports."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.queue: list[tuple[dict[str, Any], Report]] = []
        self.room = 10**9
        self.refuse: KafkaError | None = None
        self.offset = 100
        self.polls = 0
        self.on_poll: Any = None

    def __len__(self) -> int:
        return len(self.queue)

    def produce(self, topic: str, value: Any, key: Any, partition: int, *, on_delivery: Report, headers: Any = None) -> None:
        if self.refuse is not None:
            raise KafkaException(self.refuse)
        if len(self.queue) >= self.room:
            raise BufferError("Local: Queue full")
        record = {"topic": topic, "value": value, "key": key, "partition": partition, "headers": headers}
        self.queue.append((record, on_delivery))

    def produce_batch(self, topic: str, messages: list[dict[str, Any]], *, partition: int, on_delivery: Report) -> int:
        taken = 0
        for m in messages:
            if self.refuse is not None:
                m["_error"] = self.refuse
            elif len(self.queue) >= self.room:
                m["_error"] = KafkaError(KafkaError._QUEUE_FULL)
            else:
                self.queue.append(({"topic": topic, "partition": partition, **m}, on_delivery))
                taken += 1
        return taken

    def poll(self, _timeout_s: float) -> int:
        self.polls += 1
        if self.on_poll is not None:
            self.on_poll()
        return 0

    def flush(self, _timeout_s: float) -> int:
        return len(self.queue)

    def deliver(self, n: int | None = None, *, error: KafkaError | None = None) -> None:
        for record, report in self.queue[:n]:
            self.offset += 1
            report(error, Message(record["topic"], record["partition"], self.offset))
        del self.queue[:n]


@pytest.fixture(name="box")
def fixture_box(monkeypatch: pytest.MonkeyPatch) -> Outbox:
    monkeypatch.setattr(module, "Producer", FakeProducer)
    return Outbox({"bootstrap.servers": "none:1"}, room=5)


def producer(box: Outbox) -> FakeProducer:
    fake: Any = box._producer
    assert isinstance(fake, FakeProducer)
    return fake


async def done(task: asyncio.Task[None]) -> bool:
    """Whether a task ends once it had every chance to."""
    for _ in range(3):
        await asyncio.sleep(2 * module.POLL_S)
    return task.done()


async def test_an_epoch_is_confirmed_when_each_of_its_records_is(box: Outbox) -> None:
    box.send("rejected", partition=1, key=None, value=b"x", headers=[("h", b"1")])
    box.send_many("predictions", [(0, b"A", b"1"), (1, b"B", b"2")])
    epoch = box.turn()
    box.send("rejected", partition=1, key=b"later", value=None)
    assert (epoch.sent, len(box), producer(box).queue[0][0]["headers"]) == (3, 4, [("h", b"1")])
    assert [r["partition"] for r, _ in producer(box).queue] == [1, 0, 1, 1]
    waiting = asyncio.create_task(box.confirmed(epoch))
    producer(box).deliver(2)
    assert not await done(waiting)
    producer(box).deliver(1)
    await waiting  # the record of the next epoch does not matter
    assert len(box) == 1


async def test_an_empty_epoch_is_confirmed_at_once(box: Outbox) -> None:
    await box.confirmed(box.turn())


async def test_changelog_records_have_an_epoch_of_their_own_that_knows_offsets(box: Outbox) -> None:
    box.send_many("predictions", [(0, b"A", b"1")])
    epoch = box.send_changelog("log", [(0, b"A", b"a"), (2, b"B", b"b"), (0, b"C", b"c")])
    assert box.turn().sent == 1
    producer(box).deliver()
    await box.confirmed(epoch)
    assert epoch.offsets == {("log", 0): 104, ("log", 2): 103}


async def test_an_epoch_knows_whether_others_wrote_between_its_records_or_just_before_them(box: Outbox) -> None:
    epoch = box.send_changelog("log", [(0, b"A", b"a"), (0, b"B", b"b")])
    producer(box).deliver()
    assert epoch.alone("log", 0, after=None)
    assert epoch.alone("log", 0, after=100)
    assert not epoch.alone("log", 0, after=99)
    epoch = box.send_changelog("log", [(0, b"A", b"a"), (0, b"B", b"b")])
    producer(box).deliver(1)
    producer(box).offset += 1
    producer(box).deliver()
    assert not epoch.alone("log", 0, after=None)


async def test_a_record_whose_offset_is_not_told_leaves_room_for_others(box: Outbox) -> None:
    epoch = box.send_changelog("log", [(0, b"A", b"a"), (0, b"B", b"b")])
    producer(box).deliver(1)
    epoch.delivered_at(None, Message("log", 0, -1001))
    assert (epoch.confirmed, epoch.offsets) == (2, {("log", 0): 101})
    assert not epoch.alone("log", 0, after=None)
    only = box.send_changelog("log", [(0, b"A", b"a")])
    only.delivered_at(None, Message("log", 0, -1001))
    assert only.offsets == {}
    assert not only.alone("log", 0, after=None)


async def test_one_failure_fails_everything_after_it(box: Outbox) -> None:
    box.send_many("predictions", [(0, b"A", b"1"), (0, b"B", b"2")])
    epoch = box.turn()
    producer(box).deliver(1, error=KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
    producer(box).deliver()
    with pytest.raises(
        DeliveryError, match=r"record for predictions was not delivered: .*MSG_SIZE_TOO_LARGE.*; nothing after the"
    ):
        await box.confirmed(epoch)
    with pytest.raises(DeliveryError):
        await box.room()
    later = box.turn()
    with pytest.raises(DeliveryError):
        await box.confirmed(later)
    changelog = box.send_changelog("log", [])
    with pytest.raises(DeliveryError):
        await box.confirmed(changelog)


async def test_a_failure_in_the_running_epoch_stops_the_next_chunk(box: Outbox) -> None:
    box.send_many("predictions", [(0, b"A", b"1")])
    producer(box).deliver(error=KafkaError(KafkaError._MSG_TIMED_OUT))
    with pytest.raises(DeliveryError, match="MSG_TIMED_OUT"):
        await box.room()


async def test_a_failed_changelog_record_is_not_confirmed(box: Outbox) -> None:
    epoch = box.send_changelog("log", [(0, b"A", b"a"), (0, b"B", b"b")])
    producer(box).deliver(1)
    producer(box).deliver(error=KafkaError(KafkaError.NOT_ENOUGH_REPLICAS))
    with pytest.raises(DeliveryError, match="record for log was not delivered"):
        await box.confirmed(epoch)
    assert epoch.offsets == {("log", 0): 101}


@pytest.mark.parametrize("send", ["send", "send_many", "send_changelog"])
async def test_a_full_queue_is_waited_for_and_nothing_is_sent_twice(box: Outbox, send: str) -> None:
    fake = producer(box)
    fake.room = 2
    sent: list[bytes] = []

    def free() -> None:
        sent.append(fake.queue[0][0]["value"])
        fake.deliver(1)

    fake.on_poll = free
    records = [(0, b"k", bytes([i])) for i in range(7)]
    if send == "send":
        for p, k, v in records:
            box.send("t", partition=p, key=k, value=v)
        epoch = box.turn()
    elif send == "send_many":
        box.send_many("t", records)
        epoch = box.turn()
    else:
        epoch = box.send_changelog("t", records)
    sent += [r["value"] for r, _ in fake.queue]
    fake.on_poll = None
    fake.deliver()
    await box.confirmed(epoch)
    assert sent == [bytes([i]) for i in range(7)]
    assert epoch.sent == epoch.confirmed == 7


@pytest.mark.parametrize("send", ["send", "send_many", "send_changelog"])
async def test_a_full_queue_behind_a_failure_does_not_wait_for_ever(box: Outbox, send: str) -> None:
    fake = producer(box)
    box.send_many("t", [(0, b"k", b"v"), (0, b"k", b"v")])
    fake.deliver(1, error=KafkaError(KafkaError._MSG_TIMED_OUT))
    fake.room = 1
    sends: dict[str, Callable[[], object]] = {
        "send": lambda: box.send("t", partition=0, key=None, value=b"v"),
        "send_many": lambda: box.send_many("t", [(0, b"k", b"v")]),
        "send_changelog": lambda: box.send_changelog("t", [(0, b"k", b"v")]),
    }
    with pytest.raises(DeliveryError):
        sends[send]()


async def test_a_record_that_is_never_accepted_fails_and_is_not_tried_for_ever(box: Outbox) -> None:
    producer(box).refuse = KafkaError(KafkaError._UNKNOWN_PARTITION)
    with pytest.raises(DeliveryError, match="record for predictions was not accepted"):
        box.send_many("predictions", [(9, b"A", b"1"), (0, b"A", b"1")])
    with pytest.raises(DeliveryError):
        await box.room()


async def test_room_waits_while_too_much_is_under_way(box: Outbox) -> None:
    box.send_many("t", [(0, b"k", b"v")] * 7)
    waiting = asyncio.create_task(box.room())
    assert not await done(waiting)
    producer(box).deliver(1)
    assert not await done(waiting)
    producer(box).deliver(1)
    await waiting


def test_the_queue_of_the_library_is_larger_than_what_is_waited_for() -> None:
    room = Outbox.__init__.__kwdefaults__ or {}
    assert 2 * room["room"] <= 100_000  # librdkafka's queue.buffering.max.messages, unless configured


def test_flush_says_what_is_left(box: Outbox) -> None:
    box.send("t", partition=0, key=None, value=b"v")
    assert box.flush(0.1) == 1
