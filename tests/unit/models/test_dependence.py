from __future__ import annotations

import numpy as np
import pytest

from models.dependence import autocorrelation, intraclass_correlation, intraclass_correlation_of_levels
from models.errors import SpecError
from models.reference import MAX_LEVELS, cells, column_reference


def test_cross_of_published_ratings() -> None:
    """Shrout & Fleiss 1979, "Intraclass correlations: uses in assessing rater reliability", table 2: ICC(1, 1) = 0.17."""
    ratings = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=np.float64)
    targets = np.repeat(np.arange(6), 4)
    assert round(intraclass_correlation(ratings.ravel(), targets), 2) == 0.17


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_cross_is_the_share_of_the_variance_that_symbols_have_in_common(share: float) -> None:
    rng = np.random.default_rng(2)
    instants, m = 4_000, 7
    common = rng.normal(size=(instants, 1)) * share**0.5
    panel = common + rng.normal(size=(instants, m)) * (1 - share) ** 0.5
    times = np.repeat(np.arange(instants), m)
    kept = rng.random(times.size) < 0.8  # instants of unequal size
    assert intraclass_correlation(panel.ravel()[kept], times[kept]) == pytest.approx(share, abs=0.02)
    codes = np.digitize(panel, [-1.0, 0.0, 1.0]).ravel()
    of_levels = intraclass_correlation_of_levels(codes, times)
    assert of_levels <= share + 0.01  # an indicator of a number is less alike than the number
    assert (of_levels > 0.05) == (share > 0.0)


def test_effective_rows_predict_how_far_means_of_a_panel_scatter() -> None:
    """Independent rows are n (1 - rho) / (1 + rho) / (1 + (m - 1) cross): the variance of a mean over many panels says so."""
    rng = np.random.default_rng(3)
    panels, instants, m, phi, share = 400, 200, 10, 0.6, 0.4
    common, own = rng.normal(size=(panels, instants, 1)), rng.normal(size=(panels, instants, m))
    for t in range(1, instants):
        common[:, t] = phi * common[:, t - 1] + (1 - phi**2) ** 0.5 * common[:, t]
        own[:, t] = phi * own[:, t - 1] + (1 - phi**2) ** 0.5 * own[:, t]
    x = share**0.5 * common + (1 - share) ** 0.5 * own
    symbols, times = np.tile(np.arange(m), instants), np.repeat(np.arange(instants), m)
    rho = np.mean([autocorrelation(p.ravel(), groups=symbols) for p in x])
    cross = np.mean([intraclass_correlation(p.ravel(), times) for p in x])
    effective = instants * m * (1 - rho) / (1 + rho) / (1 + (m - 1) * cross)
    assert x.mean(axis=(1, 2)).var() == pytest.approx(1.0 / effective, rel=0.25)


def test_a_column_that_is_one_for_all_symbols_has_cross_one_and_single_rows_have_none() -> None:
    index = np.repeat(np.random.default_rng(4).normal(size=100), 5)
    times = np.repeat(np.arange(100), 5)
    assert column_reference(index, times=times).cross == pytest.approx(1.0)
    assert column_reference(index, times=np.arange(500)).cross == 0.0
    assert column_reference(index, times=np.zeros(500)).cross == 0.0
    assert column_reference(index).cross == 0.0
    assert column_reference(np.full(500, 3.0), times=times).cross == 0.0


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e200, 1e308])
def test_cross_neither_overflows_nor_vanishes(scale: float) -> None:
    values, times = np.array([1.0, 0.5, -1.0, -0.5]), [0, 0, 1, 1]
    plain = intraclass_correlation(values, times)
    assert plain > 0.5
    assert intraclass_correlation(values * scale, times) == pytest.approx(plain, rel=1e-3)


def test_booleans_have_levels_unasked_and_numbers_do_not() -> None:
    flag = column_reference(np.array([1.0, 0.0, np.nan, 1.0]))
    assert (flag.levels, flag.edges, flag.counts) == ((0.0, 1.0), (), (1, 2, 0, 1))
    never = column_reference(np.array([-0.0, 0.0]))
    assert (str(never.levels), never.counts) == ("(0.0,)", (2, 0, 0))
    assert cells(never, np.array([1.0, -0.0])).tolist() == [1, 0]  # a flag that training never saw raised
    assert column_reference(np.array([0.0, 1.0, 2.0])).levels == ()
    assert column_reference(np.array([0.0, 1.0]), levels=()).levels == ()


def test_too_many_levels_or_none_that_can_be_met_are_refused() -> None:
    codes = np.arange(MAX_LEVELS + 1.0)
    assert len(column_reference(codes[1:], levels="auto").levels) == MAX_LEVELS
    with pytest.raises(SpecError, match=r"'sector' has 51 levels; at most 50 .* have it in bins"):
        column_reference(codes, levels="auto", name="sector")
    with pytest.raises(SpecError, match=r"'sector': levels must be finite"):
        column_reference(codes, levels=(1.0, np.nan), name="sector")
