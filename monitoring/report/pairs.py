"""Champion and challenger on the same rows, over the whole span. Core."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from monitoring.report.pooling import pooled
from monitoring.report.records import disjoint, value_of
from monitoring.report.sections import Table, name_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from monitoring.joined import Scorer
    from monitoring.report.pooling import Measured
    from monitoring.report.records import Window

LOSSES: Final = (
    ("squared_error", "squared error", False),
    ("absolute_error", "absolute error", False),
    ("rank_ic", "rank IC", True),
    ("hit_rate", "hit rate", True),
    ("brier", "Brier score", False),
)
"""Name in the record, in words, whether more is better."""

CERTAIN: Final = 0.05


@dataclass(frozen=True, slots=True)
class Pair:
    """One challenger against the champion: what it comes to, and the numbers."""

    sentence: str
    table: Table


def pairs(windows: Mapping[Scorer, Sequence[Window]]) -> list[Pair]:
    """Every challenger that was paired in this span, over its windows that share no row.

    The difference of a loss is the mean of the windows', weighted by their instants, its error from theirs; the p-value is
    one-sided by the normal distribution: the chance to look at least this good for a challenger that is not better.
    """
    found = []
    for scorer, some in windows.items():
        apart = disjoint([w for w in some if w.paired is not None])
        told = [row for name, words, more in LOSSES if (row := _compared(apart, name, words, more=more)) is not None]
        if not told:
            continue
        rows = sum(int(value_of(w.paired, "rows")) for w in apart if math.isfinite(value_of(w.paired, "rows")))
        better = [words for words, *_, p in told if p < CERTAIN]
        worse = [words for words, *_, p in told if p > 1 - CERTAIN]
        said = [f"better in {', '.join(better)}"] if better else []
        said += [f"worse in {', '.join(worse)}"] if worse else []
        outcome = "; ".join(said) if said else "neither better nor worse beyond chance"
        head = ("loss", "champion", "challenger", "difference ± error", "p (not better)")
        table = Table(
            f"{name_of(scorer)} against the champion, same rows",
            head,
            [
                [words, f"{a:.4g}", f"{b:.4g}", f"{d.mean:+.3g}" + (f" ± {d.error:.2g}" if math.isfinite(d.error) else ""), _p(p)]
                for words, a, b, d, p in told
            ],
        )
        found.append(Pair(f"On {rows:,} shared rows {name_of(scorer)} is {outcome} (5 % one-sided, Diebold–Mariano).", table))
    return found


def _compared(
    windows: Sequence[Window], name: str, words: str, *, more: bool
) -> tuple[str, float, float, Measured, float] | None:
    both, differences = [], []
    for w in windows:
        part = w.paired.get(name) if w.paired is not None else None
        if isinstance(part, dict):
            a, b, se, n = (value_of(part, k) for k in ("champion", "challenger", "standard_error", "instants"))
            if math.isfinite(a) and math.isfinite(b) and n > 0:
                both.append((a, b, n))
                differences.append((b - a, se, n))
    if not both:
        return None
    whole = sum(n for *_, n in both)
    champion, challenger = (sum(t[k] * t[2] for t in both) / whole for k in (0, 1))
    found = pooled(differences)
    gain = found.mean * (1 if more else -1)
    p = 0.5 * math.erfc(gain / found.error / math.sqrt(2)) if found.error > 0 else math.nan
    return words, champion, challenger, found, p


def _p(p: float) -> str:
    if not math.isfinite(p):
        return "not known"
    return "< 0.001" if p < 0.001 else "> 0.999" if p > 0.999 else f"{p:.3f}"  # noqa: PLR2004  # three digits are shown
