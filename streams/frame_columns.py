"""Columns of a frame: what its schema means under a layout, and Arrow columns as arrays. Core: no clock, no I/O.

| column        | Arrow type                                    | null means                              |
|---------------|-----------------------------------------------|-----------------------------------------|
| `symbol`      | string, or dictionary of string               | the row is rejected                     |
| `feature_set` | string, or dictionary of string               | the row is rejected                     |
| `ts_event_us` | int64                                         | the row is rejected                     |
| `ts_known_us` | int64, may be left out                        | ts_event_us + the set's publication lag |
| `revision`    | any integer, may be left out                  | 0                                       |
| any other     | float64; or another float, integer or boolean | missing, as NaN is                      |

A column without a value in any row may also be of type null where null has a meaning. Columns that no served model
reads may be of any type.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from streams.wire import ARROW_STREAM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from streams.layout import Layout

HEADS: Final[Mapping[str, str]] = {
    "symbol": "string, or dictionary of string",
    "feature_set": "string, or dictionary of string",
    "ts_event_us": "int64",
    "ts_known_us": "int64",
    "revision": "an integer",
}
"""The columns that are no features, with the types they must have."""
_MAY_BE_ABSENT: Final = ("ts_known_us", "revision")
_TEXTS: Final = (pa.string(), pa.large_string(), pa.string_view())


MOST_TEXT_BYTES: Final = 32 << 20


class FrameError(ValueError):
    """The frame cannot be used at all; the message says why."""


@dataclass(frozen=True, slots=True)
class SetColumns:
    """Where a set's features lie: column `columns[i]` of the frame is feature `places[i]` of `features`."""

    features: int
    columns: list[int]
    places: list[int]
    plain: bool  # every one is float64

    def values(self, batch: pa.RecordBatch) -> NDArray[np.float64]:
        """The features of all rows, float64 (rows, features), missing as the one quiet NaN."""
        if not self.columns:
            return np.full((batch.num_rows, self.features), np.nan)
        found: NDArray[np.float64]
        if self.plain:
            found = batch.select(self.columns).to_tensor(null_to_nan=True).to_numpy()
        else:
            found = np.column_stack([_floats(batch.column(at)) for at in self.columns])
        if self.places != list(range(self.features)):
            every = np.full((batch.num_rows, self.features), np.nan)
            every[:, self.places] = found
            found = every
        missing = np.isnan(found)
        if missing.any():
            found[missing] = np.nan
        return found


@dataclass(frozen=True, slots=True)
class Plan:
    """What a frame's columns are: `heads` by name, the features of each set, and how many no served model reads."""

    heads: Mapping[str, int]
    sets: Mapping[str, SetColumns]
    unread: int


def plan_columns(schema: pa.Schema, layout: Layout) -> Plan:
    """Find the columns the layout asks for. Raises `FrameError` when one that must be there is not, or has a wrong type."""
    names: list[str] = schema.names
    where = {name: at for at, name in enumerate(names)}
    features = {f for s in layout.values() for f in s.features}.difference(HEADS)
    for name, wanted in HEADS.items():
        if name not in where:
            if name in _MAY_BE_ABSENT:
                continue
            raise FrameError(f"it has no column {name!r}, which must be {wanted}")
        kind = schema.field(where[name]).type
        if not _is_head(name, kind):
            raise FrameError(f"column {name!r} must be {wanted}, it is {kind}")
    for name in sorted(features.intersection(where)):
        kind = schema.field(where[name]).type
        if not _is_number(kind):
            raise FrameError(f"feature {name!r} must be float64, or another float, an integer or a boolean; it is {kind}")
    twice = sorted(name for name in {*HEADS, *features}.intersection(where) if names.count(name) > 1)
    if twice:
        raise FrameError(f"column {twice[0]!r} stands {names.count(twice[0])} times")
    sets = {}
    for name, wants in layout.items():
        found = [(where[f], place) for place, f in enumerate(wants.features) if f in where and f not in HEADS]
        columns, places = [c for c, _ in found], [p for _, p in found]
        sets[name] = SetColumns(len(wants.features), columns, places, all(schema.field(c).type == pa.float64() for c in columns))
    return Plan({n: where[n] for n in HEADS if n in where}, sets, sum(n not in features and n not in HEADS for n in names))


def texts(column: pa.Array) -> tuple[NDArray[np.intp], list[str | None]]:
    """A text column as codes (rows,) into its different texts; the last of them is None, which null has as its code -1.

    Texts are never copied out row by row: a dictionary or a view column may have a long one in every row for a few bytes.
    """
    if not pa.types.is_dictionary(column.type):
        column = _plain(column).dictionary_encode()
    words = _plain(column.dictionary)
    codes = integers(column.indices, null=-1).astype(np.intp)
    if len(words) > len(codes):  # one dictionary for many frames: only what is used costs
        used, places = np.unique(codes, return_inverse=True)
        nothing = int(used[0] < 0)
        words, codes = words.take(pa.array(used[nothing:])), places - nothing
    read: list[str | None] = words.to_pylist()
    place = {text: at for at, text in enumerate(dict.fromkeys(text for text in read if text is not None))}
    if len(place) < len(read):  # Arrow forbids neither repeated words nor null as one
        codes = np.array([*(-1 if text is None else place[text] for text in read), -1], dtype=np.intp)[codes]
    return codes, [*place, None]


