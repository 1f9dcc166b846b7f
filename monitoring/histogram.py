"""One column's window beside its training, cell by cell: as numbers, as text for a terminal, as SVG for a page. Core.

`counts` are a window's judged counts, int64[columns, bins + 1] (`monitoring.reference.fold`).
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from monitoring.distances import psi_terms
from monitoring.errors import BadReferenceError

if TYPE_CHECKING:
    from monitoring.reference import Ints, Reference

LEAST_WIDTH = 60
"""Characters; narrower bars tell nothing."""
_EIGHTHS = " ▏▎▍▌▋▊▉"
_ROW, _TOP = 34, 26  # pixels


class Cell(NamedTuple):
    """One judged cell: what falls into it, the shares of training and window, its part in the PSI; NaN without rows."""

    label: str
    trained: float
    seen: float
    psi: float


def cells(reference: Reference, column: str, counts: Ints) -> list[Cell]:
    """The judged cells of one column, missing last. Raises `BadReferenceError` for a column or counts of another reference.

    >>> from monitoring.reference import Reference
    >>> r = Reference.from_columns(["a"], {"a": {"edges": [0.0, 1.0], "counts": [20, 60, 20, 0], "low": -1, "high": 2}})
    >>> [(c.label, c.trained, c.seen, round(c.psi, 3)) for c in cells(r, "a", np.array([[10, 60, 30, 0]]))]
    [('<= 0', 0.2, 0.1, 0.066), ('(0, 1]', 0.6, 0.6, 0.0), ('> 1', 0.2, 0.3, 0.039), ('missing', 0.0, 0.0, 0.0)]
    """
    if column not in reference.names:
        raise BadReferenceError(f"there is no column {column!r}; there are {', '.join(reference.names)}")
    if counts.shape != reference.counts.shape:
        raise BadReferenceError(f"judged counts of shape {counts.shape} do not belong to {reference.counts.shape}; `fold` them")
    c = reference.names.index(column)
    held = [*range(int(reference.bins[c])), -1]
    trained, seen = _shares(reference.counts[c]), _shares(counts[c])
    parts = psi_terms(reference, counts)[c].tolist() if reference.counts[c].any() and counts[c].any() else [math.nan] * len(seen)
    return [Cell(label, trained[k], seen[k], parts[k]) for label, k in zip(_labels(reference, c), held, strict=True)]


def histogram_text(reference: Reference, column: str, counts: Ints, *, width: int = 80) -> str:
    """Training beside the window, a line for each cell, at most `width` characters wide.

    >>> from monitoring.reference import Reference
    >>> r = Reference.from_columns(["a"], {"a": {"edges": [0.0], "counts": [50, 50, 0], "low": -1, "high": 1}})
    >>> print(histogram_text(r, "a", np.array([[20, 80, 0]]), width=60))
    cell     training              window                  PSI
    <= 0      50.0 % ███████▌       20.0 % ███           0.266
    > 0       50.0 % ███████▌       80.0 % ████████████  0.138
    missing    0.0 %                 0.0 %               0.000
    """
    if width < LEAST_WIDTH:
        raise ValueError(f"a histogram {width} characters wide tells nothing; make it at least {LEAST_WIDTH}")
    found = cells(reference, column, counts)
    label = min(max(len(c.label) for c in found), width - 45)
    bar = (width - label - 29) // 2
    most = _most(found)
    lines = [f"{'cell':<{label}}  {'training':<{bar + 8}}  {'window':<{bar + 8}}  {'PSI':>5}"]
    for c in found:
        sides = (f"{_percent(c.trained)} {_bar(c.trained / most, bar)}", f"{_percent(c.seen)} {_bar(c.seen / most, bar)}")
        lines.append(f"{c.label[:label]:<{label}}  {sides[0]}  {sides[1]}  {_number(c.psi):>5}".rstrip())
    return "\n".join(lines)


def histogram_svg(reference: Reference, column: str, counts: Ints, *, width: int = 640) -> str:
    """The same as one SVG element, `width` pixels wide: for each cell a bar of training over one of the window.

    It has neither scripts nor styles of its own, and its words and training's bars take the colour of the text around it,
    so it can stand in a light page and in a dark one.

    >>> from monitoring.reference import Reference
    >>> r = Reference.from_columns(["a"], {"a": {"edges": [0.0], "counts": [50, 50, 0], "low": -1, "high": 1}})
    >>> histogram_svg(r, "a", np.array([[20, 80, 0]]))[:45]
    '<svg xmlns="http://www.w3.org/2000/svg" width'
    """
    found = cells(reference, column, counts)
    most, left, right = _most(found), 8 + 7 * max(len(c.label) for c in found), 170
    span, height = max(width - left - right, 40), _TOP + _ROW * len(found)
    title = escape(f"{column}: training and window")
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" fill="currentColor" font-family="sans-serif" font-size="12">',
        f"<title>{title}</title>",
        _words(left, 14, "training", "start", ' opacity="0.6"'),
        _words(left + 70, 14, "window", "start", ' fill="#3182ce"'),
        _words(width - 4, 14, "training / window, PSI", "end"),
    ]
    for i, c in enumerate(found):
        y = _TOP + i * _ROW
        numbers = f"{_percent(c.trained).strip()} / {_percent(c.seen).strip()}, {_number(c.psi)}"
        parts += [
            _words(left - 8, y + 17, c.label, "end"),
            f'<rect x="{left}" y="{y}" width="{_pixels(c.trained, most, span)}" height="12" opacity="0.4"/>',
            f'<rect x="{left}" y="{y + 13}" width="{_pixels(c.seen, most, span)}" height="12" fill="#3182ce"/>',
            _words(width - 4, y + 17, numbers, "end"),
        ]
    return "".join([*parts, "</svg>"])


def _labels(reference: Reference, c: int) -> list[str]:
    """What falls into each judged cell, in as many digits as tell the bounds apart."""
    if c in reference.levels:
        return [*_distinct(reference.levels[c].tolist()), "other", "missing"]
    edges: list[float] = reference.edges[c, : int(reference.bins[c]) - 1].tolist()
    if not edges:
        return ["any", "missing"]
    low = float(reference.low[c])
    # Publishing splits off what is below the minimum by the greatest number below it; said is the minimum.
    split = edges[0] == math.nextafter(low, -math.inf)
    shown = _distinct([low if split else edges[0], *edges[1:]])
    labels = [f"< {shown[0]}" if split else f"<= {shown[0]}"]
    for k in range(1, len(edges)):
        closed = split and k == 1
        single = closed and edges[k] == low
        labels.append(shown[k] if single else f"{'[' if closed else '('}{shown[k - 1]}, {shown[k]}]")
    return [*labels, f">= {shown[0]}" if split and len(edges) == 1 else f"> {shown[-1]}", "missing"]


def _distinct(values: list[float]) -> list[str]:
    shown: list[str] = []
    for digits in range(4, 18):
        shown = [f"{value:.{digits}g}" for value in values]
        if len(set(shown)) == len(set(values)):
            break
    return shown


def _shares(counts: Ints) -> list[float]:
    total = int(counts.sum())
    return [n / total if total else math.nan for n in counts.tolist()]


def _most(found: list[Cell]) -> float:
    return float(np.nanmax([0.0, *(c.trained for c in found), *(c.seen for c in found)])) or 1.0


def _bar(share: float, width: int) -> str:
    eighths = 0 if math.isnan(share) else round(share * width * 8)
    full, rest = divmod(eighths, 8)
    return f"{'█' * full + _EIGHTHS[rest] * (rest > 0):<{width}}"


def _percent(share: float) -> str:
    return "      -" if math.isnan(share) else f"{share:6.1%}".replace("%", " %")[-7:].rjust(7)


def _number(part: float) -> str:
    return "-" if math.isnan(part) else f"{part:.3f}"


def _pixels(share: float, most: float, span: int) -> str:
    return "0" if math.isnan(share) else f"{share / most * span:.1f}"


def _words(x: int, y: int, words: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{more}>{escape(words)}</text>'
