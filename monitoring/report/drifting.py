"""Drift on the page: the map of columns and windows, and the columns that drifted furthest. Core."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from monitoring.report.charts import MOST_COLUMNS, MOST_WINDOWS, Caption, heat_map
from monitoring.report.sections import Chart, Table, name_of
from monitoring.report.times import moment
from monitoring.report.verdict import percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from monitoring.joined import Scorer
    from monitoring.report.records import Column, Window

CELLS: Final = (
    ("h-critical", "critical"),
    ("h-warn", "warn"),
    ("h-chance", "above the threshold, but chance explains it"),
    ("h-mid", "half the threshold or more"),
    ("h-low", "below"),
    ("h-none", "too few rows to judge, or none"),
)
"""Classes of colour, worst first, and what they mean."""

_ORDER: Final = {style: place for place, (style, _) in enumerate(CELLS)}


def cell_of(psi: float, verdict: str, *, threshold: float) -> str:
    """The colour of one column in one window.

    >>> cell_of(0.3, "critical", threshold=0.1), cell_of(0.12, "stable", threshold=0.1), cell_of(0.02, "stable", threshold=0.1)
    ('h-critical', 'h-chance', 'h-low')
    """
    if verdict in {"critical", "warn"}:
        return f"h-{verdict}"
    if verdict != "stable" or not math.isfinite(psi):
        return "h-none"
    return "h-chance" if psi >= threshold else "h-mid" if psi >= threshold / 2 else "h-low"


def drift_map(role: str, windows: Mapping[Scorer, Sequence[Window]], *, threshold: float) -> Chart:
    """Columns × windows of all versions in a role, those drifted furthest on top."""
    title = f"Drift of the {role}'s columns"
    by_end: dict[int, Window] = {}
    for scorer, some in windows.items():
        if scorer.role == role:
            by_end |= {w.end_us: w for w in some if w.psi}  # where two versions end at one time, the later one's
    ordered = [by_end[at] for at in sorted(by_end)]
    if not ordered:
        return Chart(
            title,
            "No window was judged for drift. The version needs a training reference (publish it with its training rows), and "
            "a window to close.",
        )
    names = sorted({name for w in ordered for name in w.psi}, key=lambda name: _badness(name, ordered, threshold))
    size = -(-len(ordered) // MOST_WINDOWS)
    buckets = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    rows = [(name, [_worst(name, bucket, threshold) for bucket in buckets]) for name in names[:MOST_COLUMNS]]
    caption = Caption(
        f"drift-{'champion' if role == 'champion' else 'other'}",
        title,
        f"{len(rows)} columns over {len(ordered)} windows, worst column on top; the table below has the numbers.",
    )
    span_us = (ordered[0].end_us, ordered[-1].end_us)
    lead = f"PSI against training, threshold {threshold:g}; each row a column, worst on top, time to the right."
    if size > 1:
        lead += f" Each cell is the worst of {size} windows, {len(ordered):,} in all."
    if len(names) > MOST_COLUMNS:
        lead += f" {len(names) - MOST_COLUMNS} columns that drifted less are left out."
    svg = heat_map(caption, rows, span_us=span_us)
    used = {cell for _, cells in rows for cell in cells}
    legend = [(style, words) for style, words in CELLS if style in used]
    return Chart(title, lead, svg, legend, _numbers(names[:MOST_COLUMNS], ordered), wide=True)


def worst_columns(windows: Mapping[Scorer, Sequence[Window]], *, most: int = 5) -> list[tuple[Scorer, Window, Column]]:
    """Of the champion's newest window that has counts, the columns that drifted furthest."""
    newest = [(ws[-1].end_us, s, next((w for w in reversed(ws) if w.drift is not None), None)) for s, ws in windows.items() if ws]
    found = [(end, s, w) for end, s, w in newest if s.role == "champion" and w is not None and w.drift is not None]
    if not found:
        return []
    _, scorer, window = max(found, key=lambda f: f[0])
    if window.drift is None:
        return []
    rank = {"critical": 0, "warn": 1, "stable": 2}
    ordered = sorted(window.drift.columns, key=lambda c: (rank.get(c.verdict, 3), -(c.psi or 0.0), c.name))
    return [(scorer, window, column) for column in ordered[:most] if column.psi is not None]


def about(scorer: Scorer, window: Window, column: Column) -> str:
    """A column's drift in a sentence."""
    parts = [f"PSI {column.psi or 0:.3f}"]
    if column.p_adjusted is not None:
        parts.append("adjusted p < 0.001" if column.p_adjusted < 0.001 else f"adjusted p {column.p_adjusted:.3f}")  # noqa: PLR2004  # three digits are shown
    worth = "" if column.effective_rows is None else f", worth {column.effective_rows:,.0f} independent ones"
    parts.append(f"{column.rows:,} rows{worth}")
    if column.missing_rate is not None and column.missing_rate_trained is not None:
        parts.append(f"missing {percent(column.missing_rate)} (trained {percent(column.missing_rate_trained)})")
    outside = (column.below_rate or 0.0) + (column.above_rate or 0.0)
    if outside:
        parts.append(f"{percent(outside)} outside what training had")
    return f"{name_of(scorer)}, window to {moment(window.end_us)}: {', '.join(parts)}."


def _badness(name: str, windows: Sequence[Window], threshold: float) -> tuple[int, float, str]:
    cells = [cell_of(*w.psi[name], threshold=threshold) for w in windows if name in w.psi]
    # A PSI of a handful of rows is large by chance, so of windows too small to judge it only counts where there is no other.
    psi = [w.psi[name][0] for w in windows if name in w.psi and math.isfinite(w.psi[name][0])]
    judged = [w.psi[name][0] for w in windows if name in w.psi and w.psi[name][1] != "insufficient_data"]
    return min(map(_ORDER.__getitem__, cells)), -max([p for p in judged if math.isfinite(p)] or psi, default=0.0), name


def _worst(name: str, bucket: Sequence[Window], threshold: float) -> str:
    cells = [cell_of(*w.psi[name], threshold=threshold) for w in bucket if name in w.psi]
    return min(cells, key=_ORDER.__getitem__, default="h-none")


def _numbers(names: Sequence[str], windows: Sequence[Window]) -> Table:
    rows = []
    for name in names:
        told = [(w.end_us, *w.psi[name]) for w in windows if name in w.psi]
        finite = [(psi, end) for end, psi, _ in told if math.isfinite(psi)]
        worst = max(finite, default=(math.nan, 0))
        drifted = sum(verdict in {"warn", "critical"} for _, _, verdict in told)
        last = told[-1]
        rows.append(
            [
                *(name, _psi(last[1]), last[2].replace("_", " "), _psi(worst[0])),
                *(moment(worst[1]) if finite else "", f"{drifted:,} of {len(told):,}"),
            ]
        )
    return Table("PSI by column", ("column", "newest", "verdict", "greatest", "in the window to (UTC)", "windows drifted"), rows)


def _psi(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "not known"
