from __future__ import annotations

import numpy as np
import pytest

from models.dependence import autocorrelation
from models.errors import SpecError
from models.reference import column_reference


def test_an_untied_column_has_equal_bins() -> None:
    r = column_reference(np.random.default_rng(1).permutation(1000).astype(float), bins=10)
    assert r.counts == (100,) * 10 + (0,)
    assert (r.low, r.high) == (0.0, 999.0)


def test_a_constant_column_tells_below_above_and_itself_apart() -> None:
    r = column_reference(np.full(50, 3.0))
    assert r.counts == (0, 50, 0, 0)
    assert r.edges == (np.nextafter(3.0, -np.inf), 3.0)
    assert r.rho == 0.0


def test_many_rows_at_one_value_share_one_bin() -> None:
    r = column_reference(np.array([0.0] * 60 + list(range(1, 41))), bins=10)
    assert r.edges[1] == 0.0
    assert r.counts[1] == 60
    assert sum(r.counts) == 100


def test_missing_values_have_the_last_bin() -> None:
    r = column_reference(np.array([1.0, np.nan, 2.0, np.nan]))
    assert r.counts[-1] == 2
    assert sum(r.counts) == 4


@pytest.mark.parametrize(("values", "why"), [([np.nan, np.nan], "no value"), ([], "no value"), ([1.0, np.inf], "infinite")])
def test_what_cannot_be_a_reference_names_the_column(values: list[float], why: str) -> None:
    with pytest.raises(SpecError, match=f"'ret_1' .*{why}"):
        column_reference(np.array(values), name="ret_1")


def test_rho_is_that_of_the_series() -> None:
    rng = np.random.default_rng(3)
    walk = np.zeros(5000)
    for i in range(1, walk.size):
        walk[i] = 0.8 * walk[i - 1] + rng.normal()
    assert autocorrelation(walk) == pytest.approx(0.8, abs=0.03)


def test_rho_of_stacked_series_pairs_rows_of_one_series() -> None:
    rng = np.random.default_rng(4)
    both = np.zeros((5000, 2))
    for i in range(1, len(both)):
        both[i] = 0.8 * both[i - 1] + rng.normal(size=2)
    interleaved, symbols = both.ravel(), np.array(["A", "B"] * 5000)
    assert abs(autocorrelation(interleaved)) < 0.05
    assert autocorrelation(interleaved, groups=symbols) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1.0, 1e200, 1e308])
def test_rho_neither_overflows_nor_vanishes(scale: float) -> None:
    assert autocorrelation(np.array([1.0, -1.0, 1.0, -1.0]) * scale) == pytest.approx(-0.75)
