"""Champion against challenger on the same rows, and whether a difference of their losses is more than noise.

Core. A row is paired where both have a value for one (symbol, event time) whose outcome is known. Everything is challenger less
champion, averaged over the symbols of an instant first, so each instant is one observation d_t. The test is that of Diebold &
Mariano 1995, "Comparing predictive accuracy": mean d over its HAC standard error (`monitoring.hac`, with the small-sample
correction of Harvey, Leybourne & Newbold 1997), against Student's t.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from monitoring.drift import builtins
from monitoring.hac import overlap_of, ratios, t_quantile, t_share
from monitoring.labels import QualityRows
from monitoring.quality_instants import AT, in_order
from monitoring.sums import instants_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from monitoring.hac import Overlap
    from monitoring.quality_instants import Instants
    from monitoring.reference import Floats, Ints

LOSSES: Final = ("squared_error", "absolute_error", "rank_ic", "hit_rate", "brier")
"""What is compared. Of `rank_ic` and `hit_rate` more is better, of the others less."""

_MORE_IS_BETTER: Final = frozenset({"rank_ic", "hit_rate"})
_ROWS, _BOTH_RIGHT, _ONLY_CHAMPION, _ONLY_CHALLENGER, _FIRST = range(5)


@dataclass(frozen=True, slots=True, eq=False)
class PairedInstants:
    """Per distinct event time, ascending: paired rows, whose signs were right, and both means of every loss (NaN: not told)."""

    ts_event_us: Ints  # (instants,)
    sums: (
        Floats  # (instants, 4 + 2 * LOSSES): rows; both right, champion only, challenger only; champion, challenger of each loss
    )
    horizon_us: int

    def __len__(self) -> int:
        return len(self.ts_event_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One loss of both on the same rows, means over instants. What cannot be told is NaN.

    `p_value` is two-sided; `p_better` is the chance of a challenger looking at least this good if it were not better.
    """

    champion: float
    challenger: float
    difference: float
    standard_error: float
    statistic: float
    degrees: float
    p_value: float
    p_better: float
    direction: Literal["challenger", "champion"] | None
    """Who is better here, by chance or not."""
    instants: int

    def worst_difference(self, alpha: float) -> float:
        """Upper confidence bound of challenger less champion at one-sided level 1 - alpha."""
        return self.difference + t_quantile(1 - alpha, self.degrees) * self.standard_error


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedReport:
    """Champion and challenger over one window.

    | field                                 | what it is                                                                |
    |---------------------------------------|---------------------------------------------------------------------------|
    | `rows`, `instants`                    | paired rows, and the event times they have                                |
    | `overlap`, `effective_instants`       | instants that share a horizon, h; instants / h                            |
    | `squared_error`, `absolute_error`     | `Comparison` of the losses (Diebold & Mariano 1995)                       |
    | `rank_ic`                             | of the rank ICs per instant, at least 3 symbols                           |
    | `hit_rate`, `brier`                   | of the shares of right signs; of the Brier scores of `p_up`               |
    | `only_champion`, `only_challenger`    | rows whose sign one alone had right (McNemar 1947)                        |
    """

    rows: int
    instants: int
    overlap: float
    effective_instants: float
    only_champion: int
    only_challenger: int
    squared_error: Comparison
    absolute_error: Comparison
    rank_ic: Comparison
    hit_rate: Comparison
    brier: Comparison

    def to_dict(self) -> dict[str, Any]:
        """Builtins only, NaN as None: ready for JSON."""
        told: dict[str, Any] = builtins(asdict(self))
        return told


@np.errstate(over="ignore", invalid="ignore")
def paired_instants(champion: QualityRows, challenger: QualityRows, *, horizon_us: int) -> PairedInstants:
    """Pair the rows of both by (symbol, event time) and sum them by event time.

    An outcome that only one of them knows counts for both.
    """
    a, b = _matched(champion, challenger)
    outcome = np.where(np.isfinite(champion.outcome[a]), champion.outcome[a], challenger.outcome[b])
    both = np.isfinite(champion.value[a]) & np.isfinite(challenger.value[b]) & np.isfinite(outcome)
    a, b, outcome = a[both], b[both], outcome[both]
    # A probability or a sign is compared where both have one.
    p_both = np.isfinite(champion.p_up[a]) & np.isfinite(challenger.p_up[b])
    sides = [
        instants_of(
            QualityRows(
                value=rows.value[at],
                lower=rows.lower[at],
                upper=rows.upper[at],
                p_up=np.where(p_both, rows.p_up[at], np.nan),
                completeness=rows.completeness[at],
                outcome=outcome,
                symbol_codes=champion.symbol_codes[a],
                symbols=champion.symbols,
                ts_event_us=champion.ts_event_us[a],
            ),
            horizon_us=horizon_us,
        )
        for rows, at in ((champion, a), (challenger, b))
    ]
    signs = np.sign(outcome) * np.stack([np.sign(champion.value[a]), np.sign(challenger.value[b])])
    return _paired(sides[0], sides[1], signs, champion.ts_event_us[a])


def joined_pairs(parts: Sequence[PairedInstants]) -> PairedInstants:
    """At least one pane as one, in order of time. `ValueError` where two share an instant or differ in horizon."""
    ordered = in_order(parts)
    ts_event_us = np.concatenate([p.ts_event_us for p in ordered])
    return PairedInstants(ts_event_us, np.concatenate([p.sums for p in ordered]), ordered[0].horizon_us)


