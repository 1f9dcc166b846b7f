"""The report's charts: lines with bands over time, calibration, the heat map of drift. Core: numbers in, SVG out."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from monitoring.report.figures import Frame, drawing, number, runs, text

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_COLUMNS: Final = 60
MOST_WINDOWS: Final = 200
_LABEL_CHARACTERS: Final = 24


@dataclass(frozen=True, slots=True)
class Line:
    """One line: `style` is the class of its colour; `low` and `high` are its band, if it has one."""

    name: str
    style: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """A value to hold the lines against."""

    value: float
    name: str


@dataclass(frozen=True, slots=True)
class Caption:
    """What a chart is called in the page (unique), and what it says to those who do not see it."""

    name: str
    title: str
    description: str


def line_chart(
    caption: Caption,
    lines: Sequence[Line],
    *,
    span_us: tuple[int, int],
    levels: Sequence[Level] = (),
    marks: Sequence[tuple[int, str]] = (),
    percent: bool = False,
    log: bool = False,
    suffix: str = "",
    within: tuple[float, float] = (-math.inf, math.inf),
) -> str:
    """Lines over event time. `marks`: instants with a word, such as a switch of version; `within`: what no axis leaves."""
    bounds = _range(lines, levels, log=log, within=within)
    frame = Frame((float(span_us[0]), float(span_us[1])), bounds, log=log, left=62 if suffix else 46)
    parts = [frame.y_axis(suffix=suffix, percent=percent), frame.time_axis()]
    for at, word in marks:
        place = frame.at_x(at)
        parts.append(f'<path class="mark" d="M{number(place)} {frame.top}V{frame.bottom}"/>')
        late = place > frame.right - 60
        parts.append(
            f'<text class="tick" x="{number(place + (-4 if late else 4))}" y="{frame.top + 9}" '
            f'text-anchor="{"end" if late else "start"}">{text(word)}</text>'
        )
    parts += [f'<path class="level" d="M{frame.left} {number(frame.at_y(level.value))}H{frame.right}"/>' for level in levels]
    parts += [_band(frame, line) for line in lines if line.low is not None]
    parts += [_line(frame, line) for line in lines]
    for level in levels:
        where = f'x="{frame.right - 2}" y="{number(frame.at_y(level.value))}" dy="-.4em" text-anchor="end"'
        parts.append(f'<text class="tick name" {where}>{text(level.name)}</text>')
    return drawing(caption.name, caption.title, caption.description, parts)


def calibration_chart(caption: Caption, lines: Sequence[Line]) -> str:
    """What came against what was said, both in [0, 1]; x is the mean of what was said in a bin."""
    frame = Frame((0.0, 1.0), (0.0, 1.0))
    parts = [frame.y_axis(percent=True), f'<path class="axis" d="M{frame.left} {frame.bottom}H{frame.right}"/>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        place, anchor = number(frame.at_x(share)), "end" if share == 1 else "middle"
        parts.append(f'<text class="tick" x="{place}" y="{frame.bottom + 16}" text-anchor="{anchor}">{share:.0%}</text>')
    middle = (frame.left + frame.right) // 2
    parts.append(f'<text class="tick" x="{middle}" y="{frame.bottom + 31}" text-anchor="middle">said: p_up</text>')
    corner = f"M{frame.left} {frame.bottom}L{frame.right} {frame.top}"
    parts.append(f'<path class="level" d="{corner}"/>')
    for line in lines:
        parts.append(_line(frame, line, gap=math.inf))
        for i, (x, y) in enumerate(zip(line.x, line.y, strict=True)):
            if line.low is not None and line.high is not None:
                low, high = number(frame.at_y(line.low[i])), number(frame.at_y(line.high[i]))
                parts.append(f'<path class="line {line.style}" d="M{number(frame.at_x(x))} {low}V{high}"/>')
            parts.append(f'<circle class="dot {line.style}" cx="{number(frame.at_x(x))}" cy="{number(frame.at_y(y))}" r="3.5"/>')
    return drawing(caption.name, caption.title, caption.description, parts)


def heat_map(caption: Caption, rows: Sequence[tuple[str, Sequence[str]]], *, span_us: tuple[int, int]) -> str:
    """Rows of cells, each a class of colour, from the first window to the last; `rows` are names with their cells."""
    left, cell, bottom = 176, 15, 38
    width, height = 940, len(rows) * cell + bottom + 2
    windows = max((len(cells) for _, cells in rows), default=1)
    step = (width - left - 12) / windows
    paths: dict[str, list[str]] = {}
    parts = []
    for r, (label, cells) in enumerate(rows):
        top = r * cell
        shown = label if len(label) <= _LABEL_CHARACTERS else label[: _LABEL_CHARACTERS - 1] + "…"
        parts.append(f'<text class="tick" x="{left - 7}" y="{top + cell - 4}" text-anchor="end">{text(shown)}</text>')
        start = 0
        for w in range(1, len(cells) + 1):
            if w == len(cells) or cells[w] != cells[start]:
                x, wide = left + start * step, (w - start) * step
                box = f"M{number(x)} {top}h{number(max(wide - 0.4, 0.4))}v{cell - 1}h-{number(max(wide - 0.4, 0.4))}z"
                paths.setdefault(cells[start], []).append(box)
                start = w
    parts += [f'<path class="cell {style}" d="{"".join(boxes)}"/>' for style, boxes in sorted(paths.items())]
    frame = Frame((float(span_us[0]), float(span_us[1])), (0, 1), width=width, height=height, left=left)
    parts.append(frame.time_axis())
    return drawing(caption.name, caption.title, caption.description, parts, width=width, height=height)


def _range(lines: Sequence[Line], levels: Sequence[Level], *, log: bool, within: tuple[float, float]) -> tuple[float, float]:
    """What the axis spans: all lines and levels, bands as far as they are not wild, with some air."""
    values = [y for line in lines for y in line.y if math.isfinite(y)] + [level.value for level in levels]
    if not values:
        return (0.1, 10.0) if log else (0.0, 1.0)
    low, high = min(values), max(values)
    if log:
        return max(low, 1e-3) / 1.3, max(high, 2e-3) * 1.3
    edges = sorted(e for line in lines for es in (line.low, line.high) if es is not None for e in es if math.isfinite(e))
    if edges:
        # Of bands all but the widest few: one window with a handful of rows must not flatten the rest.
        cut = len(edges) // 20
        low, high = min(low, edges[cut]), max(high, edges[-1 - cut])
    air = 0.08 * (high - low) or 0.05 * abs(high) or 0.05
    return max(low - air, within[0]), min(high + air, within[1])


def _line(frame: Frame, line: Line, *, gap: float | None = None) -> str:
    stretches = runs(line.x, line.y, gap=_gap(line.x) if gap is None else gap)
    path = "".join(
        "M" + "L".join(f"{number(frame.at_x(line.x[i]))} {number(frame.at_y(line.y[i]))}" for i in stretch)
        for stretch in stretches
    )
    alone = [stretch[0] for stretch in stretches if len(stretch) == 1]
    dots = "".join(
        f'<circle class="dot {line.style}" cx="{number(frame.at_x(line.x[i]))}" cy="{number(frame.at_y(line.y[i]))}" r="2"/>'
        for i in alone
    )
    return f'<path class="line {line.style}" d="{path}"/>{dots}' if path else ""


def _band(frame: Frame, line: Line) -> str:
    low, high = line.low or (), line.high or ()
    both = [a + b for a, b in zip(low, high, strict=True)]
    path = ""
    for stretch in runs(line.x, both, gap=_gap(line.x)):
        above = [f"{number(frame.at_x(line.x[i]))} {number(frame.at_y(high[i]))}" for i in stretch]
        below = [f"{number(frame.at_x(line.x[i]))} {number(frame.at_y(low[i]))}" for i in reversed(stretch)]
        path += "M" + "L".join([*above, *below]) + "Z"
    return f'<path class="band {line.style}" d="{path}"/>' if path else ""


def _gap(xs: Sequence[float]) -> float:
    """Values further apart than this are not joined: two and a half times the usual step."""
    steps = sorted(b - a for a, b in itertools.pairwise(xs))
    return 2.5 * steps[len(steps) // 2] if steps else math.inf
