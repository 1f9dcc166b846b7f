"""Quality of matured predictions: how well value, sign, probability and interval agreed with what came.

Core. `monitoring.sums` turns predictions and their outcomes into `Instants`, `quality_report` judges those of a window. A row
whose value is not finite (an abstention) is left out; a row whose outcome is not known is seen in `label_coverage`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from monitoring.hac import Overlap, overlap_of, ratios, standard_errors
from monitoring.quality_instants import BINS, CALIBRATION_BINS, THIN, Instants, joined
from monitoring.ranks import ranks_within
from monitoring.sums import instants_of

if TYPE_CHECKING:
    from monitoring.reference import Floats

__all__ = ["Instants", "QualityReport", "instants_of", "joined", "quality_report", "reliability"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReport:
    """One window of matured predictions. What cannot be told is NaN (None in `to_dict`).

    | field                         | what it is                                                                              |
    |-------------------------------|-----------------------------------------------------------------------------------------|
    | `rows`, `effective_rows`      | matured rows n; n / h, since horizons of h bars overlap h-fold (`overlap`)              |
    | `published`, `label_coverage` | predictions made for the window; the share of them with an outcome                      |
    | `labelled_instants`, `effective_instants` | event times with an outcome; how many of them share no horizon              |
    | `ic`                          | Pearson correlation of value and outcome over all rows (Grinold & Kahn 1999)            |
    | `rank_ic`, `rank_ic_over`     | Spearman correlation: mean over instants, `symbols`; with fewer than 3 a time, over `time` |
    | `icir`, `instants`            | mean / standard deviation (n - 1) of the rank ICs per instant; how many instants        |
    | `hit_rate`                    | share of right signs among rows where neither value nor outcome is 0                    |
    | `rmse`, `mae`                 | errors of value; `rmse_zero`, `mae_zero`: of always 0; `skill`: 1 - (rmse/rmse_zero)^2   |
    | `brier`, `log_loss`           | of `p_up` against outcome > 0 (Brier 1950; Good 1952)                                   |
    | `calibration_error`           | mean abs. gap of `p_up` and what came, in 10 equal bins (ECE: Naeini et al. 2015)          |
    | `coverage`, `width`           | share of outcomes within [lower, upper], bounds included; mean upper - lower            |
    | `decile_spread`               | mean over instants: outcome of the tenth with the greatest values less that of the least |
    | `turnover`                    | mean over instants: half of sum abs(w_t - w_(t-1)), w = demeaned values, sum abs(w) = 1 |
    | `expected_hit_rate`, `expected_brier` | estimates WITHOUT outcomes, right if `p_up` is: mean max(p, 1 - p), p (1 - p) |
    | `<metric>_se`                 | its standard error, from the series over instants: `monitoring.hac`                     |
    """

    rows: int
    effective_rows: float
    overlap: float
    published: int
    label_coverage: float
    labelled_instants: int
    effective_instants: float
    ic: float
    ic_se: float
    rank_ic: float
    rank_ic_se: float
    rank_ic_over: str | None
    icir: float
    instants: int
    hit_rate: float
    hit_rate_se: float
    rmse: float
    rmse_se: float
    mae: float
    mae_se: float
    rmse_zero: float
    rmse_zero_se: float
    mae_zero: float
    mae_zero_se: float
    skill: float
    skill_se: float
    brier: float
    brier_se: float
    log_loss: float
    log_loss_se: float
    calibration_error: float
    calibration_error_se: float
    coverage: float
    coverage_se: float
    width: float
    width_se: float
    decile_spread: float
    decile_spread_se: float
    turnover: float
    turnover_se: float
    expected_hit_rate: float
    expected_hit_rate_se: float
    expected_brier: float
    expected_brier_se: float

    def to_dict(self) -> dict[str, Any]:
        """Builtins only, NaN as None: ready for JSON."""
        told: dict[str, Any] = {}
        for name in _FIELDS:
            x = getattr(self, name)
            told[name] = None if isinstance(x, float) and not math.isfinite(x) else x
        return told


_FIELDS = tuple(f.name for f in fields(QualityReport))


class _Ratio(NamedTuple):
    """A metric that is a mean: the sum over instants of `top` by that of `bottom`, both in `instants.COLUMNS`."""

    name: str
    top: str
    bottom: str


_RATIOS = (
    _Ratio("hit_rate", "hits", "signed"),
    _Ratio("mae", "sum_absolute_error", "rows"),
    _Ratio("mse", "sum_squared_error", "rows"),
    _Ratio("mae_zero", "sum_absolute_outcome", "rows"),
    _Ratio("mse_zero", "sum_squared_outcome", "rows"),
    _Ratio("unexplained", "sum_squared_error", "sum_squared_outcome"),
    _Ratio("brier", "sum_brier", "probabilities"),
    _Ratio("log_loss", "sum_log_loss", "probabilities"),
    _Ratio("coverage", "covered", "bounded"),
    _Ratio("width", "sum_width", "bounded"),
    _Ratio("expected_hit_rate", "sum_certainty", "said"),
    _Ratio("expected_brier", "sum_p_variance", "said"),
)
_PER_INSTANT = ("rank_ic", "decile_spread", "turnover")


@np.errstate(over="ignore", invalid="ignore")
def quality_report(instants: Instants, *, horizon_us: int, bar_us: int | None = None) -> QualityReport:
    """Judge the instants of one window. `bar_us`: step between a symbol's predictions; None: the median step of the instants.

    >>> from types import SimpleNamespace
    >>> v, when = np.array([0.1, -0.2, 0.3, 0.1]), np.array([10, 20, 30, 40])
    >>> said = {"value": v, "lower": v - 1, "upper": v + 1, "p_up": (v > 0) * 1.0, "outcome": v * [2, 2, 2, np.nan]}
    >>> rows = SimpleNamespace(**said, symbols=("A",), symbol_codes=np.zeros(4, np.int64), ts_event_us=when)
    >>> r = quality_report(instants_of(rows, horizon_us=10), horizon_us=10)
    >>> r.rows, r.label_coverage, round(r.ic, 9), r.hit_rate, r.coverage
    (3, 0.75, 1.0, 1.0, 1.0)
    """
    if len(instants) and instants.horizon_us != horizon_us:
        raise ValueError(f"instants have a horizon of {instants.horizon_us} us, not {horizon_us}; judge them with their own")
    overlap = overlap_of(instants.ts_event_us, horizon_us=horizon_us, bar_us=bar_us)
    rows, published = int(instants.column("rows").sum()), int(instants.column("published").sum())
    labelled = int(np.count_nonzero(instants.column("rows")))
    told = _means(instants, overlap)
    ic, ic_se = _information_coefficient(instants, overlap)
    rank_ic, rank_ic_se, over, icir, how_many = _rank_ic(instants, overlap, told)
    rmse, rmse_se = _root(*told["mse"])
    rmse_zero, rmse_zero_se = _root(*told["mse_zero"])
    unexplained, skill_se = told["unexplained"]
    return QualityReport(
        rows=rows,
        effective_rows=rows / overlap.of_symbol,
        overlap=overlap.of_symbol,
        published=published,
        label_coverage=rows / published if published else math.nan,
        labelled_instants=labelled,
        effective_instants=labelled / overlap.of_instants,
        ic=ic,
        ic_se=ic_se,
        rank_ic=rank_ic,
        rank_ic_se=rank_ic_se,
        rank_ic_over=over,
        icir=icir,
        instants=how_many,
        rmse=rmse,
        rmse_se=rmse_se,
        rmse_zero=rmse_zero,
        rmse_zero_se=rmse_zero_se,
        skill=1 - unexplained,
        skill_se=skill_se,
        **{name: told[name][0] for name in _PLAIN},
        **{f"{name}_se": told[name][1] for name in _PLAIN},
    )


_PLAIN = (
    *("hit_rate", "mae", "mae_zero", "brier", "log_loss", "calibration_error", "coverage", "width"),
    *("decile_spread", "turnover", "expected_hit_rate", "expected_brier"),
)
"""Means that are reported as they are."""


def reliability(instants: Instants) -> Floats:
    """Rows, mean p_up and share of ups in the bins (0, 0.1], (0.1, 0.2], ... of p_up, 0 in the first: float64[10, 3]."""
    rows, p_up, up = instants.sums[:, BINS].sum(axis=0).reshape(3, CALIBRATION_BINS)
    some = np.where(rows > 0, rows, np.nan)
    return np.stack([rows, p_up / some, up / some], axis=1)


def _means(instants: Instants, overlap: Overlap) -> dict[str, tuple[float, float]]:
    """Every mean and its standard error, all in one pass over the instants."""
    per_instant = np.stack([instants.column(name) for name in _PER_INSTANT], axis=1)
    bins = instants.sums[:, BINS]
    gaps = bins[:, CALIBRATION_BINS : 2 * CALIBRATION_BINS] - bins[:, 2 * CALIBRATION_BINS :]
    # The signs of the bins' gaps are taken as known, so that the error is a mean.
    gap = gaps @ np.sign(gaps.sum(axis=0))
    top = np.column_stack([*(instants.column(r.top) for r in _RATIOS), gap, np.nan_to_num(per_instant)])
    bottom = np.column_stack(
        [*(instants.column(r.bottom) for r in _RATIOS), instants.column("probabilities"), np.isfinite(per_instant)]
    )
    names = (*(r.name for r in _RATIOS), "calibration_error", *_PER_INSTANT)
    mean, se = ratios(top, bottom, overlap=overlap)
    return dict(zip(names, zip(mean.tolist(), se.tolist(), strict=True), strict=True))


def _root(square: float, se: float) -> tuple[float, float]:
    """Root of a mean square, and its standard error by the delta method: se / (2 root)."""
    root = math.sqrt(square)
    return root, se / (2 * root) if root > 0 else math.nan


def _information_coefficient(instants: Instants, overlap: Overlap) -> tuple[float, float]:
    """Pearson correlation over all rows from the instants' own squares (Chan, Golub & LeVeque 1983), and its standard error.

    From each instant's part in the correlation's influence function, z w - r (z^2 + w^2) / 2 with z, w standardised (Devlin,
    Gnanadesikan & Kettenring 1975), and not from Fisher's z with n / h rows, which takes symbols of an instant as independent.
    """
    n = instants.column("rows")
    if not n.any():
        return math.nan, math.nan
    value, outcome = instants.column("sum_value"), instants.column("sum_outcome")
    size = np.maximum(n, 1)
    dv, do = (np.where(n > 0, s / size - s.sum() / n.sum(), 0.0) for s in (value, outcome))
    vv = instants.column("value_squares") + n * dv * dv
    oo = instants.column("outcome_squares") + n * do * do
    vo = instants.column("products") + n * dv * do
    return _correlation(vv, oo, vo, n, overlap, squares=((value**2 / size).sum(), (outcome**2 / size).sum()))


def _correlation(
    vv: Floats, oo: Floats, vo: Floats, n: Floats, overlap: Overlap, *, squares: tuple[float, float]
) -> tuple[float, float]:
    """Correlation and standard error from the instants' squares and products about the common means, and rows n.

    `squares`: what the variation is small against where it is only rounding.
    """
    whole_vv, whole_oo = float(vv.sum()), float(oo.sum())
    # As in `ranks.correlations_within`: below this share of its squared size, variation is rounding.
    if whole_vv <= 1e-24 * (squares[0] + whole_vv) or whole_oo <= 1e-24 * (squares[1] + whole_oo):
        return math.nan, math.nan
    scale = math.sqrt(whole_vv) * math.sqrt(whole_oo)
    if not math.isfinite(scale):
        return math.nan, math.nan
    r = min(1.0, max(-1.0, float(vo.sum()) / scale))
    scores = vo / scale - r / 2 * (vv / whole_vv + oo / whole_oo)
    se = standard_errors(scores[:, None], np.array([float(np.count_nonzero(n))]), overlap=overlap)
    return r, float(se[0])


def _rank_ic(
    instants: Instants, overlap: Overlap, told: dict[str, tuple[float, float]]
) -> tuple[float, float, str | None, float, int]:
    """Mean rank IC per instant across symbols, else one over time: (rank IC, its error, over what, ICIR, instants)."""
    each = instants.column("rank_ic")
    each = each[np.isfinite(each)]
    if len(each):
        spread = float(each.std(ddof=1)) if len(each) > 1 else math.nan
        mean, se = told["rank_ic"]
        return mean, se, "symbols", mean / spread if spread > 0 else math.nan, len(each)
    thin = instants.sums[:, THIN].reshape(len(instants), 2, 2)  # (instants, rows, value and outcome)
    has = np.isfinite(thin[:, :, 0])
    if not has.any() or int(np.count_nonzero(has)) != int(instants.column("rows").sum()):
        return math.nan, math.nan, None, math.nan, 0
    whole = np.zeros(int(np.count_nonzero(has)), np.int64)
    centred = np.zeros(thin.shape)
    for k in (0, 1):
        ranks = ranks_within(whole, thin[:, :, k][has])
        centred[:, :, k][has] = ranks - ranks.mean()
    v, o = centred[:, :, 0], centred[:, :, 1]
    rank_ic, se = _correlation(
        (v * v).sum(axis=1), (o * o).sum(axis=1), (v * o).sum(axis=1), has.sum(axis=1), overlap, squares=(0.0, 0.0)
    )
    return rank_ic, se, "time" if math.isfinite(rank_ic) else None, math.nan, 0
