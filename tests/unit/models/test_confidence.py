from __future__ import annotations

from math import inf

import numpy as np
import pytest

from models.confidence import check_residuals, conformal_rank, half_width, p_up, residuals_needed
from models.errors import SpecError


@pytest.mark.parametrize(("level", "needed"), [(0.9, 9), (0.95, 19), (0.99, 99), (0.5, 1), (0.1, 1)])
def test_the_interval_is_finite_from_the_needed_count_on(level: float, needed: int) -> None:
    assert residuals_needed(level=level) == needed
    assert half_width(np.ones(needed), level=level) == 1.0
    if needed > 1:
        assert half_width(np.ones(needed - 1), level=level) == inf


def test_the_rank_counts_the_level_as_written_not_as_rounded_in_binary() -> None:
    assert 0.07 * 100 > 7  # why the product of floats cannot be used
    assert conformal_rank(residuals=99, level=0.07) == 7


def test_too_few_residuals_name_how_many_are_right() -> None:
    with pytest.raises(SpecError, match=r"'m': 8 calibration residuals .* level 0.9; give at least 9"):
        check_residuals((0.1,) * 8, level=0.9, model="m")


def test_a_residual_that_is_not_finite_is_refused() -> None:
    with pytest.raises(SpecError, match="not finite"):
        check_residuals((0.1,) * 9 + (inf,), level=0.9, model="m")


def test_p_up_counts_an_outcome_of_exactly_zero_as_not_up() -> None:
    assert p_up(np.array([0.5]), np.array([-0.5, 0.0])).tolist() == [0.5]


def test_p_up_is_unknown_without_residuals_and_for_no_value() -> None:
    assert np.isnan(p_up(np.array([1.0]), np.empty(0))).all()
    assert np.isnan(p_up(np.array([np.nan]), np.array([1.0]))).all()
