"""The page: everything measured of one model over a span, as one HTML text that needs nothing else. Shell: reads the templates.

No script, no address is fetched: the page's own policy (`Content-Security-Policy`) forbids both. Everything that comes from data
is escaped, by jinja2 in the text and by `figures.text` in the drawings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from monitoring.report.alerted import incidents
from monitoring.report.bars import column_bars
from monitoring.report.charts import Caption, Level
from monitoring.report.drifting import about, drift_map, worst_columns
from monitoring.report.pairs import pairs
from monitoring.report.records import Records
from monitoring.report.rows import Rows
from monitoring.report.sections import (
    Chart,
    Table,
    calibration,
    concepts,
    estimated,
    groups,
    latency,
    metric,
    name_of,
    over_time,
    versions,
)
from monitoring.report.times import moment, short, span
from monitoring.report.verdict import percent, signed, standing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from monitoring.joined import Scorer
    from monitoring.reference import Reference
    from monitoring.report.alerted import Incident
    from monitoring.report.records import Column, Window
    from monitoring.report.verdict import Standing

NO_HISTOGRAM: Final = (
    "Histograms are left out: the registry did not say what this version was trained on, or it was counted against another "
    "reference."
)


@dataclass(slots=True)
class Material:
    """What a report is made of. Times in microseconds UTC, span (start_us, end_us]."""

    model: str
    start_us: int
    end_us: int
    records: Records = field(default_factory=Records)
    rows: Rows = field(default_factory=Rows)
    events: Sequence[Mapping[str, Any]] = ()
    """Alert events of all time."""
    alerts_until_us: int | None = None
    """When alerts are looked at; None: at `end_us`."""
    reference: Callable[[Scorer], Reference | None] = lambda _: None
    """What a version was trained on, from the registry; None where that does not answer."""
    threshold: float = 0.1
    made_us: int = 0
    how: Sequence[tuple[str, str]] = ()
    """How it was made: what, in words."""


def report_page(material: Material) -> str:
    """The whole page."""
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("monitoring", "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True, auto_reload=False
    )
    style = environment.loader.get_source(environment, "page.css")[0] if environment.loader is not None else ""
    environment.filters["svg"] = Markup  # drawings are made here and escape what they hold
    return environment.get_template("page.html.j2").render(style=Markup(style), **_context(material))  # noqa: S704 - our own file


def _context(m: Material) -> dict[str, Any]:
    windows = m.records.windows()
    threshold = m.threshold if m.records.threshold is None else m.records.threshold
    until_us = m.end_us if m.alerts_until_us is None else m.alerts_until_us
    raised = incidents(m.events, model=m.model, start_us=m.start_us, end_us=until_us)
    scorers = {*windows, *m.rows.served}
    standings = [standing(s, windows.get(s, ()), m.rows.served.get(s), raised, threshold=threshold) for s in scorers]
    now, before = _current(standings, m.rows)
    span_us = _seen(windows, m)
    worst = [_worst(m, k, *found) for k, found in enumerate(worst_columns(windows))]
    other = [role for role in ("challenger", "canary") if any(s.role == role for s in windows)]
    return {
        "model": m.model,
        "start": short(m.start_us),
        "end": short(m.end_us),
        "length": span(m.end_us - m.start_us),
        "made": moment(m.made_us),
        "now": [_card(s, threshold) for s in now],
        "before": [_card(s, threshold) for s in before],
        "quality": _quality(windows, m, span_us),
        "maps": [
            drift_map("champion", windows, threshold=threshold),
            *(drift_map(r, windows, threshold=threshold) for r in other),
        ],
        "worst": worst,
        "no_histogram": NO_HISTOGRAM if not any(w["svg"] for w in worst) else None,
        "running": [latency(m.rows, span_us=span_us), estimated(windows, span_us=span_us)],
        "versions": versions(m.rows, windows),
        "groups": groups(windows),
        "concepts": concepts(windows),
        "pairs": pairs(windows),
        "alerts": [_alert(i) for i in raised],
        "how": m.how,
        "empty": not windows and not m.rows.served,
    }


def _current(standings: Sequence[Standing], rows: Rows) -> tuple[list[Standing], list[Standing]]:
    """Of each role the version that served last, champion first; and the others, newest first."""

    def last_us(s: Standing) -> int:
        served = rows.served.get(s.scorer)
        return max(s.newest_us or 0, 0 if served is None else served.last_us)

    ordered = sorted(standings, key=lambda s: (-last_us(s), s.scorer))
    now: dict[str, Standing] = {}
    for s in ordered:
        now.setdefault(s.scorer.role, s)
    roles = ("champion", "challenger", "canary")
    first = sorted(now.values(), key=lambda s: (roles.index(s.scorer.role) if s.scorer.role in roles else len(roles), s.scorer))
    return first, [s for s in ordered if s not in first]


def _card(s: Standing, threshold: float) -> dict[str, Any]:
    best, called = (s.rank_ic, "Rank IC") if s.rank_ic.known or not s.ic.known else (s.ic, "IC")
    worst = "not known" if s.worst_column is None else f"{s.worst_psi:.2f}"
    level = f"of outcomes within, promised {percent(s.level)}" if math.isfinite(s.level) else "of outcomes within the interval"
    return {
        "name": name_of(s.scorer),
        "role": s.scorer.role,
        "version": s.scorer.version,
        "word": s.word,
        "style": s.word.replace(" ", "-"),
        "sentence": s.sentence,
        "newest": None if s.newest_us is None else moment(s.newest_us),
        "facts": [
            (called, signed(best), "mean and its standard error"),
            ("Coverage", percent(s.coverage.mean), level),
            ("Worst PSI", worst, f"{s.worst_column}, threshold {threshold:g}" if s.worst_column else "no window was judged"),
            ("Outcomes", percent(s.label_coverage), "of predictions due"),
            ("Alerts", f"{len(s.incidents)} firing" if s.incidents else "none firing", "for this version"),
        ],
    }


def _seen(windows: Mapping[Scorer, Sequence[Window]], m: Material) -> tuple[int, int]:
    """The part of the span that anything was seen in: what charts show."""
    ends = [w.end_us for some in windows.values() for w in some]
    rows = [at for served in m.rows.served.values() for at in (served.first_us, served.last_us)]
    seen = [at for at in (*ends, *rows) if m.start_us <= at <= m.end_us]
    return (min(seen), max(seen)) if seen and min(seen) < max(seen) else (m.start_us, m.end_us)


def _quality(windows: Mapping[Scorer, Sequence[Window]], m: Material, span_us: tuple[int, int]) -> list[Chart]:
    missing = (
        "No outcome has come for this span. Send outcomes to the topic `outcomes`; they mature a horizon after the prediction."
    )
    levels = {served.level for served in m.rows.served.values() if math.isfinite(served.level)}
    promised = [Level(level, f"level {percent(level)}") for level in sorted(levels)]
    over = {w.quality.get("rank_ic_over") for some in windows.values() for w in some if w.quality is not None} - {None}
    across = (
        "over the time of a window, since there are fewer than 3 symbols"
        if over == {"time"}
        else "across symbols, mean over instants"
    )
    band = "The band is two standard errors to each side, overlap of horizons and windows' common causes included."
    return [
        over_time(
            Caption("rank-ic", "Rank IC", "Rank correlation of prediction and outcome, per window."),
            f"Spearman correlation {across}. {band}",
            windows,
            metric("rank_ic"),
            span_us=span_us,
            missing=missing,
            show="{:.4f}".format,
            levels=[Level(0.0, "no skill")],
            within=(-1.0, 1.0),
        ),
        over_time(
            Caption("ic", "IC", "Pearson correlation of prediction and outcome, per window."),
            "Pearson correlation over all rows of a window.",
            windows,
            metric("ic"),
            span_us=span_us,
            missing=missing,
            show="{:.4f}".format,
            levels=[Level(0.0, "no skill")],
            within=(-1.0, 1.0),
        ),
        over_time(
            Caption(
                "coverage", "Interval coverage", "Share of outcomes within the published interval, per window, and its level."
            ),
            "Share of outcomes within the interval as published; it should lie on the dashed line.",
            windows,
            metric("coverage"),
            span_us=span_us,
            missing=missing,
            show="{:.4f}".format,
            levels=promised,
            percent=True,
            within=(0.0, 1.0),
        ),
        calibration(m.rows),
    ]


def _worst(m: Material, place: int, scorer: Scorer, window: Window, column: Column) -> dict[str, Any]:
    reference = m.reference(scorer)
    caption = Caption(f"column-{place}", f"{column.name}, training and window", "Share of rows in each bin, in training and now.")
    return {
        "name": column.name,
        "verdict": column.verdict.replace("_", " "),
        "style": f"v-{column.verdict}",
        "about": about(scorer, window, column),
        "svg": None if reference is None else column_bars(caption, reference, column),
    }


def _alert(i: Incident) -> dict[str, Any]:
    # What ends before it fired goes back to what it was, which may be resolved from an incident before.
    state = i.state if i.ended_us is None or i.fired_us is not None else "passed"
    return {
        "name": i.name,
        "about": i.about,
        "version": " ".join(i.labels[n] for n in ("role", "version") if n in i.labels),
        "state": state,
        "severity": i.severity,
        "style": f"a-{state}",
        "started": moment(i.started_us),
        "fired": "" if i.fired_us is None else moment(i.fired_us),
        "ended": "" if i.ended_us is None else moment(i.ended_us),
        "value": f"{i.value:.3g} / {i.threshold:.3g}",
        "summary": i.summary,
    }


__all__ = ["Material", "Table", "report_page"]
