"""From what was observed to figures: medians with their range, gaps between predictions, the phases of a start."""

from __future__ import annotations

import itertools
import re
import statistics
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Median, least and greatest of a few runs, and how many these were.

    >>> spread([3.0, 1.0, 2.0])
    {'median': 2.0, 'min': 1.0, 'max': 3.0, 'runs': 3}
    """
    middle, least, greatest = (round(f(values), digits) for f in (statistics.median, min, max))
    return {"median": middle, "min": least, "max": greatest, "runs": len(values)}


def longest_gaps_ms(times_ms: Mapping[int, Sequence[int]], *, start_ms: int, end_ms: int) -> dict[int, int]:
    """Longest time without a prediction by partition, of the gaps that begin or end between two moments, or span them.

    `times_ms`: when each partition's predictions were sent, in any order. A partition with no prediction after `end_ms`
    or none before `start_ms` raises `ValueError`: how long its gap was cannot be said.

    >>> longest_gaps_ms({0: [0, 10, 90, 100, 500]}, start_ms=20, end_ms=100)
    {0: 400}
    """
    found = {}
    for partition, times in times_ms.items():
        ordered = sorted(times)
        if not ordered or ordered[0] > start_ms or ordered[-1] < end_ms:
            raise ValueError(f"partition {partition} has no predictions on both sides of {start_ms} to {end_ms}")
        pairs = itertools.pairwise(ordered)
        found[partition] = max((b - a for a, b in pairs if b >= start_ms and a <= end_ms), default=0)
    return found


def said_at(log: str, event: str) -> float | None:
    """When a worker first wrote this event into its log, seconds since 1970 UTC; None if it has not.

    >>> said_at("timestamp='1970-01-01T00:01:00.5Z' level='info' event='worker starts' group='inference'", "worker starts")
    60.5
    """
    found = re.search(rf"timestamp='([^']+)' level='\w+' event='{re.escape(event)}'", log)
    return None if found is None else datetime.fromisoformat(found.group(1)).timestamp()