@np.errstate(over="ignore", invalid="ignore")
def paired_report(instants: PairedInstants, *, bar_us: int | None = None) -> PairedReport:
    """Compare both over a window. `bar_us`: step between a symbol's predictions; None: the median step of the instants."""
    overlap = overlap_of(instants.ts_event_us, horizon_us=instants.horizon_us, bar_us=bar_us)
    sums = instants.sums
    means = sums[:, _FIRST:].reshape(len(sums), len(LOSSES), 2)
    told = np.isfinite(means[:, :, 0]) & np.isfinite(means[:, :, 1])
    means = np.where(told[:, :, None], means, 0.0)
    differences = means[:, :, 1] - means[:, :, 0]
    top = np.concatenate([means[:, :, 0], means[:, :, 1], differences], axis=1)
    mean, se = ratios(top, np.tile(told, 3).astype(np.float64), overlap=overlap)
    how_many = np.count_nonzero(told, axis=0)
    n = len(LOSSES)
    comparisons = {
        loss: _comparison(
            champion=float(mean[k]),
            challenger=float(mean[n + k]),
            difference=float(mean[2 * n + k]),
            standard_error=float(se[2 * n + k]),
            instants=int(how_many[k]),
            overlap=overlap,
            sign=-1 if loss in _MORE_IS_BETTER else 1,
        )
        for k, loss in enumerate(LOSSES)
    }
    return PairedReport(
        rows=int(sums[:, _ROWS].sum()),
        instants=len(instants),
        overlap=overlap.of_instants,
        effective_instants=len(instants) / overlap.of_instants,
        only_champion=int(sums[:, _ONLY_CHAMPION].sum()),
        only_challenger=int(sums[:, _ONLY_CHALLENGER].sum()),
        **comparisons,
    )


def _matched(champion: QualityRows, challenger: QualityRows) -> tuple[Ints, Ints]:
    """Places of the rows that both have, in the champion's order."""
    codes = challenger.symbol_codes
    if challenger.symbols is not champion.symbols and challenger.symbols != champion.symbols:
        place = {symbol: k for k, symbol in enumerate(champion.symbols)}
        codes = np.array([place.get(s, -1) for s in challenger.symbols], np.int64)[codes]
    if np.array_equal(codes, champion.symbol_codes) and np.array_equal(challenger.ts_event_us, champion.ts_event_us):
        every = np.arange(len(codes))
        return every, every
    times = np.unique(np.concatenate([champion.ts_event_us, challenger.ts_event_us]))
    width = len(champion.symbols) + 1
    keys = [
        np.searchsorted(times, rows.ts_event_us) * width + c + 1
        for rows, c in ((champion, champion.symbol_codes), (challenger, codes))
    ]
    known = np.flatnonzero(codes >= 0)
    _, a, b = np.intersect1d(keys[0], keys[1][known], assume_unique=True, return_indices=True)
    return a, known[b]


def _paired(champion: Instants, challenger: Instants, signs: NDArray[Any], ts_event_us: Ints) -> PairedInstants:
    rows = champion.column("rows")
    sums = np.full((len(champion), _FIRST + 2 * len(LOSSES)), np.nan)
    signed, right = (signs[0] != 0) & (signs[1] != 0), signs > 0
    instant = np.searchsorted(champion.ts_event_us, ts_event_us)

    def count(which: NDArray[np.bool_]) -> Floats:
        return np.bincount(instant[which & signed], minlength=len(champion)).astype(np.float64)

    both, first, second = count(right[0] & right[1]), count(right[0] & ~right[1]), count(right[1] & ~right[0])
    sums[:, _ROWS], sums[:, _BOTH_RIGHT], sums[:, _ONLY_CHAMPION], sums[:, _ONLY_CHALLENGER] = rows, both, first, second
    judged = count(np.ones(len(instant), np.bool_))
    for side, (one, hits) in enumerate(((champion, both + first), (challenger, both + second))):
        s = one.sums
        means = (
            s[:, AT["sum_squared_error"]] / rows,
            s[:, AT["sum_absolute_error"]] / rows,
            s[:, AT["rank_ic"]],
            hits / np.where(judged > 0, judged, np.nan),
            s[:, AT["sum_brier"]] / np.where(s[:, AT["probabilities"]] > 0, s[:, AT["probabilities"]], np.nan),
        )
        for k, mean in enumerate(means):
            sums[:, _FIRST + 2 * k + side] = mean
    return PairedInstants(champion.ts_event_us, sums, champion.horizon_us)


def _comparison(
    *, champion: float, challenger: float, difference: float, standard_error: float, instants: int, overlap: Overlap, sign: int
) -> Comparison:
    """`sign`: 1 where less is better, else -1."""
    degrees = instants / overlap.of_instants - 1
    statistic = p_value = p_better = math.nan
    if standard_error > 0:
        statistic = difference / standard_error
        p_value, p_better = 2 * t_share(-abs(statistic), degrees), t_share(sign * statistic, degrees)
    return Comparison(
        champion=champion,
        challenger=challenger,
        difference=difference,
        standard_error=standard_error,
        statistic=statistic,
        degrees=degrees,
        p_value=p_value,
        p_better=p_better,
        direction=None if not abs(difference) > 0 else "challenger" if sign * difference < 0 else "champion",
        instants=instants,
    )
