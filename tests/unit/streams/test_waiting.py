"""A partition's stream time in two table values is known at every offset that either knows it at."""

from __future__ import annotations

import numpy as np
import pytest

from streams.group import RULES
from streams.pipeline import STREAM_TIME
from streams.state import SymbolState, pack
from streams.topics import PANES_TABLE, WINDOWS_TABLE
from streams.waiting import StreamTime, Ticks, joined_times

KEY = STREAM_TIME.encode()


def value(*pairs: tuple[int, int]) -> bytes:
    return b"\x01" + np.array(pairs, dtype="<i8").tobytes()


def test_a_worker_goes_on_from_the_time_at_its_offset_whichever_value_came_last() -> None:
    """One worker wrote up to 120 and was not heard of again; the next began at 50 and committed 70."""
    ahead, committed = value((50, 5), (120, 12)), value((50, 5), (70, 7))
    for held, came in ((ahead, committed), (committed, ahead)):
        joined = joined_times(held, came)
        assert joined == value((50, 5), (70, 7), (120, 12))
        times = StreamTime()
        times.start(0, 70, joined)
        times.read_up_to(0, 71)
        assert times.take_dirty() == [(0, value((50, 5), (70, 7), (71, 7)))]


def test_one_writers_values_in_a_row_leave_the_last_as_it_was_written() -> None:
    """So a folder rebuilt from the changelog holds the bytes of the one that was lost."""
    before, after = value((10, 1), (20, 2), (30, 3)), value((20, 2), (30, 3), (40, 4))
    assert joined_times(before, after) == after
    assert joined_times(value(), after) == after


def test_joined_times_are_bounded_and_the_newest_are_kept() -> None:
    joined = value((0, 0))
    for n in range(1, 200):
        joined = joined_times(joined, value((n, n)))
    assert joined == value(*((n, n) for n in range(136, 200)))


@pytest.mark.parametrize(("held", "came"), [(b"\x02", value((1, 1))), (value((1, 1)), b"\x02")])
def test_of_a_value_that_cannot_be_read_the_later_stands(held: bytes, came: bytes) -> None:
    assert joined_times(held, came) == came


def test_the_windows_table_has_a_rule_for_symbols_and_stream_time_and_the_panes_table_none() -> None:
    rule = RULES[WINDOWS_TABLE]
    early, late = pack(SymbolState(7, {})), pack(SymbolState(9, {}))
    assert rule(b"A", late, early) == rule(b"A", early, late) == late
    assert rule(KEY, value((9, 9)), value((7, 7))) == value((7, 7), (9, 9))
    assert PANES_TABLE not in RULES


def test_ticks_say_where_a_deadline_is_reached() -> None:
    ticks = Ticks(np.array([3, 5, 8]), np.array([10, 20, 20]))
    assert ticks.reaches(15, from_offset=0) == 5
    assert ticks.reaches(15, from_offset=6) == 8
    assert ticks.reaches(21, from_offset=0) is None
