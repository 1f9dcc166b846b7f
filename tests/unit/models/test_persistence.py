"""Memory of a training column: against plain sums, against theory, and in what it leaves out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.drift.series import Shape, stretch
from models.persistence import _products, persistence

Floats = NDArray[np.float64]


def by_hand(series: list[Floats]) -> float:
    """Autocorrelations of several series by loops, then Geyer's sum."""
    lags = max(map(len, series)) // 3
    if lags < 2:
        return 0.0
    centred = [s - np.nanmean(s) if (~np.isnan(s)).any() else s for s in series]
    covariance = []
    for k in range(lags):
        products = np.concatenate([s[: max(len(s) - k, 0)] * s[k:] for s in centred])
        covariance.append(np.nansum(products) / max((~np.isnan(products)).sum(), 1))
    if covariance[0] <= 1e-24:
        return 0.0
    total, least = -1.0, np.inf
    for k in range(0, lags - 1, 2):
        pair = (covariance[k] + covariance[k + 1]) / covariance[0]
        if pair <= 0:
            break
        least = min(least, pair)
        total += 2 * least
    tau = max(total, 1.0)
    return (tau - 1) / (tau + 1)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 40), min_size=1, max_size=4), st.floats(0, 0.5))
def test_it_is_what_loops_make_of_it(seed: int, sizes: list[int], missing: float) -> None:
    rng = np.random.default_rng(seed)
    values = np.cumsum(rng.normal(size=sum(sizes)))
    values[rng.random(values.size) < missing] = np.nan
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    series = [values[groups == g] for g in range(len(sizes))]
    assert persistence(values, groups=groups) == pytest.approx(by_hand(series), abs=1e-9)


def test_long_series_are_transformed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.persistence._AT_ONCE", 64)
    x = np.append(np.random.default_rng(1).normal(size=96), np.zeros(8))
    assert _products(x, 8) == pytest.approx([(x[: len(x) - k] * x[k:]).sum() for k in range(8)])


@pytest.mark.parametrize(
    ("shape", "expected", "within"),
    [
        (Shape(columns=1, symbols=1, instants=40_000, rho=0.9), 0.9, 0.02),
        (Shape(columns=1, symbols=20, instants=4_000, rho=0.9), 0.9, 0.02),
        (Shape(columns=1, symbols=1, instants=40_000, rho=0.0), 0.0, 0.1),
        # tau = 1 + 2 * 0.5 * 0.98 / 0.02 = 50
        (Shape(columns=1, symbols=20, instants=8_000, rho=0.98, fast=0.5), 49 / 51, 0.015),
        (Shape(columns=1, symbols=50, instants=4_000, rho=0.6, cross=0.5), 0.6, 0.06),
    ],
)
def test_it_is_that_of_the_ar1_series_with_the_same_memory(shape: Shape, expected: float, within: float) -> None:
    values = stretch(np.random.default_rng(2), shape)[:, 0]
    groups, times = np.tile(np.arange(shape.symbols), shape.instants), np.repeat(np.arange(shape.instants), shape.symbols)
    assert persistence(values, groups=groups, times=times) == pytest.approx(expected, abs=within)


def test_a_slow_factor_under_fast_rows_is_found_by_its_instants() -> None:
    rng = np.random.default_rng(3)
    factor = stretch(rng, Shape(columns=1, symbols=1, instants=4_000, rho=0.95))[:, 0]
    values = 0.3 * np.repeat(factor, 100) + rng.normal(size=400_000)
    groups, times = np.tile(np.arange(100), 4_000), np.repeat(np.arange(4_000), 100)
    assert persistence(values, groups=groups) < 0.7
    # A tenth of the mean's variance is noise without memory.
    assert persistence(values, groups=groups, times=times) == pytest.approx(0.945, abs=0.02)


def test_that_symbols_differ_for_good_is_no_memory() -> None:
    rng = np.random.default_rng(4)
    values = np.tile(rng.normal(0, 10, 50), 500) + rng.normal(size=25_000)
    groups, times = np.tile(np.arange(50), 500), np.repeat(np.arange(500), 50)
    assert persistence(values, groups=groups, times=times) < 0.15


def test_size_is_of_no_matter() -> None:
    walk = np.cumsum(np.random.default_rng(6).normal(size=500))
    assert persistence(walk * 1e-200) == pytest.approx(persistence(walk))
    assert persistence(walk * 1e200) == pytest.approx(persistence(walk))


def test_indicators_of_levels_count_together() -> None:
    flags = (stretch(np.random.default_rng(5), Shape(columns=1, symbols=1, instants=20_000, rho=0.9)) > 0).astype(float)
    assert persistence(np.column_stack([flags, 1 - flags])) == pytest.approx(persistence(flags[:, 0]), abs=1e-12)


@pytest.mark.parametrize("values", [[], [1.0], [0.1] * 50, [np.nan] * 50, [1.0, np.nan] * 20])
def test_what_does_not_vary_has_none(values: list[float]) -> None:
    assert persistence(np.array(values)) == 0.0
