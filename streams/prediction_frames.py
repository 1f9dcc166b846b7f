"""Predictions as frames: many rows in one record, as Arrow; one IPC stream a (chunk, partition, model), or more. Core.

A row has the fields of the JSON record, with the same names and meaning, so that `to_pylist` of a frame gives what the
JSON records decode to. What is the same in all rows of a model version is a dictionary of one word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from streams.arrowstream import check_stream
from streams.inference_log import END, encode_after
from streams.predictions import SCHEMA_VERSION
from streams.wire import MAX_FRAME_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

MAX_BYTES: Final = 900_000
"""Kafka takes records of 1 MB unless told otherwise."""

WORD = pa.dictionary(pa.int8(), pa.string())
NAMES = pa.list_(pa.field("item", pa.string(), nullable=False))
SOURCE = pa.struct(
    [
        pa.field("topic", WORD, nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
    ]
)
_FIELDS: tuple[tuple[str, Any, bool], ...] = (
    ("schema_version", pa.int32(), False),
    ("prediction_id", pa.string(), False),
    ("symbol", pa.string(), False),
    ("model", WORD, False),
    ("version", WORD, False),
    ("role", WORD, False),
    ("ts_event_us", pa.int64(), False),
    ("ts_decision_us", pa.int64(), False),
    ("horizon_us", pa.int64(), False),
    ("revision", pa.int64(), False),
    ("value", pa.float64(), True),
    ("lower", pa.float64(), True),
    ("upper", pa.float64(), True),
    ("level", pa.float64(), False),
    ("p_up", pa.float64(), True),
    ("confidence", pa.float64(), True),
    ("ood", pa.float64(), False),
    ("completeness", pa.float64(), False),
    ("missing", NAMES, False),
    ("stale", NAMES, False),
    ("abstained", pa.bool_(), False),
    ("reason", pa.string(), True),
    ("vector_hash", pa.string(), False),
    ("spec_digest", WORD, False),
    ("source", SOURCE, False),
    ("supersedes", pa.string(), True),
)
SCHEMA = pa.schema([pa.field(name, kind, nullable=nullable) for name, kind, nullable in _FIELDS])
"""The Arrow schema of a frame: the fields of the JSON record, in its order."""


class FrameWriter:
    """Writes the frames of one model version. `columns`: the names of its vector's columns."""

    def __init__(self, *, model: str, version: str, role: str, spec_digest: str, columns: Sequence[str]) -> None:
        self._words = {"model": model, "version": version, "role": role, "spec_digest": spec_digest}
        self._names = pa.array(columns, pa.string())
        self._topic: str | None = None
        self._same: dict[str, pa.Array] = {}
        self._room = 0
        self._start = b""

    def batch(
        self,
        log: pa.RecordBatch,
        *,
        topic: str,
        missing: NDArray[np.bool_],
        stale: NDArray[np.bool_],
        supersedes: Mapping[int, str],
    ) -> pa.RecordBatch:
        """All rows of a batch of the inference log, whose arrays are shared, as one batch of predictions.

        `topic`: the source topic of all rows; `missing`, `stale` bool (rows, columns); `supersedes`: by row, the id replaced.
        """
        rows = log.num_rows
        if topic != self._topic or rows > self._room:
            self._prepare(topic, 2 * rows if rows > self._room else self._room)
        same = {name: column.slice(0, rows) for name, column in self._same.items()}
        source = [same.pop("topic"), log.column("source_partition"), log.column("source_offset")]
        made = same | {
            "missing": self._lists(missing),
            "stale": self._lists(stale),
            "source": pa.StructArray.from_arrays(source, fields=list(SOURCE)),
        }
        if supersedes:
            made["supersedes"] = pa.array([supersedes.get(i) for i in range(rows)], pa.string())
        arrays = [
            made[name] if name in made else _finite(log.column(name)) if nullable and kind == pa.float64() else log.column(name)
            for name, kind, nullable in _FIELDS
        ]
        found = pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
        if not self._start:
            self._start = _start(found)
        return found

    def frames(self, batch: pa.RecordBatch, *, max_bytes: int = MAX_BYTES) -> Iterator[bytes]:
        """The last `batch`, or a slice of it, as one frame; halved, and halved again, while it is larger than `max_bytes`."""
        frame = encode_after(self._start, batch)
        half = batch.num_rows // 2
        if len(frame) <= max_bytes or half == 0:
            yield frame
        else:
            yield from self.frames(batch.slice(0, half), max_bytes=max_bytes)
            yield from self.frames(batch.slice(half), max_bytes=max_bytes)

    def _prepare(self, topic: str, rows: int) -> None:
        """What is the same in all rows, `rows` times; what a frame begins with, if another topic makes it another."""
        zeros = pa.array(np.zeros(rows, dtype=np.int8))
        words = self._words | {"topic": topic}
        self._same = {name: pa.DictionaryArray.from_arrays(zeros, pa.array([word], pa.string())) for name, word in words.items()}
        self._same["schema_version"] = pa.repeat(pa.scalar(SCHEMA_VERSION, pa.int32()), rows)
        self._same["supersedes"] = pa.nulls(rows, pa.string())
        if topic != self._topic:
            self._start = b""
        self._topic, self._room = topic, rows

    def _lists(self, mask: NDArray[np.bool_]) -> pa.Array:
        """Of each row the names of its marked columns."""
        ends = np.zeros(len(mask) + 1, dtype=np.int32)
        _, columns = np.nonzero(mask) if mask.any() else ((), np.zeros(0, dtype=np.intp))
        if len(columns):
            np.cumsum(mask.sum(axis=1), out=ends[1:])
        return pa.ListArray.from_arrays(pa.array(ends), self._names.take(pa.array(columns)), type=NAMES)


def _start(batch: pa.RecordBatch) -> bytes:
    """What a stream of this batch begins with: its schema and its dictionaries."""
    none, sink = batch.slice(0, 0), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(none)
    whole: bytes = sink.getvalue().to_pybytes()
    return whole[: -len(none.serialize().to_pybytes() + END)]


def _finite(column: pa.Array) -> pa.Array:
    """Null where a number is none, as in JSON."""
    values = column.to_numpy()
    finite = np.isfinite(values)
    return column if finite.all() else pa.array(values, mask=~finite)


def decode_predictions(data: bytes) -> list[dict[str, Any]]:
    """A frame's rows, each a dict that equals what the JSON record decodes to; fields that are not known are left out.

    Raises `ValueError` for bytes that are no frame of predictions.
    """
    try:
        check_stream(data, max_rows=MAX_FRAME_ROWS)
        table = pa.ipc.open_stream(data).read_all()
        table.validate(full=True)
        for field in SCHEMA:
            if table.schema.field(field.name).type != field.type:
                raise TypeError(f"{field.name} is {table.schema.field(field.name).type}, not {field.type}")  # noqa: TRY301 - joins the handler below
        rows: list[dict[str, Any]] = table.select(SCHEMA.names).to_pylist()
    except (pa.ArrowException, KeyError, ValueError, TypeError, OSError, RecursionError) as e:
        raise ValueError(f"not a frame of predictions: {type(e).__name__}: {e}") from e
    return rows
