"""Bytes made wrong: small damage to valid messages, the same for the same generator."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

TOKENS = [
    *(t.encode() for t in ("NaN", "Infinity", "-Infinity", "null", "true", "{}", "[]", '""', '"\\ud800"', '"\\u0000"', "1e400")),
    *(b"9" * 30, b"9" * 5000, b"-0", b"1.5e-400", b"\xef\xbb\xbf", b"\x00", b"\xff", b"\xed\xa0\x80", b"[" * 600, b'{"a":' * 600),
    *(
        b'"symbol":"X",',
        b'"feature_set":"slow",',
        b'"feature_set":5,',
        b'"values":{},',
        b'"revision":null,',
        b'"__clock__"',
        b"//",
    ),
]
"""What JSON readers stumble over."""
SMALL = [0, 1, 2, 3, 4, 8, 16, 64, 127, 128, 254, 255]
WHOLE = [0, 1, -1, 2**31 - 1, -(2**31), 2**62, -(2**63), 2**63 - 1, 1 << 20, (1 << 20) - 1, 2**53, 77]


def damaged(rng: random.Random, data: bytes, others: Sequence[bytes], *, text: bool) -> bytes:
    """The message with one to six changes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        if not out:
            out = bytearray(b"x")
        _change(rng, out, others, text=text)
    return bytes(out)


def _change(rng: random.Random, out: bytearray, others: Sequence[bytes], *, text: bool) -> None:
    at = rng.randrange(len(out))
    what = rng.random()
    if what < 0.3:
        out[at] = rng.choice(SMALL) if rng.random() < 0.5 else rng.randrange(256)
    elif what < 0.4:
        out[at] ^= 1 << rng.randrange(8)
    elif what < 0.5:
        del out[at : at + rng.choice((1, 1, 2, 4, 8, 40))]
    elif what < 0.6:
        out[at:at] = out[at : at + rng.choice((1, 4, 8, 40))]
    elif what < 0.65:
        del out[at:]
    elif what < 0.7:
        other = rng.choice(others)
        start = rng.randrange(len(other)) if other else 0
        out[at:] = other[start:]
    elif text:
        _put_token(rng, out, at)
    else:
        _put_whole(rng, out, at)


def _put_token(rng: random.Random, out: bytearray, at: int) -> None:
    token = rng.choice(TOKENS)
    if rng.random() < 0.5:
        out[at:at] = token
        return
    # In place of a value: from a colon to what ends it.
    colons = [i for i, c in enumerate(out[:2000]) if c == 0x3A]
    if not colons:
        out[at:at] = token
        return
    start = rng.choice(colons) + 1
    end = next((i for i in range(start, len(out)) if out[i] in b",}"), len(out))
    out[start:end] = token


def _put_whole(rng: random.Random, out: bytearray, at: int) -> None:
    """A length or an offset, as Arrow has them: of 4 or 8 bytes, aligned so."""
    size, kind = rng.choice(((4, "<i"), (8, "<q")))
    at -= at % size
    number = rng.choice(WHOLE)
    if size == 4:
        number = max(-(2**31), min(2**31 - 1, number))
    if at + size <= len(out):
        out[at : at + size] = struct.pack(kind, number)
