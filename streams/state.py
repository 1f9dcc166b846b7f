"""A symbol's windows as the bytes of one table value, layout number first. Core; golden-tested.

All little-endian. One value holds every feature set of a symbol, so that it is written and recovered as one:

    u8 layout = 1 | u8 sets | i64 applied offset
    per set: u16 name bytes | u32 feature-name bytes | u16 features | u16 rows
             name | feature names joined by 0x1f | i64 key[rows] | i64 known[rows] | i64 offset[rows] | f64 values[rows, features]

key = ts_event_us << 10 | revision; rows in ascending key order. Source offsets are kept for the offset cut.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streams.errors import StateLayoutError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

LAYOUT = 1
_HEAD = struct.Struct("<BBq")
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
    """One symbol's windows, and the offset of the last source row applied to them."""

    applied_offset: int
    sets: Mapping[str, SetState]


def pack(state: SymbolState) -> bytes:
    """The table value of a symbol's windows."""
    parts: list[bytes] = [_HEAD.pack(LAYOUT, len(state.sets), state.applied_offset)]
    for name, s in state.sets.items():
        raw_name, raw_features = name.encode(), _SEPARATOR.join(s.features).encode()
        parts += (
            _SET.pack(len(raw_name), len(raw_features), len(s.features), len(s.key)),
            raw_name,
            raw_features,
            s.key.tobytes(),
            s.known.tobytes(),
            s.offset.tobytes(),
            s.values.tobytes(),
        )
    return b"".join(parts)


def unpack(data: bytes) -> SymbolState:
    """The windows in a table value; arrays are read-only views of `data`.

    Raises `StateLayoutError` for bytes of another layout, or bytes that are not a whole value.
    """
    if not data or data[0] != LAYOUT:
        found = data[0] if data else "none"
        raise StateLayoutError(
            f"window state has layout {found}, this release reads {LAYOUT}: run the release that wrote it, "
            "or delete the state folder and the windows changelog to start from empty windows"
        )
    try:
        _, sets, applied = _HEAD.unpack_from(data)
        at = _HEAD.size
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
                raise ValueError("feature names do not match their number")  # noqa: TRY301 - joins the handler below  # joins the handler below
            out[name] = SetState(names, key, known, offset, values)
    except (struct.error, ValueError) as e:
        raise StateLayoutError(
            f"window state is damaged ({e}): delete the state folder, it is rebuilt from the windows changelog"
        ) from e
    if at != len(data):
        raise StateLayoutError(
            f"window state has {len(data) - at} bytes too many: delete the state folder, it is rebuilt from the windows changelog"
        )
    return SymbolState(applied, out)
