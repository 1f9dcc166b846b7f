"""Standard errors under overlap and simultaneity against plain loops, scipy, and worlds where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from monitoring.hac import Overlap, correction, long_run, overlap_of, ratios, t_quantile, t_share
from tests.unit.monitoring.quality_rows import variance_by_hand

SCORES = st.lists(st.floats(-10, 10), min_size=1, max_size=40)


@given(SCORES, st.integers(1, 12))
def test_the_variance_is_the_loop_written_out(scores: list[float], h: int) -> None:
    t = len(scores)
    k = (t + 1 - 2 * h + h * (h - 1) / t) / t
    if k > 0 and h <= t:
        said = long_run(np.array(scores)[:, None], overlap=h)[0] / correction(np.array([float(t)]), overlap=h)[0]
        assert said == pytest.approx(variance_by_hand(scores, h), rel=1e-9, abs=1e-9)


def test_the_greater_of_the_two_is_taken() -> None:
    g = np.array([1.0, -1.0, 1.0, -1.0, 1.0])  # gamma 5, -4, 3
    assert long_run(g[:, None], overlap=2)[0] == max(5 + 2 * 0.5 * -4, 5 + 2 * -4) == 1  # Newey & West 1987, one lag
    assert long_run(g[:, None], overlap=3)[0] == max(5 + 2 * (2 / 3 * -4 + 1 / 3 * 3), 5 + 2 * (-4 + 3)) == 3  # Hansen & Hodrick


def test_without_overlap_a_mean_has_scipys_standard_error() -> None:
    x = np.random.default_rng(0).normal(size=50)
    mean, se = ratios(x[:, None], np.ones((50, 1)), overlap=Overlap(1.0, 1.0))
    assert (mean[0], se[0]) == (pytest.approx(x.mean()), pytest.approx(stats.sem(x)))


def test_instants_that_say_nothing_do_not_count() -> None:
    x = np.random.default_rng(0).normal(size=(50, 1))
    some = (np.arange(50)[:, None] % 2 == 0) * 1.0
    assert ratios(x * some, some, overlap=Overlap(1.0, 1.0))[1][0] == pytest.approx(stats.sem(x[::2, 0]))


def test_a_ratio_of_nothing_and_an_error_from_few_are_nan() -> None:
    mean, se = ratios(np.zeros((9, 2)), np.column_stack([np.zeros(9), np.ones(9)]), overlap=Overlap(2.0, 2.0))
    assert math.isnan(mean[0])
    assert mean[1] == 0
    assert np.isnan(se).all()


@pytest.mark.parametrize(("h", "t"), [(1, 60), (5, 60), (5, 300), (15, 150), (60, 300)])
def test_tests_of_overlapping_noise_reject_about_as_often_as_they_say(h: int, t: int) -> None:
    rng = np.random.default_rng(h)
    cumulative = np.cumsum(rng.normal(size=(t + h, 4000)), axis=0)
    x = cumulative[h:] - cumulative[:-h]
    mean, se = ratios(x, np.ones(x.shape), overlap=Overlap(h, h))
    rejected = np.mean(mean / se > t_quantile(0.95, t / h - 1))
    assert 0.035 < rejected < 0.07  # 4,000 worlds: three standard errors are 0.01


def test_overlap_counts_bars_and_instants() -> None:
    assert overlap_of(np.arange(10) * 60, horizon_us=150, bar_us=60) == (2.5, 2.5)
    assert overlap_of(np.arange(10) * 60, horizon_us=150, bar_us=60).instants == 3
    assert overlap_of(np.arange(10) * 60, horizon_us=30, bar_us=60) == (1.0, 1.0)
    assert overlap_of(np.arange(10) * 60, horizon_us=300, bar_us=None) == (5.0, 5.0)
    assert overlap_of(np.array([60]), horizon_us=300, bar_us=60) == (5.0, 5.0)
    assert overlap_of(np.empty(0, np.int64), horizon_us=300, bar_us=None) == (1.0, 1.0)


def test_students_t_is_scipys() -> None:
    assert t_share(1.3, 7.5) == pytest.approx(stats.t.cdf(1.3, 7.5))
    assert t_quantile(0.975, 7.5) == pytest.approx(stats.t.ppf(0.975, 7.5))
    assert math.isnan(t_quantile(0.975, -1.0))
