"""Which keys were stored lately: hashes of whole batches, to see that a batch brings nothing twice. Core.

Nearly every batch is new altogether, and looking that up in what is stored costs more than storing it. Equal keys have
equal hashes, so a batch without a hash in common with those it could repeat repeats none. Where hashes meet, or older
batches would have to be asked, the answer is "perhaps", and the caller looks at the keys themselves.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_BATCHES = 64
"""Remembered of a table; of 16,384 rows each they are 8 MB."""


class _Batch(NamedTuple):
    first: int
    last: int
    hashes: NDArray[np.uint64]  # ascending


class RecentKeys:
    """The batches stored last of one table, by the bounds of their times, both inclusive.

    >>> recent = RecentKeys(older=9)
    >>> hashes = np.array([3, 5], dtype=np.uint64)
    >>> recent.new(hashes, first=10, last=12)
    True
    >>> recent.add(hashes, first=10, last=12)
    >>> recent.new(hashes[:1], first=11, last=11), recent.new(hashes, first=13, last=14), recent.new(hashes, first=9, last=9)
    (False, True, False)
    """

    def __init__(self, *, older: int | None) -> None:
        """`older`: the latest time among rows stored that are not remembered, None when there are none."""
        self._older = older
        self._batches: deque[_Batch] = deque()

    def new(self, hashes: NDArray[np.uint64], *, first: int, last: int) -> bool:
        """Whether surely no key of this batch was stored, nor stands twice in it. `hashes`: uint64 (rows,)."""
        if self._older is not None and first <= self._older:
            return False
        ascending = np.sort(hashes)
        if (ascending[1:] == ascending[:-1]).any():
            return False
        near = [b.hashes for b in self._batches if b.first <= last and b.last >= first]
        return not any(_meet(ascending, others) for others in near)

    def add(self, hashes: NDArray[np.uint64], *, first: int, last: int) -> None:
        """Remember a batch that is stored now; its rows may be remembered already."""
        self._batches.append(_Batch(first, last, np.sort(hashes)))
        if len(self._batches) > MOST_BATCHES:
            gone = self._batches.popleft().last
            self._older = gone if self._older is None else max(self._older, gone)


def _meet(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> bool:
    """Whether two ascending arrays have a number in common."""
    both = np.concatenate([one, other])
    both.sort(kind="stable")  # two ascending runs: merged, not sorted
    return bool((both[1:] == both[:-1]).any())
