"""The generator's truth holds: the effect where it is said to be, the drift from when it is said to be."""

from __future__ import annotations

import json

import numpy as np
import pytest

from streams.demo.rows import FeatureRows, Outcomes, RowEncoder, concatenate, encode_outcomes
from streams.demo.synthetic import (
    BEST_IC,
    FAST,
    HORIZON_BARS,
    LAG_BARS,
    SLOW,
    SLOW_LAG_US,
    SyntheticPlan,
    blocks,
    synthetic_spec,
    train_synthetic,
)

PLAN = SyntheticPlan(symbols=200, bars=120, seed=3, drift_at=60)
MADE = list(blocks(PLAN))
BARS = [b for b in MADE if isinstance(b, FeatureRows) and b.feature_set == "bars_1s"]
X = np.stack([b.values for b in BARS])  # (bars, symbols, features)
Y = np.stack([b.value for b in MADE if isinstance(b, Outcomes)])  # (matured bars, symbols)


def test_the_same_plan_makes_the_same_rows_and_another_seed_others() -> None:
    again = [b.values for b in blocks(PLAN) if isinstance(b, FeatureRows) and b.feature_set == "bars_1s"]
    np.testing.assert_array_equal(np.stack(again), X)
    other = next(iter(blocks(SyntheticPlan(symbols=200, bars=1, seed=4))))
    assert isinstance(other, FeatureRows)
    assert not np.array_equal(other.values, X[0])


def test_rows_come_in_the_order_in_which_they_were_known() -> None:
    known = [int(b.ts_known_us[0]) for b in MADE]
    assert known == sorted(known)
    assert len(Y) == PLAN.bars - HORIZON_BARS


def test_a_slow_row_is_known_late_and_says_so() -> None:
    slow = [b for b in MADE if isinstance(b, FeatureRows) and b.feature_set == "flow_30s"]
    assert len(slow) == 4
    assert all((b.ts_known_us - b.ts_event_us == SLOW_LAG_US).all() for b in slow)


@pytest.mark.parametrize(
    ("feature", "lag", "effect"), [("f03", LAG_BARS, 0.35), ("f07", 0, 0.25), ("f03", 3, 0.0), ("f00", 0, 0.0)]
)
def test_the_effect_is_where_it_is_said_to_be(feature: str, lag: int, effect: float) -> None:
    vol = np.exp(X[..., FAST.index("log_vol")])
    x = X[LAG_BARS - lag : len(Y) - lag, :, FAST.index(feature)].ravel()
    y = (Y / vol[: len(Y)])[LAG_BARS:].ravel()
    assert np.polyfit(x, y, 1)[0] == pytest.approx(effect, abs=0.03)


def test_named_features_shift_at_the_named_time_and_no_others() -> None:
    shift = X[60:].mean(axis=(0, 1)) - X[:60].mean(axis=(0, 1))
    for name, found in zip(FAST[:-1], shift, strict=False):
        assert found == pytest.approx(2.0 if name in PLAN.drifted else 0.0, abs=0.15), name
    assert PLAN.drift_from_us == int(BARS[60].ts_event_us[0])


def test_the_model_finds_most_of_what_can_be_found() -> None:
    trained = train_synthetic(PLAN)
    assert trained.spec == synthetic_spec()
    held_out = trained.booster.predict(trained.calibration.x)
    assert 0.75 * BEST_IC < np.corrcoef(held_out, trained.calibration.y)[0, 1] < 1.1 * BEST_IC


def test_rows_become_wire_json() -> None:
    body = json.loads(RowEncoder("bars_1s", FAST).encode(BARS[0])[7])
    assert body["symbol"] == "S0007"
    assert body["feature_set"] == "bars_1s"
    assert body["ts_known_us"] - body["ts_event_us"] == 50_000
    assert body["values"] == dict(zip(FAST, X[0, 7].tolist(), strict=True))
    outcome = next(b for b in MADE if isinstance(b, Outcomes))
    assert json.loads(encode_outcomes(outcome)[0])["horizon_us"] == HORIZON_BARS * 1_000_000


def test_blocks_can_be_joined_and_cut() -> None:
    whole = concatenate(BARS[:2])
    assert len(whole) == 400
    assert set(whole.only({"S0001"}).symbols) == {"S0001"}
    assert whole.only({"S0001"}).frame().shape == (2, 5 + len(FAST))
    assert len(SLOW) == 2
