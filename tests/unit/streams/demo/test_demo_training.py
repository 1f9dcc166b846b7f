"""Training sees only the past, twice the same, and what it publishes is served as trained."""

from __future__ import annotations

import numpy as np
import pytest

from streams.demo import market
from streams.demo.errors import DemoFailed
from streams.demo.rows import FeatureRows, Outcomes
from streams.demo.scenarios import CALIBRATE_FROM, REPLAY_FROM, market_past, market_scenario, synthetic_scenario, train_market
from streams.demo.training import log_order, market_spec, train


def _us(day: str) -> int:
    return int(np.datetime64(day, "us").astype(np.int64))


def test_the_same_data_gives_the_same_model() -> None:
    assert train_market().booster.model_to_string() == train_market().booster.model_to_string()


def test_no_outcome_reaches_across_a_cut() -> None:
    (slow, bars), outcomes = market_past()
    trained = train_market()
    known = dict(zip(outcomes.ts_event_us.tolist(), outcomes.ts_known_us.tolist(), strict=True))
    before = [t for t in bars.ts_event_us.tolist()[20 + 7 :] if known.get(t, 2**60) < _us(CALIBRATE_FROM)]
    between = [t for t in bars.ts_event_us.tolist() if t >= _us(CALIBRATE_FROM) and known.get(t, 2**60) < _us(REPLAY_FROM)]
    assert len(trained.learned.y) <= len(before) + 7
    assert len(trained.calibration.y) == len(between)
    # Anything after the cut may change at will.
    late = outcomes.ts_known_us >= _us(REPLAY_FROM)
    changed = Outcomes(
        outcomes.horizon_us, outcomes.symbols, outcomes.ts_event_us, outcomes.ts_known_us, np.where(late, 9.0, outcomes.value)
    )
    again = train(log_order(slow, bars), changed, market_spec(), calibrate_from_us=_us(CALIBRATE_FROM), end_us=_us(REPLAY_FROM))
    assert again.booster.model_to_string() == trained.booster.model_to_string()
    np.testing.assert_array_equal(again.calibration.y, trained.calibration.y)


def test_training_rows_are_complete() -> None:
    trained = train_market()
    assert np.isfinite(trained.learned.x).all()
    assert trained.learned.x.shape[1] == len(trained.spec.columns)
    assert trained.booster.feature_name() == [c.name for c in trained.spec.columns]


def test_too_little_history_is_said() -> None:
    (slow, bars), outcomes = market_past()
    with pytest.raises(DemoFailed, match="0 rows to learn from"):
        train(log_order(slow, bars), outcomes, market_spec(), calibrate_from_us=0, end_us=_us(REPLAY_FROM))


def test_the_replay_begins_where_training_ended_and_counts_what_it_sends() -> None:
    scenario = market_scenario()
    made = list(scenario.blocks())
    sent = [b for b in made if isinstance(b, FeatureRows)]
    assert sum(len(b) for b in sent) == scenario.rows
    bars = [t for b in sent if b.feature_set == "bars_1d" for t in b.ts_event_us.tolist()]
    assert len(bars) == 450
    assert bars[0] == int(market.close_us(np.array(["2007-01-03"], dtype="datetime64[D]"))[0])
    assert sent[0].feature_set == "market"  # the newest month is known before the first bar
    known = [int(b.ts_known_us[0]) for b in made]
    assert known == sorted(known)


def test_a_synthetic_run_too_short_to_judge_drift_says_how_long_it_must_be() -> None:
    with pytest.raises(DemoFailed, match="give --seconds 12"):
        synthetic_scenario(symbols=500, rate=5000, seconds=3)
    scenario = synthetic_scenario(symbols=4, rate=100, seconds=5)
    assert sum(len(b) for b in scenario.blocks() if isinstance(b, FeatureRows)) == scenario.rows
