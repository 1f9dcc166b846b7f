"""Quality metrics against scipy, scikit-learn and written-out formulas."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from sklearn.calibration import calibration_curve

from monitoring.quality import QualityReport, instants_of, quality_report, reliability
from monitoring.ranks import ranks_within
from tests.unit.monitoring.quality_rows import BAR, Rows, panel, rows_of, variance_by_hand


def judged(rows: Rows, *, overlap: int = 1, bar_us: int | None = None) -> QualityReport:
    return quality_report(instants_of(rows, horizon_us=overlap * BAR), horizon_us=overlap * BAR, bar_us=bar_us)


def with_zeros(seed: int, *, symbols: int, instants: int) -> Rows:
    rows = panel(seed, symbols=symbols, instants=instants, ties=1)
    rows.outcome[:3] = 0.0
    return rows


def test_errors_and_probabilities_are_scikit_learns() -> None:
    s = with_zeros(1, symbols=1, instants=800)
    r, up = judged(s), s.outcome > 0
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
    s = with_zeros(2, symbols=1, instants=50)
    certain = (s.value > 0).astype(np.float64)
    assert judged(replace(s, p_up=certain)).log_loss == pytest.approx(metrics.log_loss(s.outcome > 0, certain))


def test_calibration_error_is_the_weighted_gap_of_scikit_learns_curve() -> None:
    s = panel(3, symbols=1, instants=800)
    came, said = calibration_curve(s.outcome > 0, s.p_up, n_bins=10)
    weights = np.bincount(np.searchsorted(np.linspace(0, 1, 11)[1:-1], s.p_up), minlength=10)
    expected = np.sum(weights[weights > 0] / 800 * np.abs(came - said))
    assert judged(s).calibration_error == pytest.approx(expected)
    curve = reliability(instants_of(s, horizon_us=BAR))
    assert curve[:, 0].tolist() == weights.tolist()
    assert curve[weights > 0, 1] == pytest.approx(said)
    assert curve[weights > 0, 2] == pytest.approx(came)


def test_over_time_the_ics_are_scipys() -> None:
    s = with_zeros(4, symbols=1, instants=500)
    r = judged(s)
    assert r.ic == pytest.approx(stats.pearsonr(s.value, s.outcome).statistic)
    assert r.rank_ic == pytest.approx(stats.spearmanr(s.value, s.outcome).statistic)
    assert (r.rank_ic_over, r.instants, r.labelled_instants) == ("time", 0, 500)
    assert np.isnan(r.icir)


def test_two_symbols_have_a_rank_ic_over_time() -> None:
    s = with_zeros(4, symbols=2, instants=200)
    r = judged(s)
    assert r.rank_ic == pytest.approx(stats.spearmanr(s.value, s.outcome).statistic)
    assert r.rank_ic_over == "time"


def test_across_symbols_the_rank_ic_is_the_mean_of_scipys() -> None:
    s = with_zeros(5, symbols=7, instants=60)
    shuffled = s.chosen(np.random.default_rng(0).permutation(7 * 60))
    each = [
        stats.spearmanr(s.value[s.ts_event_us == t], s.outcome[s.ts_event_us == t]).statistic for t in np.unique(s.ts_event_us)
    ]
    r = judged(shuffled)
    assert r.rank_ic == pytest.approx(np.mean(each))
    assert r.icir == pytest.approx(np.mean(each) / np.std(each, ddof=1))
    assert (r.rank_ic_over, r.instants) == ("symbols", 60)
    assert r.rank_ic_se == pytest.approx(stats.sem(each))


def test_instants_where_all_predictions_are_equal_say_nothing() -> None:
    s = panel(6, symbols=5, instants=4)
    s.value[:5] = 0.3
    assert judged(s).instants == 3


def test_a_large_common_level_does_not_blur_the_correlation() -> None:
    s = panel(6, symbols=5, instants=40)
    far = replace(s, value=s.value + 1e6, outcome=s.outcome - 1e6)
    assert judged(far).ic == pytest.approx(stats.pearsonr(s.value, s.outcome).statistic, abs=1e-9)
    constant = judged(replace(s, value=np.full(200, 0.1)))
    assert math.isnan(constant.ic)
    assert math.isnan(constant.rank_ic)


def test_absurd_numbers_give_no_wrong_ones() -> None:
    s = panel(6, symbols=5, instants=40)
    s.outcome[7], s.value[3] = 1e200, -1e300
    plain = json.loads(json.dumps(judged(s).to_dict(), allow_nan=False))
    assert [plain[name] for name in ("ic", "ic_se", "rmse", "rmse_se", "skill")] == [None] * 5
    assert plain["rank_ic"] == pytest.approx(judged(panel(6, symbols=5, instants=40)).rank_ic, abs=0.1)


def test_ranks_share_ties() -> None:
    rng = np.random.default_rng(7)
    groups, values = rng.integers(0, 9, 300), rng.integers(0, 12, 300).astype(float)
    ranks = ranks_within(groups, values)
    for g in range(9):
        assert ranks[groups == g].tolist() == stats.rankdata(values[groups == g]).tolist()


def test_interval_bounds_count_as_covered_and_open_intervals_are_left_out() -> None:
    s = rows_of(np.zeros((5, 1)), np.array([[-1.0], [1], [1.5], [0], [0]]), half_width=1.0)
    s.lower[3], s.upper[4], s.p_up[:] = np.nan, np.inf, np.nan
    r = judged(s)
    assert r.coverage == pytest.approx(2 / 3)
    assert r.width == 2.0
    assert np.isnan(r.brier)
    assert np.isnan(r.expected_brier)


def test_abstentions_and_unknown_outcomes_are_left_out_and_seen_in_coverage() -> None:
    s = panel(8, symbols=1, instants=100)
    s.value[:10] = np.nan
    s.outcome[90:] = np.nan
    r = judged(s)
    assert (r.rows, r.published, r.labelled_instants) == (80, 90, 80)
    assert r.label_coverage == pytest.approx(80 / 90)
    assert r.rmse == pytest.approx(metrics.root_mean_squared_error(s.outcome[10:90], s.value[10:90]))


def test_expectations_need_no_outcomes() -> None:
    s = panel(8, symbols=4, instants=50)
    p = s.p_up.copy()
    s.outcome[:] = np.nan
    r = judged(s)
    assert r.expected_hit_rate == pytest.approx(np.maximum(p, 1 - p).mean())
    assert r.expected_brier == pytest.approx((p * (1 - p)).mean())
    assert (r.rows, r.published) == (0, 200)
    assert r.expected_brier_se == pytest.approx(stats.sem((p * (1 - p)).reshape(50, 4).mean(axis=1)))


def test_what_is_expected_comes_true_where_probabilities_are_right() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.95, size=(2000, 20))
    s = replace(rows_of(p - 0.5, np.where(rng.random(p.shape) < p, 1.0, -1.0)), p_up=p.ravel())
    r = judged(s)
    assert r.hit_rate == pytest.approx(r.expected_hit_rate, abs=4 * r.hit_rate_se)
    assert r.brier == pytest.approx(r.expected_brier, abs=4 * r.brier_se)


def test_overlapping_horizons_shrink_the_sample() -> None:
    s = panel(9, symbols=3, instants=50)
    r = judged(s, overlap=5)
    assert [r.effective_rows, r.effective_instants] == pytest.approx([150 / 5, 50 / 5])
    assert judged(s, overlap=5, bar_us=5 * BAR).effective_rows == 150
    half = quality_report(instants_of(s, horizon_us=BAR // 2), horizon_us=BAR // 2)
    assert half.effective_rows == 150


def test_symbols_with_event_times_of_their_own_overlap_more_instants_than_bars() -> None:
    s = panel(9, symbols=1, instants=100)
    r = judged(s, overlap=5, bar_us=2 * BAR)
    assert (r.overlap, r.effective_instants) == (2.5, 20.0)


# Standard errors -----------------------------------------------------------------------------------------------


def test_without_overlap_a_standard_error_is_that_of_the_series_of_means() -> None:
    s = panel(11, symbols=5, instants=80)
    r = judged(s)
    by_instant = (s.value - s.outcome).reshape(80, 5)
    assert r.mae_se == pytest.approx(stats.sem(np.abs(by_instant).mean(axis=1)))
    assert r.rmse_se == pytest.approx(stats.sem((by_instant**2).mean(axis=1)) / (2 * r.rmse))


def test_with_overlap_it_is_the_loop_written_out_and_instants_weigh_as_their_rows() -> None:
    s = panel(12, symbols=5, instants=80, overlap=4)
    s = s.chosen(np.random.default_rng(1).random(400) < 0.7)
    r = judged(s, overlap=4)
    off = np.abs(s.value - s.outcome)
    times = np.unique(s.ts_event_us)
    scores = [float((off[s.ts_event_us == t] - r.mae).sum()) for t in times]
    assert r.mae_se == pytest.approx(math.sqrt(variance_by_hand(scores, 4)) / len(s))


def test_too_few_instants_have_no_standard_error() -> None:
    few, enough = judged(panel(13, symbols=30, instants=19), overlap=4), judged(panel(13, symbols=30, instants=20), overlap=4)
    assert math.isnan(few.rmse_se)
    assert math.isnan(few.ic_se)
    assert enough.rmse_se > 0
    assert enough.ic_se > 0


def test_the_ics_error_without_dependence_is_fishers() -> None:
    s = panel(14, symbols=1, instants=20_000)
    r = judged(s)
    expected = (1 - r.ic**2) / math.sqrt(20_000)  # Fisher 1915, bivariate normal
    assert r.ic_se == pytest.approx(expected, rel=0.05)


METRICS = ("ic", "rank_ic", "hit_rate", "rmse", "mae", "skill", "brier", "log_loss", "coverage", "decile_spread")


@pytest.mark.parametrize(("overlap", "common"), [(1, 0.5), (5, 0.5)])
def test_standard_errors_are_the_spread_over_many_worlds(overlap: int, common: float) -> None:
    """Overlapping outcomes that all symbols share: the case in which an error from rows is several times too small."""
    reports = [judged(panel(s, symbols=12, instants=200, overlap=overlap, common=common), overlap=overlap) for s in range(300)]
    for name in METRICS:
        values = np.array([[getattr(r, name), getattr(r, f"{name}_se")] for r in reports])
        assert values[:, 1].mean() == pytest.approx(values[:, 0].std(), rel=0.2), name


def test_decile_spread_and_turnover_by_hand() -> None:
    value = np.array([np.arange(10.0), np.arange(10.0)[::-1]])
    outcome = np.array([np.arange(10.0), np.arange(10.0) * 3])
    r = judged(rows_of(value, outcome))
    assert r.decile_spread == (9 + -27) / 2
    assert r.turnover == 1.0  # what was bought is sold and the other way round: gross 1 each, so 2 / 2


def test_places_are_shares_of_calibration_residuals() -> None:
    s = rows_of(np.zeros((1, 4)), np.array([[-0.5, 1.0, 2.5, 9.0]]))
    instants = instants_of(s, horizon_us=BAR, calibration=np.array([1.0, 2.0, 3.0, 4.0]))
    assert instants.column("placed").tolist() == [4]
    assert instants.column("sum_place").tolist() == [0 + 0.25 + 0.5 + 1]


def test_nothing_matured_is_a_report_that_json_takes() -> None:
    s = panel(10, symbols=1, instants=3)
    s.outcome[:] = np.nan
    plain = json.loads(json.dumps(judged(s).to_dict(), allow_nan=False))
    names = ("rows", "label_coverage", "ic", "rank_ic", "log_loss", "rmse_se")
    assert [plain[name] for name in names] == [0, 0.0, None, None, None, None]


def test_nothing_predicted_is_one_too() -> None:
    s = panel(10, symbols=1, instants=3)
    for rows in (s.chosen(np.zeros(3, np.bool_)), replace(s, value=np.full(3, np.nan))):
        plain = json.loads(json.dumps(judged(rows).to_dict(), allow_nan=False))
        assert (plain["published"], plain["label_coverage"], plain["turnover"]) == (0, None, None)


def test_a_report_with_another_horizon_than_its_instants_is_refused() -> None:
    instants = instants_of(panel(10, symbols=1, instants=3), horizon_us=BAR)
    with pytest.raises(ValueError, match="horizon of 60000000 us, not 120000000"):
        quality_report(instants, horizon_us=2 * BAR)


def test_a_pane_of_500_symbols_costs_little() -> None:
    """A tenth of the speed measured: it is to catch a loop over rows, not a busy machine."""
    s = panel(1, symbols=500, instants=5)
    best = min(_timed(s) for _ in range(5))
    assert best < 5e-6 * len(s)


def _timed(rows: Rows) -> float:
    start = perf_counter()
    instants_of(rows, horizon_us=BAR)
    return perf_counter() - start
