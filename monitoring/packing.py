"""Little-endian bytes with the layout number first: how the monitor's state is stored.

Core. Layout: u16 layout number; then, in the writer's order, i64 numbers, texts (i64 length, UTF-8), raw bytes
and arrays of counts (u32 each, row by row). Nothing is padded.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from monitoring.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Collection

    from monitoring.reference import Ints

_MOST = 2**32 - 1


class Writer:
    """Gathers one packed value.

    >>> w = Writer(1)
    >>> w.text("a")
    >>> w.ints(7)
    >>> w.done().hex(" ", 2)
    '01 0001 0000 0000 0000 0061 0700 0000 0000 0000'
    """

    def __init__(self, layout: int) -> None:
        self._parts = [struct.pack("<H", layout)]

    def raw(self, data: bytes) -> None:
        """Bytes whose length the reader knows."""
        self._parts.append(data)

    def ints(self, *numbers: int) -> None:
        """Numbers as i64."""
        self._parts.append(struct.pack(f"<{len(numbers)}q", *numbers))

    def text(self, text: str) -> None:
        """Length in bytes, then UTF-8."""
        data = text.encode()
        self.ints(len(data))
        self.raw(data)

    def counts(self, counts: Ints) -> None:
        """Counts as u32; their shape is the reader's to know."""
        if counts.size and int(counts.max()) > _MOST:
            raise StateError(f"a bin holds {counts.max()} rows, more than u32; make `monitoring.metrics_window` shorter")
        self.raw(counts.astype("<u4").tobytes())

    def done(self) -> bytes:
        """All of it."""
        return b"".join(self._parts)


class Reader:
    """Reads what a `Writer` wrote; every fault is a `StateError` that names `what`."""

    def __init__(self, data: bytes, layouts: Collection[int], *, what: str) -> None:
        self._data, self._at, self._what = data, 0, what
        self.layout: int = struct.unpack("<H", self.raw(2))[0]
        if self.layout not in layouts:
            raise StateError(
                f"packed {what} have layout {self.layout}, this version reads {sorted(layouts)}; start them afresh from the log"
            )

    def raw(self, length: int) -> bytes:
        """The next `length` bytes."""
        if length < 0 or self._at + length > len(self._data):
            raise StateError(f"packed {self._what} end early, at byte {len(self._data)}; start them afresh from the log")
        self._at += length
        return self._data[self._at - length : self._at]

    def ints(self, how_many: int) -> tuple[int, ...]:
        """The next i64 numbers."""
        return struct.unpack(f"<{how_many}q", self.raw(8 * how_many))

    def text(self) -> str:
        """The next text."""
        try:
            return self.raw(self.ints(1)[0]).decode()
        except UnicodeDecodeError as e:
            raise StateError(f"packed {self._what} hold a text that is not UTF-8; start them afresh from the log") from e

    def counts(self, shape: tuple[int, int]) -> Ints:
        """The next array of counts, of the shape given."""
        flat = np.frombuffer(self.raw(4 * shape[0] * shape[1]), "<u4")
        return flat.astype(np.int64).reshape(shape)

    def end(self) -> None:
        """Nothing may be left."""
        if self._at != len(self._data):
            extra = len(self._data) - self._at
            raise StateError(f"packed {self._what} have {extra} bytes too many; start them afresh from the log")
