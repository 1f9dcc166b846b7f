"""How a version does, in one word and one sentence, and the numbers behind them. Core.

| word                | when, the first that holds                                                                       |
|---------------------|--------------------------------------------------------------------------------------------------|
| `degraded`          | an alert fires for it; its newest window drifted; IC below 0 or fallen in the newest 4 windows;   |
|                     | coverage below the level, over all or in these; beyond two standard errors and (coverage) 5 points |
| `insufficient data` | no window could be judged for drift, or no outcome has come                                       |
| `healthy`           | else                                                                                              |

Numbers over time are means over windows that share no row (`records.disjoint`), each weighted by its rows.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from monitoring.report.pooling import Measured, mean_of
from monitoring.report.records import disjoint, value_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitoring.joined import Scorer
    from monitoring.report.alerted import Incident
    from monitoring.report.records import Window
    from monitoring.report.rows import Served

Word = Literal["healthy", "degraded", "insufficient data"]

SIGNIFICANT: Final = 2.0
"""Standard errors beyond which a difference is not taken for chance."""

COVERAGE_TOLERANCE: Final = 0.05
NEWEST: Final = 4
"""Windows, sharing no row, that are looked at by themselves: a long span must not hide what is wrong now."""

_EVERYTHING: Final = 0.9995


@dataclass(frozen=True, slots=True)
class Standing:
    """One version in one role."""

    scorer: Scorer
    word: Word
    reasons: tuple[str, ...]
    """What speaks against it."""
    newest_us: int | None
    windows: int
    drift: str | None
    """Verdict of the newest window."""
    worst_column: str | None
    worst_psi: float
    drifted: tuple[str, ...]
    """Columns of the newest window with verdict warn or critical, worst first."""
    ic: Measured
    rank_ic: Measured
    coverage: Measured
    level: float
    label_coverage: float
    matured: int
    incidents: tuple[Incident, ...]
    """Those that fire."""

    @property
    def sentence(self) -> str:
        """All of it in one."""
        said = "; ".join(self.reasons) if self.reasons else _nothing(self)
        return f"{said[:1].upper()}{said[1:]}."


def standing(
    scorer: Scorer, windows: Sequence[Window], served: Served | None, incidents: Sequence[Incident], *, threshold: float
) -> Standing:
    """How it does, from its windows (oldest first), its rows and the model's incidents."""
    judged = [w for w in windows if w.verdict is not None]
    newest = judged[-1] if judged else None
    ranked = [] if newest is None else sorted(newest.psi.items(), key=lambda c: (-_rank(c[1][1]), -_finite(c[1][0]), c[0]))
    drifted = tuple(name for name, (_, verdict) in ranked if verdict in {"warn", "critical"})
    worst = ranked[0] if ranked and math.isfinite(ranked[0][1][0]) else None
    apart = disjoint([w for w in windows if value_of(w.quality, "rows") > 0])
    rank_ic = mean_of(apart, "rank_ic", weight="labelled_instants")
    ic = mean_of(apart, "ic", weight="labelled_instants")
    coverage = mean_of(apart, "coverage", weight="rows")
    due = disjoint([w for w in windows if value_of(w.quality, "published") > 0])
    published = sum(value_of(w.quality, "published") for w in due)
    matured = sum(value_of(w.quality, "rows") for w in due)
    level = math.nan if served is None else served.level
    firing = tuple(i for i in incidents if i.open and i.of(scorer.version, scorer.role))
    seen = Standing(
        scorer=scorer,
        word="healthy",
        reasons=(),
        newest_us=newest.end_us if newest is not None else windows[-1].end_us if windows else None,
        windows=len(windows),
        drift=None if newest is None else newest.verdict,
        worst_column=None if worst is None else worst[0],
        worst_psi=math.nan if worst is None else worst[1][0],
        drifted=drifted,
        ic=ic,
        rank_ic=rank_ic,
        coverage=coverage,
        level=level,
        label_coverage=matured / published if published else math.nan,
        matured=int(matured),
        incidents=firing,
    )
    return _judged(seen, apart, threshold)


