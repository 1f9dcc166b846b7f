from __future__ import annotations

import numpy as np
import pytest

from models.errors import ModelError
from models.timeline import FROM_THE_START_US, NONE_SERVES, Entry, Timeline, version_at


def test_a_version_serves_from_its_effective_time_inclusive_until_the_next() -> None:
    timeline = Timeline((Entry(0, "1"), Entry(1000, "2"), Entry(5000, "1")))
    at = version_at(timeline, np.array([-1, 0, 999, 1000, 4999, 5000]))
    assert at.tolist() == [NONE_SERVES, 0, 0, 1, 1, 2]


def test_an_empty_timeline_serves_nothing() -> None:
    assert version_at(Timeline(), np.array([0, 1])).tolist() == [NONE_SERVES, NONE_SERVES]


def test_from_the_start_is_before_every_event_time() -> None:
    assert version_at(Timeline((Entry(FROM_THE_START_US, "1"),)), np.array([-(2**63), 0])).tolist() == [0, 0]


def test_microseconds_are_not_lost_in_a_float_search() -> None:
    swap_us = 1_795_500_294_355_001
    timeline = Timeline((Entry(0, "1"), Entry(swap_us, "2")))
    assert version_at(timeline, np.array([swap_us - 1, swap_us], dtype=np.uint64).astype(np.int64)).tolist() == [0, 1]


def test_entries_must_ascend() -> None:
    with pytest.raises(ModelError, match="version '2' takes effect at 5, not after version '1' at 5"):
        Timeline((Entry(5, "1"), Entry(5, "2")))


def test_then_leaves_the_old_timeline_as_it_was() -> None:
    old = Timeline((Entry(0, "1"),))
    new = old.then(Entry(10, "2"))
    assert len(old.entries) == 1
    assert version_at(new, np.array([10])).tolist() == [1]
    with pytest.raises(ModelError):
        new.then(Entry(10, "3"))
