"""Where each look of a plan finds its row: by a guess where rows came in order, by looking through the window otherwise. Core.

Nearly all rows stand where counting back from the newest leads, one place a bar. `SetWindows.guess` proves for each look
whether it does; only rows with a look it cannot prove (a gap, a late or revised row, one not known yet, too short a
window) are looked up by `View`, which defines what is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streams.ring import View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streams.plan import Lookup
    from streams.records import FeatureBatch
    from streams.ring import SetWindows


@dataclass(frozen=True, slots=True)
class Found:
    """What one look found: its instant int64 (rows,), the greatest age there, place and event time (-1: none) of the row."""

    look: Lookup
    instant: NDArray[np.int64]
    max_age_us: NDArray[np.int64] | int | None
    place: NDArray[np.intp]
    event: NDArray[np.int64]


def find(
    windows: SetWindows, looks: Sequence[Lookup], slots: NDArray[np.intp], trigger: FeatureBatch, later: NDArray[np.int64] | int
) -> list[Found]:
    """Look each trigger row up in one feature set; `later`: how many rows of the batch follow in the same window."""
    at = [look.instants(trigger.ts_event_us) for look in looks]
    instants = np.array([instant for instant, _ in at])  # (looks, rows)
    back = np.array([[look.rows_back()] for look in looks])
    depths = np.array([[look.depth_rows] for look in looks])
    place, event, certain = windows.guess(
        slots,
        later=later,
        back=back,
        instant_us=instants,
        decision_us=trigger.ts_known_us,
        offset=trigger.offset,
        depth_rows=depths,
    )
    if not certain.all():
        rows = np.flatnonzero(~certain.all(axis=0))
        view = View(windows, slots[rows], trigger.ts_known_us[rows], trigger.offset[rows])
        for i, look in enumerate(looks):
            if certain[i].all():
                continue
            place[i, rows], event[i, rows] = view.newest_at(instants[i, rows], depth_rows=look.depth_rows)
    return [Found(look, *at[i], place[i], event[i]) for i, look in enumerate(looks)]


def rows_to_come(slots: NDArray[np.intp]) -> NDArray[np.int64]:
    """For each row, how many later ones have its slot: int64 (rows,).

    >>> rows_to_come(np.array([4, 2, 4, 4])).tolist()
    [2, 0, 1, 0]
    """
    order = np.argsort(slots, kind="stable")
    ends = np.flatnonzero(np.diff(slots[order], append=-1)) + 1
    out = np.empty(len(slots), dtype=np.int64)
    out[order] = np.repeat(ends, np.diff(ends, prepend=0)) - 1 - np.arange(len(slots))
    return out
