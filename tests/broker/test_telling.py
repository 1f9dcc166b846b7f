"""Receivers told from the alerts topic, over the embedded broker: away, killed in between, new, one of several."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from pydantic import SecretStr

from config.monitoring import Receiver as Told
from streams import metrics
from streams.telling import Courier, Telling
from tests.broker.alert_events import Alerts
from tests.unit.monitoring.receiver import Receiver, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from config.sections import Kafka


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.telling.PAUSE_S", 0.02)


def told(receiver: Receiver, name: str = "hook", **changes: Any) -> Told:
    said = {"kind": "webhook", "url": SecretStr(receiver.url), "secret": SecretStr("key"), "allow_private": True}
    return Told(**{"name": name, **said, **changes})


@contextmanager
def telling(kafka: Kafka, *receivers: Told) -> Iterator[Telling]:
    """On duty within the block; afterwards nothing goes on."""
    found = Telling(kafka, receivers)
    for courier in found._couriers:
        courier._rng = lambda: 0.001  # short waits
    found.start()
    found.duty(on=True)
    try:
        yield found
    finally:
        found.close()
        for courier in found._couriers:
            courier.join(10)


def count(name: str, outcome: str) -> float:
    found = metrics.REGISTRY.get_sample_value("trading_ml_notifications_total", {"receiver": name, "outcome": outcome})
    return 0.0 if found is None else found


def settled(kafka: Kafka, name: str = "hook") -> bool:
    """Whether a restart would tell nothing again that stands in the topic now; not before a first look at it."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": f"{kafka.monitor_group}-notify-{name}"})
    partitions = [TopicPartition(kafka.topics.alerts, p) for p in range(kafka.partitions)]
    noted = [tp.offset for tp in consumer.committed(partitions, timeout=10)]
    ends = [consumer.get_watermark_offsets(tp, timeout=10)[1] for tp in partitions]
    consumer.close()
    return noted == ends


def test_each_event_is_told_once_and_in_the_order_of_its_alert(kafka: Kafka) -> None:
    with Receiver() as receiver, telling(kafka, told(receiver)):
        wait_until(lambda: settled(kafka))
        alerts = Alerts(kafka)
        alerts.window(a=0.5, b=0.5, c=0.0)
        alerts.window(a=0.0, b=2.0)
        alerts.window(a=0.5, b=0.0)
        wait_until(lambda: len(receiver.taken) == len(alerts.events) == 6 and settled(kafka))
        assert sorted(e["event_id"] for e in receiver.events()) == sorted(alerts.ids())
        for column in "ab":
            states = [e["state"] for e in receiver.events() if e["labels"]["column"] == column]
            assert states == [e["state"] for e in alerts.events if e["labels"]["column"] == column]


def test_a_receiver_that_was_away_finds_one_firing_and_one_resolved_for_each_incident(kafka: Kafka) -> None:
    with Receiver() as receiver, telling(kafka, told(receiver)):
        wait_until(lambda: settled(kafka))
        alerts = Alerts(kafka)
        alerts.window(a=0.5)
        wait_until(lambda: len(receiver.taken) == 1)
        receiver.close()
        alerts.window(a=0.0, b=0.5)
        alerts.window(a=0.5)
        wait_until(lambda: count("hook", "away") > 0)
        receiver.mode = "then fail"  # it takes one, and its answer is lost
        receiver.open()
        alerts.window(a=0.0, b=0.0)
        wait_until(lambda: len(receiver.incidents()) == 6 and settled(kafka))
        assert len(receiver.taken) == 7
        assert {len(keys) for keys in receiver.incidents().values()} == {1}
        assert sorted({e["event_id"] for e in receiver.events()}) == sorted(alerts.ids())


def test_who_is_killed_between_raise_and_resolve_tells_what_was_not_told(kafka: Kafka) -> None:
    alerts = Alerts(kafka)
    with Receiver() as receiver:
        with telling(kafka, told(receiver)):
            wait_until(lambda: settled(kafka))
            raised = alerts.window(a=0.5, b=0.5)
            wait_until(lambda: len(receiver.taken) == 2 and settled(kafka))
        alerts.window(a=0.0)
        alerts.write(raised)  # the monitor that is started again says again what it had not committed
        receiver.mode = "fail"
        with telling(kafka, told(receiver)):
            wait_until(lambda: receiver.asked > 3)
        receiver.mode = "take"
        with telling(kafka, told(receiver)):
            alerts.window(b=0.0)
            wait_until(lambda: len(receiver.taken) == 4 and settled(kafka))
        assert sorted(e["event_id"] for e in receiver.events()) == sorted(alerts.ids())


