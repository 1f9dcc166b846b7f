"""Only a contiguous prefix is ever committed: the tracker against a list that remembers everything."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.spans import Span, SpanTracker

PARTITIONS = ("p", "q")


class Remembered:
    """The same in the plainest way: all spans, and which are done."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.done: set[int] = set()

    def committable(self) -> dict[str, int]:
        out: dict[str, int] = {}
        for p in PARTITIONS:
            for at, s in enumerate(self.spans):
                if s.partition == p:
                    if at not in self.done:
                        break
                    out[p] = s.end
        return out


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(["add", "finish", "finish", "reset"]), st.integers(0, 99)), max_size=60))
def test_the_tracker_equals_brute_force(steps: list[tuple[str, int]]) -> None:
    tracker, plain = SpanTracker(), Remembered()
    ends = dict.fromkeys(PARTITIONS, 0)
    began: dict[str, int] = {}
    forgotten: list[Span] = []
    for what, n in steps:
        if what == "add":
            p = PARTITIONS[n % 2]
            first = ends[p] + (n % 5 == 0) * n  # now and then a gap, as compaction leaves them
            ends[p] = first + 1 + n % 7
            began.setdefault(p, first)
            plain.spans.append(tracker.add(p, first=first, end=ends[p]))
        elif what == "finish" and (everything := plain.spans + forgotten):
            span = everything[n % len(everything)]
            tracker.finish(span)  # again, or after a reset, changes nothing
            if span in plain.spans:
                plain.done.add(plain.spans.index(span))
        elif what == "reset" and n < 20:
            tracker.reset()
            forgotten += plain.spans
            plain = Remembered()
            ends = dict.fromkeys(PARTITIONS, n % 4)  # reading starts again from what was committed
            began = {}
        assert tracker.committable() == plain.committable()
        assert tracker.began() == began
        open_spans = 0
        for p in PARTITIONS:
            mine = [at for at, s in enumerate(plain.spans) if s.partition == p]
            prefix = next((i for i, at in enumerate(mine) if at not in plain.done), len(mine))
            open_spans += len(mine) - prefix
        assert tracker.in_flight() == open_spans


def test_a_hole_holds_back_all_behind_it() -> None:
    tracker = SpanTracker()
    first, second, third = (tracker.add("p", first=n, end=n + 10) for n in (0, 10, 20))
    tracker.finish(third)
    tracker.finish(second)
    assert tracker.committable() == {}
    tracker.finish(first)
    assert tracker.committable() == {"p": 30}
    assert tracker.in_flight() == 0


def test_partitions_do_not_wait_for_each_other() -> None:
    tracker = SpanTracker()
    tracker.add("p", first=0, end=5)
    tracker.finish(tracker.add("q", first=7, end=9))
    assert tracker.committable() == {"q": 9}


def test_a_forgotten_span_counts_for_nothing() -> None:
    tracker = SpanTracker()
    old = tracker.add("p", first=0, end=50)
    tracker.reset()
    new = tracker.add("p", first=0, end=5)
    tracker.finish(old)
    assert tracker.committable() == {}
    tracker.finish(new)
    assert tracker.committable() == {"p": 5}


def test_spans_that_are_empty_or_go_back_are_refused() -> None:
    tracker = SpanTracker()
    with pytest.raises(ValueError, match=r"span \[5, 5\) of p is empty"):
        tracker.add("p", first=5, end=5)
    span = tracker.add("p", first=5, end=8)
    with pytest.raises(ValueError, match=r"span \[7, 9\) of p begins before 8"):
        tracker.add("p", first=7, end=9)
    tracker.finish(span)
    with pytest.raises(ValueError, match="begins before 8"):
        tracker.add("p", first=0, end=9)
