"""Counts of windows made again, in one batch, from the rows that were stored: to hold the monitor's sums of panes against.

Core. Windows overlap, so rows are counted once for each stretch between two neighbouring bounds of windows, and a window is the
sum of its stretches. Stretches and windows are open at the start and closed at the end.

| windows (0, 20] (10, 30] | stretches (0, 10] (10, 20] (20, 30] | row at 10: in the first, row at 11: in both |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from monitoring.drift import count
from monitoring.errors import BadReferenceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from monitoring.reference import Floats, Ints, Reference


class Recount:
    """Counts of given windows, from rows in any order. One owner."""

    def __init__(self, reference: Reference, windows: Iterable[tuple[int, int]]) -> None:
        """`windows`: (start_us, end_us]."""
        self._reference = reference
        self._bounds = np.unique(np.array([bound for window in windows for bound in window], np.int64))
        self._counts = np.zeros((max(len(self._bounds) - 1, 0), *reference.shape), np.int64)

    def add(self, values: Floats, ts_event_us: Ints) -> None:
        """Count rows: values float64[rows, columns], ts_event_us int64[rows]; rows outside all windows are passed over."""
        stretch = np.searchsorted(self._bounds, ts_event_us, "left") - 1
        for k in np.unique(stretch[(stretch >= 0) & (stretch < len(self._counts))]).tolist():
            self._counts[k] += count(self._reference, values[stretch == k])

    def window(self, start_us: int, end_us: int) -> Ints:
        """Counts int64[columns, cells] of one of the windows."""
        first, last = np.searchsorted(self._bounds, [start_us, end_us])
        counts: Ints = self._counts[first:last].sum(axis=0)
        return counts


@dataclass(frozen=True, slots=True)
class Difference:
    """What the record of a window says otherwise than the rows stored.

    `late`: rows that are stored and were not counted; `lacking`: counted and not stored. Both are 0 where as many rows differ
    in their values.
    """

    start_us: int
    end_us: int
    columns: tuple[str, ...]
    late: int
    lacking: int


def difference(
    reference: Reference, recorded: Sequence[Mapping[str, object]], counted: Ints, *, start_us: int, end_us: int
) -> Difference | None:
    """Compare a record's columns (each with `name` and `counts`) with counts int64[columns, cells]; None where they are equal.

    Raises `BadReferenceError` where the record was counted against another reference.
    """
    said = {str(column["name"]): column["counts"] for column in recorded}
    width = reference.shape[1]
    if set(said) != set(reference.names) or any(not isinstance(c, list) or len(c) != width for c in said.values()):
        raise BadReferenceError(
            f"the window to {end_us} us was counted against another reference: its columns or cells are not those of this version"
        )
    before = np.array([said[name] for name in reference.names], np.int64)
    differing = np.flatnonzero((before != counted).any(axis=1))
    if not len(differing):
        return None
    more = counted.sum(axis=1) - before.sum(axis=1)
    return Difference(
        start_us,
        end_us,
        tuple(reference.names[c] for c in differing.tolist()),
        late=max(int(more.max()), 0),
        lacking=max(int(-more.min()), 0),
    )
