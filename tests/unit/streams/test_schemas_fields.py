"""The schemas have the fields, numbers and words of the code, no more and no fewer."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pyarrow as pa
import pytest

import streams
from models import spec as specs
from models.score import REASONS
from monitoring.alerts import Alert, Severity, Status
from monitoring.concept import Concept
from monitoring.paired import Comparison, PairedReport
from monitoring.quality import QualityReport
from monitoring.record import SCHEMA_VERSION, performance_record
from monitoring.report_drift import ColumnDrift, DriftReport, Kind, Verdict
from monitoring.retrain import MOST_ALERTS, MOST_COLUMNS, MOST_REASONS
from streams import inference_log, outcomes, prediction_frames, predictions, records, schemas, switches
from streams.frame_columns import HEADS, FrameError, plan_columns
from streams.layout import merge_specs
from streams.rejections import MOST_BYTES, rejection_headers
from streams.row_types import row_type
from streams.wire import ARROW_STREAM, MAX_FRAME_ROWS
from tests.unit.monitoring import a_record
from tests.unit.streams import wire


def properties(name: str, definition: str | None = None) -> tuple[set[str], set[str]]:
    """Field names and required field names of a schema, or of one of its definitions."""
    schema = schemas.load(name)
    part = schema if definition is None else schema["$defs"][definition]
    return set(part["properties"]), set(part.get("required", ()))


def struct(kind: type[msgspec.Struct]) -> tuple[set[str], set[str]]:
    fields = msgspec.structs.fields(kind)
    return {f.encode_name for f in fields}, {f.encode_name for f in fields if f.required}


def dataclass(kind: type[Any], *more: str) -> tuple[set[str], set[str]]:
    names = {f.name for f in dataclasses.fields(kind)} | set(more)
    return names, names  # all are written


def test_fields_are_those_of_the_code() -> None:
    row: Any = row_type(merge_specs([wire.spec()])["bars_1d"])
    names, required = struct(row)
    tag = row.__struct_config__.tag_field
    assert properties("feature_row") == (names | {tag}, required | {tag})
    assert properties("outcome") == struct(outcomes._Outcome)
    assert properties("prediction") == struct(predictions.Prediction)
    source = schemas.load("prediction")["properties"]["source"]
    assert (set(source["properties"]), set(source["required"])) == struct(predictions.Source)
    assert properties("alert") == dataclass(Alert, "schema_version", "event_id", "incident_id")
    assert properties("performance", "drift") == dataclass(DriftReport)
    assert properties("performance", "column_drift") == dataclass(ColumnDrift)
    assert properties("performance", "measures") == dataclass(QualityReport)
    bounds = ("start_us", "end_us", "horizon_us", "by_group", "by_completeness")
    assert properties("performance", "quality") == dataclass(QualityReport, *bounds)
    assert properties("performance", "paired") == dataclass(PairedReport, "champion")
    assert properties("performance", "comparison") == dataclass(Comparison)
    assert properties("performance", "concept") == (set(Concept().report()), set(Concept().report()))
    empty = performance_record(model="", version="", role="", window_start_us=0, window_end_us=0)
    assert properties("performance") == (set(empty), set(empty))
    asked = a_record.request()
    assert properties("retrain_request") == (set(asked), set(asked))
    assert properties("retrain_request", "evidence") == (set(asked["evidence"]), set(asked["evidence"]))
    assert properties("model_timeline") == struct(switches.Order)
    switch = schemas.load("asyncapi")["components"]["messages"]["switch"]
    assert (set(switch["payload"]["properties"]), set(switch["payload"]["required"])) == struct(switches.Switch)
    assert switch["contentType"].encode() == switches.SWITCH
    kinds: dict[str, type[msgspec.Struct]] = {
        "column": specs.ColumnSpec,
        "lag": specs.Lag,
        "feature_set": specs.FeatureSetSpec,
        "reference": specs.ColumnReference,
    }
    assert properties("serving_spec") == struct(specs.ServingSpec)
    for definition, kind in kinds.items():
        assert properties("serving_spec", definition) == struct(kind)
    headers = {name for name, _ in rejection_headers(records.Rejected("t", 0, 0, None, None, "future", "d"))}
    framed = {name for name, _ in rejection_headers(records.Rejected("t", 0, 0, None, None, "future", "d", ARROW_STREAM))}
    assert properties("rejected_headers") == (framed, headers)


def test_numbers_and_words_are_those_of_the_code() -> None:
    assert schemas.load("feature_row")["properties"]["symbol"]["maxLength"] == records.MAX_SYMBOL_BYTES
    row, prediction, alert = (schemas.load(n)["properties"] for n in ("feature_row", "prediction", "alert"))
    assert row["revision"]["maximum"] == prediction["revision"]["maximum"] == records.MAX_REVISION
    for name in ("feature_row", "outcome", "prediction"):
        assert schemas.load(name)["$defs"]["instant_us"]["maximum"] == records.MAX_TS_US - 1
    assert prediction["schema_version"]["const"] == predictions.SCHEMA_VERSION
    assert prediction["reason"]["enum"] == [None, "incomplete", "expired", *REASONS[1:]]
    assert alert["state"]["enum"] == list(get_args(Status))
    assert alert["severity"]["enum"] == list(get_args(Severity))
    assert schemas.load("model_timeline")["properties"]["role"]["enum"] == list(switches.ROLES)
    performance, request = schemas.load("performance"), schemas.load("retrain_request")
    assert performance["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    assert performance["$defs"]["verdict"]["enum"] == request["$defs"]["verdict"]["enum"] == list(get_args(Verdict))
    assert performance["$defs"]["column_drift"]["properties"]["kind"]["enum"] == list(get_args(Kind))
    evidence = request["$defs"]["evidence"]["properties"]
    assert (evidence["columns"]["maxItems"], evidence["alerts"]["maxItems"]) == (MOST_COLUMNS, MOST_ALERTS)
    assert request["properties"]["reasons"]["maxItems"] == MOST_REASONS + 1
    assert schemas.load("serving_spec")["properties"]["layout"]["const"] == specs.LAYOUT
    assert f"{MOST_BYTES:,} bytes" in schemas.load("rejected_headers")["description"]


def test_reasons_of_rejection_are_those_in_the_code() -> None:
    code = "\n".join(f.read_text(encoding="utf-8") for f in Path(streams.__path__[0]).glob("*.py"))
    found = set(re.findall(r'reject\(\s*part, r, "(\w+)"', code)) | set(re.findall(r'"(\w+)", _[A-Z]+\b', code))
    assert found == set(schemas.load("rejected_headers")["properties"]["__connect.errors.exception.class.name"]["enum"])


def test_the_arrow_schema_is_the_one_described_and_the_golden_one() -> None:
    described = schemas.load("inference_log")
    schema = inference_log.log_schema(model="goog_ret_5d", version="3", role="champion", columns=["ret_1", "vol_20.lag1"])
    assert described["contentType"].encode() == inference_log.CONTENT_TYPE
    assert set(described["metadata"]) == {k.decode() for k in schema.metadata}
    assert [(f["name"], f["nullable"]) for f in described["fields"]] == [(f.name, f.nullable) for f in schema]
    assert [f["type"] for f in described["fields"]] == [re.sub(r"\[\d+\]$", "", str(f.type)) for f in schema]
    assert schema.to_string(truncate_metadata=False).encode() == wire.golden("inference_log_schema.txt")


def test_the_frame_of_predictions_is_the_one_described() -> None:
    described = schemas.load("prediction_frame")
    assert described["contentType"].encode() == ARROW_STREAM
    assert [(f["name"], f["type"], f["nullable"]) for f in described["fields"]] == [
        (f.name, str(f.type), f.nullable) for f in prediction_frames.SCHEMA
    ]
    assert f"{prediction_frames.MAX_BYTES:,} bytes" in described["description"]


_ARROW = {
    **{
        str(t): t
        for t in (pa.string(), pa.large_string(), pa.string_view(), pa.float64(), pa.float32(), pa.float16(), pa.bool_())
    },
    **{str(t): t for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    **{str(t): t for t in (pa.null(), pa.date32(), pa.timestamp("us"), pa.binary(), pa.decimal128(9, 2), pa.list_(pa.float64()))},
    "dictionary of these": pa.dictionary(pa.int16(), pa.large_string()),
}


def test_a_frame_may_have_the_columns_described_and_no_others() -> None:
    described = schemas.load("feature_frame")
    assert described["contentType"].encode() == ARROW_STREAM
    assert f"fewer than {MAX_FRAME_ROWS:,} rows" in described["description"]
    layout = merge_specs([wire.spec()])
    fields = {f["name"]: f for f in described["fields"]}
    assert list(fields) == [*HEADS, "*"]
    base = {name: _ARROW[f["type"]] for name, f in fields.items() if name != "*"} | {"ret_1": pa.float64()}
    for name, field in fields.items():
        of = "ret_1" if name == "*" else name
        for word, kind in _ARROW.items():
            schema = pa.schema(list((base | {of: kind}).items()))
            if word in {field["type"], *field.get("also", ())}:
                plan_columns(schema, layout)
            else:
                with pytest.raises(FrameError, match=of):
                    plan_columns(schema, layout)
        without = pa.schema([(n, t) for n, t in base.items() if n != of])
        if field.get("optional") or name == "*":
            plan_columns(without, layout)
        else:
            with pytest.raises(FrameError, match=of):
                plan_columns(without, layout)
