"""Features that rows bring and no served model reads: ignored, but counted, so that a renamed one is noticed. Core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.layout import Layout


class _Named(msgspec.Struct):
    feature_set: str
    values: dict[str, msgspec.Raw]


_decode = msgspec.json.Decoder(_Named).decode


def count_unread(rows: Iterable[bytes], layout: Layout) -> int:
    """How many values in these rows, all decodable, no served model reads.

    >>> from streams.layout import SetLayout
    >>> row = b'{"feature_set": "bars", "values": {"x": 1, "y": 2, "z": null}}'
    >>> count_unread([row, row], {"bars": SetLayout("bars", ("x",), 0, 4)})
    4
    """
    read = {name: frozenset(s.features) for name, s in layout.items()}
    nothing: frozenset[str] = frozenset()
    return sum(len(row.values.keys() - read.get(row.feature_set, nothing)) for row in map(_named, rows))


def _named(row: bytes) -> _Named:
    try:
        return _decode(row)
    except UnicodeError:  # rows are read without a look at names nobody asks for
        return _decode(row.decode(errors="replace").encode())
