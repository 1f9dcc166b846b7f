"""A column's window beside its training, cell by cell, as a drawing of the page. Core: cells in, SVG out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from monitoring.histogram import Cell, cells
from monitoring.reference import fold
from monitoring.report.figures import WIDTH, drawing, number, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitoring.reference import Ints, Reference
    from monitoring.report.charts import Caption
    from monitoring.report.records import Column

MOST_CELLS: Final = 24
_ROW, _TOP, _RIGHT = 19, 8, 52
_CHARACTER: Final = 6.7
"""About as wide a character is, in the drawing's units."""
_LABEL_CHARACTERS: Final = 26


def counts_of(reference: Reference, column: Column) -> Ints | None:
    """A record's counts of one column among none of the others, int64[columns, cells]; None against another reference."""
    if column.name not in reference.names or len(column.counts) != reference.shape[1]:
        return None
    counts = np.zeros(reference.shape, np.int64)
    counts[reference.names.index(column.name)] = column.counts
    return counts


def column_bars(caption: Caption, reference: Reference, column: Column) -> str | None:
    """Shares of training and window in every cell; None where the record was counted against another reference."""
    counts = counts_of(reference, column)
    return None if counts is None else bars(caption, cells(reference, column.name, fold(reference, counts)))


def bars(caption: Caption, told: Sequence[Cell]) -> str:
    """Two bars a cell, in the order given; of many cells those with the greatest part in the PSI."""
    shown = list(told)
    if len(shown) > MOST_CELLS:
        greatest = sorted((c.psi if math.isfinite(c.psi) else 0.0 for c in told), reverse=True)
        shown = [c for c in told if (c.psi if math.isfinite(c.psi) else 0.0) >= greatest[MOST_CELLS - 1]][:MOST_CELLS]
    labels = [c.label if len(c.label) <= _LABEL_CHARACTERS else c.label[: _LABEL_CHARACTERS - 1] + "…" for c in shown]
    left = round(14 + _CHARACTER * max(map(len, labels), default=0))
    most = max((x for c in shown for x in (c.trained, c.seen) if math.isfinite(x)), default=0.0) or 1.0
    scale = (WIDTH - left - _RIGHT) / most
    drawn: list[str] = []
    for i, (cell, label) in enumerate(zip(shown, labels, strict=True)):
        top = _TOP + i * _ROW
        drawn.append(f'<text class="tick" x="{left - 7}" y="{top + 11}" text-anchor="end">{text(label)}</text>')
        for style, share, down in (("trained", cell.trained, 1), ("served", cell.seen, 8)):
            wide = number(max(share * scale, 0.0) if math.isfinite(share) else 0.0)
            drawn.append(f'<rect class="bar {style}" x="{left}" y="{top + down}" width="{wide}" height="7" rx="1"/>')
        end = left + scale * max((x for x in (cell.trained, cell.seen) if math.isfinite(x)), default=0.0) + 5
        if math.isfinite(cell.seen):
            drawn.append(f'<text class="tick" x="{number(end)}" y="{top + 12}">{cell.seen:.1%}</text>')
    height = _TOP + len(shown) * _ROW + 6
    return drawing(caption.name, caption.title, caption.description, drawn, height=height)
