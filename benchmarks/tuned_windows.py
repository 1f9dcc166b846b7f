"""Windows of the tuned loop: one ring of rows a symbol, all symbols in one array, filled and read batch by batch.

It takes the shortest way that is right for rows in order: n bars back is the n-th row back, provided its event time says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

CAPACITY = 64  # a power of two, so that a place in the ring is a bit mask


class Windows:
    """`load`: symbol → its packed window, None if it has none; asked once, when the symbol is first seen."""

    def __init__(
        self,
        *,
        features: int,
        lags_bars: Sequence[int],
        bar_us: int,
        depth: int,
        load: Callable[[str], bytes | None] = lambda _symbol: None,
    ) -> None:
        self._lags = np.array(lags_bars, dtype=np.int64)
        self._lags_us = self._lags * bar_us
        self._depth = depth
        self._load = load
        self._slot: dict[str, int] = {}
        self.symbols: list[str] = []
        self._event = np.full((0, CAPACITY), -1, dtype=np.int64)  # (slots, capacity)
        self._values = np.empty((0, CAPACITY, features), dtype=np.float64)  # (slots, capacity, features)
        self._count = np.zeros(0, dtype=np.int64)

    @property
    def batch_limit(self) -> int:
        """Rows of one symbol that one `push` may bring."""
        return CAPACITY - self._depth

    def slots(self, symbols: Sequence[str]) -> NDArray[np.intp]:
        """Slot of each symbol; new ones get one."""
        have = self._slot
        try:
            return np.array([have[s] for s in symbols], dtype=np.intp)
        except KeyError:
            for symbol in symbols:
                if symbol not in have:
                    self._admit(symbol)
            return np.array([have[s] for s in symbols], dtype=np.intp)

    def push(self, slots: NDArray[np.intp], event_us: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Append rows and return their vectors, float64 (rows, lags * features), lag by lag; NaN where no row was.

        Raises `ValueError` when a symbol has more than `batch_limit` rows: cut the batch before.
        """
        n = len(slots)
        order = np.argsort(slots, kind="stable")
        ordered = slots[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        sizes = np.diff(np.r_[starts, n])
        if sizes.max() > self.batch_limit:
            raise ValueError(f"{sizes.max()} rows of one symbol in a batch; at most {self.batch_limit} are right")
        at = np.empty(n, dtype=np.int64)
        at[order] = self._count[ordered] + np.arange(n) - np.repeat(starts, sizes)
        self._count[ordered[starts]] += sizes
        place = at & (CAPACITY - 1)
        self._event[slots, place] = event_us
        self._values[slots, place] = values
        back = (at[:, None] - self._lags) & (CAPACITY - 1)  # (rows, lags)
        found = self._values[slots[:, None], back]  # (rows, lags, features)
        there = self._event[slots[:, None], back] == event_us[:, None] - self._lags_us
        if not there.all():
            found[~there] = np.nan
        vectors: NDArray[np.float64] = found.reshape(n, -1)
        return vectors

    def pack(self, slots: NDArray[np.intp]) -> list[bytes]:
        """The windows of these slots as bytes: event times int64[depth], then values float64[depth, features]."""
        back = (self._count[slots][:, None] - np.arange(self._depth, 0, -1)) & (CAPACITY - 1)
        event, values = self._event[slots[:, None], back], self._values[slots[:, None], back]
        return [e.tobytes() + v.tobytes() for e, v in zip(event, values, strict=True)]

    def _admit(self, symbol: str) -> None:
        slot = self._slot[symbol] = len(self.symbols)
        self.symbols.append(symbol)
        if slot >= len(self._count):
            room = max(64, slot)
            features = self._values.shape[2]
            self._event = np.concatenate([self._event, np.full((room, CAPACITY), -1, dtype=np.int64)])
            self._values = np.concatenate([self._values, np.full((room, CAPACITY, features), np.nan)])
            self._count = np.concatenate([self._count, np.zeros(room, dtype=np.int64)])
        held = self._load(symbol)
        if held is not None:
            self._event[slot, : self._depth] = np.frombuffer(held, np.int64, self._depth)
            self._values[slot, : self._depth] = np.frombuffer(held, np.float64, -1, 8 * self._depth).reshape(self._depth, -1)
            self._count[slot] = self._depth