def integers(column: pa.Array, *, null: int) -> NDArray[np.int64]:
    """An integer column as int64 (rows,), with `null` where it has no value."""
    if column.type != pa.int64():
        column = column.cast(pa.int64(), safe=False)  # what is too large for int64 becomes negative: out of range as well
    if column.null_count:
        column = column.fill_null(null)
    found: NDArray[np.int64] = column.to_numpy(zero_copy_only=False)
    return found


def nulls(column: pa.Array) -> NDArray[np.bool_] | None:
    """Where a column has no value, bool (rows,); None if it has one in every row."""
    if not column.null_count:
        return None
    found: NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
    return found


Lone = tuple[bytes | None, bytes, bytes | None]
"""Key, value and content type of a record with one row."""


def lone_rows(frame: pa.Table | pa.RecordBatch, rows: Sequence[int]) -> list[Lone]:
    """Rows as records of their own. All of their numbers are in, read by a model or not.

    JSON rows; or a frame of the row where it has an infinite feature, which JSON cannot say.
    """
    if not rows:
        return []
    kept = _lone(frame)
    for at, field in enumerate(kept.schema):
        if field.type == pa.string_view():  # Arrow cannot take rows of one; `texts` has seen that it is not too large
            pieces = getattr(kept.column(at), "chunks", [kept.column(at)])
            kept = kept.set_column(at, field.name, pa.chunked_array([_plain(c) for c in pieces], pa.string()).combine_chunks())
    return [_lone_row(row) for row in kept.take(pa.array(rows, pa.int64())).to_pylist()]


def lone_size(frame: pa.Table | pa.RecordBatch) -> int:
    """About how many bytes a record of one row has, without the texts of its symbol and its feature set."""
    names: list[str] = _lone(frame).schema.names
    return 200 + sum(len(name) + 24 for name in names)


def _lone(frame: pa.Table | pa.RecordBatch) -> pa.Table | pa.RecordBatch:
    names: list[str] = frame.schema.names
    return frame.select([at for at, name in enumerate(names) if name in HEADS or _is_number(frame.schema.field(at).type)])


def _lone_row(row: Mapping[str, Any]) -> Lone:
    heads = {name: row[name] for name in HEADS if name in row and (row[name] is not None or name not in _MAY_BE_ABSENT)}
    features = {n: _number(v) for n, v in row.items() if n not in HEADS and v is not None}
    key = None if row["symbol"] is None else row["symbol"].encode()
    if any(isinstance(v, float) and math.isinf(v) for v in features.values()):
        return key, write_frame(pa.table({n: [v] for n, v in (heads | features).items()})), ARROW_STREAM
    values = {n: v for n, v in features.items() if not (isinstance(v, float) and math.isnan(v))}
    return key, msgspec.json.encode({**heads, "values": values}), None


def write_frame(rows: pa.Table | pa.RecordBatch) -> bytes:
    """Rows as one Arrow IPC stream of one batch, uncompressed."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write(rows)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]  # pyarrow has no types


def _plain(column: pa.Array) -> pa.Array:
    """A text column as plain strings. Raises `FrameError` for views that come to much more than the bytes they look at."""
    if column.type == pa.string():
        return column
    if column.type == pa.string_view() and len(column):
        _, at, *data = column.buffers()
        views = np.frombuffer(at, np.int32).reshape(-1, 4)[column.offset : column.offset + len(column)]
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        size = int(views[valid, 0].sum(dtype=np.int64))
        if size > MOST_TEXT_BYTES:
            raise FrameError(f"a text column's views come to {size} bytes, {MOST_TEXT_BYTES} at most are read")
        if column.null_count:
            # Arrow's validation leaves the views of nulls alone, and its cast reads them: a negative length ends the process.
            views = np.where(valid[:, None], views, np.int32(0))
            validity = pa.py_buffer(np.packbits(valid, bitorder="little"))
            column = pa.Array.from_buffers(column.type, len(column), [validity, pa.py_buffer(views), *data])
    return column.cast(pa.string())


def _floats(column: pa.Array) -> NDArray[np.float64]:
    wide = column if column.type == pa.float64() else column.cast(pa.float64(), safe=False)
    found: NDArray[np.float64] = wide.to_numpy(zero_copy_only=False)
    return found


def _number(value: Any) -> float | bool:
    return value if isinstance(value, int) else float(value)  # a float16 comes as numpy's; a boolean is an int


def _is_head(name: str, kind: pa.DataType) -> bool:
    if name in {"symbol", "feature_set"}:
        return kind in _TEXTS or (pa.types.is_dictionary(kind) and kind.value_type in _TEXTS)
    if name in _MAY_BE_ABSENT and pa.types.is_null(kind):
        return True
    return bool(pa.types.is_integer(kind)) if name == "revision" else bool(kind == pa.int64())


def _is_number(kind: pa.DataType) -> bool:
    return any(is_kind(kind) for is_kind in (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null))
