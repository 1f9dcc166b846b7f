"""Replay keeps order and rate, and stops when told."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from streams.demo.replay import Replay
from streams.demo.rows import FeatureRows, Outcomes


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class Sent:
    clock: Clock
    records: list[tuple[bytes, bytes, float]] = field(default_factory=list)

    def send(self, key: bytes, value: bytes) -> None:
        self.records.append((key, value, self.clock.now_s))


def block(n: int, at: int = 5) -> FeatureRows:
    times = np.full(n, at)
    return FeatureRows("s", ("x",), tuple(f"S{i}" for i in range(n)), times, times + 1, np.arange(n, dtype=float)[:, None])


def outcomes(n: int) -> Outcomes:
    return Outcomes(10, ("S0",) * n, np.arange(n), np.arange(n) + 10, np.zeros(n))


def replay(clock: Clock, *, rate: float | None, stop_after: int = 10**9) -> tuple[Replay, Sent, Sent]:
    features, known = Sent(clock), Sent(clock)
    stop = lambda: len(features.records) >= stop_after  # noqa: E731 - one line, used once
    return Replay(features, known, rate, stop, clock=clock, sleep=clock.sleep), features, known


def test_every_row_is_sent_once_under_its_symbol() -> None:
    run, features, known = replay(Clock(), rate=None)
    run.run([block(3), outcomes(2), block(2, at=9)])
    assert [(k, json.loads(v)["ts_event_us"]) for k, v, _ in features.records] == [
        (b"S0", 5), (b"S1", 5), (b"S2", 5), (b"S0", 9), (b"S1", 9),
    ]  # fmt: skip
    assert len(known.records) == 2
    assert (run.progress.rows, run.progress.outcomes, run.progress.stream_time_us, run.progress.done) == (5, 2, 10, True)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_rate_holds_within_blocks_of_any_size(size: int) -> None:
    run, features, _ = replay(Clock(), rate=1000.0)
    run.run(block(size) for _ in range(3000 // size))
    at_s = np.array([t for _, _, t in features.records])
    due_s = np.arange(len(at_s)) / 1000.0
    assert np.abs(at_s - due_s).max() <= 0.021


def test_it_stops_within_a_slice() -> None:
    run, features, _ = replay(Clock(), rate=1000.0, stop_after=50)
    run.run([block(1000), block(1000)])
    assert 50 <= len(features.records) < 75
    assert not run.progress.done
