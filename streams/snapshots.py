"""Many symbols' windows as table values at once: the bytes `state.pack` gives each, for a tenth of the time. Core.

A checkpoint packs every symbol touched since the last, while no chunk is worked on. Symbols whose windows hold equally many
rows have values of one length, so that a matrix of bytes with a line for each is filled column by column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from streams.state import APPLIED, head_of_set, head_of_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from streams.layout import Layout
    from streams.ring import SetWindows

AT_ONCE: Final = 512
"""Symbols a matrix holds at most, so that it stays in the processor's cache."""


def packed(windows: Mapping[str, SetWindows], layout: Layout, slots: NDArray[np.intp], applied: NDArray[np.int64]) -> list[bytes]:
    """The table value of each slot, none of which has waiting rows; `applied`: their applied offsets."""
    held = np.array([np.minimum(w.count[slots], w.depth) for w in windows.values()])  # (sets, slots)
    out: list[bytes] = [b""] * len(slots)
    alike, of = np.unique(held, axis=1, return_inverse=True)
    for kind, rows in enumerate(alike.T.tolist()):
        members = np.flatnonzero(of.ravel() == kind)
        for start in range(0, len(members), AT_ONCE):
            some = members[start : start + AT_ONCE]
            for i, value in zip(some.tolist(), _alike(windows, layout, slots[some], applied[some], rows), strict=True):
                out[i] = value
    return out


def _alike(
    windows: Mapping[str, SetWindows],
    layout: Layout,
    slots: NDArray[np.intp],
    applied: NDArray[np.int64],
    rows: list[int],
) -> list[bytes]:
    """Values of slots whose windows hold these numbers of rows."""
    head = head_of_value(sets=len(rows))
    columns: list[bytes | NDArray[np.uint8]] = [head[: APPLIED.start], _bytes(applied[:, None]), head[APPLIED.stop :]]
    for (name, w), m in zip(windows.items(), rows, strict=True):
        places = slots[:, None] * w.capacity + (w.count[slots, None] - m + np.arange(m)) % w.capacity  # (slots, m)
        columns.append(head_of_set(name, layout[name].features, rows=m))
        columns += [_bytes(array.ravel().take(places)) for array in (w.key, w.known, w.offset)]
        columns.append(_bytes(w.values.reshape(-1, w.features).take(places, axis=0).reshape(len(slots), -1)))
    widths = [len(c) if isinstance(c, bytes) else c.shape[1] for c in columns]
    lines = np.empty((len(slots), sum(widths)), dtype=np.uint8)
    at = 0
    for column, width in zip(columns, widths, strict=True):
        lines[:, at : at + width] = np.frombuffer(column, dtype=np.uint8) if isinstance(column, bytes) else column
        at += width
    return [line.tobytes() for line in lines]


def _bytes(numbers: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.uint8]:
    """Little-endian bytes of each line, uint8 (lines, 8 * numbers)."""
    return np.ascontiguousarray(numbers, dtype=numbers.dtype.newbyteorder("<")).view(np.uint8)
