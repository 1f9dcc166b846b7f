"""Vectors to values, intervals, confidence and distance from training. Core; never raises for what a model does.

| what predict does                                | these rows abstain | reason                       |
|--------------------------------------------------|--------------------|------------------------------|
| raises                                           | all of the call    | ``model_raised``             |
| answers with another shape than (rows,)          | all of the call    | ``model_output_length``      |
| answers with something other than real numbers   | all of the call    | ``model_output_type``        |
| answers NaN or an infinity for a row             | that row           | ``model_output_not_finite``  |
| raises `EndpointUnavailable`                     | all of the call    | ``endpoint_unavailable``     |
| raises `ChallengerUnavailable`                   | all of the call    | ``challenger_unavailable``   |

An abstaining row has NaN for value, lower, upper, p_up and confidence; its `ood` stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.confidence import p_up
from models.errors import ChallengerUnavailable, EndpointUnavailable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.handle import ModelHandle, Prepared

    _Answers = tuple[NDArray[np.float64], NDArray[np.int8], str | None]

REASONS: tuple[str | None, ...] = (
    None,
    "model_raised",
    "model_output_length",
    "model_output_type",
    "model_output_not_finite",
    "endpoint_unavailable",
    "challenger_unavailable",
)
"""Why a row abstains, by `Scores.code`."""

_RAISED, _LENGTH, _TYPE, _NOT_FINITE, _ENDPOINT, _CHALLENGER = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True, slots=True)
class Scores:
    """Answers for the rows of one call, each float64[rows] unless said.

    `lower`, `upper`: the conformal interval at the spec's level. `p_up`: estimated chance that the outcome is above
    0; `confidence` = max(p_up, 1 - p_up), both NaN when the spec has no residuals. `ood`: share of the row's
    non-missing columns outside their training range [low, high]; columns without a reference do not count, and a
    row with nothing to count has 0. `abstained` bool[rows]; `code` int8[rows], an index into `REASONS`; `detail`
    what went wrong in words, for the alert; None where nothing did that was not told before.
    """

    value: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    p_up: NDArray[np.float64]
    confidence: NDArray[np.float64]
    ood: NDArray[np.float64]
    abstained: NDArray[np.bool_]
    code: NDArray[np.int8]
    detail: str | None

    @property
    def reason(self) -> list[str | None]:
        """Why each row abstains; None where it does not."""
        return [REASONS[c] for c in self.code.tolist()]


def score(handle: ModelHandle, values: NDArray[np.float64]) -> Scores:
    """Score float64[rows, columns] (NaN = missing) with one call of ``handle.predict``.

    The model sees a read-only view: the vectors logged are the vectors scored.
    """
    ready = handle.prepared
    value, code, detail = _answers(handle, values)
    with np.errstate(over="ignore", invalid="ignore"):  # the interval of a huge value may reach infinity
        lower, upper = value - ready.half_width, value + ready.half_width
    up = p_up(value, ready.residuals)
    return Scores(
        value=value,
        lower=lower,
        upper=upper,
        p_up=up,
        confidence=np.maximum(up, 1.0 - up),
        ood=_outside(ready, values),
        abstained=code != 0,
        code=code,
        detail=detail,
    )


def _answers(handle: ModelHandle, values: NDArray[np.float64]) -> _Answers:
    """Value float64[rows] with NaN where the row abstains, its code int8[rows], and the trouble in words."""
    rows = values.shape[0]
    if rows == 0:
        return np.empty(0), np.empty(0, dtype=np.int8), None
    view = values.view()
    view.flags.writeable = False
    try:
        answer = np.asarray(handle.predict(view))
    except EndpointUnavailable as e:
        return _none(rows, _ENDPOINT, str(e))
    except ChallengerUnavailable as e:
        return _none(rows, _CHALLENGER, None if e.told else str(e))
    except Exception as e:  # noqa: BLE001 - whatever a model raises becomes an abstention with its reason
        return _none(rows, _RAISED, f"predict raised {type(e).__name__}: {e}")
    if answer.shape != (rows,):
        return _none(rows, _LENGTH, f"predict answered with shape {answer.shape} for {rows} rows; right is ({rows},)")
    if answer.dtype.kind not in "fiub":
        return _none(rows, _TYPE, f"predict answered with dtype {answer.dtype}; right is float64")
    value = answer.astype(np.float64)  # always a copy: a model may hand out its own buffer
    finite = np.isfinite(value)
    if finite.all():
        return value, np.zeros(rows, dtype=np.int8), None
    value[~finite] = np.nan
    code = np.where(finite, 0, _NOT_FINITE).astype(np.int8)
    return value, code, f"predict answered {rows - int(finite.sum())} of {rows} rows with a value that is not finite"


def _none(rows: int, code: int, detail: str | None) -> _Answers:
    return np.full(rows, np.nan), np.full(rows, code, dtype=np.int8), detail


def _outside(ready: Prepared, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of non-missing referenced columns outside [low, high], float64[rows]."""
    if ready.low.size == 0:
        return np.zeros(values.shape[0])
    known = values if ready.referenced is None else values[:, ready.referenced]
    outside = np.count_nonzero((known < ready.low) | (known > ready.high), axis=1)  # NaN compares false: not outside
    present = np.count_nonzero(known == known, axis=1)  # noqa: PLR0124 - x == x is "not NaN", half the time of isnan
    share: NDArray[np.float64] = np.divide(outside, np.maximum(present, 1), dtype=np.float64)
    return share
