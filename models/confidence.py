"""Confidence from calibration residuals: a prediction interval and the chance that the sign is right.

Core. A residual is what came true minus what was predicted, on rows the model was not trained on: r = y - prediction.

Interval (split conformal prediction): with n residuals, k = ceil((n + 1) * level) and q the k-th smallest |r|,
``[value - q, value + q]`` covers the outcome of an exchangeable new row with probability at least `level`, in
finite samples and whatever the model (Papadopoulos, Proedrou, Vovk & Gammerman 2002; Lei, G'Sell, Rinaldo,
Tibshirani & Wasserman 2018). When k > n no finite q can promise that, so q is infinite; `check_residuals` refuses
such a calibration before it is published or served.

Sign: p_up = share of residuals with value + r > 0 estimates P(outcome > 0); confidence = max(p_up, 1 - p_up).
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, inf, isfinite
from typing import TYPE_CHECKING

import numpy as np

from models.errors import SpecError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def conformal_rank(*, residuals: int, level: float) -> int:
    """Which smallest |residual| is the half-width: ceil((n + 1) * level), from 1.

    `level` counts as the decimal it is written as, so 0.07 of 100 is 7 and not 8 (its float product is above 7).

    >>> conformal_rank(residuals=19, level=0.95), conformal_rank(residuals=99, level=0.07)
    (19, 7)
    """
    return ceil((residuals + 1) * Fraction(str(level)))


def half_width(absolute_sorted: NDArray[np.float64], *, level: float) -> float:
    """Half the width of the interval at `level`, from ascending |residuals| float64[n]; infinite when n is too small.

    >>> half_width(np.array([0.1, 0.2, 0.3, 0.4]), level=0.6), half_width(np.array([0.1]), level=0.9)
    (0.3, inf)
    """
    rank = conformal_rank(residuals=absolute_sorted.size, level=level)
    return float(absolute_sorted[rank - 1]) if rank <= absolute_sorted.size else inf


def residuals_needed(*, level: float) -> int:
    """The fewest residuals that give a finite interval at `level`: the least n with ceil((n + 1) * level) <= n.

    >>> residuals_needed(level=0.9), residuals_needed(level=0.95), residuals_needed(level=0.5)
    (9, 19, 1)
    """
    exact = Fraction(str(level))
    return ceil(exact / (1 - exact))


def check_residuals(residuals: tuple[float, ...], *, level: float, model: str) -> None:
    """Raise `SpecError` unless the residuals are finite and enough for a finite interval at `level`."""
    needed = residuals_needed(level=level)
    if len(residuals) < needed:
        msg = (
            f"serving spec of {model!r}: {len(residuals)} calibration residuals cannot give an interval at level {level}; "
            f"give at least {needed}, or lower the level"
        )
        raise SpecError(msg)
    if not all(isfinite(r) for r in residuals):
        msg = f"serving spec of {model!r}: a calibration residual is not finite; leave out rows without an outcome or an answer"
        raise SpecError(msg)


def p_up(value: NDArray[np.float64], residuals_sorted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of residuals r with value + r > 0, float64[rows]; NaN without residuals or for a NaN value.

    In floating point value + r > 0 exactly when r > -value, so one binary search a row gives the exact count.

    >>> p_up(np.array([0.0, 0.15, -9.0]), np.array([-0.2, -0.1, 0.0, 0.3])).tolist()
    [0.25, 0.75, 0.0]
    """
    n = residuals_sorted.size
    if n == 0:
        return np.full(value.shape, np.nan)
    above = n - np.searchsorted(residuals_sorted, -value, side="right")
    return np.where(np.isnan(value), np.nan, above / n)
