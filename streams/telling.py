"""Telling receivers of alerts: from the topic `alerts` by HTTP, each receiver in a thread of its own. Shell.

The topic is what is durable: events are in it before the rows they come from are committed. How far a receiver has been told is
a committed offset of a consumer group of its own, `<monitor group>-notify-<receiver>`: up to the oldest event that it has
not taken. So a monitor that is killed, or moves without its disk, goes on with exactly what was not taken; a receiver that
is away finds all of it later; and none knows of the others.

Everything a thread does is done one after the other, so what blocks (Kafka away, a receiver that hangs) blocks only its own.
"""

from __future__ import annotations

import asyncio
import atexit
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import structlog

from monitoring.notices import ALERTS_PATH, KEY, Notice, alertmanager_body, notice
from monitoring.posting import Poster
from streams.tour import Tour

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from config.monitoring import Receiver
    from config.sections import Kafka
    from monitoring.deliveries import Answer
    from monitoring.posting import Lookup

log = structlog.get_logger()

PAUSE_S = 0.2
"""Between two looks at the topic."""


class Telling:
    """All receivers' threads. `on_duty`: set it from anywhere; only then is anything sent."""

    def __init__(self, kafka: Kafka, receivers: Sequence[Receiver]) -> None:
        """The receivers with their urls and secrets in them (`Receiver.resolved`)."""
        self._couriers = [Courier(kafka, receiver) for receiver in receivers]
        self.on_duty = False

    def start(self) -> None:
        """Start the threads; they end with the process, or by `close`."""
        for courier in self._couriers:
            courier.start()
        atexit.register(self.close)

    @property
    def idle(self) -> bool:
        """Whether no receiver is being told: after the end of a duty it takes a moment."""
        return not any(courier.touring.is_set() for courier in self._couriers)

    def duty(self, *, on: bool) -> None:
        """Whether this worker is the one that tells."""
        if on != self.on_duty:
            self.on_duty = on
            for courier in self._couriers:
                (courier.on_duty.set if on else courier.on_duty.clear)()

    def close(self) -> None:
        """End the threads; not for long, what they are at will be done again."""
        for courier in self._couriers:
            courier.over.set()
            courier.on_duty.clear()
        for courier in self._couriers:
            courier.join(0.5)


class Courier(threading.Thread):
    """The thread of one receiver."""

    def __init__(
        self,
        kafka: Kafka,
        receiver: Receiver,
        *,
        lookup: Lookup | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(name=f"notify-{receiver.name}", daemon=True)
        self.on_duty = threading.Event()
        self.over = threading.Event()
        self.touring = threading.Event()
        self._kafka = kafka
        self._receiver = receiver
        self._resend_s = receiver.resend.total_seconds()
        self._lookup: Mapping[str, Any] = {} if lookup is None else {"lookup": lookup}
        self._rng = rng

    def run(self) -> None:
        """Tours of duty, until the process ends. What goes wrong in one is logged, and another begins."""
        from confluent_kafka import KafkaException

        while not self.over.is_set():
            if not self.on_duty.wait(1.0):
                continue
            self.touring.set()
            try:
                asyncio.run(self._tour())
            except Exception as e:  # noqa: BLE001 - a receiver's trouble must never become the monitor's
                # Words are Kafka's only: others' might repeat the receiver's address.
                words = str(e) if isinstance(e, KafkaException) else ""
                log.warning("telling of alerts begins anew", receiver=self._receiver.name, error=type(e).__name__, reason=words)
                self.over.wait(1.0 + 4.0 * self._rng())
            finally:
                self.touring.clear()

    async def _tour(self) -> None:
        tour = Tour(self._kafka, self._receiver, self._send, rng=self._rng)
        self._poster = Poster(allow_private=self._receiver.allow_private, **self._lookup)
        try:
            tour.begin()
            while self.on_duty.is_set():
                if not await tour.step():
                    await asyncio.sleep(PAUSE_S)
        finally:
            await self._poster.close()
            tour.end()

    def _url(self) -> str:
        url = "" if self._receiver.url is None else self._receiver.url.get_secret_value()
        return url.rstrip("/") + ALERTS_PATH if self._receiver.kind == "alertmanager" else url

    async def _send(self, records: Sequence[Mapping[str, Any]]) -> Answer:
        """One event, or for an Alertmanager several that fire on."""
        secret = self._receiver.secret
        now_us, resend_us = time.time_ns() // 1000, int(self._resend_s * 1_000_000)
        if len(records) == 1:
            made = notice(
                records[0],
                kind=self._receiver.kind,
                source=f"/{self._kafka.monitor_group}",
                secret=None if secret is None else secret.get_secret_value().encode(),
                now_us=now_us,
                resend_us=resend_us,
            )
        else:
            body = alertmanager_body(records, now_us=now_us, resend_us=resend_us)
            made = Notice(body, {"Content-Type": "application/json", KEY: f"{now_us}"})
        return await self._poster.post(self._url(), made)
