"""The parts of the page: charts with their legends and the numbers behind them. Core."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from monitoring.report.charts import Caption, Level, Line, calibration_chart, line_chart
from monitoring.report.records import value_of
from monitoring.report.rows import QUANTILES, reliability
from monitoring.report.times import moment, span
from monitoring.report.verdict import percent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from monitoring.joined import Scorer
    from monitoring.report.records import Window
    from monitoring.report.rows import Rows

MOST_POINTS: Final = 240
"""Windows a line shows at most; of more, every k-th from the newest backwards."""

FEW_ROWS: Final = 20
"""Bins of p_up with fewer rows are in the table only."""

BAND: Final = 1.959964
"""Standard errors to a 95 % band."""

_STYLES: Final = {"champion": "champion", "challenger": "challenger", "canary": "canary"}


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers, as text, row by row."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart in its place. Without `svg`, `lead` says what is missing and what to do."""

    title: str
    lead: str
    svg: str | None = None
    legend: Sequence[tuple[str, str]] = ()
    """Class of colour, words."""
    table: Table | None = None
    wide: bool = False


def style_of(role: str) -> str:
    """The class of a role's colour."""
    return _STYLES.get(role, "canary")


def name_of(scorer: Scorer) -> str:
    """A version in a role, in words."""
    return f"{scorer.role} v{scorer.version}"


