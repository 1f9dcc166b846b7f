"""Silence is told by a real monitor by the clock: once fired and once resolved per incident, whatever is killed in between."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from confluent_kafka import Producer

from config.sections import Kafka
from streams.broker import EmbeddedBroker
from streams.topics import all_topics
from tests.broker.inference_world import Worker, wait_until
from tests.broker.silent_monitor import SLOW
from tests.broker.test_monitor_killed import group_took, to_tell
from tests.record import Record
from tests.unit.monitoring.receiver import Receiver
from tests.unit.streams.monitor_world import COLUMNS, PARTITIONS, SYMBOLS, home, log_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.streams.monitor_world import Placed

COMMAND = ("tests.broker.silent_monitor",)
LOG = "trading.inference-log"
SECOND_US = 1_000_000


class Live:
    """A model's records of the log, published now or as if at another time."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 5})
        self._ends = [0] * PARTITIONS
        self._rows = 0

    def send(self, *, ages_s: list[float] | None = None, late_s: float = 0.001) -> list[Placed]:
        """A record for each partition at each of these ages, oldest first, so late; the last one of each partition."""
        last: dict[int, Placed] = {}
        for age_s in ages_s or [0.0]:
            at_us = time.time_ns() // 1000 - round(age_s * SECOND_US)
            for partition in range(PARTITIONS):
                symbols = [s for s in SYMBOLS if home(s) == partition][:1]
                place = np.array([self._rows])
                value = log_record(
                    symbols,
                    at_us - round(late_s * SECOND_US),
                    np.zeros((1, len(COLUMNS))),
                    source_partition=partition,
                    source_offset=place,
                )
                self._producer.produce(LOG, value, None, partition, timestamp=at_us // 1000)
                last[partition] = LOG, partition, Record(self._ends[partition], at_us // 1000, None, value)
                self._ends[partition] += 1
            self._rows += 1
        assert self._producer.flush(20) == 0
        return list(last.values())

    def silences(self) -> list[dict[str, Any]]:
        """What is to be told of silence, each event once."""
        found = [e for e in to_tell(self.servers) if e["labels"]["alertname"] == "input_silence"]
        assert all(e["labels"]["model"] == "m" for e in found)
        return list({e["event_id"]: e for e in found}.values())

    def states(self) -> list[str]:
        return [e["state"] for e in self.silences()]


class World:
    """A broker, a receiver, and settings of monitors."""

    def __init__(self, folder: Path, broker: EmbeddedBroker, receiver: Receiver, *, at_least: str) -> None:
        self.live = Live(broker.bootstrap_servers)
        self.receiver = receiver
        hook = {"name": "hook", "kind": "webhook", "url": receiver.url, "secret": "key", "allow_private": True}
        self._folder = folder
        self._settings = {
            "KAFKA__PARTITIONS": str(PARTITIONS),
            "MODELS": json.dumps([{"name": "m"}]),
            "MONITORING__METRICS_WINDOW": "20m",
            "MONITORING__PANES": "4",
            "MONITORING__RULES__INPUT_SILENCE__AT_LEAST": at_least,
            "MONITORING__RULES__INPUT_SILENCE__COOLDOWN": "100ms",
            "MONITORING__NOTIFY": json.dumps([hook]),
            "DATABASE__PATH": str(folder / "ml.duckdb"),
        }

    def monitor(self) -> Worker:
        return Worker(self._folder, self.live.servers, command=COMMAND, **self._settings)

    def told(self) -> list[str]:
        """States of the incidents the receiver was told of, in the order of their events; each was told with one key."""
        assert all(len(keys) == 1 for keys in self.receiver.incidents().values())
        events = {e["event_id"]: e for e in self.receiver.events() if e["labels"]["alertname"] == "input_silence"}
        return [e["state"] for e in sorted(events.values(), key=lambda e: e["updated_us"])]


@contextmanager
def world(folder: Path, *, at_least: str) -> Iterator[World]:
    plans = all_topics(Kafka(bootstrap_servers="none:1", partitions=PARTITIONS))
    with EmbeddedBroker({p.name: p.partitions for p in plans}) as broker, Receiver() as receiver:
        yield World(folder, broker, receiver, at_least=at_least)


@pytest.mark.parametrize("state", ["kept", "gone"])
def test_each_silence_is_told_once_though_the_monitor_is_killed(tmp_path: Path, state: str) -> None:
    with world(tmp_path, at_least="2s") as w:
        live = w.live
        with w.monitor() as monitor:
            live.send()
            wait_until(lambda: live.states() == ["firing"], 30, alive=monitor)
            monitor.kill()
        if state == "gone":
            shutil.rmtree(monitor.state)
        with w.monitor() as monitor:
            monitor.wait_ready()
            sent = live.send()
            wait_until(lambda: group_took(live.servers, sent), 30, alive=monitor)
            wait_until(lambda: live.states()[:2] == ["firing", "resolved"], 30, alive=monitor)
            wait_until(lambda: live.states() == ["firing", "resolved", "firing"], 30, alive=monitor)  # those were all the rows
            wait_until(lambda: w.told() == ["firing", "resolved", "firing"], 30, alive=monitor)
            assert monitor.stop() == 0
        events = live.silences()
        assert Counter(e["state"] for e in events) == {"firing": 2, "resolved": 1}
        assert [e["incident_id"] for e in events[:2]] == [events[0]["incident_id"]] * 2
        assert events[2]["incident_id"] != events[0]["incident_id"]
        assert {key for keys in w.receiver.incidents().values() for key in keys} == {e["event_id"] for e in events}


@pytest.mark.parametrize("state", ["kept", "gone"])
def test_silence_that_began_while_no_monitor_ran_is_told_though_nothing_comes(tmp_path: Path, state: str) -> None:
    with world(tmp_path, at_least="8s") as w:
        live = w.live
        with w.monitor() as monitor:
            monitor.wait_ready()
            sent = live.send()
            wait_until(lambda: group_took(live.servers, sent), 30, alive=monitor)
            monitor.kill()
        assert live.states() == []
        if state == "gone":
            shutil.rmtree(monitor.state)
        with w.monitor() as monitor:
            wait_until(lambda: w.told() == ["firing"], 40, alive=monitor)
            assert monitor.stop() == 0
        assert live.states() == ["firing"]


def test_a_monitor_that_reads_what_waited_for_it_takes_its_own_absence_for_no_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(tmp_path, at_least="60s") as w:
        live = w.live
        with w.monitor() as monitor:
            monitor.wait_ready()
            sent = live.send(late_s=2 * 86_400.0)  # history, no sign of life
            wait_until(lambda: group_took(live.servers, sent), 30, alive=monitor)
            monitor.kill()
        sent = live.send(ages_s=[599.0 - n for n in range(600)])
        monkeypatch.setenv(SLOW, "2")  # whole looks at the clock fall into the reading
        with w.monitor() as monitor:
            wait_until(lambda: group_took(live.servers, sent), 30, alive=monitor)
            wait_until(lambda: monitor.get("/metrics")[1].count("trading_ml_alerts_now") > 0, 30, alive=monitor)
            assert monitor.stop() == 0
        assert live.states() == []
