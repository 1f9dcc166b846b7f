"""Rows of the log as rows of the warehouse: many records at once are what each is by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.joined import Scorer
from monitoring.warehouse import arrow_schema
from streams.inference_log import encode_log, log_batch, log_schema
from streams.logrows import LogRows, read_log
from streams.records import PartitionRecords
from streams.warehouse_rows import OfLog, feature_rows, joined, prediction_rows
from tests.record import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray


M = Scorer("m", "1", "champion")


def record(rows: int, *, scorer: Scorer = M, width: int = 3, offset: int = 0, log_ms: int = 7) -> LogRows:
    """A record of the log with some abstentions and missing values."""
    schema = log_schema(**scorer._asdict(), columns=[f"c{i}" for i in range(width)])
    number = np.arange(rows) + 1_000 * offset
    text = {name: [f"{name}-{n}" for n in number] for name in ("prediction_id", "symbol", "vector_hash")}
    numbers: dict[str, Any] = dict.fromkeys(
        ("value", "lower", "upper", "level", "p_up", "confidence", "ood", "completeness"), number / 3
    )
    data = {
        **text, **numbers, "ts_event_us": number, "ts_decision_us": number + 1, "horizon_us": 5, "revision": 0,
        "abstained": number % 3 == 0, "reason": [None if n % 3 else "why" for n in number], "spec_digest": "d",
        "source_topic": "f", "source_partition": 2, "source_offset": number, "source_index": 0,
    }  # fmt: skip
    vectors: NDArray[np.float64] = (number[:, None] * 1.5 + np.arange(width)).astype(np.float64)
    vectors[number % 4 == 0, 0] = np.nan
    value = encode_log(log_batch(schema, data, vectors))
    ((read,), _) = read_log(PartitionRecords("trading.inference-log", 1, [Record(offset, log_ms, None, value)]))
    return read


def by_itself(table: str, rows: LogRows) -> pa.Table:
    """One record's rows, column by column, the plain way."""
    schema = arrow_schema(table)
    same = {**rows.scorer._asdict(), "ts_published_us": rows.log_us}
    columns = [[same[f.name]] * len(rows) if f.name in same else rows.table[f.name].to_pylist() for f in schema]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


shapes = st.tuples(st.integers(1, 6), st.sampled_from("AB"), st.integers(1, 4), st.integers(0, 9))


@settings(max_examples=40, deadline=None)
@given(st.lists(shapes, min_size=1, max_size=6))
def test_many_records_at_once_are_what_each_is_by_itself(drawn: list[tuple[int, str, int, int]]) -> None:
    """Of several models, whose vectors are of several lengths."""
    records = [
        record(rows, scorer=Scorer(model, str(width), "champion"), width=width, offset=i, log_ms=log_ms)
        for i, (rows, model, width, log_ms) in enumerate(drawn)
    ]
    for table, made in (("predictions", prediction_rows), ("features", feature_rows)):
        found = joined(table, [made(r) for r in records])
        wanted = pa.concat_tables([by_itself(table, r) for r in records])
        assert found.schema == arrow_schema(table)
        assert repr(found.to_pylist()) == repr(wanted.to_pylist())  # NaN is not itself
        assert {len(c.chunks) for c in found.columns} == {1}


def test_records_of_which_one_says_that_columns_may_be_null() -> None:
    """As one written by another program may; it has none."""
    first, second = record(2, offset=1), record(3, offset=2)
    said = pa.schema([f.with_nullable(nullable=True) for f in second.table.schema], second.table.schema.metadata)
    other = replace(second, table=second.table.cast(said))
    for table, made in (("predictions", prediction_rows), ("features", feature_rows)):
        plain = joined(table, [made(first), made(second)])
        assert repr(joined(table, [made(first), made(other)]).to_pylist()) == repr(plain.to_pylist())


def test_rows_made_before_keep_their_place() -> None:
    first, second = record(2, offset=1), record(3, offset=2)
    made = by_itself("predictions", record(1, offset=3))
    found = joined("predictions", [prediction_rows(first), made, prediction_rows(second)])
    assert found["ts_event_us"].to_pylist() == [1000, 1001, 3000, 2000, 2001, 2002]
    assert joined("predictions", []).schema == arrow_schema("predictions")


def test_a_part_of_a_record_is_what_it_says() -> None:
    """A table that Arrow has cut, whose vectors begin in the middle of a buffer."""
    whole = record(6)
    cut = replace(
        whole, **{name: getattr(whole, name)[2:5] for name in ("ts_event_us", "value", "vectors", "abstained", "own", "decided")},
        table=whole.table.slice(2, 3),
    )  # fmt: skip
    part = OfLog("features", cut)
    assert len(part) == 3
    np.testing.assert_array_equal(joined("features", [part])["vector"].to_pylist(), whole.vectors[2:5])
