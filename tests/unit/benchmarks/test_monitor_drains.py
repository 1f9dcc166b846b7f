"""The monitor's benchmark: outcomes for the rows sent, and one worker running while the other is held still."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.job import BAR_US, START_US, Feed, Job
from benchmarks.monitor.drains import INFERENCE, Outcomes, Race, counters_bytes, ratios
from benchmarks.workers.draining import MONITOR
from streams.outcomes import OutcomeDecoder
from streams.partitioner import partition_of
from streams.records import PartitionRecords
from tests.record import Record

JOB = Job(symbols=20, features=4, lags_bars=(0,), warm_up_rows=0, rows=200, frames_times=0, paced=())


class _Producer:
    """Stands in for the producer: keeps what was sent, by partition."""

    def __init__(self, _settings: object) -> None:
        self.sent: list[list[dict[str, bytes]]] = [[] for _ in range(JOB.partitions)]

    def produce_batch(self, _topic: str, messages: list[dict[str, bytes]], *, partition: int) -> int:
        self.sent[partition] += messages
        return len(messages)

    def flush(self, _timeout_s: float) -> None:
        pass


def test_every_row_sent_gets_one_outcome_where_its_symbol_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.monitor.drains.Producer", _Producer)
    outcomes = Outcomes(Feed(JOB), "outcomes", "none:1")
    assert [outcomes.send(rows) for rows in (60, 60, 105, 200)] == [60, 60, 100, 200]
    producer: Any = outcomes._producer
    found = [(p, json.loads(m["value"])) for p, some in enumerate(producer.sent) for m in some]
    assert {(o["symbol"], o["ts_event_us"]) for _, o in found} == {
        (f"SYM{i:04d}", START_US + tick * BAR_US) for i in range(20) for tick in range(10)
    }
    assert len(found) == 200
    assert all(p == partition_of(o["symbol"].encode(), JOB.partitions) for p, o in found)


def test_the_monitor_takes_these_outcomes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.monitor.drains.Producer", _Producer)
    outcomes = Outcomes(Feed(JOB), "outcomes", "none:1")
    outcomes.send(200)
    producer: Any = outcomes._producer
    decoder, taken = OutcomeDecoder(partitions=JOB.partitions, max_future_us=0), 0
    for partition, some in enumerate(producer.sent):
        now_ms = (START_US + 100 * BAR_US) // 1000
        records = [Record(i, now_ms, m["key"], m["value"]) for i, m in enumerate(some)]
        batch, rejected = decoder.decode(PartitionRecords("outcomes", partition, records))
        assert rejected == []
        taken += len(batch)
    assert taken == 200


class _Worker:
    def __init__(self) -> None:
        self.still = False

    def pause(self) -> None:
        self.still = True


def test_one_runs_while_the_other_is_held_still_and_comes_back_even_when_it_fails() -> None:
    race: Any = Race.__new__(Race)
    workers = {INFERENCE: _Worker(), MONITOR: _Worker()}
    race._stage = SimpleNamespace(crew=SimpleNamespace(workers=dict(workers)))
    with race._alone(INFERENCE) as alone:
        assert race._stage.crew.workers == {INFERENCE: alone}
        assert (alone.still, workers[MONITOR].still) == (False, True)
    with pytest.raises(ZeroDivisionError), race._alone(MONITOR):
        raise ZeroDivisionError
    assert race._stage.crew.workers == workers


def test_ratios_are_of_the_same_round() -> None:
    rounds = [
        {"inference": {"rows_per_s": 100.0}, "monitor": {"rows_per_s": 200.0}},
        {"inference": {"rows_per_s": 50.0}, "monitor": {"rows_per_s": 150.0}},
    ]
    assert ratios(rounds) == [2.0, 3.0]


def test_the_bound_does_not_know_rows() -> None:
    assert counters_bytes(models=2, columns=81, cells=13, panes=13) == 2 * 81 * 13 * 13 * 8
