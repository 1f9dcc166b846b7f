"""Quality of matured predictions: how well value, sign, probability and interval agreed with what came.

Core. Rows are predictions joined with their outcomes, one per (symbol, event time). A row whose value is not
finite (an abstention) or whose outcome is not known is left out, and seen in `label_coverage`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.drift import builtins
from monitoring.ranks import correlations_within, ranks_within

if TYPE_CHECKING:
    from monitoring.reference import Floats, Ints

MIN_SYMBOLS = 3
"""Fewest symbols at one instant whose ranks are compared across symbols."""

CALIBRATION_BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReport:
    """One window of matured predictions. What cannot be told is NaN (None in `to_dict`).

    | field                         | what it is                                                                              |
    |-------------------------------|-----------------------------------------------------------------------------------------|
    | `rows`, `effective_rows`      | matured rows n; n / h, since horizons of h bars overlap h-fold                          |
    | `published`, `label_coverage` | predictions made for the window; the share of them with an outcome                      |
    | `ic`                          | Pearson correlation of value and outcome over all rows (Grinold & Kahn 1999)            |
    | `rank_ic`, `rank_ic_over`     | Spearman correlation: mean over instants, `symbols`; with fewer than 3 a time, over `time` |
    | `icir`, `instants`            | mean / standard deviation (n - 1) of the rank ICs per instant; how many instants        |
    | `hit_rate`                    | share of right signs among rows where neither value nor outcome is 0                    |
    | `rmse`, `mae`                 | errors of value; `rmse_zero`, `mae_zero`: of always 0; `skill`: 1 - (rmse/rmse_zero)^2   |
    | `brier`, `log_loss`           | of `p_up` against outcome > 0 (Brier 1950; Good 1952)                                   |
    | `calibration_error`           | mean abs. gap of `p_up` and what came, in 10 equal bins (ECE: Naeini et al. 2015)          |
    | `coverage`, `width`           | share of outcomes within [lower, upper], bounds included; mean upper - lower            |
    """

    rows: int
    effective_rows: float
    overlap: float
    published: int | None
    label_coverage: float
    ic: float
    rank_ic: float
    rank_ic_over: str | None
    icir: float
    instants: int
    hit_rate: float
    rmse: float
    mae: float
    rmse_zero: float
    mae_zero: float
    skill: float
    brier: float
    log_loss: float
    calibration_error: float
    coverage: float
    width: float

    def to_dict(self) -> dict[str, Any]:
        """Builtins only, NaN as None: ready for JSON."""
        return {k: builtins(v) for k, v in asdict(self).items()}


def quality_report(
    *,
    value: Floats,
    lower: Floats,
    upper: Floats,
    p_up: Floats,
    outcome: Floats,
    symbol_codes: Ints,
    ts_event_us: Ints,
    horizon_us: int,
    bar_us: int | None = None,
    published: int | None = None,
) -> QualityReport:
    """Judge matured rows, all arrays (rows,), in any order.

    `bar_us`: step between a symbol's predictions; None: the median step found. `published`: how many predictions,
    abstentions left out, were made for the window; None: not known.

    >>> v = np.array([0.1, -0.2, 0.3])
    >>> said = {"value": v, "lower": v - 1, "upper": v + 1, "p_up": (v > 0) * 1.0}
    >>> when = {"symbol_codes": np.zeros(3, np.int64), "ts_event_us": np.array([10, 20, 30]), "horizon_us": 10}
    >>> r = quality_report(**said, **when, outcome=v * 2, published=4)
    >>> r.rows, r.label_coverage, round(r.ic, 9), r.hit_rate, r.coverage
    (3, 0.75, 1.0, 1.0, 1.0)
    """
    kept = np.isfinite(value) & np.isfinite(outcome)
    value, lower, upper, p_up, outcome = (a[kept] for a in (value, lower, upper, p_up, outcome))
    symbol_codes, ts_event_us = symbol_codes[kept], ts_event_us[kept]
    rows = len(value)
    overlap = _overlap(symbol_codes, ts_event_us, horizon_us=horizon_us, bar_us=bar_us)
    rank_ic, over, icir, instants = _rank_ic(value, outcome, ts_event_us)
    rmse, rmse_zero = _root_mean_square(value - outcome), _root_mean_square(outcome)
    brier, log_loss, calibration_error = _probabilities(p_up, outcome)
    bounded = np.isfinite(lower) & np.isfinite(upper)
    signed = (value != 0) & (outcome != 0)
    return QualityReport(
        rows=rows,
        effective_rows=rows / overlap,
        overlap=overlap,
        published=published,
        label_coverage=rows / published if published else math.nan,
        ic=float(correlations_within(np.zeros(rows, np.int64), value, outcome, how_many=1)[0]),
        rank_ic=rank_ic,
        rank_ic_over=over,
        icir=icir,
        instants=instants,
        hit_rate=_mean(np.sign(value[signed]) == np.sign(outcome[signed])),
        rmse=rmse,
        mae=_mean(np.abs(value - outcome)),
        rmse_zero=rmse_zero,
        mae_zero=_mean(np.abs(outcome)),
        skill=1 - (rmse / rmse_zero) ** 2 if rmse_zero > 0 else math.nan,
        brier=brier,
        log_loss=log_loss,
        calibration_error=calibration_error,
        coverage=_mean((lower[bounded] <= outcome[bounded]) & (outcome[bounded] <= upper[bounded])),
        width=_mean(upper[bounded] - lower[bounded]),
    )


def _overlap(symbol_codes: Ints, ts_event_us: Ints, *, horizon_us: int, bar_us: int | None) -> float:
    """How many consecutive predictions of a symbol share part of their horizon: horizon / step, at least 1."""
    if bar_us is None:
        order = np.lexsort((ts_event_us, symbol_codes))
        steps = np.diff(ts_event_us[order])[np.diff(symbol_codes[order]) == 0]
        steps = steps[steps > 0]
        if not len(steps):
            return 1.0
        bar_us = int(np.median(steps))
    return max(1.0, horizon_us / max(bar_us, 1))


def _rank_ic(value: Floats, outcome: Floats, ts_event_us: Ints) -> tuple[float, str | None, float, int]:
    """Mean rank IC per instant across symbols, else one over time: (rank IC, over what, ICIR, instants)."""
    _, instant, size = np.unique(ts_event_us, return_inverse=True, return_counts=True)
    wide = size[instant] >= MIN_SYMBOLS
    if not wide.any():
        whole = np.zeros(len(value), np.int64)
        over_time = correlations_within(whole, ranks_within(whole, value), ranks_within(whole, outcome), how_many=1)[0]
        return float(over_time), "time" if np.isfinite(over_time) else None, math.nan, 0
    instant = instant.astype(np.int64)
    ranked = ranks_within(instant, value), ranks_within(instant, outcome)
    each = correlations_within(instant, *ranked, how_many=len(size))[size >= MIN_SYMBOLS]
    each = each[np.isfinite(each)]
    if not len(each):
        return math.nan, None, math.nan, 0
    spread = float(each.std(ddof=1)) if len(each) > 1 else math.nan
    mean = float(each.mean())
    return mean, "symbols", mean / spread if spread > 0 else math.nan, len(each)


def _probabilities(p_up: Floats, outcome: Floats) -> tuple[float, float, float]:
    """Brier score, log-loss and expected calibration error of p_up, where it is given."""
    given = np.isfinite(p_up)
    p, up = p_up[given], (outcome[given] > 0).astype(np.float64)
    if not len(p):
        return math.nan, math.nan, math.nan
    eps = float(np.finfo(np.float64).eps)
    clipped = np.clip(p, eps, 1 - eps)
    log_loss = -_mean(up * np.log(clipped) + (1 - up) * np.log(1 - clipped))
    # Bins (0, 0.1], (0.1, 0.2], ... with 0 in the first.
    code = np.clip(np.ceil(p * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    gaps = np.abs(np.bincount(code, p - up, CALIBRATION_BINS))
    return _mean((p - up) ** 2), log_loss, float(gaps.sum() / len(p))


def _mean(values: np.ndarray[Any, Any]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _root_mean_square(values: Floats) -> float:
    return math.sqrt(_mean(values**2)) if len(values) else math.nan
