"""Bytes of a journal segment. Core.

Layout 2: u16 layout number, then MessagePack of

    [seq, {source: offset, ...}, now_us, until_us, [name, ...], [block, ...]]
    block: [[model, version, role] or nil for outcomes, horizon_us, rows, [column, ...]]

A column is its numbers as little-endian bytes, or the one number that all rows have: event time and revision i64, symbol u32 (its
place among the names), then float64: value, lower, upper, p_up, completeness of predictions, the value of outcomes.

Layout 1 named every row's prediction and symbol, and knew no completeness (read as 1). It is still read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np

from monitoring.errors import StateError
from monitoring.joined import Scorer
from monitoring.label_rows import NEVER, Rows, by_horizon, one_after_another

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from monitoring.reference import Floats, Ints
    from monitoring.symbols import Symbols

LAYOUT: Final = 2
"""Number of the packed layout written by this version; it stands first in the bytes."""

_INTEGERS: Final = ("<i8", "<i8", "<u4")
_FLOAT: Final = "<f8"
_PREDICTED, _KNOWN = 5, 1
"""Float columns of predictions and of outcomes."""

ROW_BYTES: Final = 8 + 8 + 4 + 8 * _PREDICTED
"""The most a packed row has, its symbol's name aside."""

Marks = dict[str, int]
"""Source → offset up to which its rows are in the journal."""


class Block(NamedTuple):
    """Predictions of one scorer, or outcomes if that is None, of one horizon."""

    scorer: Scorer | None
    horizon_us: int
    rows: Rows


class Segment(msgspec.Struct):
    """Blocks in the order they came, and how things stood when it was written."""

    seq: int
    marks: Marks
    now_us: int
    until_us: int
    blocks: list[Block]

    def __len__(self) -> int:
        return sum(b.rows.many for b in self.blocks)


class _Packed(msgspec.Struct, array_like=True):
    scorer: Scorer | None
    horizon_us: int
    rows: int
    columns: list[bytes]


class _Segment2(msgspec.Struct, array_like=True):
    seq: int
    marks: Marks
    now_us: int
    until_us: int
    names: list[str]
    blocks: list[_Packed]


class _Predictions1(msgspec.Struct, array_like=True, tag="p"):
    """`integers` int64[2, rows]: event time, revision; `floats` float64[4, rows]."""

    scorer: Scorer
    horizon_us: int
    prediction_ids: list[str]
    symbols: list[str]
    integers: bytes
    floats: bytes


class _Outcomes1(msgspec.Struct, array_like=True, tag="o"):
    """`integers` int64[3, rows]: event time, horizon, revision; `value` float64[rows]."""

    symbols: list[str]
    integers: bytes
    value: bytes


class _Segment1(msgspec.Struct, array_like=True):
    seq: int
    marks: Marks
    blocks: list[_Predictions1 | _Outcomes1]


def grouped(blocks: Sequence[Block]) -> list[Block]:
    """The same rows with those of one scorer and horizon together, in their order: one block for each."""
    alike: dict[tuple[Scorer | None, int], list[Rows]] = {}
    for block in blocks:
        alike.setdefault((block.scorer, block.horizon_us), []).append(block.rows)
    return [Block(scorer, horizon_us, one_after_another(parts)) for (scorer, horizon_us), parts in alike.items()]


def pack(segment: Segment, names: Sequence[str]) -> bytes:
    """The segment as bytes; `names` by code."""
    used = np.unique(np.concatenate([np.empty(0, np.int64), *(b.rows.integers[2] for b in segment.blocks)]))
    packed = []
    for scorer, horizon_us, (integers, floats) in segment.blocks:
        ts_event_us, revision, code = integers
        columns = [_packed(c, t) for c, t in zip((ts_event_us, revision, used.searchsorted(code)), _INTEGERS, strict=True)]
        columns += [_packed(c, _FLOAT) for c in floats]
        packed.append(_Packed(scorer, horizon_us, len(ts_event_us), columns))
    texts = [names[code] for code in used.tolist()]
    whole = _Segment2(segment.seq, segment.marks, segment.now_us, segment.until_us, texts, packed)
    return LAYOUT.to_bytes(2, "little") + msgspec.msgpack.encode(whole)


def unpack(data: bytes, symbols: Symbols) -> Segment:
    """Read a segment of any layout, and learn its names. Raises `StateError` on an unknown layout or damage."""
    layout = int.from_bytes(data[:2], "little")
    if layout not in {1, LAYOUT}:
        raise StateError(f"a journal segment has layout {layout}, this version reads 1 and {LAYOUT}; its rows are passed over")
    try:
        return (_unpack1 if layout == 1 else _unpack2)(data[2:], symbols)
    except (msgspec.MsgspecError, ValueError) as e:
        raise StateError(f"a journal segment cannot be read ({e}); its rows are passed over") from e


def _unpack2(data: bytes, symbols: Symbols) -> Segment:
    found = msgspec.msgpack.decode(data, type=_Segment2)
    blocks: list[Block] = []
    codes = symbols.codes(found.names)
    for block in found.blocks:
        kinds = [*_INTEGERS, *[_FLOAT] * (_KNOWN if block.scorer is None else _PREDICTED)]
        if block.rows < 1 or len(block.columns) != len(kinds):
            raise ValueError(f"{len(block.columns)} columns of {block.rows} rows")
        ts_event_us, revision, place, *floats = (_column(*c, block.rows) for c in zip(block.columns, kinds, strict=True))
        if int(place.max()) >= len(codes):
            raise ValueError(f"a symbol that is not among its {len(codes)} names")
        rows = Rows(np.stack((ts_event_us, revision, codes[place])), np.stack(floats))
        blocks.append(Block(block.scorer, block.horizon_us, rows))
    return Segment(found.seq, found.marks, found.now_us, found.until_us, blocks)


def _unpack1(data: bytes, symbols: Symbols) -> Segment:
    found = msgspec.msgpack.decode(data, type=_Segment1)
    blocks: list[Block] = []
    now_us = -1
    for block in found.blocks:
        many = len(block.symbols)
        if isinstance(block, _Predictions1):
            ts_event_us, revision = np.frombuffer(block.integers, "<i8").reshape(2, many)
            floats = np.frombuffer(block.floats, _FLOAT).reshape(4, many)
            rows = Rows(np.stack((ts_event_us, revision, symbols.codes(block.symbols))), np.vstack((floats, np.ones(many))))
            blocks.append(Block(block.scorer, block.horizon_us, rows))
            now_us = max(now_us, int(ts_event_us.max(initial=-1)))
        else:
            ts_event_us, horizon_us, revision = np.frombuffer(block.integers, "<i8").reshape(3, many)
            value = np.frombuffer(block.value, _FLOAT).reshape(1, many)
            rows = Rows(np.stack((ts_event_us, revision, symbols.codes(block.symbols))), value)
            blocks += [Block(None, h, part) for h, part in by_horizon(rows, horizon_us)]
    return Segment(found.seq, found.marks, now_us, NEVER, blocks)


def _packed(column: Ints | Floats, kind: str) -> bytes:
    numbers = np.ascontiguousarray(column, kind)
    bits = numbers.view(f"<u{numbers.itemsize}")  # by which a NaN equals itself
    return (numbers[:1] if len(numbers) and (bits == bits[0]).all() else numbers).tobytes()


def _column(data: bytes, kind: str, rows: int) -> NDArray[Any]:
    numbers = np.frombuffer(data, kind)
    if len(numbers) not in {1, rows}:
        raise ValueError(f"a column of {len(numbers)} numbers for {rows} rows")
    return np.broadcast_to(numbers, rows)
