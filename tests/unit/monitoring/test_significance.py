"""The null test: against scipy, and its false alarms on autocorrelated windows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from monitoring.drift import count, drift_report
from monitoring.reference import Floats, Reference
from monitoring.significance import adjusted, effective_rows, p_values

BINS = 20
EDGES = stats.norm.ppf(np.arange(1, BINS) / BINS)


def ar1(rng: np.random.Generator, rho: float, rows: int, columns: int) -> Floats:
    """Stationary AR(1) series of variance 1, side by side."""
    noise = rng.normal(size=(rows, columns)) * np.sqrt(1 - rho**2)
    noise[0] = rng.normal(size=columns)
    return np.asarray(lfilter([1.0], [1.0, -rho], noise, axis=0))


def trained(values: Floats, rho: float) -> Reference:
    names = [f"c{i}" for i in range(values.shape[1])]
    bare = {"edges": EDGES, "counts": [0] * (BINS + 1), "low": -4, "high": 4, "rho": rho}
    counts = count(Reference.from_columns(names, dict.fromkeys(names, bare)), values)
    return Reference.from_columns(names, {n: bare | {"counts": counts[i]} for i, n in enumerate(names)})


def test_effective_rows_at_the_ends() -> None:
    assert effective_rows(np.array([100, 100, 100]), np.array([0.0, 1.0, -0.5])).tolist() == [100.0, 0.0, 100.0]


def test_p_is_scipys_chi_square_of_the_two_samples() -> None:
    rng = np.random.default_rng(1)
    r = trained(rng.normal(size=(4000, 3)), 0.0)
    counts = count(r, rng.normal([0.0, 0.05, 0.2], 1, (800, 3)))
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
    assert np.isnan(p_values(r, count(r, np.zeros((189, 1))))[0])
    assert p_values(r, count(r, np.zeros((400, 1))))[0] < 0.05


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
