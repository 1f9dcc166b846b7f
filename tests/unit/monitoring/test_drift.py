"""Drift: bins, distances against scipy and the written-out formula, verdicts."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from monitoring.drift import DriftReport, count, drift_report, encode, jensen_shannon, ks, psi, tally, wasserstein
from monitoring.errors import BadReferenceError
from monitoring.reference import Floats, Ints, Reference, fold


def trained(columns: dict[str, Floats], *, bins: int = 10, rho: float = 0.0) -> Reference:
    """A reference with quantile bins of the values given."""
    specs = {}
    for name, values in columns.items():
        present = values[~np.isnan(values)]
        edges = np.unique(np.quantile(present, np.arange(1, bins) / bins))
        counts = np.bincount(np.searchsorted(edges, present), minlength=len(edges) + 1).tolist()
        specs[name] = {
            "edges": edges,
            "counts": [*counts, int(np.isnan(values).sum())],
            "low": present.min(),
            "high": present.max(),
        }
        specs[name]["rho"] = rho
    return Reference.from_columns(list(columns), specs)


def judged(reference: Reference, values: Floats) -> Ints:
    return fold(reference, count(reference, values))


def report(reference: Reference, values: Floats, **changes: Any) -> DriftReport:
    options: dict[str, Any] = {"threshold": 0.1, "min_samples": 100, "false_discovery_rate": 0.05} | changes
    return drift_report(reference, count(reference, values), **options)


def gate(reference: Reference, values: Floats, **changes: float) -> str:
    return report(reference, values, **changes).verdict


def test_bin_bounds_are_open_below_and_closed_above() -> None:
    r = Reference.from_columns(["a"], {"a": {"edges": [0.0, 1.0], "counts": [1, 1, 1, 0], "low": 0, "high": 1}})
    values = np.array([[-np.inf], [-5], [0], [np.nextafter(0, 1)], [1], [np.nextafter(1, 2)], [np.inf], [np.nan]])
    assert count(r, values).tolist() == [[2, 1, 2, 0, 2, 1]]
    assert encode(r, values).tolist() == [[0, 0, 1, 2, 2, 4, 4, 5]]
    assert tally(r, encode(r, values)).tolist() == [[2, 1, 2, 0, 2, 1]]
    assert judged(r, values).tolist() == [[3, 2, 2, 1]]


def test_values_of_another_width_are_refused() -> None:
    r = trained({"a": np.arange(100.0)})
    with pytest.raises(BadReferenceError, match=r"shape \(3, 2\) do not have the reference's 1 columns"):
        count(r, np.zeros((3, 2)))
    with pytest.raises(BadReferenceError, match="do not belong to a reference"):
        drift_report(r, np.zeros((1, 3), np.int64), threshold=0.1, min_samples=1, false_discovery_rate=0.05)


def test_psi_is_the_formula() -> None:
    rng = np.random.default_rng(1)
    r = trained({"a": rng.normal(size=5000), "few": rng.integers(0, 3, 5000).astype(float)})
    counts = judged(r, np.column_stack([rng.normal(0.3, 1, 700), rng.integers(0, 3, 700)]))
    for c in range(2):
        cells = [*range(int(r.bins[c])), -1]
        p = [(counts[c, k] + 0.5) / (700 + 0.5 * len(cells)) for k in cells]
        q = [(r.counts[c, k] + 0.5) / (5000 + 0.5 * len(cells)) for k in cells]
        expected = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert psi(r, counts)[c] == pytest.approx(expected, rel=1e-12)


def test_jensen_shannon_is_scipys() -> None:
    rng = np.random.default_rng(2)
    r = trained({"a": rng.normal(size=5000)})
    counts = judged(r, rng.normal(0.5, 2, (300, 1)))
    assert jensen_shannon(r, counts)[0] == pytest.approx(jensenshannon(counts[0], r.counts[0], base=2), rel=1e-9)


def test_ks_is_below_the_exact_one_by_no_more_than_a_bin() -> None:
    rng = np.random.default_rng(3)
    train, window = rng.normal(size=5000), rng.normal(0.4, 1.3, 400)
    r = trained({"a": train}, bins=20)
    counts = judged(r, window[:, None])
    exact = stats.ks_2samp(train, window).statistic
    share = max(counts[0].max() / 400, r.counts[0].max() / 5000)
    assert exact - share <= ks(r, counts)[0] <= exact + 1e-12


def test_wasserstein_is_near_the_exact_one_within_the_training_range() -> None:
    rng = np.random.default_rng(4)
    train, window = rng.uniform(0, 1, 5000), rng.beta(2, 3, 500)
    r = trained({"a": train}, bins=50)
    distance = wasserstein(r, judged(r, window[:, None]))[0]
    assert distance == pytest.approx(stats.wasserstein_distance(train, window), abs=0.02)


def test_one_wild_value_changes_next_to_nothing() -> None:
    rng = np.random.default_rng(5)
    r = trained({"a": rng.normal(size=5000)})
    window = rng.normal(size=(500, 1))
    wild = window.copy()
    wild[0] = 1000.0
    assert gate(r, wild) == "stable"
    for distance in (psi, jensen_shannon, ks, wasserstein):
        assert distance(r, judged(r, wild))[0] == pytest.approx(distance(r, judged(r, window))[0], abs=0.02)


def test_a_constant_column_is_stable_until_it_changes() -> None:
    r = trained({"a": np.full(1000, 3.0)})
    assert gate(r, np.full((200, 1), 3.0)) == "stable"
    assert gate(r, np.full((200, 1), 4.0)) == "critical"


def test_going_missing_is_drift() -> None:
    rng = np.random.default_rng(6)
    r = trained({"a": rng.normal(size=5000)})
    window = rng.normal(size=(400, 1))
    window[:160] = np.nan
    drift = report(r, window)
    assert drift.verdict == "critical"
    assert drift.columns[0].missing_rate == pytest.approx(0.4)
    assert drift.columns[0].ks < 0.1


def test_verdicts() -> None:
    rng = np.random.default_rng(7)
    r = trained({"a": rng.normal(size=5000)})
    assert gate(r, rng.normal(size=(99, 1))) == "insufficient_data"
    assert gate(r, rng.normal(size=(1000, 1))) == "stable"
    assert gate(r, rng.normal(0.36, 1, size=(3000, 1))) == "warn"
    assert gate(r, rng.normal(1, 1, size=(1000, 1))) == "critical"
    assert gate(r, rng.normal(1, 1, size=(1000, 1)), threshold=5.0) == "stable"


def test_few_rows_exceed_the_psi_threshold_but_are_not_called_drift() -> None:
    rng = np.random.default_rng(8)
    r = trained({"a": rng.normal(size=5000)})
    windows = [count(r, rng.normal(size=(60, 1))) for _ in range(200)]
    assert np.mean([psi(r, fold(r, w))[0] >= 0.1 for w in windows]) > 0.3
    called = [drift_report(r, w, threshold=0.1, min_samples=50, false_discovery_rate=0.05).verdict != "stable" for w in windows]
    assert np.mean(called) <= 0.08


def test_a_column_without_reference_or_with_rho_1_is_never_judged() -> None:
    rng = np.random.default_rng(9)
    known = trained({"walk": rng.normal(size=5000)}, rho=1.0)
    r = Reference.from_columns(["new"], {})
    assert gate(r, rng.normal(5, 1, (1000, 1))) == "insufficient_data"
    assert gate(known, rng.normal(5, 1, (1000, 1))) == "insufficient_data"


def test_an_empty_window_gives_a_report_that_json_takes() -> None:
    r = trained({"a": np.arange(1000.0)})
    plain = json.loads(json.dumps(report(r, np.empty((0, 1))).to_dict(), allow_nan=False))
    assert plain["verdict"] == "insufficient_data"
    assert plain["columns"][0]["psi"] is None


def test_worst_puts_the_furthest_first() -> None:
    rng = np.random.default_rng(10)
    r = trained({name: rng.normal(size=5000) for name in "abc"})
    drift = report(r, rng.normal([0, 2, 1], 1, (1000, 3)))
    assert [c.name for c in drift.worst(2)] == ["b", "c"]
    assert drift.worst(1)[0] == drift.columns[1]


def test_the_dictionary_is_the_columns_field_by_field() -> None:
    rng = np.random.default_rng(11)
    r = mixed()
    drift = report(r, np.column_stack([rng.normal(size=500), rng.choice([1.0, 4.0, 9.0, np.nan], 500)]))
    for column, plain in zip(drift.columns, drift.to_dict()["columns"], strict=True):
        wanted = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in dataclasses.asdict(column).items()}
        assert plain == wanted
        assert list(plain) == list(wanted)
    assert drift.columns[-2] == drift.columns[:1][0] == drift.columns[0]
    json.dumps(drift.to_dict(), allow_nan=False)


def mixed() -> Reference:
    """A column of numbers and one of levels, 1 and 4, three in four of them 1."""
    numbers = {"edges": [0.0], "counts": [500, 500, 0], "low": -1, "high": 1}
    levels = {"edges": (), "levels": [1.0, 4.0], "counts": [750, 250, 0, 0], "low": 1, "high": 4}
    return Reference.from_columns(["x", "code"], {"x": numbers, "code": levels})


def test_levels_are_counted_by_equality() -> None:
    values = np.array([1.0, np.nextafter(1, 2), 4, -np.inf, np.inf, 2, np.nan, 1])
    values = np.column_stack([values, values])
    assert count(mixed(), values)[1].tolist() == [0, 2, 1, 0, 4, 1]
    assert tally(mixed(), encode(mixed(), values)).tolist() == count(mixed(), values).tolist()


def test_a_level_that_training_never_saw_is_drift() -> None:
    x = np.linspace(-0.99, 0.99, 400)
    same = report(mixed(), np.column_stack([x, np.tile([1.0, 1.0, 1.0, 4.0], 100)])).columns[1]
    new = report(mixed(), np.column_stack([x, np.tile([1.0, 1.0, 9.0, 4.0], 100)])).columns[1]
    assert (same.kind, same.verdict, same.above_rate) == ("levels", "stable", 0.0)
    assert (new.kind, new.verdict, new.above_rate) == ("levels", "critical", 0.25)
    assert math.isnan(new.ks)
    assert math.isnan(new.wasserstein)
    assert math.isnan(new.below_rate)
    # Between 1 and 4, so bins would have hidden it.
    between = report(mixed(), np.column_stack([x, np.tile([1.0, 1.0, 2.0, 4.0], 100)])).columns[1]
    assert between.psi == new.psi


def test_range_violations_are_shares_of_the_rows_present() -> None:
    values = np.array([-2.0, -1.5, -1.0, 0.0, 1.0, 1.5, np.nan, np.nan])
    column = report(mixed(), np.column_stack([values, values])).columns[0]
    assert (column.below_rate, column.above_rate, column.missing_rate) == (2 / 6, 1 / 6, 0.25)
    unknown = Reference.from_columns(["x"], {"x": {"edges": [0.0], "counts": [5, 5, 0], "low": np.nan, "high": np.nan}})
    assert math.isnan(report(unknown, values[:, None]).columns[0].below_rate)
    assert math.isnan(report(mixed(), np.full((9, 2), np.nan)).columns[0].above_rate)


def test_a_warming_column_is_judged_on_the_rows_present_alone() -> None:
    rng = np.random.default_rng(12)
    r = trained({"lagged": np.where(rng.random(5000) < 0.1, np.nan, rng.normal(size=5000)), "other": rng.normal(size=5000)})
    window = rng.normal(size=(1000, 2))
    window[:700, 0] = np.nan
    cold = report(r, window).columns[0]
    warm = report(r, window, warming=np.array([True, False]))
    assert (cold.verdict, warm.columns[0].verdict) == ("critical", "stable")
    assert (warm.columns[0].warming, warm.columns[1].warming) == (True, False)
    assert (warm.columns[0].rows, warm.columns[0].effective_rows, warm.columns[0].missing_rate) == (1000, 300.0, 0.7)
    assert dataclasses.replace(warm.columns[1], p_adjusted=0.0) == dataclasses.replace(
        report(r, window).columns[1], p_adjusted=0.0
    )
    present = report(r, window[700:])
    assert warm.columns[0].jensen_shannon < cold.jensen_shannon
    assert warm.columns[0].ks == present.columns[0].ks
    # A shift among those present is drift all the same, and too few of them are too few.
    window[700:, 0] += 1.0
    assert report(r, window, warming=np.array([True, False])).columns[0].verdict == "critical"
    assert report(r, window[601:], warming=np.array([True, False]), min_samples=301).columns[0].verdict == "insufficient_data"


def test_rows_of_one_instant_that_move_together_are_worth_less() -> None:
    columns = {"a": {"edges": [0.0], "counts": [50_000, 50_000, 0], "low": -4, "high": 4, "cross": 0.5}}
    r = Reference.from_columns(["a"], columns, rows_per_instant=500)
    window = np.repeat(np.where(np.arange(60) < 33, 1.0, -1.0), 500)[:, None]  # 55 % above
    together = report(r, window, instants=60, threshold=0.01)
    assert together.columns[0].effective_rows == pytest.approx(30_000 / (1 + 499 * 0.5))
    assert together.verdict == "stable"
    assert report(r, window, instants=60 * 500, threshold=0.01).verdict != "stable"
    assert report(r, window).columns[0].effective_rows == together.columns[0].effective_rows


def test_a_report_costs_less_than_a_millisecond() -> None:
    """82 columns, 10 bins: one at each pane's end. The best of several runs, for a machine that does other things too."""
    rng = np.random.default_rng(14)
    r = trained({f"c{i}": rng.normal(size=1000) for i in range(82)})
    counts = count(r, rng.normal(size=(1200, 82)))
    best = math.inf
    for _ in range(200):
        start = time.perf_counter()
        drift_report(r, counts, threshold=0.1, min_samples=100, false_discovery_rate=0.05, instants=60).to_dict()
        best = min(best, time.perf_counter() - start)
    assert best < 1e-3
