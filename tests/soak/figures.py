"""What is made of a soak's samples: trends with their error, latency by minute and by third. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

JUDGED_FROM_S = 600.0
"""A trend over less than this after the warm-up says nothing."""
CLEAR = 3.0
"""A trend of so many standard errors is one."""
TOO_MUCH = {"rss_mb": 60.0, "fds": 20.0, "threads": 10.0, "state_mb": 200.0}
"""And so much an hour is a leak, not a heap that settles or a file that waits to be compacted."""


@dataclass(frozen=True, slots=True)
class Trend:
    """`slope` per hour and its standard error."""

    slope: float
    error: float


def trend(at_s: ArrayLike, values: ArrayLike) -> Trend:
    """Least-squares slope per hour, its standard error widened for residuals that resemble their neighbours.

    Samples a few seconds apart are not independent: n is replaced by n (1 − r) / (1 + r), r the residuals' correlation at lag one
    (Santer et al. 2000, "Statistical significance of trends and trend differences in layer-average atmospheric temperature
    time series"). Raises `ValueError` below three samples.

    >>> trend([0, 1800, 3600, 5400], [1.0, 2.0, 3.0, 4.0])
    Trend(slope=2.0, error=0.0)
    """
    x, y = np.asarray(at_s, float) / 3600.0, np.asarray(values, float)
    if len(x) < 3 or len(x) != len(y):
        raise ValueError(f"a trend needs three samples or more, each with its time; there are {len(x)} times, {len(y)} values")
    x = x - x.mean()
    spread = float(x @ x)
    slope = float(x @ y) / spread
    rest = y - y.mean() - slope * x
    total = float(rest @ rest)
    if total <= 1e-18 * max(1.0, float(y @ y)):
        return Trend(slope, 0.0)
    r = min(max(float(rest[1:] @ rest[:-1]) / total, 0.0), 0.999)
    n = max(len(x) * (1 - r) / (1 + r), 3.0)
    return Trend(slope, math.sqrt(total / (n - 2) / spread))


def by_minute(sent_ms: NDArray[np.int64], latency_ms: NDArray[np.int64], *, start_ms: int, end_ms: int) -> list[list[float]]:
    """[median, 99th percentile] in ms of the rows sent in each minute from `start_ms` to `end_ms`; arrays are (rows,).

    What is left of a minute at the end counts to the one before it, if it is less than half of one.

    >>> by_minute(np.array([0, 10, 60_000]), np.array([1, 3, 8]), start_ms=0, end_ms=110_000)
    [[2.0, 3.0], [8.0, 8.0]]
    """
    minutes = max(1, round((end_ms - start_ms) / 60_000))
    minute = np.minimum((sent_ms - start_ms) // 60_000, minutes - 1)
    return [quantiles(latency_ms[minute == m]) for m in range(minutes)]


def by_third(sent_ms: NDArray[np.int64], latency_ms: NDArray[np.int64], *, start_ms: int, end_ms: int) -> list[list[float]]:
    """The same for each third of the time from `start_ms` to `end_ms`."""
    third = np.minimum((sent_ms - start_ms) * 3 // max(1, end_ms - start_ms), 2)
    return [quantiles(latency_ms[third == k]) for k in range(3)]


def quantiles(values: NDArray[np.int64]) -> list[float]:
    """[median, 99th percentile]; raises `ValueError` when there are none."""
    if not len(values):
        raise ValueError("no rows to take quantiles of: the run was too short, or nothing was predicted for a minute")
    return [float(np.median(values)), float(np.percentile(values, 99, method="inverted_cdf"))]


def after_warm_up(found: Mapping[str, Any]) -> slice:
    """Which samples the trends are of."""
    at = found["samples"]["at_s"]
    first = next((i for i, s in enumerate(at) if s >= 60 * found["warm_up_minutes"]), len(at) - 1)
    return slice(min(first, max(0, len(at) - 3)), None)


def long_enough(found: Mapping[str, Any]) -> bool:
    """Whether trends say something."""
    used = found["samples"]["at_s"][after_warm_up(found)]
    return bool(used[-1] - used[0] >= JUDGED_FROM_S)


def trend_of(found: Mapping[str, Any], column: str) -> Trend:
    """The trend of a column of the samples after the warm-up."""
    used = after_warm_up(found)
    return trend(found["samples"]["at_s"][used], found["samples"][column][used])


def leaks(found: Mapping[str, Any]) -> list[str]:
    """Columns that clearly grow and should not; none where the run was too short to tell."""
    if not long_enough(found):
        return []
    bad = []
    for column in found["samples"]:
        limit = next((most for ending, most in TOO_MUCH.items() if column.endswith(ending)), None)
        if limit is not None:
            t = trend_of(found, column)
            if t.slope > limit and t.slope > CLEAR * t.error:
                bad.append(column)
    return bad
