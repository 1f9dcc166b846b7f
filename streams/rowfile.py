"""Rows of a file as records for Kafka: CSV, Parquet, or newline-delimited JSON in wire format, streamed in file order.

Shell. Tables have the columns `symbol`, `ts_event_us` and optionally `ts_known_us` and `revision`. In a features file
every other column is a feature (empty or NaN: missing); an outcomes file also has `horizon_us` and `value`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from streams.errors import RowFileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

Kind = Literal["features", "outcomes"]

_TIMES = ("ts_event_us", "ts_known_us", "revision")
_OUTCOME = ("horizon_us", "value")
_BLOCK_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class FileRow:
    """One record to produce: `key` is the symbol, `value` the wire JSON, `ts_us` when it was known, else when it happened."""

    key: bytes
    value: bytes
    ts_us: int


class _Head(msgspec.Struct):
    symbol: str
    ts_event_us: int
    ts_known_us: int | None = None


class _FeatureHead(_Head, kw_only=True):
    feature_set: str
    values: dict[str, float | None]


class _OutcomeHead(_Head, kw_only=True):
    horizon_us: int
    value: float | None


def read_rows(path: Path, *, kind: Kind, feature_set: str | None) -> Iterator[FileRow]:
    """Rows of a file, its format told by the name's ending; raises `RowFileError` for the first that is not one.

    `feature_set` names what a features table holds; newline-delimited JSON says it in every row.
    """
    if not path.is_file():
        raise RowFileError(f"no file {path}")
    ending = path.suffix.lower()
    if ending in {".ndjson", ".jsonl"}:
        return _ndjson(path, kind)
    if ending not in {".csv", ".parquet"}:
        raise RowFileError(f"{path}: a file of rows ends in .csv, .parquet, .ndjson or .jsonl")
    if kind == "features" and feature_set is None:
        raise RowFileError(f"{path}: say which feature set its columns are, with --feature-set NAME")
    return _table(path, kind, feature_set)


def read_frames(path: Path, *, feature_set: str | None, partitions: int) -> Iterator[tuple[int, bytes]]:
    """(partition, frame) of the features in a CSV or Parquet file; raises `RowFileError` for what cannot be one.

    `feature_set` names what the table holds, unless it has a column that does.
    """
    if not path.is_file():
        raise RowFileError(f"no file {path}")
    if path.suffix.lower() not in {".csv", ".parquet"}:
        raise RowFileError(f"{path}: frames are made of .csv and .parquet files")
    return _frames(path, feature_set, partitions)


def _frames(path: Path, feature_set: str | None, partitions: int) -> Iterator[tuple[int, bytes]]:
    from streams.frames_out import frames

    for table in _tables(path, "features", ("feature_set",) if feature_set is None else ()):
        try:
            yield from frames(table, partitions=partitions, feature_set=feature_set)
        except ValueError as e:
            raise RowFileError(f"{path}: {e}") from e


def _ndjson(path: Path, kind: Kind) -> Iterator[FileRow]:
    decode = msgspec.json.Decoder(_FeatureHead if kind == "features" else _OutcomeHead).decode
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text:
                continue
            try:
                head = decode(text)
            except (msgspec.MsgspecError, UnicodeDecodeError) as e:
                raise RowFileError(f"{path} line {number}: not a row of {kind}: {e}") from e
            yield FileRow(head.symbol.encode(), text, head.ts_event_us if head.ts_known_us is None else head.ts_known_us)


def _table(path: Path, kind: Kind, feature_set: str | None) -> Iterator[FileRow]:
    number = 0
    for rows in _blocks(path, kind):
        for row in rows:
            number += 1
            try:
                yield _row(row, kind, feature_set)
            except (KeyError, TypeError, ValueError) as e:
                raise RowFileError(f"{path} row {number}: {e}") from e


def _row(row: dict[str, Any], kind: Kind, feature_set: str | None) -> FileRow:
    symbol, event, known = row.pop("symbol"), row.pop("ts_event_us"), row.pop("ts_known_us", None)
    revision = row.pop("revision", None)
    if not symbol or event is None:
        raise ValueError("symbol and ts_event_us must not be empty")
    wire: dict[str, object] = {"symbol": symbol}
    if kind == "features":
        wire["feature_set"] = feature_set
    wire["ts_event_us"] = event
    if known is not None:
        wire["ts_known_us"] = known
    wire["revision"] = 0 if revision is None else revision
    wire.update({"values": row} if kind == "features" else row)
    # msgspec writes NaN and infinity as null, the wire's word for missing.
    return FileRow(symbol.encode(), msgspec.json.encode(wire), event if known is None else known)


def _blocks(path: Path, kind: Kind) -> Iterator[list[dict[str, Any]]]:
    for table in _tables(path, kind):
        yield table.to_pylist()


def _tables(path: Path, kind: Kind, texts: Sequence[str] = ()) -> Iterator[pa.Table]:
    """The file block by block; `texts`: columns that hold words beside the symbol's."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import csv as arrow_csv

    try:
        if path.suffix.lower() == ".parquet":
            with pq.ParquetFile(path) as file:
                types = _types(path, kind, file.schema_arrow.names, texts)
                for batch in file.iter_batches(batch_size=_BLOCK_ROWS):
                    yield pa.Table.from_batches([batch]).cast(pa.schema(list(types.items())))
            return
        with path.open(encoding="utf-8-sig", newline="") as text:
            types = _types(path, kind, next(csv.reader(text), []), texts)
        # Types are given, not guessed: a guess from the first block fails on the first fraction after it.
        convert = arrow_csv.ConvertOptions(column_types=types)
        with arrow_csv.open_csv(path, convert_options=convert) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, UnicodeDecodeError) as e:
        raise RowFileError(f"{path}: {e}") from e


def _types(path: Path, kind: Kind, columns: Sequence[str], texts: Sequence[str]) -> dict[str, Any]:
    import pyarrow as pa

    needed = {"symbol", "ts_event_us", *(_OUTCOME if kind == "outcomes" else ())}
    missing = sorted(needed - set(columns))
    if missing:
        raise RowFileError(f"{path}: no column {', '.join(missing)}; it has {', '.join(columns)}")
    extra = sorted(set(columns) - needed - {"ts_known_us", "revision"})
    if kind == "outcomes" and extra:
        raise RowFileError(f"{path}: an outcomes file has no column {', '.join(extra)}")
    whole = {*_TIMES, "horizon_us"} if kind == "outcomes" else set(_TIMES)
    return {
        name: pa.string() if name in {"symbol", *texts} else pa.int64() if name in whole else pa.float64() for name in columns
    }
