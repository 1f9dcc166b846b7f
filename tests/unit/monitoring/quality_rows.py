"""Rows for tests of quality: predictions and outcomes made by hand or by chance, and every metric by plain loops over them."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from monitoring.labels import QualityRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from monitoring.reference import Floats

BAR = 60_000_000


class Rows(QualityRows):
    """Rows of which some can be chosen."""

    def chosen(self, kept: NDArray[np.bool_] | NDArray[np.int64]) -> Rows:
        """Some of them."""
        arrays = {f.name: getattr(self, f.name)[kept] for f in fields(self) if f.name not in {"symbols", "known"}}
        return replace(self, **arrays)

    def between(self, start_us: float, end_us: float) -> Rows:
        """Those with start_us < event time <= end_us."""
        return self.chosen((start_us < self.ts_event_us) & (self.ts_event_us <= end_us))


def panel(
    seed: int, *, symbols: int, instants: int, overlap: int = 1, common: float = 0.0, ties: int | None = None, slope: float = 0.4
) -> Rows:
    """`symbols` x `instants`: outcomes are sums of `overlap` steps, of which a share `common` is the same for all symbols.

    `ties`: values are rounded to so many digits; `slope`: what the outcome owes to the value.
    """
    rng = np.random.default_rng(seed)
    shape = (instants, symbols)
    steps = np.sqrt(common) * rng.normal(size=(instants + overlap, 1)) + np.sqrt(1 - common) * rng.normal(
        size=(instants + overlap, symbols)
    )
    cumulative = np.cumsum(steps, axis=0)
    noise = (cumulative[overlap:] - cumulative[:-overlap]) / np.sqrt(overlap)
    value = rng.normal(size=shape)
    if ties is not None:
        value = value.round(ties)
    return rows_of(value, slope * value + noise)


def rows_of(value: Floats, outcome: Floats, *, half_width: float = 1.2) -> Rows:
    """Rows from float64[instants, symbols] of values and outcomes."""
    instants, symbols = value.shape
    v = value.ravel()
    return Rows(
        value=v,
        lower=v - half_width,
        upper=v + half_width,
        p_up=1 / (1 + np.exp(-v)),
        completeness=np.ones(v.size),
        outcome=outcome.ravel(),
        symbol_codes=np.tile(np.arange(symbols), instants),
        ts_event_us=np.repeat((1 + np.arange(instants)) * BAR, symbols),
        symbols=tuple(f"S{k:03d}" for k in range(symbols)),
    )


Row = dict[str, float]


class Account:
    """Every metric of quality from rows kept one by one, as it is defined."""

    def __init__(self, rows: Rows) -> None:
        self.instants: dict[int, list[Row]] = defaultdict(list)
        self.published = 0
        names = ("value", "lower", "upper", "p_up", "outcome", "symbol_codes", "ts_event_us")
        for numbers in zip(*(getattr(rows, name).tolist() for name in names), strict=True):
            row = dict(zip(names, numbers, strict=True))
            if math.isfinite(row["value"]):
                self.published += 1
                self.instants[int(row["ts_event_us"])].append(row)
        self.labelled = {
            ts: known for ts, rows in sorted(self.instants.items()) if (known := [r for r in rows if math.isfinite(r["outcome"])])
        }
        self.rows = [r for rows in self.labelled.values() for r in rows]

    def metrics(self) -> dict[str, float]:
        """All of them; NaN where there is nothing to tell."""
        v, o = np.array([[r["value"], r["outcome"]] for r in self.rows]).reshape(-1, 2).T
        p_rows = [(r["p_up"], float(r["outcome"] > 0)) for r in self.rows if math.isfinite(r["p_up"])]
        signed = [r for r in self.rows if r["value"] != 0 and r["outcome"] != 0]
        bounded = [r for r in self.rows if math.isfinite(r["lower"]) and math.isfinite(r["upper"])]
        mse, mse_zero = mean([(x - y) ** 2 for x, y in zip(v, o, strict=True)]), mean([y**2 for y in o])
        return {
            "ic": pearson(v, o),
            "hit_rate": mean([float((r["value"] > 0) == (r["outcome"] > 0)) for r in signed]),
            "rmse": math.sqrt(mse),
            "mae": mean([abs(x - y) for x, y in zip(v, o, strict=True)]),
            "rmse_zero": math.sqrt(mse_zero),
            "mae_zero": mean([abs(y) for y in o]),
            "skill": 1 - mse / mse_zero if mse_zero > 0 else math.nan,
            "brier": mean([(p - up) ** 2 for p, up in p_rows]),
            "log_loss": mean([-math.log(min(max(p if up else 1 - p, 2.0**-52), 1 - 2.0**-52)) for p, up in p_rows]),
            "calibration_error": self.calibration_error(p_rows),
            "coverage": mean([float(r["lower"] <= r["outcome"] <= r["upper"]) for r in bounded]),
            "width": mean([r["upper"] - r["lower"] for r in bounded]),
            "decile_spread": mean([decile_spread(rows) for rows in self.labelled.values() if len(rows) >= 10]),
        } | self.without_outcomes()

    def without_outcomes(self) -> dict[str, float]:
        """What needs no outcome."""
        said = [r["p_up"] for rows in self.instants.values() for r in rows if math.isfinite(r["p_up"])]
        return {
            "turnover": mean(self.turnovers()),
            "expected_hit_rate": mean([max(p, 1 - p) for p in said]),
            "expected_brier": mean([p * (1 - p) for p in said]),
        }

    def rank_ics(self) -> list[float]:
        """Spearman per instant with 3 symbols or more, where it exists."""
        each = [
            pearson(stats.rankdata([r["value"] for r in rows]), stats.rankdata([r["outcome"] for r in rows]))
            for rows in self.labelled.values()
            if len(rows) >= 3
        ]
        return [x for x in each if not math.isnan(x)]

    def rank_ic(self) -> float:
        """Mean over instants, or over time if none has 3 symbols."""
        if any(len(rows) >= 3 for rows in self.labelled.values()):
            return mean(self.rank_ics())
        return pearson(stats.rankdata([r["value"] for r in self.rows]), stats.rankdata([r["outcome"] for r in self.rows]))

    def turnovers(self) -> list[float]:
        """Half of what is traded from instant to instant."""
        out = []
        before: dict[float, float] | None = None
        for _, rows in sorted(self.instants.items()):
            middle = mean([r["value"] for r in rows])
            gross = sum(abs(r["value"] - middle) for r in rows)
            now = None
            if len(rows) > 1 and gross > 1e-12 * sum(abs(r["value"]) for r in rows):
                now = {r["symbol_codes"]: (r["value"] - middle) / gross for r in rows}
            if before is not None and now is not None:
                out.append(sum(abs(now.get(s, 0.0) - before.get(s, 0.0)) for s in before.keys() | now.keys()) / 2)
            before = now
        return out

    @staticmethod
    def calibration_error(p_rows: list[tuple[float, float]]) -> float:
        """Gaps of 10 bins, each weighted by its rows."""
        bins: dict[int, list[float]] = defaultdict(list)
        for p, up in p_rows:
            bins[max(0, math.ceil(p * 10) - 1)].append(p - up)
        return sum(abs(sum(gaps)) for gaps in bins.values()) / len(p_rows) if p_rows else math.nan


def decile_spread(rows: list[Row]) -> float:
    """Expected spread if ties are drawn by lot: each row weighs its chance to be in the tenth."""
    k = len(rows) // 10

    def tenth(sign: int) -> float:
        total = 0.0
        for r in rows:
            ahead = sum(sign * x["value"] > sign * r["value"] for x in rows)
            ties = sum(x["value"] == r["value"] for x in rows)
            total += min(max((k - ahead) / ties, 0.0), 1.0) * r["outcome"]
        return total / k

    return tenth(1) - tenth(-1)


def mean(values: list[float]) -> float:
    """NaN of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def pearson(x: Floats, y: Floats) -> float:
    """NaN where one of them does not vary."""
    return float(stats.pearsonr(x, y).statistic) if len(x) > 1 and np.ptp(x) > 0 and np.ptp(y) > 0 else math.nan


def variance_by_hand(scores: list[float], h: int) -> float:
    """Var of the sum of scores, none of them missing, as `monitoring.hac` defines it, in plain loops."""
    n = len(scores)
    gamma = [sum(scores[t] * scores[t - k] for t in range(k, n)) for k in range(h)]
    bartlett = gamma[0] + 2 * sum((1 - k / h) * gamma[k] for k in range(1, h))
    rectangular = gamma[0] + 2 * sum(gamma[1:])
    return max(bartlett, rectangular, 0.0) / ((n + 1 - 2 * h + h * (h - 1) / n) / n)
