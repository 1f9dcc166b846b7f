"""The frame every chart of the report stands in: axes, ticks, words for those who do not see it. Core: numbers in, SVG out.

Colours are classes of the page's style sheet, so that one drawing serves light, dark and paper. All text goes through `text`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

from monitoring.report.times import number_ticks, time_ticks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH: Final = 460
HEIGHT: Final = 230
_RIGHT, _TOP, _BOTTOM = 12, 12, 38
_MOST_TICKS = 7


def text(words: object) -> str:
    """Words as SVG or HTML text, whatever characters they hold; control characters, which XML has not, become spaces."""
    return escape("".join(c if c.isprintable() else " " for c in str(words)), quote=True)


def number(value: float) -> str:
    """A coordinate, to a tenth.

    >>> number(3.0), number(3.14159)
    ('3', '3.1')
    """
    return f"{value:.1f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"


@dataclass(frozen=True, slots=True)
class Frame:
    """From values to places within a drawing of `width` by `height`."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int = WIDTH
    height: int = HEIGHT
    log: bool = False
    left: int = 46
    """Where the plot begins."""

    @property
    def right(self) -> int:
        """Where it ends."""
        return self.width - _RIGHT

    @property
    def top(self) -> int:
        """Where it begins, from above."""
        return _TOP

    @property
    def bottom(self) -> int:
        """Where it ends."""
        return self.height - _BOTTOM

    def at_x(self, value: float) -> float:
        """Place across."""
        low, high = self.x
        return self.left + (value - low) / (high - low or 1) * (self.right - self.left)

    def at_y(self, value: float) -> float:
        """Place down; values outside are at the edge."""
        low, high = self.y
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low))
        share = min(1.0, max(0.0, (value - low) / (high - low or 1)))
        return self.bottom - share * (self.bottom - self.top)

    def y_axis(self, *, suffix: str = "", percent: bool = False) -> str:
        """Ticks, lines across, labels."""
        values = _powers(*self.y) if self.log else number_ticks(*self.y, most=7)
        step = values[1] - values[0] if len(values) > 1 else 1.0
        parts = []
        for value in values:
            y = number(self.at_y(value))
            parts.append(f'<path class="grid" d="M{self.left} {y}H{self.right}"/>')
            label = f"{value * 100:.10g}%" if percent else f"{value:g}{suffix}" if self.log else _label(value, step) + suffix
            parts.append(f'<text class="tick" x="{self.left - 6}" y="{y}" dy=".32em" text-anchor="end">{text(label)}</text>')
        return "".join(parts)

    def time_axis(self) -> str:
        """Instants in UTC under the plot."""
        parts = [f'<path class="axis" d="M{self.left} {self.bottom}H{self.right}"/>']
        for at, label in time_ticks(int(self.x[0]), int(self.x[1]), most=4):
            x = number(self.at_x(at))
            clock, _, date = label.partition("|")
            parts.append(f'<path class="axis" d="M{x} {self.bottom}v4"/>')
            anchor = "end" if self.at_x(at) > self.right - 30 else "start" if self.at_x(at) < self.left + 20 else "middle"
            parts.append(f'<text class="tick" x="{x}" y="{self.bottom + 16}" text-anchor="{anchor}">{clock}</text>')
            if date:
                parts.append(f'<text class="tick" x="{x}" y="{self.bottom + 30}" text-anchor="{anchor}">{date}</text>')
        return "".join(parts)


def drawing(name: str, title: str, description: str, parts: Iterable[str], *, width: int = WIDTH, height: int = HEIGHT) -> str:
    """A whole SVG element. `name` is unique in the page; `description` says what is to be seen, in words."""
    return (
        f'<svg id="{name}" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{text(title)}</title><desc id="{name}-desc">{text(description)}</desc>{"".join(parts)}</svg>'
    )


def runs(xs: Sequence[float], ys: Sequence[float], *, gap: float) -> list[list[int]]:
    """Stretches of places that a line may join: finite values no further than `gap` apart.

    >>> runs([0, 1, 2, 9], [1.0, float("nan"), 3.0, 4.0], gap=2)
    [[0], [2], [3]]
    """
    found: list[list[int]] = []
    for i, y in enumerate(ys):
        if not math.isfinite(y):
            continue
        if found and found[-1][-1] == i - 1 and xs[i] - xs[i - 1] <= gap:
            found[-1].append(i)
        else:
            found.append([i])
    return found


def _powers(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: 1, 2, 5 times powers of ten, or powers alone where that would be many.

    >>> _powers(3.0, 60.0), _powers(0.5, 20000.0)
    ([5.0, 10.0, 20.0, 50.0], [1.0, 10.0, 100.0, 1000.0, 10000.0])
    """
    tens = [10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    fine = [round(m * t, 9) for t in tens for m in (1, 2, 5) if low <= m * t <= high]
    return fine if len(fine) <= _MOST_TICKS else [t for t in tens if low <= t <= high]


def _label(value: float, step: float) -> str:
    """With as many digits as the step needs.

    >>> _label(0.05, 0.05), _label(0.1, 0.05), _label(1000.0, 1000.0)
    ('0.05', '0.10', '1000')
    """
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step < 1 else 0
    if step < 1 and round(step * 10**digits, 6) % 1:
        digits += 1
    return f"{value:.{digits}f}"
