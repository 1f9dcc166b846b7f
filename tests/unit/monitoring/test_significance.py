"""The null test: against scipy, and its false alarms on autocorrelated windows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from benchmarks.drift.series import Shape, stretch
from benchmarks.drift.series import trained as series_trained
from monitoring.drift import count, drift_report
from monitoring.reference import Floats, Ints, Reference, fold
from monitoring.significance import adjusted, effective_rows, p_values, unbiased_rho

BINS = 20
EDGES = stats.norm.ppf(np.arange(1, BINS) / BINS)


def ar1(rng: np.random.Generator, rho: float, rows: int, columns: int) -> Floats:
    """Stationary AR(1) series of variance 1, side by side."""
    noise = rng.normal(size=(rows, columns)) * np.sqrt(1 - rho**2)
    noise[0] = rng.normal(size=columns)
    return np.asarray(lfilter([1.0], [1.0, -rho], noise, axis=0))


def judged(reference: Reference, values: Floats) -> Ints:
    return fold(reference, count(reference, values))


def trained(values: Floats, rho: float) -> Reference:
    names = [f"c{i}" for i in range(values.shape[1])]
    bare = {"edges": EDGES, "counts": [0] * (BINS + 1), "low": -4, "high": 4, "rho": rho}
    counts = judged(Reference.from_columns(names, dict.fromkeys(names, bare)), values)
    return Reference.from_columns(names, {n: bare | {"counts": counts[i]} for i, n in enumerate(names)})


def test_effective_rows_at_the_ends() -> None:
    assert effective_rows(np.array([100, 100, 100]), np.array([0.0, 1.0, -0.5])).tolist() == [100.0, 0.0, 100.0]


def test_the_effective_rows_are_those_of_the_mean() -> None:
    """The variance of the mean of n effective rows is 1/n of one row's: series that share a factor, exactly and simulated."""
    rho, cross, symbols, instants = 0.6, 0.3, 20, 200
    lags = np.abs(np.subtract.outer(np.arange(instants), np.arange(instants)))
    exact = 1 / ((rho**lags).sum() / instants**2 * (1 + (symbols - 1) * cross) / symbols)
    told = effective_rows(np.array([symbols * instants]), np.array([rho]), np.array([cross]), symbols)[0]
    assert told == pytest.approx(exact, rel=0.02)
    shape = Shape(columns=4000, symbols=symbols, instants=instants, rho=rho, cross=cross)
    means = stretch(np.random.default_rng(6), shape).mean(axis=0)
    assert 1 / means.var() == pytest.approx(told, rel=0.07)


def test_the_estimation_of_rho_is_less_its_bias() -> None:
    """Estimated as publishing does, from 200 rows, 0.9 comes out at 0.864; corrected it is nearly right."""
    shape = Shape(columns=1, symbols=1, instants=1, rho=0.9, training=200)
    rng = np.random.default_rng(7)
    references = [series_trained(rng, shape) for _ in range(400)]
    estimated = np.mean([r.rho[0] for r in references])
    assert estimated == pytest.approx(0.864, abs=0.006)
    assert np.mean([unbiased_rho(r)[0] for r in references]) == pytest.approx(estimated + (1 + 4 * estimated) / 200, abs=1e-9)
    assert np.mean([unbiased_rho(r)[0] for r in references]) == pytest.approx(0.9, abs=0.02)
    ends = Reference.from_columns(["a"], {"a": {"edges": [0.0], "counts": [5, 5, 0], "low": -1, "high": 1, "rho": 0.9}})
    assert unbiased_rho(ends).tolist() == [1.0]
    assert unbiased_rho(dataclasses.replace(ends, rho=np.array([-0.2]))).tolist() == [0.0]


def test_p_is_scipys_chi_square_of_the_two_samples() -> None:
    rng = np.random.default_rng(1)
    r = trained(rng.normal(size=(4000, 3)), 0.0)
    counts = judged(r, rng.normal([0.0, 0.05, 0.2], 1, (800, 3)))
    for c, p in enumerate(p_values(r, counts)):
        table = np.stack([counts[c, :BINS], r.counts[c, :BINS]])
        assert p == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, rel=1e-9)