def test_a_receiver_that_is_new_hears_what_fires_and_not_what_is_over(kafka: Kafka) -> None:
    alerts = Alerts(kafka)
    alerts.window(a=0.5, b=0.5, c=0.5)
    alerts.window(a=0.0, b=2.0)
    with Receiver("fail") as receiver:
        with telling(kafka, told(receiver)):
            wait_until(lambda: receiver.asked > 0)  # and ends before it could tell it
        receiver.mode = "take"
        with telling(kafka, told(receiver)):
            wait_until(lambda: settled(kafka) and len(receiver.taken) >= 2)
        newest = {e["labels"]["column"]: e["severity"] for e in receiver.events() if e["state"] == "firing"}
        assert newest == {"b": "critical", "c": "warn"}


def test_one_that_hangs_and_one_that_refuses_hold_up_no_other(kafka: Kafka) -> None:
    with Receiver() as good, Receiver("hang") as hanging, Receiver("refuse") as refusing:
        with telling(kafka, told(good, "good"), told(hanging, "hanging"), told(refusing, "refusing")):
            wait_until(lambda: all(settled(kafka, name) for name in ("good", "hanging", "refusing")))
            alerts = Alerts(kafka)
            began = time.monotonic()
            for value in (0.5, 0.0, 0.5):
                alerts.window(a=value, b=value)
            wait_until(lambda: len(good.taken) == len(alerts.events))
            assert time.monotonic() - began < 4.0
            hanging.close()
            wait_until(lambda: count("refusing", "dead") == 6 and settled(kafka, "refusing"))
        assert (len(hanging.taken), count("good", "dead")) == (0, 0)


def test_only_severities_that_are_wanted(kafka: Kafka) -> None:
    with Receiver() as receiver, telling(kafka, told(receiver, min_severity="critical")):
        wait_until(lambda: settled(kafka))
        alerts = Alerts(kafka)
        alerts.window(a=0.5, b=0.5)
        alerts.window(a=2.0, b=0.0)
        alerts.window(a=0.0)
        wait_until(lambda: settled(kafka))
        assert [(e["state"], e["severity"]) for e in receiver.events()] == [("firing", "critical"), ("resolved", "critical")]


def test_who_is_not_on_duty_tells_nothing(kafka: Kafka) -> None:
    with (
        Receiver() as receiver,
        Receiver() as witness,
        telling(kafka, told(receiver)) as found,
        telling(kafka, told(witness, "witness")),
    ):
        wait_until(lambda: settled(kafka) and settled(kafka, "witness"))
        found.duty(on=False)
        wait_until(lambda: found.idle)
        alerts = Alerts(kafka)
        alerts.window(a=0.5)
        wait_until(lambda: len(witness.taken) == 1)
        assert receiver.asked == 0
        found.duty(on=True)
        wait_until(lambda: len(receiver.taken) == 1)


def test_what_is_no_alert_is_passed_over(kafka: Kafka) -> None:
    with Receiver() as receiver, telling(kafka, told(receiver)):
        wait_until(lambda: settled(kafka))
        alerts = Alerts(kafka)
        for value in (b"", b"no JSON", b"{}", b'{"schema_version": 99}', b"\xff", b"[1]"):
            alerts._producer.produce(kafka.topics.alerts, value, b"k", 0)
        alerts.window(a=0.5)
        wait_until(lambda: len(receiver.taken) == 1 and settled(kafka))


def test_addresses_and_secrets_stand_in_no_log(kafka: Kafka, capfd: pytest.CaptureFixture[str]) -> None:
    with Receiver("refuse") as receiver:
        url = SecretStr(f"http://127.0.0.1:{receiver.port}/planted-6b2f")
        with telling(kafka, told(receiver, "quiet", url=url, secret=SecretStr("planted-6b2f"))) as found:
            wait_until(lambda: settled(kafka, "quiet"))
            Alerts(kafka).window(a=0.5)
            wait_until(lambda: count("quiet", "dead") == 1)
            shown = repr(found._couriers) + "".join(repr(vars(c)) for c in found._couriers)
    out, err = capfd.readouterr()
    assert "given up" in out + err
    assert "planted" not in out + err + shown


def test_a_courier_goes_on_after_whatever_happens(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as receiver:
        courier = Courier(kafka, told(receiver), rng=lambda: 0.0)
        real = courier._send
        failed: list[Any] = []

        async def once(records: Any) -> Any:
            if not failed:
                failed.append(records)
                raise RuntimeError("unforeseen")
            return await real(records)

        monkeypatch.setattr(courier, "_send", once)
        courier.start()
        courier.on_duty.set()
        wait_until(lambda: settled(kafka))
        Alerts(kafka).window(a=0.5)
        wait_until(lambda: len(receiver.taken) == 1)
        courier.over.set()
        courier.on_duty.clear()
        courier.join(10)
        assert not courier.is_alive()
