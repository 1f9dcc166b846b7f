"""Drift: bins, distances against scipy and the written-out formula, verdicts."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from monitoring.drift import count, drift_report, encode, jensen_shannon, ks, psi, tally, wasserstein
from monitoring.errors import BadReferenceError
from monitoring.reference import Floats, Reference


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


def gate(reference: Reference, values: Floats, **changes: float) -> str:
    options = {"threshold": 0.1, "min_samples": 100, "false_discovery_rate": 0.05} | changes
    return drift_report(reference, count(reference, values), **options).verdict  # type: ignore[arg-type]


def test_bin_bounds_are_open_below_and_closed_above() -> None:
    r = Reference.from_columns(["a"], {"a": {"edges": [0.0, 1.0], "counts": [1, 1, 1, 0], "low": 0, "high": 1}})
    values = np.array([[-np.inf], [-5], [0], [np.nextafter(0, 1)], [1], [np.nextafter(1, 2)], [np.inf], [np.nan]])
    assert count(r, values).tolist() == [[3, 2, 2, 1]]
    assert encode(r, values).tolist() == [[0, 0, 0, 1, 1, 2, 2, 3]]
    assert tally(r, encode(r, values)).tolist() == [[3, 2, 2, 1]]


def test_values_of_another_width_are_refused() -> None:
    r = trained({"a": np.arange(100.0)})
    with pytest.raises(BadReferenceError, match=r"shape \(3, 2\) do not have the reference's 1 columns"):
        count(r, np.zeros((3, 2)))
    with pytest.raises(BadReferenceError, match="do not belong to a reference"):
        drift_report(r, np.zeros((1, 3), np.int64), threshold=0.1, min_samples=1, false_discovery_rate=0.05)


def test_psi_is_the_formula() -> None:
    rng = np.random.default_rng(1)
    r = trained({"a": rng.normal(size=5000), "few": rng.integers(0, 3, 5000).astype(float)})
    counts = count(r, np.column_stack([rng.normal(0.3, 1, 700), rng.integers(0, 3, 700)]))
    for c in range(2):
        cells = [*range(int(r.bins[c])), -1]
        p = [(counts[c, k] + 0.5) / (700 + 0.5 * len(cells)) for k in cells]
        q = [(r.counts[c, k] + 0.5) / (5000 + 0.5 * len(cells)) for k in cells]
        expected = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert psi(r, counts)[c] == pytest.approx(expected, rel=1e-12)


def test_jensen_shannon_is_scipys() -> None:
    rng = np.random.default_rng(2)
    r = trained({"a": rng.normal(size=5000)})
    counts = count(r, rng.normal(0.5, 2, (300, 1)))
    assert jensen_shannon(r, counts)[0] == pytest.approx(jensenshannon(counts[0], r.counts[0], base=2), rel=1e-9)


def test_ks_is_below_the_exact_one_by_no_more_than_a_bin() -> None:
    rng = np.random.default_rng(3)
    train, window = rng.normal(size=5000), rng.normal(0.4, 1.3, 400)
    r = trained({"a": train}, bins=20)
    counts = count(r, window[:, None])
    exact = stats.ks_2samp(train, window).statistic
    share = max(counts[0].max() / 400, r.counts[0].max() / 5000)
    assert exact - share <= ks(r, counts)[0] <= exact + 1e-12


def test_wasserstein_is_near_the_exact_one_within_the_training_range() -> None:
    rng = np.random.default_rng(4)
    train, window = rng.uniform(0, 1, 5000), rng.beta(2, 3, 500)
    r = trained({"a": train}, bins=50)
    distance = wasserstein(r, count(r, window[:, None]))[0]
    assert distance == pytest.approx(stats.wasserstein_distance(train, window), abs=0.02)


def test_one_wild_value_changes_next_to_nothing() -> None:
    rng = np.random.default_rng(5)
    r = trained({"a": rng.normal(size=5000)})
    window = rng.normal(size=(500, 1))
    wild = window.copy()
    wild[0] = 1000.0
    assert gate(r, wild) == "stable"
    for distance in (psi, jensen_shannon, ks, wasserstein):
        assert distance(r, count(r, wild))[0] == pytest.approx(distance(r, count(r, window))[0], abs=0.02)


def test_a_constant_column_is_stable_until_it_changes() -> None:
    r = trained({"a": np.full(1000, 3.0)})
    assert gate(r, np.full((200, 1), 3.0)) == "stable"
    assert gate(r, np.full((200, 1), 4.0)) == "critical"


def test_going_missing_is_drift() -> None:
    rng = np.random.default_rng(6)
    r = trained({"a": rng.normal(size=5000)})
    window = rng.normal(size=(400, 1))
    window[:160] = np.nan
    report = drift_report(r, count(r, window), threshold=0.1, min_samples=100, false_discovery_rate=0.05)
    assert report.verdict == "critical"
    assert report.columns[0].missing_rate == pytest.approx(0.4)
    assert report.columns[0].ks < 0.1


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
    assert np.mean([psi(r, w)[0] >= 0.1 for w in windows]) > 0.3
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
    report = drift_report(r, count(r, np.empty((0, 1))), threshold=0.1, min_samples=100, false_discovery_rate=0.05)
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["verdict"] == "insufficient_data"
    assert plain["columns"][0]["psi"] is None


def test_worst_puts_the_furthest_first() -> None:
    rng = np.random.default_rng(10)
    r = trained({name: rng.normal(size=5000) for name in "abc"})
    report = drift_report(
        r, count(r, rng.normal([0, 2, 1], 1, (1000, 3))), threshold=0.1, min_samples=100, false_discovery_rate=0.05
    )
    assert [c.name for c in report.worst(2)] == ["b", "c"]
