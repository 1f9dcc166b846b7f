from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.errors import ModelOutputError, SpecError
from models.example import Example, check_example, decode_example, encode_example, make_example

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from models.spec import ServingSpec

    Floats = NDArray[np.float64]


def ignores_missing(values: Floats) -> Floats:
    total: Floats = np.nansum(values, axis=1)
    return total


def test_the_example_survives_json_with_every_bit(make_spec: Callable[..., ServingSpec]) -> None:
    training = np.random.default_rng(2).normal(size=(50, 3)) * 1e-7
    example = make_example(ignores_missing, training)
    again = decode_example(encode_example(example), make_spec())
    assert again == example
    assert again.vectors[-1][0] is None
    check_example(ignores_missing, again, what="m")


def test_a_model_that_refuses_missing_values_has_no_such_vector() -> None:
    example = make_example(lambda v: v.sum(axis=1), np.ones((4, 3)))
    assert all(value is not None for vector in example.vectors for value in vector)


def test_only_answered_rows_are_taken() -> None:
    training = np.array([[np.nan, 1.0], [1.0, 1.0], [2.0, np.nan]])
    assert make_example(lambda v: v.sum(axis=1), training).vectors == ((1.0, 1.0),)


def test_a_model_that_answers_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="no training row a finite answer"):
        make_example(lambda v: np.full(len(v), np.nan), np.ones((3, 2)))


@pytest.mark.parametrize(
    "predict",
    [
        lambda v: np.nextafter(v.sum(axis=1), 9.0),
        lambda v: v,
        lambda v: v.sum(axis=1)[:1],
        lambda v: v.sum(axis=1) + (len(v) - 1),
    ],
    ids=["last bit", "shape", "length", "depends on the batch"],
)
def test_any_other_answer_is_refused(predict: Callable[[Floats], Floats]) -> None:
    example = Example(vectors=((1.0, 2.0), (3.0, 4.0)), answers=(3.0, 7.0))
    with pytest.raises(ModelOutputError, match=r"^m: its example scores .* logged is"):
        check_example(predict, example, what="m")


def test_a_model_that_raises_on_its_example_is_refused() -> None:
    def raises(_: Floats) -> Floats:
        raise ZeroDivisionError

    with pytest.raises(ModelOutputError, match="predict raised ZeroDivisionError on its own example"):
        check_example(raises, Example(vectors=((1.0,),), answers=(1.0,)), what="m")


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b'{"vectors": [], "answers": []}',
        b'{"vectors": [[1, 2, 3]], "answers": []}',
        b'{"vectors": [[1, 2]], "answers": [1]}',
    ],
)
def test_a_file_that_is_no_example_of_the_spec_is_refused(data: bytes, make_spec: Callable[..., ServingSpec]) -> None:
    with pytest.raises(SpecError, match="example of 'm'"):
        decode_example(data, make_spec())
