"""Which model version serves at which event time. Core: an immutable list of entries and one search.

A version serves the rows whose event time is at or after its `effective_from_us`, until the next entry's:

    entries        (0, "1")   (1000, "2")   (5000, "1")
    event time     -1    0    999    1000    4999    5000
    version        none  "1"  "1"    "2"     "2"     "1"

The answer depends on a row's event time and nothing else, so it is the same for every worker, chunking and replay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from models.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

NONE_SERVES = -1
"""The index `version_at` gives for a row before the first entry."""

FROM_THE_START_US = -(2**63)
"""An `effective_from_us` before every event time: for the first version of a model."""


@dataclass(frozen=True, slots=True)
class Entry:
    """From this event time on (inclusive), this version serves."""

    effective_from_us: int
    version: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Entries in strictly ascending `effective_from_us`. Changing it means making another."""

    entries: tuple[Entry, ...] = ()
    _starts_us: NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for earlier, later in pairwise(self.entries):
            if later.effective_from_us <= earlier.effective_from_us:
                msg = (
                    f"timeline: version {later.version!r} takes effect at {later.effective_from_us}, not after version "
                    f"{earlier.version!r} at {earlier.effective_from_us}; entries must ascend"
                )
                raise ModelError(msg)
        object.__setattr__(self, "_starts_us", np.array([e.effective_from_us for e in self.entries], dtype=np.int64))

    def then(self, entry: Entry) -> Timeline:
        """The timeline with one more entry, which must take effect after the last."""
        return Timeline((*self.entries, entry))


def version_at(timeline: Timeline, event_times_us: NDArray[np.int64]) -> NDArray[np.intp]:
    """Index into ``timeline.entries`` of the entry that serves each event time, intp[rows]; -1 before the first.

    >>> swaps = Timeline((Entry(0, "1"), Entry(1000, "2")))
    >>> version_at(swaps, np.array([-1, 0, 999, 1000])).tolist()
    [-1, 0, 0, 1]
    """
    # One integer type throughout: mixed with uint64 numpy would search in float64 and lose microseconds.
    starts_us = timeline._starts_us  # noqa: SLF001 - the search is the class's other half
    return np.searchsorted(starts_us, np.asarray(event_times_us, dtype=np.int64), side="right") - 1
