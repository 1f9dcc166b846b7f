"""What is known of the keys stored last: it never calls a key new that was stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring import recent_keys
from monitoring.recent_keys import RecentKeys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# A key is its hash and its time; few of each, so that batches meet often.
BATCHES = st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(-5, 30)), min_size=1, max_size=6), max_size=12)


def hashes(*keys: int) -> NDArray[np.uint64]:
    return np.array(keys, dtype=np.uint64)


@given(before=st.lists(st.tuples(st.integers(0, 40), st.integers(-5, 10)), max_size=4), batches=BATCHES, most=st.integers(1, 4))
def test_what_it_calls_new_was_never_stored(
    before: Sequence[tuple[int, int]], batches: Sequence[Sequence[tuple[int, int]]], most: int
) -> None:
    """Also of rows there before it was made, of batches forgotten since, and of those stored in spite of the answer."""
    stored = set(before)
    recent = RecentKeys(older=max((at for _, at in before), default=None))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(recent_keys, "MOST_BATCHES", most)
        for batch in batches:
            first, last = min(at for _, at in batch), max(at for _, at in batch)
            if recent.new(hashes(*(key for key, _ in batch)), first=first, last=last):
                assert len(set(batch)) == len(batch)
                assert not stored & set(batch)
            stored |= set(batch)
            recent.add(hashes(*(key for key, _ in batch)), first=first, last=last)


@given(st.lists(st.integers(1, 5), max_size=recent_keys.MOST_BATCHES), st.data())
def test_batches_with_keys_of_their_own_are_new(sizes: Sequence[int], data: st.DataObject) -> None:
    """In whatever order their times come, as long as all of them are remembered: the answer is of use."""
    keys = iter(data.draw(st.permutations(range(sum(sizes)))))
    recent = RecentKeys(older=None)
    for size in sizes:
        batch = hashes(*(next(keys) for _ in range(size)))
        first = data.draw(st.integers(-9, 9))
        assert recent.new(batch, first=first, last=first + size)
        recent.add(batch, first=first, last=first + size)


def test_what_is_forgotten_is_perhaps_stored() -> None:
    recent = RecentKeys(older=None)
    for i in range(recent_keys.MOST_BATCHES + 1):
        recent.add(hashes(i), first=10 * i, last=10 * i + 5)
    assert not recent.new(hashes(999), first=5, last=9), "the oldest batch reached to 5 and is forgotten"
    assert recent.new(hashes(999), first=6, last=9)


def test_one_forgotten_batch_from_the_future_makes_all_before_it_perhaps_stored() -> None:
    recent = RecentKeys(older=3)
    recent.add(hashes(1), first=1_000, last=1_000)
    for i in range(recent_keys.MOST_BATCHES + 1):  # one of these is forgotten too, which takes nothing back
        recent.add(hashes(10 + i), first=10, last=10)
    assert not recent.new(hashes(999), first=1_000, last=1_001)
    assert recent.new(hashes(999), first=1_001, last=1_001)


@pytest.mark.parametrize("largest", [2**64 - 1, 2**63])
def test_hashes_use_all_their_bits(largest: int) -> None:
    recent = RecentKeys(older=None)
    recent.add(hashes(largest, 0), first=0, last=0)
    assert not recent.new(hashes(largest), first=0, last=0)
    assert recent.new(hashes(largest - 1, 1), first=0, last=0)
    assert not recent.new(hashes(7, largest - 1, 7), first=0, last=0), "twice in one batch"
