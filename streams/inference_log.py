"""The inference log: every prediction with its full vector, as Arrow; one IPC stream a (chunk, partition, model). Core.

Schema metadata carries what is the same for all rows (model, version, role, columns as JSON), so that a reader
needs no registry to name a column of the vector.

Where a row stands, for readers that must know a row repeated after a crash without keeping ids:

| columns                           | the place of                                                | null                  |
|-----------------------------------|-------------------------------------------------------------|-----------------------|
| `source_offset`, `source_index`   | the trigger row: its record, and its index in it if a frame | never                 |
| `decided_offset`, `decided_index` | the row, of whatever set or symbol, that ended its wait     | where it did not wait |

Of one source partition and model version the rows that did not wait stand in the log in the order of their own place, and
those that waited in the order of the place that decided them, then their own. Whoever writes goes on from a committed offset:
it repeats rows, but never leaves one out before another of its kind.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from streams.arrowstream import check_stream, checked_stream
from streams.wire import MAX_FRAME_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CONTENT_TYPE = b"application/vnd.apache.arrow.stream"

_FIELDS: tuple[tuple[str, Any], ...] = (
    ("prediction_id", pa.string()),
    ("symbol", pa.string()),
    ("ts_event_us", pa.int64()),
    ("ts_decision_us", pa.int64()),
    ("horizon_us", pa.int64()),
    ("revision", pa.int64()),
    ("value", pa.float64()),
    ("lower", pa.float64()),
    ("upper", pa.float64()),
    ("level", pa.float64()),
    ("p_up", pa.float64()),
    ("confidence", pa.float64()),
    ("ood", pa.float64()),
    ("completeness", pa.float64()),
    ("abstained", pa.bool_()),
    ("reason", pa.string()),
    ("vector_hash", pa.string()),
    ("spec_digest", pa.string()),
    ("source_topic", pa.string()),
    ("source_partition", pa.int32()),
    ("source_offset", pa.int64()),
    ("source_index", pa.int32()),
    ("decided_offset", pa.int64()),
    ("decided_index", pa.int32()),
)
COLUMNS = tuple(name for name, _ in _FIELDS)
PLACES = ("source_index", "decided_offset", "decided_index")
"""Columns that earlier releases did not write."""
_NULLABLE = frozenset({"reason", "decided_offset", "decided_index"})


def log_schema(*, model: str, version: str, role: str, columns: Sequence[str]) -> pa.Schema:
    """The Arrow schema of one model version's log: `_FIELDS`, then `vector` fixed_size_list<double>[columns]."""
    fields = [pa.field(n, t, nullable=n in _NULLABLE) for n, t in _FIELDS]
    fields.append(pa.field("vector", pa.list_(pa.float64(), len(columns)), nullable=False))
    metadata = {"model": model, "version": version, "role": role, "columns": json.dumps(list(columns))}
    return pa.schema(fields, metadata)


def log_batch(schema: pa.Schema, data: dict[str, Any], vectors: NDArray[np.float64]) -> pa.RecordBatch:
    """A record batch from columns by name and vectors (rows, columns).

    A column is an Arrow or numpy array or a list; a scalar is repeated. One that may be null and is not given is.
    """
    n = len(vectors)
    arrays = []
    for name, kind in _FIELDS:
        column = data.get(name) if name in _NULLABLE else data[name]
        if isinstance(column, pa.Array):
            arrays.append(column)
        elif isinstance(column, np.ndarray | list):
            arrays.append(pa.array(column, type=kind))
        elif column is None:
            arrays.append(pa.nulls(n, kind))
        else:
            arrays.append(pa.repeat(pa.scalar(column, type=kind), n))
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    arrays.append(pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def encode_log(batch: pa.RecordBatch) -> bytes:
    """One IPC stream holding one batch."""
    return encode_after(batch.schema.serialize(), batch)


def encode_after(start: Any, batch: pa.RecordBatch) -> bytes:
    """One IPC stream holding one batch, after `start`: the messages of its schema and of its dictionaries, as bytes.

    These are the same for all batches of a schema, so that they need not be made again for each, as Arrow's writer does.
    """
    return b"".join((start, batch.serialize(), END))


END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""The mark of an IPC stream's end."""


@dataclass(frozen=True, slots=True, eq=False)
class LogSchema:
    """What a record's schema says. Records with the same schema have the same of these."""

    schema: pa.Schema
    model: str
    version: str
    role: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LogBatch:
    """A decoded inference-log record."""

    about: LogSchema
    batch: pa.RecordBatch

    @property
    def model(self) -> str:
        """Registered name."""
        return self.about.model

    @property
    def version(self) -> str:
        """Of the model."""
        return self.about.version

    @property
    def role(self) -> str:
        """Champion or challenger."""
        return self.about.role

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the vector."""
        return self.about.columns

    @property
    def table(self) -> pa.Table:
        """All rows, each column in one piece."""
        return pa.Table.from_batches([self.batch])

    def vectors(self) -> NDArray[np.float64]:
        """float64 (rows, columns), NaN = missing."""
        flat: NDArray[np.float64] = self.batch["vector"].flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(self.batch.num_rows, len(self.columns))


def decode_log(data: bytes) -> LogBatch:
    """Read an inference-log record; raises `ValueError` for bytes that are none."""
    try:
        schema, at = checked_stream(data, max_rows=MAX_FRAME_ROWS)
        about = _about(schema)
        # Arrow's stream reader reads the schema, with its names of columns, again for each record.
        batch = pa.ipc.read_record_batch(pa.py_buffer(data)[at:], about.schema) if at is not None else _one_batch(data)
        batch.validate(full=True)  # damaged lengths and offsets are found here, not by whoever reads the column
        return LogBatch(about, batch)
    except (pa.ArrowException, KeyError, ValueError, TypeError, OSError, RecursionError) as e:
        msg = f"not an inference-log record: {type(e).__name__}: {e}"
        raise ValueError(msg) from e


def schema_of(data: bytes) -> LogSchema:
    """What an inference-log record says of all its rows, without reading them; raises `ValueError` for bytes that are none."""
    try:
        return _about(check_stream(data, max_rows=MAX_FRAME_ROWS))
    except (pa.ArrowException, KeyError, ValueError, TypeError, OSError, RecursionError) as e:
        raise ValueError(f"not an inference-log record: {type(e).__name__}: {e}") from e


def _one_batch(data: bytes) -> pa.RecordBatch:
    """The batches of a stream as one, empty if there are none."""
    table = pa.ipc.open_stream(data).read_all()
    table.validate(full=True)  # before anything is copied by what it says of itself
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


@lru_cache(maxsize=32)
def _about(schema_message: bytes) -> LogSchema:
    whole = b"\xff\xff\xff\xff" + len(schema_message).to_bytes(4, "little") + schema_message
    schema = pa.ipc.read_schema(pa.py_buffer(whole))
    meta = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
    return LogSchema(schema, meta["model"], meta["version"], meta["role"], tuple(json.loads(meta["columns"])))
