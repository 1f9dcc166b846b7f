"""A few vectors with their answers, logged beside a model (`extra_files/example.json`). Core.

A version is put to use only if it gives these answers again, bit for bit, in a batch and row by row: the file loaded
is the model that was published, the libraries here compute as those there, and batches do not change a row's answer.

    {"vectors": [[0.013, null], [0.02, 1.5]], "answers": [0.0021, -0.0004]}      null = missing
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from models.errors import ModelOutputError, SpecError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.handle import Predict
    from models.spec import ServingSpec

ROWS = 5
"""Vectors `make_example` takes from the training rows, before the one with a missing value."""


BATCH_ROWS = 200
"""Rows of `check_batches`."""


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Vectors [rows][columns] (None = missing) and the model's finite answers [rows], floats exact."""

    vectors: tuple[tuple[float | None, ...], ...]
    answers: tuple[float, ...]

    def values(self) -> NDArray[np.float64]:
        """The vectors as float64[rows, columns], NaN = missing."""
        return np.array(self.vectors, dtype=np.float64)  # None becomes NaN


def make_example(predict: Predict, training: NDArray[np.float64]) -> Example:
    """Vectors spread over the training rows, float64[rows, columns], that the model answers; one with a value missing.

    The last has its first column missing, if the model answers that. Raises `SpecError` if it answers none.

    >>> make_example(lambda x: x.sum(axis=1), np.array([[1.0, 2.0], [3.0, 4.0]])).answers
    (3.0, 7.0)
    """
    answered = np.flatnonzero(np.isfinite(predict(training)))
    if answered.size == 0:
        msg = "the model gives no training row a finite answer; check the columns and their missing values"
        raise SpecError(msg)
    chosen = training[np.unique(answered[np.linspace(0, answered.size - 1, ROWS).astype(np.intp)])]
    gap = chosen[-1:].copy()
    gap[0, 0] = np.nan
    if np.isfinite(predict(gap)).all() and not np.isnan(chosen[-1, 0]):
        chosen = np.concatenate([chosen, gap])
    vectors = tuple(tuple(None if np.isnan(v) else v for v in row) for row in chosen.tolist())
    return Example(vectors=vectors, answers=tuple(predict(chosen).tolist()))


def check_example(predict: Predict, example: Example, *, what: str) -> None:
    """Raise `ModelOutputError` unless every logged answer comes back with the same bits, in a batch and alone."""
    values = example.values()
    expected = np.array(example.answers, dtype=np.float64)
    try:
        together = np.asarray(predict(values), dtype=np.float64)
        alone = [np.asarray(predict(values[i : i + 1]), dtype=np.float64) for i in range(len(values))]
    except Exception as e:
        msg = f"{what}: predict raised {type(e).__name__} on its own example: {e}; roll back, and publish a model that scores it"
        raise ModelOutputError(msg, check="example") from e
    for how, found in (("in a batch", together), ("row by row", np.concatenate(alone))):
        if found.tobytes() != expected.tobytes():
            msg = f"{what}: its example scores {how} to {found.tolist()}, logged is {expected.tolist()}; roll the alias back"
            raise ModelOutputError(msg, check="example")


def check_batches(predict: Predict, example: Example, *, what: str) -> None:
    """Raise `ModelOutputError` unless a row has the same bits in whatever batch it is scored, its place included.

    A replay cuts the batches elsewhere, and its records must be those of the first time. `BATCH_ROWS` rows near the
    example's are scored together, backwards, and in pieces of 1, 2, 3, 7, 16 and 64.
    """
    vectors = example.values()
    rows = np.resize(vectors, (BATCH_ROWS, vectors.shape[1]))
    rows *= 1.0 + np.arange(BATCH_ROWS)[:, None] // len(vectors) / 97.0
    try:
        together = _bits(predict(rows))
        ways = {"in reverse order": _bits(predict(np.ascontiguousarray(rows[::-1])))[::-1]} | {
            f"in pieces of {n}": np.concatenate([_bits(predict(rows[i : i + n])) for i in range(0, BATCH_ROWS, n)])
            for n in (1, 2, 3, 7, 16, 64)
        }
    except Exception as e:
        msg = f"{what}: predict raised {type(e).__name__} on rows near its example: {e}; publish a model that scores them"
        raise ModelOutputError(msg, check="output") from e
    for how, found in ways.items():
        if together.shape != (BATCH_ROWS,) or not np.array_equal(found, together):
            msg = (
                f"{what}: rows scored {how} have other bits than together, so a replay would not give the same records; "
                "publish a model whose rows are independent (trees, or a flavor loaded as data)"
            )
            raise ModelOutputError(msg, check="output")


def _bits(answers: NDArray[np.float64]) -> NDArray[np.int64]:
    answers = np.asarray(answers, dtype=np.float64)
    return np.where(np.isnan(answers), np.nan, answers).view(np.int64)  # one NaN is as good as another


def encode_example(example: Example) -> bytes:
    """JSON with the shortest text of every float that reads back to the same bits."""
    return msgspec.json.encode(example)


def decode_example(data: bytes, spec: ServingSpec) -> Example:
    """Read an example and hold it against its spec. Raises `SpecError`.

    >>> from models.spec import ColumnSpec, FeatureSetSpec, ServingSpec
    >>> spec = ServingSpec(model="sum", trigger="bars", horizon_us=1, columns=(ColumnSpec(name="x", feature_set="bars",
    ...     feature="x"),), feature_sets={"bars": FeatureSetSpec(features=("x",), bar_us=1, depth_rows=1)})
    >>> decode_example(b'{"vectors": [[null], [0.1]], "answers": [0.0, 0.1]}', spec).values().tolist()
    [[nan], [0.1]]
    """
    try:
        example = msgspec.json.decode(data, type=Example)
    except msgspec.MsgspecError as e:
        msg = f"example of {spec.model!r} cannot be read: {e}"
        raise SpecError(msg) from e
    width = len(spec.columns)
    if not example.vectors or len(example.answers) != len(example.vectors) or any(len(v) != width for v in example.vectors):
        msg = f"example of {spec.model!r}: right is one answer for each vector of {width} values, and at least one"
        raise SpecError(msg)
    return example
