"""Which offsets may be committed: only a contiguous prefix of what was delivered. Core.

Offsets of one partition come as spans, in order; gaps inside and between them (compaction, transaction markers)
hold nothing to lose. A span is done when everything it led to has been handed over; the committable offset is the
end of the longest done prefix in delivery order, so a chunk still in flight holds back all behind it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


@dataclass(slots=True, eq=False)
class Span:
    """Offsets [first, end) of one partition, delivered together."""

    partition: Hashable
    first: int
    end: int
    done: bool = False


class SpanTracker:
    """Spans in flight by partition."""

    def __init__(self) -> None:
        self._spans: dict[Hashable, deque[Span]] = {}
        self._ready: dict[Hashable, int] = {}
        self._began: dict[Hashable, int] = {}

    def add(self, partition: Hashable, *, first: int, end: int) -> Span:
        """Track offsets just delivered, which must lie after those tracked before."""
        if end <= first:
            raise ValueError(f"span [{first}, {end}) of {partition} is empty")
        spans = self._spans.setdefault(partition, deque())
        last = spans[-1].end if spans else self._ready.get(partition)
        if last is not None and first < last:
            raise ValueError(f"span [{first}, {end}) of {partition} begins before {last}, where the last one ended")
        self._began.setdefault(partition, first)
        span = Span(partition, first, end)
        spans.append(span)
        return span

    def finish(self, span: Span) -> None:
        """Mark a span done. A span forgotten since (its partition was revoked) is ignored."""
        span.done = True
        spans = self._spans.get(span.partition)  # a new deque after a reset: the forgotten span is not in it
        while spans and spans[0].done:
            self._ready[span.partition] = spans.popleft().end

    def committable(self) -> dict[Hashable, int]:
        """Next offset to read by partition, as a commit wants it, for partitions with a done prefix."""
        return dict(self._ready)

    def began(self) -> dict[Hashable, int]:
        """Where reading began by partition, since the tracker was made or reset."""
        return dict(self._began)

    def in_flight(self) -> int:
        """Spans delivered but not done."""
        return sum(len(s) for s in self._spans.values())

    def reset(self) -> None:
        """Forget everything: reading starts again from the committed offsets."""
        self._spans.clear()
        self._ready.clear()
        self._began.clear()