def percent(share: float) -> str:
    """A share for people; 100% only when it is all.

    >>> percent(0.8312), percent(0.9999), percent(1.0), percent(float("nan"))
    ('83.1%', '>99.9%', '100%', 'not known')
    """
    if not math.isfinite(share):
        return "not known"
    if _EVERYTHING <= share < 1:
        return ">99.9%"
    return f"{share:.1%}".replace(".0%", "%")


def signed(m: Measured) -> str:
    """A correlation with its standard error.

    >>> signed(Measured(0.0312, 0.011)), signed(Measured(-0.2, float("nan"))), signed(Measured(float("nan"), 1.0))
    ('0.031 ± 0.011', '-0.200', 'not known')
    """
    if not m.known:
        return "not known"
    return f"{m.mean:.3f}" + (f" ± {m.error:.3f}" if math.isfinite(m.error) else "")


def _judged(s: Standing, apart: Sequence[Window], threshold: float) -> Standing:
    against = []
    if s.drifted:
        many = f"{len(s.drifted)} columns drifted, worst " if len(s.drifted) > 1 else "Column "
        tail = "" if len(s.drifted) > 1 else " drifted"
        against.append(f"{many}{s.drifted[0]}{tail} (PSI {s.worst_psi:.2f}, threshold {threshold:g})")
    against += _of_correlation(s, apart) + _of_coverage(s, apart)
    others = [i for i in s.incidents if i.labels.get("column") not in s.drifted]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        against.append(f"alert {others[0].name}{f' ({others[0].about})' if others[0].about else ''}{more} fires")
    if against:
        return dataclasses.replace(s, word="degraded", reasons=tuple(against))
    lacking = []
    if s.drift in {None, "insufficient_data"}:
        lacking.append("no window had enough rows to judge drift" if s.windows else "no window has closed")
    if not s.matured:
        lacking.append("no outcome has come, so quality is not known")
    if lacking:
        return dataclasses.replace(s, word="insufficient data", reasons=tuple(lacking))
    return s


def _of_correlation(s: Standing, apart: Sequence[Window]) -> list[str]:
    """Whether the IC is below zero, or fell."""
    name, whole = ("rank_ic", s.rank_ic) if s.rank_ic.known else ("ic", s.ic)
    words = "rank IC" if name == "rank_ic" else "IC"
    if whole.mean + SIGNIFICANT * whole.error < 0:
        return [f"{words} {signed(whole)} is below zero"]
    if len(apart) < 2 * NEWEST:
        return []
    before, now = (mean_of(some, name, weight="labelled_instants") for some in (apart[:-NEWEST], apart[-NEWEST:]))
    if before.mean - now.mean > SIGNIFICANT * math.hypot(before.error, now.error):
        return [f"{words} fell from {before.mean:.3f} to {signed(now)} in the newest {NEWEST} windows"]
    return []


def _of_coverage(s: Standing, apart: Sequence[Window]) -> list[str]:
    """Whether intervals cover less than they promise, lately or over all."""
    some = [("", s.coverage)]
    if len(apart) > NEWEST:
        some.insert(0, (f" in the newest {NEWEST} windows", mean_of(apart[-NEWEST:], "coverage", weight="rows")))
    for where, coverage in some:
        short = s.level - coverage.mean
        if short > COVERAGE_TOLERANCE and not short <= SIGNIFICANT * coverage.error:
            return [f"intervals cover {percent(coverage.mean)}{where}, {percent(s.level)} was promised"]
    return []


def _nothing(s: Standing) -> str:
    worst = "" if s.worst_column is None else f" (worst {s.worst_column}, PSI {s.worst_psi:.2f})"
    return f"No column drifts{worst}, quality is as it should be, no alert fires"


def _rank(verdict: str) -> int:
    return ("insufficient_data", "stable", "warn", "critical").index(verdict) if verdict in {"stable", "warn", "critical"} else 0


def _finite(x: float) -> float:
    return x if math.isfinite(x) else -1.0
