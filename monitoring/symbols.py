"""Symbols as numbers: what the arrays of labels hold in place of names. Core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from monitoring.reference import Ints


class Symbols:
    """Names and their codes, given in the order the names came; ranks tell the order of the names themselves.

    >>> symbols = Symbols()
    >>> symbols.codes(["MSFT", "AAPL", "MSFT"]).tolist()
    [0, 1, 0]
    >>> symbols.ordered(), symbols.ranks().tolist()
    (('AAPL', 'MSFT'), [1, 0])
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.longest = 0
        """Bytes of the longest name in UTF-8."""
        self._codes: dict[str, int] = {}
        self._ordered: tuple[str, ...] = ()
        self._ranks: Ints = np.empty(0, np.int64)
        self._learn(names)

    def __len__(self) -> int:
        return len(self._codes)

    def names(self) -> list[str]:
        """All names, by code."""
        return list(self._codes)

    def codes(self, names: Sequence[str]) -> Ints:
        """Codes int64[rows] of these names."""
        try:
            return np.fromiter(map(self._codes.__getitem__, names), np.int64, len(names))
        except KeyError:
            self._learn(names)
            return np.fromiter(map(self._codes.__getitem__, names), np.int64, len(names))

    def ordered(self) -> tuple[str, ...]:
        """All names, ascending: the same tuple until a new one comes."""
        self._order()
        return self._ordered

    def ranks(self) -> Ints:
        """By code: the name's place in `ordered`. A new name moves others, and leaves their order among themselves as it is."""
        self._order()
        return self._ranks

    def _learn(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._codes:
                self._codes[name] = len(self._codes)
                self.longest = max(self.longest, len(name.encode()))

    def _order(self) -> None:
        if len(self._ordered) == len(self._codes):
            return
        self._ordered = tuple(sorted(self._codes))
        self._ranks = np.empty(len(self._codes), np.int64)
        self._ranks[self.codes(self._ordered)] = np.arange(len(self._codes))
