"""Means over windows that share no row, each with its standard error. Core."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from monitoring.report.records import value_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitoring.report.records import Window

FEW: Final = 5
_SMALL: Final = 0.2


@dataclass(frozen=True, slots=True)
class Measured:
    """A mean over time and its standard error; NaN where it cannot be told."""

    mean: float
    error: float

    @property
    def known(self) -> bool:
        """Whether there is a mean."""
        return math.isfinite(self.mean)


NOTHING: Final = Measured(math.nan, math.nan)


def pooled(told: Sequence[tuple[float, float, float]]) -> Measured:
    """Weighted mean of (mean, standard error, weight), and its error from theirs.

    Windows too small to tell their error are left out while they hold less than a fifth of the weight. Where they hold more,
    the error is by how the means of at least 5 windows scatter.

    >>> pooled([(1.0, 0.3, 1.0), (3.0, 0.4, 1.0)])
    Measured(mean=2.0, error=0.25)
    >>> pooled([(1.0, float("nan"), 1.0), (3.0, 0.4, 1.0)])
    Measured(mean=2.0, error=nan)
    """
    told = [(m, se, w) for m, se, w in told if math.isfinite(m) and w > 0]
    if not told:
        return NOTHING
    whole = sum(w for *_, w in told)
    sure = [(m, se, w) for m, se, w in told if math.isfinite(se)]
    held = sum(w for *_, w in sure)
    if sure and whole - held <= _SMALL * whole:
        return Measured(sum(m * w for m, _, w in sure) / held, math.sqrt(sum((se * w) ** 2 for _, se, w in sure)) / held)
    mean, n = sum(m * w for m, _, w in told) / whole, len(told)
    if n < FEW:
        return Measured(mean, math.nan)
    return Measured(mean, math.sqrt(sum((w * (m - mean)) ** 2 for m, _, w in told) * n / (n - 1)) / whole)


def mean_of(windows: Sequence[Window], name: str, *, weight: str) -> Measured:
    """Mean of a metric of quality over windows that share no row, weighted by another of its numbers."""
    return pooled([(value_of(w.quality, name), value_of(w.quality, f"{name}_se"), value_of(w.quality, weight)) for w in windows])
