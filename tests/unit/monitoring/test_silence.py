"""What does not come: bars that were awaited, feature sets that are missing, and which columns that explains."""

from __future__ import annotations

import math

import numpy as np
import pytest

from monitoring.silence import Awaited, MissingRate, inhibited_columns, missing_rates, silence_of_sets

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000


def test_daily_bars_of_sessions_are_one_a_session() -> None:
    opens = [day * DAY_US + 14 * HOUR_US for day in (0, 1, 4)]  # Thursday, Friday, Monday
    awaited = Awaited.of(bar_us=DAY_US, sessions=[(o, o + 7 * HOUR_US) for o in opens])
    thursday = opens[0] + 7 * HOUR_US
    assert awaited.missed(thursday, opens[1] + 6 * HOUR_US) == 0
    assert awaited.missed(thursday, opens[2]) == 1
    assert awaited.missed(thursday, opens[2] + 7 * HOUR_US) == 2
    assert awaited.missed(thursday, opens[2] + 99 * DAY_US) == 2  # after the last session nothing is awaited
    assert [awaited.open(us) for us in (opens[2], opens[2] + 1, opens[2] + 7 * HOUR_US, opens[2] + 7 * HOUR_US + 1)] == [
        False,
        True,
        True,
        False,
    ]


def test_a_row_is_awaited_when_it_is_usually_known() -> None:
    awaited = Awaited.of(bar_us=60, usual_lag_us=600)
    assert [awaited.missed(1_000, now) for now in (1_059, 1_060, 1_120, 900)] == [0, 1, 2, 0]


def test_a_bar_must_take_time() -> None:
    with pytest.raises(ValueError, match="bar_us 0 must be positive"):
        Awaited.of(bar_us=0)


def test_rates_are_of_the_last_cell() -> None:
    rates = missing_rates(["a", "b"], np.array([[1, 2, 1], [0, 0, 0]]), np.array([[9, 0, 1], [5, 5, 0]]))
    assert rates[0] == MissingRate("a", 4, 0.25, 0.1)
    assert (rates[1].rows, rates[1].missing_rate_trained) == (0, 0.0)
    assert math.isnan(rates[1].missing_rate)


def rates(**now: float) -> list[MissingRate]:
    return [MissingRate(name, 50, rate, 0.2) for name, rate in now.items()]


def test_a_set_is_as_silent_as_its_least_missing_column_without_a_lag() -> None:
    found = silence_of_sets([rates(a=1.0, b=0.2, old=1.0)], {"news": ["a", "b"]})
    assert found["news"].newest == 0.0
    assert silence_of_sets([rates(a=1.0, b=0.9)], {"news": ["a", "b"]})["news"].newest == pytest.approx(0.875)


def test_what_is_always_missing_or_never_counted_says_nothing() -> None:
    told = [MissingRate("a", 50, 1.0, 1.0), MissingRate("b", 0, math.nan, 0.0), MissingRate("c", 50, 1.0, math.nan)]
    assert silence_of_sets([told], {"x": ["a"], "y": ["b"], "z": ["c"], "w": ["elsewhere"]}) == {}


def test_a_set_that_speaks_again_was_silent_in_the_window() -> None:
    found = silence_of_sets([rates(a=0.2), rates(a=1.0), rates(a=0.2)], {"news": ["a"]})["news"]
    assert (found.newest, found.greatest, found.rows) == (0.0, 1.0, 50)


def test_a_silent_set_explains_its_columns_of_all_lags_and_what_is_made_of_all() -> None:
    of = {"a": "news", "a.lag5": "news", "ret": "bars"}
    own = ("prediction", "reconstruction_error")
    assert inhibited_columns({"news"}, of, model=own) == {"a", "a.lag5", *own}
    assert inhibited_columns((), of, model=own) == frozenset()
