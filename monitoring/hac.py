"""Standard errors of means over instants whose errors overlap in time and are shared by all symbols of an instant.

Core. The errors of all symbols at one instant have common causes, and a prediction over h bars shares h - 1 of them with the
next one. So neither rows nor instants are independent. Rows are summed by instant first, and the series of those sums gets a
variance that is consistent under heteroskedasticity and autocorrelation (HAC): Driscoll & Kraay 1998, "Consistent covariance
matrix estimation with spatially dependent panel data".

With g_t the instant's contribution to the error of the mean, gamma_k = sum_t g_t g_(t-k), h instants to a horizon:

    Bartlett     gamma_0 + 2 sum_(k<h) (1 - k/h) gamma_k    never negative; Newey & West 1987
    rectangular  gamma_0 + 2 sum_(k<h) gamma_k              unbiased for overlapping horizons; Hansen & Hodrick 1980

The greater of the two is taken: Bartlett weights alone forget a third of what overlapping shares (h = 5), the rectangular ones
alone can be negative. Then it is divided by (T + 1 - 2h + h (h-1) / T) / T (Harvey, Leybourne & Newbold 1997), and compared with
Student's t with T / h - 1 degrees of freedom, since T overlapping instants are worth T / h. One-sided tests at 5 % of the mean of
overlapping sums of noise then reject it:

| h, T                          | 1, 60 | 5, 60  | 5, 300 | 15, 150 | 15, 900 | 60, 300 |
|-------------------------------|-------|--------|--------|---------|---------|---------|
| so                            | 5.6 % | 5.1 %  | 4.9 %  | 6.1 %   | 5.5 %   | 6.3 %   |
| Bartlett, h - 1 lags, T - 1   | 4.9 % | 9.7 %  | 9.1 %  |         | 8.7 %   |         |
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from monitoring.reference import Floats, Ints

MIN_EFFECTIVE_INSTANTS: Final = 5
"""Fewest non-overlapping instants a standard error can be told from."""


class Overlap(NamedTuple):
    """How far horizons reach into one another."""

    of_symbol: float
    """Predictions of one symbol to a horizon: horizon / bar, at least 1."""
    of_instants: float
    """Instants to a horizon: more than `of_symbol` where symbols have event times of their own."""

    @property
    def instants(self) -> int:
        """Instants that share part of their horizon with one instant, itself included."""
        return math.ceil(self.of_instants)


def overlap_of(ts_event_us: Ints, *, horizon_us: int, bar_us: int | None) -> Overlap:
    """Overlap of instants at these ascending times; `bar_us` None: the median step between them.

    >>> overlap_of(np.array([0, 60, 120, 180]), horizon_us=300, bar_us=60)
    Overlap(of_symbol=5.0, of_instants=5.0)
    >>> overlap_of(np.array([0, 30, 60, 90]), horizon_us=300, bar_us=60)
    Overlap(of_symbol=5.0, of_instants=10.0)
    """
    steps = np.diff(ts_event_us)
    step = int(np.median(steps)) if len(steps) else bar_us or horizon_us
    bar = step if bar_us is None else bar_us
    return Overlap(max(1.0, horizon_us / max(bar, 1)), max(1.0, horizon_us / max(min(step, bar), 1)))


def long_run(scores: Floats, *, overlap: int) -> Floats:
    """Sum over t and k of what g_t and g_(t-k) share, as the module says: Var(sum g), float64[columns] of float64[T, columns].

    >>> long_run(np.array([[1.0], [-1.0], [1.0], [-1.0]]), overlap=1).tolist()
    [4.0]
    """
    bartlett: Floats = (scores * scores).sum(axis=0)
    rectangular = bartlett
    for k in range(1, min(overlap, len(scores))):
        shared = 2 * (scores[k:] * scores[:-k]).sum(axis=0)
        bartlett = bartlett + (1 - k / overlap) * shared
        rectangular = rectangular + shared
    return np.maximum(np.maximum(bartlett, rectangular), 0.0)


def correction(instants: Floats, *, overlap: int) -> Floats:
    """Harvey, Leybourne & Newbold's (T + 1 - 2h + h (h-1) / T) / T for T instants and an overlap of h.

    >>> correction(np.array([60.0]), overlap=1).round(6).tolist(), correction(np.array([60.0]), overlap=5).round(6).tolist()
    ([0.983333], [0.855556])
    """
    t = np.maximum(instants, 1.0)
    return np.asarray((t + 1 - 2 * overlap + overlap * (overlap - 1) / t) / t)


def ratios(top: Floats, bottom: Floats, *, overlap: Overlap) -> tuple[Floats, Floats]:
    """Ratios sum(top) / sum(bottom) of float64[T, columns] and their standard errors, each float64[columns].

    A mean over rows is the ratio of the instants' sums and counts; its contributions are g_t = top_t - ratio * bottom_t.
    An instant whose bottom is 0 has nothing to say. A ratio of nothing is NaN; so is a standard error from fewer than
    `MIN_EFFECTIVE_INSTANTS`.
    """
    whole = bottom.sum(axis=0)
    scale = np.where(whole > 0, whole, np.nan)
    ratio = top.sum(axis=0) / scale
    told = np.count_nonzero(bottom, axis=0).astype(np.float64)
    return ratio, standard_errors(top - np.nan_to_num(ratio) * bottom, told, overlap=overlap) / scale


def standard_errors(scores: Floats, instants: Floats, *, overlap: Overlap) -> Floats:
    """Standard errors of sums with these contributions float64[T, columns], `instants` (columns,) of which say something."""
    few = instants < MIN_EFFECTIVE_INSTANTS * overlap.of_instants
    if few.all():
        return np.full(scores.shape[1], np.nan)
    h = overlap.instants
    return np.sqrt(long_run(scores, overlap=h) / np.where(few, np.nan, correction(instants, overlap=h)))


def t_share(statistic: float, degrees: float) -> float:
    """Share of Student's t with these degrees of freedom that lies below `statistic`.

    >>> t_share(0.0, 11.0)
    0.5
    """
    from scipy.special import stdtr  # the CLI's start must not pay for scipy

    return float(stdtr(degrees, statistic))


def t_quantile(level: float, degrees: float) -> float:
    """Below which a share `level` of Student's t lies; NaN without a positive number of degrees of freedom.

    >>> round(t_quantile(0.95, 10.0), 3), t_quantile(0.95, 0.0)
    (1.812, nan)
    """
    from scipy.special import stdtrit  # the CLI's start must not pay for scipy

    return float(stdtrit(degrees, level)) if degrees > 0 else math.nan
