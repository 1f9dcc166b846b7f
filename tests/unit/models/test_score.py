from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.score import score

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.handle import ModelHandle

Floats = NDArray[np.float64]
ROWS = np.array([[0.5, 0.5, 0.5], [0.0, 2.0, -3.0], [np.nan, 2.0, 0.0], [np.nan, np.nan, np.nan]])


def first_column(values: Floats) -> Floats:
    return values[:, 0]


def test_value_interval_and_confidence_of_a_row(make_handle: Callable[..., ModelHandle]) -> None:
    # 21 residuals -1.0, -0.9 ... 1.0 at level 0.9: rank ceil(22 * 0.9) = 20 of |r| is 1.0
    s = score(make_handle(first_column), ROWS[:2])
    assert s.value.tolist() == [0.5, 0.0]
    assert s.lower.tolist() == [-0.5, -1.0]
    assert s.upper.tolist() == [1.5, 1.0]
    assert s.p_up.tolist() == [15 / 21, 10 / 21]
    assert s.confidence.tolist() == [15 / 21, 1 - 10 / 21]
    assert s.reason == [None, None]
    assert not s.abstained.any()


def test_ood_is_the_share_of_present_columns_outside_training(make_handle: Callable[..., ModelHandle]) -> None:
    s = score(make_handle(lambda x: np.zeros(len(x))), ROWS)
    assert s.ood.tolist() == [0.0, 2 / 3, 1 / 2, 0.0]


def test_the_bounds_of_the_training_range_are_inside(make_handle: Callable[..., ModelHandle]) -> None:
    s = score(make_handle(first_column), np.array([[1.0, -1.0, np.nextafter(1.0, 2.0)]]))
    assert s.ood.tolist() == [1 / 3]


def test_columns_without_a_reference_do_not_count(make_handle: Callable[..., ModelHandle]) -> None:
    handle = make_handle(first_column)
    partial = make_handle(first_column, reference={"b": handle.spec.reference["b"]})
    assert score(partial, ROWS[1:2]).ood.tolist() == [1.0]
    assert score(make_handle(first_column, reference={}), ROWS[1:2]).ood.tolist() == [0.0]


def test_without_residuals_the_interval_is_everything_and_confidence_unknown(make_handle: Callable[..., ModelHandle]) -> None:
    s = score(make_handle(first_column, residuals=()), ROWS[:1])
    assert (s.lower[0], s.upper[0]) == (-np.inf, np.inf)
    assert np.isnan(s.p_up[0])
    assert np.isnan(s.confidence[0])
    assert not s.abstained[0]


def raises(_: Floats) -> Floats:
    raise RuntimeError("out of memory")


def test_a_model_that_raises_abstains_every_row_and_says_why(make_handle: Callable[..., ModelHandle]) -> None:
    s = score(make_handle(raises), ROWS)
    assert s.reason == ["model_raised"] * 4
    assert s.detail == "predict raised RuntimeError: out of memory"
    assert np.isnan(np.array([s.value, s.lower, s.upper, s.p_up, s.confidence])).all()
    assert s.ood.tolist() == [0.0, 2 / 3, 1 / 2, 0.0]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (np.zeros(3), "model_output_length"),
        (np.zeros(5), "model_output_length"),
        (np.zeros((4, 1)), "model_output_length"),
        (0.0, "model_output_length"),
        (None, "model_output_length"),
        (np.array(["1", "2", "3", "4"]), "model_output_type"),
        (np.array([1, 2, 3, None]), "model_output_type"),
        (np.zeros(4, dtype=complex), "model_output_type"),
    ],
)
def test_an_answer_of_the_wrong_shape_or_type_abstains(make_handle: Callable[..., ModelHandle], answer: Any, reason: str) -> None:
    assert score(make_handle(lambda _: answer), ROWS).reason == [reason] * 4


def test_only_the_rows_without_a_finite_answer_abstain(make_handle: Callable[..., ModelHandle]) -> None:
    s = score(make_handle(lambda _: np.array([1.0, np.nan, -np.inf, 2.0])), ROWS)
    assert s.reason == [None, "model_output_not_finite", "model_output_not_finite", None]
    assert s.abstained.tolist() == [False, True, True, False]
    assert s.value[[0, 3]].tolist() == [1.0, 2.0]
    assert np.isnan(s.upper[1:3]).all()
    assert s.detail == "predict answered 2 of 4 rows with a value that is not finite"


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_other_real_numbers_become_float64(make_handle: Callable[..., ModelHandle], dtype: type) -> None:
    value = score(make_handle(lambda x: np.ones(len(x), dtype=dtype)), ROWS).value
    assert value.dtype == np.float64
    assert value.tolist() == [1.0] * 4


def test_the_model_cannot_change_the_vectors_that_are_logged(make_handle: Callable[..., ModelHandle]) -> None:
    def meddles(values: Floats) -> Floats:
        values[:] = 0.0
        return values[:, 0]

    values = ROWS.copy()
    assert score(make_handle(meddles), values).reason == ["model_raised"] * 4
    assert np.array_equal(values, ROWS, equal_nan=True)
    assert values.flags.writeable


def test_a_buffer_the_model_keeps_does_not_reach_the_scores(make_handle: Callable[..., ModelHandle]) -> None:
    kept = np.zeros(4)
    s = score(make_handle(lambda _: kept), ROWS)
    kept[:] = 9.0
    assert s.value.tolist() == [0.0] * 4


def test_no_rows_make_no_call(make_handle: Callable[..., ModelHandle]) -> None:
    s = score(make_handle(raises), np.empty((0, 3)))
    assert s.value.shape == s.ood.shape == s.abstained.shape == (0,)
    assert s.detail is None


def test_a_handle_is_equal_only_to_itself(make_handle: Callable[..., ModelHandle]) -> None:
    one, other = make_handle(first_column), make_handle(first_column)
    assert len({one, other, one}) == 2