def test_sparse_bins_are_merged_until_each_expects_enough() -> None:
    r = Reference.from_columns(["a"], {"a": {"edges": [0, 1, 2], "counts": [300, 300, 399, 1, 0], "low": -1, "high": 3}})
    # Of 20 rows the last two cells expect 0.04 and so join the third: three cells, two degrees of freedom.
    table = np.array([[6, 5, 9], [300, 300, 400]])
    assert p_values(r, np.array([[6, 5, 8, 1, 0]]))[0] == pytest.approx(stats.chi2_contingency(table).pvalue, rel=1e-9)


def test_too_few_effective_rows_are_not_tested() -> None:
    r = trained(np.random.default_rng(2).normal(size=(4000, 1)), 0.9)
    assert np.isnan(p_values(r, judged(r, np.zeros((189, 1))))[0])
    assert p_values(r, judged(r, np.zeros((400, 1))))[0] < 0.05


def test_one_cell_says_equal_only_where_it_is() -> None:
    r = Reference.from_columns(["flag"], {"flag": {"edges": [0.5], "counts": [9990, 10, 0], "low": 0, "high": 1}})
    assert p_values(r, np.array([[100, 0, 0]]))[0] == 1.0
    assert np.isnan(p_values(r, np.array([[96, 4, 0]]))[0])
    assert p_values(r, np.array([[50, 50, 0]]))[0] < 1e-9


def test_rare_levels_raise_no_false_alarm() -> None:
    """80 flags of 1 % each: the chi-square's tail is too light for such cells, and the effect size holds it back."""
    rng = np.random.default_rng(5)
    names = [f"flag{i}" for i in range(80)]
    flag = {"edges": [0.5], "counts": [19_800, 200, 0], "low": 0, "high": 1}
    r = Reference.from_columns(names, dict.fromkeys(names, flag))
    for _ in range(200):
        counts = count(r, (rng.random((200, 80)) < 0.01).astype(np.float64))
        assert drift_report(r, counts, threshold=0.1, min_samples=100, false_discovery_rate=0.05).verdict == "stable"


def test_adjusted_leaves_out_what_was_not_tested() -> None:
    assert np.isnan(adjusted(np.array([np.nan, np.nan]))).all()
    assert adjusted(np.array([0.02, np.nan, 0.5])).tolist() == pytest.approx([0.04, np.nan, 0.5], nan_ok=True)


@pytest.mark.parametrize(("rho", "rows"), [(0.0, 300), (0.9, 2000)])
def test_null_windows_stay_within_the_false_alarm_budget(rho: float, rows: int) -> None:
    """400 windows of 20 undrifted columns: an alarm of any column in at most 5 %, and the two sigma of the count on top."""
    rng = np.random.default_rng(3)
    windows = 400
    r = trained(ar1(rng, rho, 20_000, 20), rho)
    alarms = 0
    for _ in range(windows):
        counts = count(r, ar1(rng, rho, rows, 20))
        # Threshold 0 leaves the test alone to say no.
        report = drift_report(r, counts, threshold=0.0, min_samples=100, false_discovery_rate=0.05)
        assert all(c.verdict != "insufficient_data" for c in report.columns)
        alarms += report.verdict in {"warn", "critical"}
    assert alarms / windows <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / windows)


def test_a_shift_of_one_sigma_is_caught_in_every_window() -> None:
    rng = np.random.default_rng(4)
    r = trained(ar1(rng, 0.9, 20_000, 20), 0.9)
    for _ in range(50):
        window = ar1(rng, 0.9, 1500, 20)
        window[:, 7] += 1.0
        report = drift_report(r, count(r, window), threshold=0.1, min_samples=100, false_discovery_rate=0.05)
        assert report.columns[7].verdict == "critical"