def thinned(windows: Sequence[Window], most: int = MOST_POINTS) -> list[Window]:
    """Every k-th window, the newest among them.

    >>> thinned([1, 2, 3, 4, 5], 3)
    [1, 3, 5]
    """
    step = -(-len(windows) // most) if windows else 1
    return list(windows[::-1][::step][::-1])


def over_time(
    caption: Caption,
    lead: str,
    windows: Mapping[Scorer, Sequence[Window]],
    read: Callable[[Window], tuple[float, float]],
    *,
    span_us: tuple[int, int],
    missing: str,
    show: Callable[[float], str],
    levels: Sequence[Level] = (),
    percent: bool = False,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Chart:
    """A metric per window with its 95 % band; `read` gives value and standard error, `missing` says why there may be none."""
    lines, legend, rows = [], [], []
    for scorer, some in windows.items():
        told = [(w, *read(w)) for w in thinned([w for w in some if math.isfinite(read(w)[0])])]
        if not told:
            continue
        rows += [
            (w.end_us, [moment(w.end_us), name_of(scorer), show(v), show(BAND * e) if math.isfinite(e) else "not known"])
            for w, v, e in told
        ]
        # A window too small to tell its error swings wildly; it is drawn only where there is nothing better.
        told = [t for t in told if math.isfinite(t[2])] or told
        x, y = [float(w.end_us) for w, _, _ in told], [v for _, v, _ in told]
        reach = [BAND * e for _, _, e in told]
        low, high = ([v + sign * r for v, r in zip(y, reach, strict=True)] for sign in (-1, 1))
        lines.append(Line(name_of(scorer), style_of(scorer.role), x, y, low, high))
        legend.append((style_of(scorer.role), name_of(scorer)))
    if not lines:
        return Chart(caption.title, missing)
    svg = line_chart(
        caption, lines, span_us=span_us, levels=levels, marks=switches(windows, span_us), percent=percent, within=within
    )
    table = Table(caption.title, ("window to (UTC)", "version", "value", "± 95 %"), [row for _, row in sorted(rows)])
    return Chart(caption.title, lead, svg, _once(legend), table)


def switches(windows: Mapping[Scorer, Sequence[Window]], span_us: tuple[int, int]) -> list[tuple[int, str]]:
    """When a version of the champion took over from one before, within the span."""
    firsts = sorted((ws[0].end_us, s.version) for s, ws in windows.items() if s.role == "champion" and ws)
    return [(at, f"v{version}") for at, version in firsts[1:] if span_us[0] < at < span_us[1]]


def metric(name: str) -> Callable[[Window], tuple[float, float]]:
    """Reads a metric of quality and its standard error."""
    return lambda w: (value_of(w.quality, name), value_of(w.quality, f"{name}_se"))


def estimated(windows: Mapping[Scorer, Sequence[Window]], *, span_us: tuple[int, int]) -> Chart:
    """Absolute error to expect, known when the window closes, next to the error found once outcomes came."""
    title = "Error expected before outcomes, and found after"
    lines, legend, rows = [], [], []
    for scorer, some in windows.items():
        told = [(w, _expected(w), _found(w)) for w in thinned([w for w in some if math.isfinite(_expected(w))])]
        if not told:
            continue
        style, x = style_of(scorer.role), [float(w.end_us) for w, _, _ in told]
        lines.append(Line(name_of(scorer), f"{style} expected", x, [e for _, e, _ in told]))
        lines.append(Line(name_of(scorer), style, x, [r for _, _, r in told]))
        legend += [(f"{style} expected", f"{scorer.role} expected"), (style, f"{scorer.role} found")]
        rows += [
            [moment(w.end_us), name_of(scorer), f"{e:.4g}", f"{r:.4g}" if math.isfinite(r) else "not known yet"]
            for w, e, r in told
        ]
    if not lines:
        return Chart(
            title,
            "No record carries an estimate: a version has one when it is published with calibration rows (docs/publishing.md).",
        )
    low = 0.0 if all(y >= 0 for line in lines for y in line.y if math.isfinite(y)) else -math.inf
    caption = Caption(
        "estimate", title, "Mean absolute error over event time: estimated from inputs alone, and found once outcomes came."
    )
    svg = line_chart(caption, lines, span_us=span_us, marks=switches(windows, span_us), within=(low, math.inf))
    table = Table(title, ("window to (UTC)", "version", "expected MAE", "found MAE"), sorted(rows))
    lead = "Mean absolute error. The estimate sees at once what the inputs do, and never that their relation to outcomes changed."
    return Chart(title, lead, svg, _once(legend), table)


def calibration(rows: Rows) -> Chart:
    """Whether p_up means what it says."""
    title = "Calibration of p_up"
    lines, legend, numbers = [], [], []
    for scorer, served in rows.served.items():
        told = reliability(served.bins)
        if not told:
            continue
        some = [t for t in told if t[4] >= FEW_ROWS] or told
        x, y, low, high = ([t[i] for t in some] for i in range(4))
        lines.append(Line(name_of(scorer), style_of(scorer.role), x, y, low, high))
        legend.append((style_of(scorer.role), name_of(scorer)))
        numbers += [[name_of(scorer), f"{p:.3f}", f"{u:.3f}", f"{lo:.3f} to {hi:.3f}", f"{n:,}"] for p, u, lo, hi, n in told]
    if not lines:
        return Chart(title, "No prediction of this span has both p_up and an outcome. Send outcomes to the topic `outcomes`.")
    caption = Caption(
        "calibration", title, "Share of outcomes above zero against mean p_up, in ten bins; the diagonal is perfect."
    )
    lead = (
        "Share of outcomes above zero where p_up said so much; on the dashed line it is true. Bars: 95 %, for independent rows."
    )
    table = Table(title, ("version", "mean p_up", "share up", "95 %", "rows"), numbers)
    return Chart(title, lead, calibration_chart(caption, lines), _once(legend), table)


def latency(rows: Rows, *, span_us: tuple[int, int]) -> Chart:
    """Decision to publication."""
    title = "Latency, decision to publication"
    told = rows.latency.get("champion", [])
    if not told:
        return Chart(title, "No prediction of this span has a time of publication; those stored by earlier releases have none.")
    names = [f"{q:.0%} of rows within".replace("%", " %") for q in QUANTILES]
    table = Table(
        f"{title}, champion",
        ("around (UTC)", "rows", *names),
        [[moment(t.at_us), f"{t.rows:,}", *(span(round(q)) for q in t.quantiles)] for t in told],
    )
    middle = sorted(t.quantiles[0] for t in told)[len(told) // 2]
    if middle > _REPLAY_US:
        lead = (
            f"These rows were decided in data time and published {span(round(middle))} later: a replay; its latency says nothing."
        )
        return Chart(title, lead, table=table)
    x = [float(t.at_us) for t in told]
    styles = ("champion", "champion expected", "champion tail")
    lines = [Line(n, s, x, [t.quantiles[i] / 1000 for t in told]) for i, (n, s) in enumerate(zip(names, styles, strict=True))]
    caption = Caption(
        "latency", title, "Quantiles of the time from decision to publication of the champion's predictions, in ms."
    )
    lead = "From decision time to Kafka's timestamp of the record, in milliseconds; the scale is logarithmic."
    svg = line_chart(caption, lines, span_us=span_us, log=True, suffix=" ms")
    return Chart(title, lead, svg, list(zip(styles, names, strict=True)), table)


_REPLAY_US: Final = 86_400_000_000


def versions(rows: Rows, windows: Mapping[Scorer, Sequence[Window]]) -> Table:
    """Which version served when, and how much."""
    told = []
    for scorer in sorted({*rows.served, *windows}, key=lambda s: (s.role, s.version)):
        served, some = rows.served.get(scorer), windows.get(scorer, ())
        if served is None:
            told.append([scorer.version, scorer.role, "no row in this span", "", "0", "0", "", f"{len(some):,}"])
            continue
        matured = percent(served.matured / served.rows) if served.rows else ""
        told.append(
            [
                *(scorer.version, scorer.role, moment(served.first_us), moment(served.last_us)),
                *(f"{served.rows:,}", f"{served.abstained:,}", matured, f"{len(some):,}"),
            ]
        )
    head = ("version", "role", "first event (UTC)", "last event (UTC)", "rows", "abstained", "with outcome", "windows")
    return Table("Versions and what they served, by event time", head, told)


def groups(windows: Mapping[Scorer, Sequence[Window]]) -> Table | None:
    """Quality by group in the newest window that has outcomes."""
    told = []
    for scorer, some in windows.items():
        newest: Any = next((w.quality for w in reversed(some) if w.quality and w.quality.get("by_group")), None)
        if not isinstance(newest, dict):
            continue
        for name, q in sorted(newest["by_group"].items()):
            rank, error, coverage = value_of(q, "rank_ic"), value_of(q, "rank_ic_se"), value_of(q, "coverage")
            shown = f"{rank:.3f}" + (f" ± {error:.3f}" if math.isfinite(error) else "") if math.isfinite(rank) else "not known"
            told.append([str(name), name_of(scorer), shown, percent(coverage), f"{int(q.get('rows') or 0):,}"])
    head = ("group", "version", "rank IC", "coverage", "rows")
    return Table("Quality by group, newest window with outcomes", head, told) if told else None


def _found(window: Window) -> float:
    """Mean absolute error once outcomes came; not of a window too small to tell how sure it is."""
    error = value_of(window.quality, "mae_se")
    return value_of(window.quality, "mae") if math.isfinite(error) else math.nan


def concepts(windows: Mapping[Scorer, Sequence[Window]]) -> list[str]:
    """What the newest windows say of concept drift, a sentence a version; of versions whose residuals changed."""
    told = []
    for scorer, some in windows.items():
        newest = next((w.concept for w in reversed(some) if w.concept is not None), None)
        if newest is None or newest.get("detected_at_us") is None:
            continue
        grew = "grew" if newest.get("direction") == "worse" else "shrank"
        before, now = value_of(newest, "mean_before"), value_of(newest, "mean_now")
        told.append(
            f"Residuals of {name_of(scorer)} {grew}, seen at {moment(int(newest['detected_at_us']))}: their mean place among "
            f"those of calibration went from {before:.2f} to {now:.2f}, where 0.50 is as calibrated."
        )
    return told


def _expected(window: Window) -> float:
    return value_of(window.estimate, "mae")


def _once(legend: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Versions of one role share a colour and a place in the legend.

    >>> _once([("champion", "champion v3"), ("champion", "champion v4"), ("challenger", "challenger v5")])
    [('champion', 'champion v3, v4'), ('challenger', 'challenger v5')]
    """
    words: dict[str, list[str]] = {}
    for style, name in legend:
        words.setdefault(style, []).append(name)
    told = []
    for style, names in words.items():
        first, *others = dict.fromkeys(names)
        role = first.split(" ")[0] + " "
        told.append((style, ", ".join([first, *(name.removeprefix(role) for name in others)])))
    return told
