"""`produce --speed` waits in proportion to the rows' times."""

from __future__ import annotations

import pytest

from streams.commands.produce import Pace


class _Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_ten_times_real_time_takes_a_tenth_of_it() -> None:
    clock = _Clock()
    pace = Pace(10.0, clock=clock, sleep=clock.sleep)
    waited = []
    for ts_us in (5_000_000, 6_000_000, 5_500_000, 25_000_000):
        pace.wait_for(ts_us)
        waited.append(clock.now_s - 100.0)
    assert waited == pytest.approx([0.0, 0.1, 0.1, 2.0])


def test_speed_zero_never_waits() -> None:
    clock = _Clock()
    pace = Pace(0.0, clock=clock, sleep=clock.sleep)
    for ts_us in (0, 10**12):
        pace.wait_for(ts_us)
    assert clock.now_s == 100.0
