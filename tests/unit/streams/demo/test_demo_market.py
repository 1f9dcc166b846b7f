"""The real data: what it is, when it was known, and that no feature knows more than that."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.demo import market
from streams.demo.errors import DemoDataMissing
from streams.demo.indicators import Bars, bar_features, index_features

DAILY = market.load_daily_bars()
BEFORE = market.bar_rows(DAILY).values
NEW_YORK = ZoneInfo("America/New_York")


def test_the_data_is_what_the_demo_says_it_is() -> None:
    assert len(DAILY.dates) == 1047
    assert (str(DAILY.dates[0]), str(DAILY.dates[-1])) == ("2004-08-19", "2008-10-14")
    assert (np.diff(DAILY.dates.astype(np.int64)) > 0).all()


@given(st.integers(0, 1045), st.integers(0, 2**32 - 1))
def test_later_bars_never_change_earlier_features(at: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    later = {}
    for f in fields(Bars):
        series = getattr(DAILY.bars, f.name).copy()
        series[at + 1 :] *= rng.uniform(0.2, 5.0, len(series) - at - 1)
        later[f.name] = series
    after = market.bar_rows(replace(DAILY, bars=Bars(**later))).values
    np.testing.assert_array_equal(after[: at + 1], BEFORE[: at + 1])
    assert not np.array_equal(after, BEFORE, equal_nan=True)


@given(st.integers(0, 388))
def test_later_months_never_change_earlier_index_features(at: int) -> None:
    _, level = market.load_month_ends("^GSPC")
    changed = np.concatenate([level[: at + 1], level[at + 1 :] * 3.0])
    for name, before in index_features(level).items():
        np.testing.assert_array_equal(index_features(changed)[name][: at + 1], before[: at + 1])


def test_features_are_complete_after_twenty_bars() -> None:
    assert np.isfinite(BEFORE[20:]).all()
    assert np.isnan(BEFORE[0]).any()


def test_some_features_by_hand() -> None:
    bars = Bars(*(np.array(x, dtype=float) for x in ([9, 10, 12], [11, 12, 13], [8, 9, 10], [10, 11, 12], [100, 300, 200])))
    found = bar_features(bars)
    assert found["ret_1"][2] == pytest.approx(np.log(12 / 11))
    assert found["gap"][1] == pytest.approx(0.0)
    assert found["intraday"][0] == pytest.approx(np.log(10 / 9))
    assert found["range_hl"][1] == pytest.approx(np.log(12 / 9))
    assert found["close_in_range"][2] == pytest.approx(2 / 3)


def test_a_bar_never_ends_before_the_exchange_closes() -> None:
    """16:00 in New York is 20:00 UTC in summer and 21:00 in winter."""
    ends = market.close_us(DAILY.dates)
    for day, end_us in zip(DAILY.dates.astype(object), ends.tolist(), strict=True):
        closed = datetime(day.year, day.month, day.day, 16, tzinfo=NEW_YORK).timestamp() * 1e6
        assert 0 <= end_us - closed <= 3_600_000_000
    assert (ends % market.DAY_US == market.CLOSE_US).all()  # so that a lag of whole days meets a bar exactly


def test_a_month_is_labelled_by_its_first_day_but_holds_its_last_close() -> None:
    """Google is in both files (before and after its split): the ratio is constant only at the months' last closes."""
    months, monthly = market.load_month_ends("GOOGL")
    of_bar = DAILY.dates.astype("datetime64[M]")
    whole = [m for m in months if m in of_bar[:-1] and m != of_bar[-1]]
    last = np.array([DAILY.bars.close[of_bar == m][-1] for m in whole])
    first = np.array([DAILY.bars.close[of_bar == m][0] for m in whole])
    values = np.array([monthly[months == m][0] for m in whole])
    assert np.ptp(last / values) < 1e-3
    assert np.ptp(first / values) > 0.5


def test_a_month_is_known_only_after_it_ended() -> None:
    months, level = market.load_month_ends("^GSPC")
    rows = market.market_rows(months, level)
    january = int(np.flatnonzero(months == np.datetime64("2008-01"))[0])
    assert np.datetime64(int(rows.ts_event_us[january]), "us") == np.datetime64("2008-01-31T21:00")
    assert np.datetime64(int(rows.ts_known_us[january]), "us") == np.datetime64("2008-02-01T21:00")
    assert rows.values[january, rows.features.index("sp500_level")] == pytest.approx(1378.55, abs=0.01)


def test_outcomes_are_the_first_close_at_or_after_the_horizon() -> None:
    outcomes = market.forward_returns(DAILY)
    ends = market.close_us(DAILY.dates)
    for i in range(0, len(outcomes), 97):
        j = next(k for k in range(len(ends)) if ends[k] >= ends[i] + market.HORIZON_US)
        assert outcomes.value[i] == pytest.approx(np.log(DAILY.bars.close[j] / DAILY.bars.close[i]))
        assert outcomes.ts_known_us[i] == ends[j] + market.BAR_LAG_US
    assert len(outcomes) == int((ends + market.HORIZON_US <= ends[-1]).sum())


def test_absent_data_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    import matplotlib as mpl

    monkeypatch.setattr(mpl, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(DemoDataMissing, match=r"goog\.npz is not there.*--synthetic"):
        market.load_daily_bars()
