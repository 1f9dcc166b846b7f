"""Quality metrics against scipy, scikit-learn and written-out formulas."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from sklearn.calibration import calibration_curve

from monitoring.quality import QualityReport, quality_report
from monitoring.ranks import ranks_within

if TYPE_CHECKING:
    from monitoring.reference import Floats, Ints

BAR = 60_000_000


class Sample:
    """Rows of `symbols` x `instants` with a known relation, some predictions tied."""

    def __init__(self, seed: int, *, symbols: int, instants: int) -> None:
        rng = np.random.default_rng(seed)
        n = symbols * instants
        self.value: Floats = rng.normal(size=n).round(1)
        self.outcome: Floats = 0.4 * self.value + rng.normal(size=n)
        self.outcome[:3] = 0.0
        self.lower, self.upper = self.value - 1.2, self.value + 1.2
        self.p_up: Floats = 1 / (1 + np.exp(-self.value))
        self.symbol_codes: Ints = np.tile(np.arange(symbols), instants)
        self.ts_event_us: Ints = np.repeat(np.arange(instants) * BAR, symbols)

    def report(self, **changes: object) -> QualityReport:
        said = {**vars(self), "horizon_us": 5 * BAR} | changes
        return quality_report(**said)


def test_errors_and_probabilities_are_scikit_learns() -> None:
    s = Sample(1, symbols=1, instants=800)
    r, up = s.report(), s.outcome > 0
    assert r.rmse == pytest.approx(metrics.root_mean_squared_error(s.outcome, s.value))
    assert r.mae == pytest.approx(metrics.mean_absolute_error(s.outcome, s.value))
    assert r.rmse_zero == pytest.approx(metrics.root_mean_squared_error(s.outcome, 0 * s.value))
    assert r.mae_zero == pytest.approx(metrics.mean_absolute_error(s.outcome, 0 * s.value))
    assert r.skill == pytest.approx(1 - np.mean((s.outcome - s.value) ** 2) / np.mean(s.outcome**2))
    assert r.brier == pytest.approx(metrics.brier_score_loss(up, s.p_up))
    assert r.log_loss == pytest.approx(metrics.log_loss(up, s.p_up))
    signed = (s.value != 0) & (s.outcome != 0)
    assert r.hit_rate == pytest.approx(metrics.accuracy_score(s.outcome[signed] > 0, s.value[signed] > 0))


def test_log_loss_of_certain_answers_is_finite_and_scikit_learns() -> None:
    s = Sample(2, symbols=1, instants=50)
    certain = (s.value > 0) * 1.0
    assert s.report(p_up=certain).log_loss == pytest.approx(metrics.log_loss(s.outcome > 0, certain))


def test_calibration_error_is_the_weighted_gap_of_scikit_learns_curve() -> None:
    s = Sample(3, symbols=1, instants=800)
    came, said = calibration_curve(s.outcome > 0, s.p_up, n_bins=10)
    weights = np.bincount(np.searchsorted(np.linspace(0, 1, 11)[1:-1], s.p_up), minlength=10)
    expected = np.sum(weights[weights > 0] / 800 * np.abs(came - said))
    assert s.report().calibration_error == pytest.approx(expected)


def test_over_time_the_ics_are_scipys() -> None:
    s = Sample(4, symbols=1, instants=500)
    r = s.report()
    assert r.ic == pytest.approx(stats.pearsonr(s.value, s.outcome).statistic)
    assert r.rank_ic == pytest.approx(stats.spearmanr(s.value, s.outcome).statistic)
    assert (r.rank_ic_over, r.instants) == ("time", 0)
    assert np.isnan(r.icir)


def test_across_symbols_the_rank_ic_is_the_mean_of_scipys() -> None:
    s = Sample(5, symbols=7, instants=60)
    shuffled = np.random.default_rng(0).permutation(7 * 60)
    for name, column in list(vars(s).items()):
        setattr(s, name, column[shuffled])
    each = [
        stats.spearmanr(s.value[s.ts_event_us == t], s.outcome[s.ts_event_us == t]).statistic for t in np.unique(s.ts_event_us)
    ]
    r = s.report()
    assert r.rank_ic == pytest.approx(np.mean(each))
    assert r.icir == pytest.approx(np.mean(each) / np.std(each, ddof=1))
    assert (r.rank_ic_over, r.instants) == ("symbols", 60)


def test_instants_where_all_predictions_are_equal_say_nothing() -> None:
    s = Sample(6, symbols=5, instants=4)
    s.value[:5] = 0.3
    assert s.report().instants == 3


def test_ranks_share_ties() -> None:
    rng = np.random.default_rng(7)
    groups, values = rng.integers(0, 9, 300), rng.integers(0, 12, 300).astype(float)
    ranks = ranks_within(groups, values)
    for g in range(9):
        assert ranks[groups == g].tolist() == stats.rankdata(values[groups == g]).tolist()


def test_interval_bounds_count_as_covered() -> None:
    r = quality_report(
        value=np.zeros(4),
        lower=np.array([-1.0, -1, -1, np.nan]),
        upper=np.array([1.0, 1, 1, 1]),
        p_up=np.full(4, np.nan),
        outcome=np.array([-1.0, 1, 1.5, 0]),
        symbol_codes=np.zeros(4, np.int64),
        ts_event_us=np.arange(4),
        horizon_us=1,
    )
    assert r.coverage == pytest.approx(2 / 3)
    assert r.width == 2.0
    assert np.isnan(r.brier)


def test_abstentions_and_unknown_outcomes_are_left_out_and_seen_in_coverage() -> None:
    s = Sample(8, symbols=1, instants=100)
    s.value[:10] = np.nan
    s.outcome[90:] = np.nan
    r = s.report(published=90)
    assert (r.rows, r.published) == (80, 90)
    assert r.label_coverage == pytest.approx(80 / 90)
    assert r.rmse == pytest.approx(metrics.root_mean_squared_error(s.outcome[10:90], s.value[10:90]))


def test_overlapping_horizons_shrink_the_sample() -> None:
    s = Sample(9, symbols=3, instants=50)
    assert s.report().effective_rows == pytest.approx(150 / 5)
    assert s.report(bar_us=5 * BAR).effective_rows == 150
    assert s.report(horizon_us=BAR // 2).effective_rows == 150


def test_nothing_matured_is_a_report_that_json_takes() -> None:
    s = Sample(10, symbols=1, instants=3)
    s.outcome[:] = np.nan
    plain = json.loads(json.dumps(s.report(published=3).to_dict(), allow_nan=False))
    assert (plain["rows"], plain["label_coverage"], plain["ic"], plain["rank_ic"], plain["log_loss"]) == (
        0,
        0.0,
        None,
        None,
        None,
    )
