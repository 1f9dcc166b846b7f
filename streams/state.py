"""A symbol's windows as the bytes of one table value, layout number first. Core; golden-tested.

All little-endian. One value holds every feature set of a symbol, so that it is written and recovered as one:

    u8 layout = 2 | u8 sets | i64 applied offset | u16 waiting rows
    per waiting row: u16 model bytes | i64 ts_event_us | u16 revision | i64 ts_known_us | i64 offset | model
    per set: u16 name bytes | u32 feature-name bytes | u16 features | u16 rows
             name | feature names joined by 0x1f | i64 key[rows] | i64 known[rows] | i64 offset[rows] | f64 values[rows, features]

key = ts_event_us << 10 | revision; rows in ascending key order. Offsets, kept for the offset cut, are positions (`wire`).
Layout 1 had no waiting rows, nor their number, and plain Kafka offsets; it is still read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from streams.errors import StateLayoutError
from streams.waiting import Waiting
from streams.wire import INDEX_BITS, position_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

LAYOUT = 2
APPLIED = slice(2, 10)
_HEADS = {1: struct.Struct("<BBq"), 2: struct.Struct("<BBqH")}
_WAITING = struct.Struct("<HqHqq")
_SET = struct.Struct("<HIHH")
_SEPARATOR = "\x1f"


@dataclass(frozen=True, slots=True)
class SetState:
    """Rows of one feature set: key, known and offset int64 (rows,), values float64 (rows, features)."""

    features: tuple[str, ...]
    key: NDArray[np.int64]
    known: NDArray[np.int64]
    offset: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SymbolState:
    """One symbol's windows, the offset of the last source row applied to them, and its trigger rows that wait."""

    applied_offset: int
    sets: Mapping[str, SetState]
    waiting: tuple[Waiting, ...] = ()


def pack(state: SymbolState) -> bytes:
    """The table value of a symbol's windows."""
    parts: list[bytes] = [head_of_value(sets=len(state.sets), applied_offset=state.applied_offset, waiting=len(state.waiting))]
    for w in state.waiting:
        model = w.model.encode()
        parts += (_WAITING.pack(len(model), w.ts_event_us, w.revision, w.ts_known_us, w.offset), model)
    for name, s in state.sets.items():
        parts += (
            head_of_set(name, s.features, rows=len(s.key)),
            s.key.tobytes(),
            s.known.tobytes(),
            s.offset.tobytes(),
            s.values.tobytes(),
        )
    return b"".join(parts)


def head_of_value(*, sets: int, applied_offset: int = 0, waiting: int = 0) -> bytes:
    """What a table value begins with; the applied offset stands at `APPLIED`."""
    return _HEADS[LAYOUT].pack(LAYOUT, sets, applied_offset, waiting)


def head_of_set(name: str, features: tuple[str, ...], *, rows: int) -> bytes:
    """What stands before the rows of a set."""
    raw_name, raw_features = name.encode(), _SEPARATOR.join(features).encode()
    return _SET.pack(len(raw_name), len(raw_features), len(features), rows) + raw_name + raw_features


def unpack(data: bytes) -> SymbolState:
    """The windows in a table value; arrays are read-only views of `data`.

    Raises `StateLayoutError` for bytes of another layout, or bytes that are not a whole value.
    """
    head = _HEADS.get(data[0]) if data else None
    if head is None:
        found = data[0] if data else "none"
        raise StateLayoutError(
            f"window state has layout {found}, this release reads {sorted(_HEADS)}: run the release that wrote it, "
            "or delete the state folder and the windows changelog to start from empty windows"
        )
    try:
        _, sets, applied, *waiting = head.unpack_from(data)
        at, rows_waiting = _unpack_waiting(data, head.size, sum(waiting))
        at, out = _unpack_sets(data, at, sets)
        if data[0] == 1:
            applied = _applied_position(1, applied)
            out = {name: replace(s, offset=s.offset << INDEX_BITS) for name, s in out.items()}
    except (struct.error, ValueError) as e:
        raise StateLayoutError(
            f"window state is damaged ({e}): delete the state folder, it is rebuilt from the windows changelog"
        ) from e
    if at != len(data):
        raise StateLayoutError(
            f"window state has {len(data) - at} bytes too many: delete the state folder, it is rebuilt from the windows changelog"
        )
    return SymbolState(applied, out, rows_waiting)


def newer(held: bytes, came: bytes) -> bytes:
    """Of two table values of a symbol the one that knows more rows; the second where that cannot be told.

    One whose applied offset is greater. Where it is the same, one with fewer waiting rows: they only become fewer then.

    >>> early, late = (head_of_value(sets=0, applied_offset=n) for n in (7, 9))
    >>> newer(late, early) == newer(early, late) == late
    True
    """
    reached, reaches = _reached(held), _reached(came)
    return came if reached is None or reaches is None or reaches >= reached else held


def _reached(data: bytes) -> tuple[int, int] | None:
    """How far a table value is, read off its head: position of the last row applied, minus the rows that wait."""
    head = _HEADS.get(data[0]) if data else None
    if head is None or len(data) < head.size:
        return None
    layout, _, applied, *waiting = head.unpack_from(data)
    return _applied_position(layout, applied), -sum(waiting)


def _applied_position(layout: int, applied: int) -> int:
    return position_of(applied) if layout == 1 and applied >= 0 else applied


def any_waiting(data: bytes) -> bool:
    """Whether a table value holds waiting rows, read off its head."""
    return len(data) >= _HEADS[LAYOUT].size and data[0] == LAYOUT and _HEADS[LAYOUT].unpack_from(data)[3] > 0


def _unpack_waiting(data: bytes, at: int, rows: int) -> tuple[int, tuple[Waiting, ...]]:
    out = []
    for _ in range(rows):
        n_model, event, revision, known, offset = _WAITING.unpack_from(data, at)
        at += _WAITING.size
        out.append(Waiting(data[at : at + n_model].decode(), event, revision, known, offset))
        at += n_model
    return at, tuple(out)


def _unpack_sets(data: bytes, at: int, sets: int) -> tuple[int, dict[str, SetState]]:
    out: dict[str, SetState] = {}
    for _ in range(sets):
        n_name, n_features, features, rows = _SET.unpack_from(data, at)
        at += _SET.size
        name = data[at : at + n_name].decode()
        at += n_name
        names = tuple(data[at : at + n_features].decode().split(_SEPARATOR))
        at += n_features
        key, known, offset = np.frombuffer(data, "<i8", 3 * rows, at).reshape(3, rows)
        at += 24 * rows
        values = np.frombuffer(data, "<f8", rows * features, at).reshape(rows, features)
        at += 8 * rows * features
        if len(names) != features:
            raise ValueError("feature names do not match their number")
        out[name] = SetState(names, key, known, offset, values)
    return at, out
