"""How many distinct event times a pane holds, in bounded space. Core.

Up to `MOST` they are counted exactly. Beyond, it is an estimate: every time is hashed to a number that looks drawn from [0, 1)
and only the `MOST` smallest are kept; if d distinct numbers fill [0, 1) evenly, the k-th smallest lies at about k / d. So

    d = (k - 1) / (the k-th smallest)        standard error d / sqrt(k - 2), 4.4 % with k = 512

(Bar-Yossef et al. 2002, "Counting distinct elements in a data stream"; unbiased as in Beyer et al. 2007.) Which numbers are kept
does not depend on the order or the grouping of the rows, so replays and cuts change nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from monitoring.reference import Ints

MOST: Final = 512
"""Most hashed event times that are kept of a pane."""

Sketch = NDArray[np.uint64]
"""Ascending, distinct, at most `MOST`."""

EMPTY: Final[Sketch] = np.empty(0, np.uint64)


def hashed(ts_us: Ints) -> Sketch:
    """Event times as uint64 that look random; distinct times stay distinct (the finaliser of SplitMix64, Steele et al. 2014)."""
    x = ts_us.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def joined(held: Sketch, more: Sketch) -> Sketch:
    """The sketch of both: `more` are hashed times in any order, repeated or not.

    >>> both = joined(joined(EMPTY, hashed(np.array([60, 120, 60]))), hashed(np.array([180, 60])))
    >>> distinct(both)
    3
    """
    return np.unique(np.concatenate((held, more)))[:MOST]


def distinct(sketch: Sketch) -> int:
    """How many distinct times went in."""
    if len(sketch) < MOST:
        return len(sketch)
    return round((MOST - 1) * 2.0**64 / float(sketch[-1]))
