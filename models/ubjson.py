"""UBJSON to Python values, every length held against the bytes there are. Shell of `models.native_xgboost`.

XGBoost's own reader trusts the lengths in the file, and reads past its end where one lies. What is read here first has
none that does. Numbers as XGBoost writes them: big-endian, arrays of one type as numpy arrays; a key may stand once.

>>> read(b'{L' + (1).to_bytes(8, "big") + b'a[$i#i' + bytes([2, 7, 8]) + b'}')
{'a': array([7, 8], dtype=int8)}
>>> read(b'{L' + (99).to_bytes(8, "big") + b'a')
Traceback (most recent call last):
...
ValueError: 99 bytes are wanted at byte 10, of 11
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

_NUMBERS: Final[dict[bytes, np.dtype[Any]]] = {
    b"i": np.dtype(">i1"),
    b"U": np.dtype(">u1"),
    b"I": np.dtype(">i2"),
    b"l": np.dtype(">i4"),
    b"L": np.dtype(">i8"),
    b"d": np.dtype(">f4"),
    b"D": np.dtype(">f8"),
}
_WORDS: Final = {b"Z": None, b"T": True, b"F": False}


def read(data: bytes) -> Any:
    """The one value of a file. Raises `ValueError`, and `RecursionError` for nesting without end."""
    reader = _Reader(data)
    value = reader.value(reader.take(1))
    if reader.at != len(data):
        msg = f"{len(data) - reader.at} bytes follow the value"
        raise ValueError(msg)
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.at:
            msg = f"{count} bytes are wanted at byte {self.at}, of {len(self.data)}"
            raise ValueError(msg)
        self.at += count
        return self.data[self.at - count : self.at]

    def value(self, marker: bytes) -> Any:
        if marker in _NUMBERS:
            return self.numbers(marker, 1)[0].item()
        if marker in _WORDS:
            return _WORDS[marker]
        if marker == b"S":
            return self.text()
        if marker == b"{":
            return self.map()
        if marker == b"[":
            return self.array()
        msg = f"marker {marker!r} at byte {self.at - 1} is none that XGBoost writes"
        raise ValueError(msg)

    def numbers(self, marker: bytes, count: int) -> np.ndarray[Any, Any]:
        kind = _NUMBERS[marker]
        return np.frombuffer(self.take(count * kind.itemsize), dtype=kind).astype(kind.newbyteorder("="))

    def length(self) -> int:
        marker = self.take(1)
        if marker not in _NUMBERS or marker in b"dD":
            msg = f"marker {marker!r} at byte {self.at - 1} is no length"
            raise ValueError(msg)
        return int(self.numbers(marker, 1)[0])

    def text(self) -> str:
        return self.take(self.length()).decode("utf-8")

    def map(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self.data[self.at : self.at + 1] != b"}":
            key = self.text()
            if key in found:
                msg = f"key {key!r} stands twice"
                raise ValueError(msg)
            found[key] = self.value(self.take(1))
        self.at += 1
        return found

    def array(self) -> Any:
        kind = self.data[self.at : self.at + 1]
        if kind == b"$":
            self.at += 1
            marker = self.take(1)
            if marker not in _NUMBERS or self.take(1) != b"#":
                msg = f"an array of type {marker!r} at byte {self.at} is none that XGBoost writes"
                raise ValueError(msg)
            return self.numbers(marker, self.length())
        if kind == b"#":
            self.at += 1
            count = self.length()
            if count > len(self.data):
                msg = f"an array of {count} values in {len(self.data)} bytes"
                raise ValueError(msg)
            return [self.value(self.take(1)) for _ in range(count)]
        found = []
        while self.data[self.at : self.at + 1] != b"]":
            found.append(self.value(self.take(1)))
        self.at += 1
        return found
