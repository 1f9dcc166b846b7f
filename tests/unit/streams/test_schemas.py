"""The schemas say what the code says: of the golden records, of every way to spoil them, and field by field."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from models import spec as specs
from models.errors import SpecError
from streams import records, schemas
from streams.layout import merge_specs
from streams.outcomes import OutcomeDecoder
from streams.switches import Order
from tests.unit.streams import wire

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON_SCHEMAS = [n for n in schemas.NAMES if n not in {"feature_frame", "prediction_frame", "inference_log", "asyncapi"}]
GOLDEN = {
    "feature_row.json": "feature_row",
    "outcome.json": "outcome",
    "prediction.json": "prediction",
    "prediction_abstained.json": "prediction",
    "alert.json": "alert",
    "performance.json": "performance",
    "retrain_request.json": "retrain_request",
    "model_timeline.json": "model_timeline",
    "serving_spec.json": "serving_spec",
    "rejected_headers.json": "rejected_headers",
}
# What may be left out of a golden record; all else is required. A number stands for any place in a list.
OPTIONAL = {
    "feature_row.json": "ts_known_us revision values.ret_1 values.vol_20",
    "outcome.json": "ts_known_us revision",
    "model_timeline.json": "digest share why",
    "performance.json": "quality.by_group.tech quality.by_completeness.complete",
    "alert.json": "labels.column labels.model labels.role labels.version",
    "serving_spec.json": "layout level min_completeness deadline_us feature_sets.bars_1d.sessions "
    "residuals reference prediction_reference reference.ret_1 "
    "reference.vol_20.hour reference.vol_20.lag1 reference.ret_1.rho reference.vol_20.hour.rho reference.vol_20.lag1.rho "
    "prediction_reference.rho columns.0.lag columns.0.max_age_us columns.0.required feature_sets.bars_1d.publication_lag_us",
}
# Parts that hold any numbers by name.
NUMBERS = {
    "performance.json": "estimate.",
    "retrain_request.json": "evidence.metrics.quality. evidence.metrics.estimate. evidence.metrics.concept.",
}
Place = tuple[str | int, ...]


@cache
def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(schemas.load(name))


def valid(name: str, value: object) -> bool:
    return validator(name).is_valid(value)


def places(value: Any, above: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every place below a JSON value, with what stands there."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*above, key), inner
        yield from places(inner, (*above, key))


def with_other(value: Any, place: Place, other: Any) -> Any:
    """A copy with another value at a place; without the place, if the value is `...`."""
    changed = value.copy()  # what lies beside the place is shared, for there are many copies
    at, *below = place
    if below:
        changed[at] = with_other(value[at], tuple(below), other)
    elif other is ...:
        del changed[at]
    else:
        changed[at] = other
    return changed


def of_another_type(value: object) -> list[object]:
    if isinstance(value, list):
        return ["wrong", {"wrong": 1}]
    if isinstance(value, dict):
        return ["wrong", ["wrong"]]
    whole = isinstance(value, int) and not isinstance(value, bool)
    return [["wrong"], {"wrong": ["wrong"]}, *([str(value)] if isinstance(value, float | int) else []), *([0.5] if whole else [])]


def spoiled(file: str) -> Iterator[tuple[str, Any]]:
    """The golden record with one thing dropped or of another type."""
    whole = json.loads(wire.golden(file))
    for place, value in places(whole):
        words = ".".join("0" if isinstance(key, int) else key for key in place)
        if isinstance(place[-1], str):
            yield f"without {words}", with_other(whole, place, ...)
        for other in of_another_type(value):
            yield f"{words} = {other!r}", with_other(whole, place, other)


@pytest.mark.parametrize("name", JSON_SCHEMAS)
def test_each_is_a_schema_of_both_drafts(name: str) -> None:
    schema = schemas.load(name)
    Draft202012Validator.check_schema(schema)
    Draft7Validator.check_schema(schema)
    number = schema["properties"].get("schema_version", {"const": 1})["const"]
    assert schema["$id"] == f"urn:trading-ml:schema:{name}:{number}"
    assert schema["description"]


def test_every_file_has_its_name_and_every_name_its_file() -> None:
    here = Path(schemas.__file__).parent
    assert {f.stem for f in here.iterdir() if f.suffix in {".json", ".yaml"}} == set(schemas.NAMES)
    with pytest.raises(ValueError, match=r"no schema '\.\./errors'; there are feature_row"):
        schemas.load("../errors")


def test_every_schema_is_among_the_golden_records() -> None:
    assert set(GOLDEN.values()) == set(JSON_SCHEMAS)


@pytest.mark.parametrize("file", GOLDEN)
def test_golden_records_are_valid(file: str) -> None:
    Draft202012Validator(schemas.load(GOLDEN[file])).validate(json.loads(wire.golden(file)))
    # What AsyncAPI tools make of it.
    Draft7Validator(schemas.load(GOLDEN[file])).validate(json.loads(wire.golden(file)))


@pytest.mark.parametrize("file", GOLDEN)
def test_spoiled_records_are_refused(file: str) -> None:
    accepted = {what for what, record in spoiled(file) if valid(GOLDEN[file], record)}
    numbers = tuple(NUMBERS.get(file, "").split())
    right = {what for what, _ in spoiled(file) if numbers and what.removeprefix("without ").startswith(numbers)}
    right = {what for what in right if what.startswith("without ") or what.endswith(" = 0.5")}
    assert accepted == right | {f"without {place}" for place in OPTIONAL.get(file, "").split()}


def accepts(file: str, record: Any) -> bool:
    """Whether our own code takes the record."""
    data = json.dumps(record).encode()
    if file == "serving_spec.json":
        try:
            specs.decode_spec(data)
        except SpecError:
            return False
        return True
    if file == "model_timeline.json":
        try:
            msgspec.json.decode(data, type=Order)
        except msgspec.MsgspecError:
            return False
        return True
    symbol = record.get("symbol")
    part = wire.part([data], symbol=symbol if isinstance(symbol, str) else "GOOG")
    if file == "outcome.json":
        return not OutcomeDecoder(partitions=wire.PARTITIONS, max_future_us=0).decode(part)[1]
    decoder = records.FeatureDecoder(merge_specs([wire.spec()]), partitions=wire.PARTITIONS, max_future_us=0)
    return not decoder.decode([part])[1]


@pytest.mark.parametrize("file", ["feature_row.json", "outcome.json", "serving_spec.json", "model_timeline.json"])
def test_what_the_schema_refuses_of_a_spoiled_record_the_code_refuses_and_the_other_way_round(file: str) -> None:
    assert accepts(file, json.loads(wire.golden(file)))
    assert [what for what, record in spoiled(file) if accepts(file, record) != valid(GOLDEN[file], record)] == []


_LIMIT = records.MAX_TS_US


@pytest.mark.parametrize(
    ("file", "change", "right"),
    [
        ("feature_row.json", {"ts_event_us": 0, "ts_known_us": None}, True),
        ("feature_row.json", {"ts_event_us": -1}, False),
        ("feature_row.json", {"symbol": "x" * records.MAX_SYMBOL_BYTES}, True),
        ("feature_row.json", {"symbol": "x" * (records.MAX_SYMBOL_BYTES + 1)}, False),
        ("feature_row.json", {"symbol": ""}, False),
        ("feature_row.json", {"ts_known_us": -1}, False),
        ("feature_row.json", {"ts_event_us": _LIMIT}, False),
        ("feature_row.json", {"revision": records.MAX_REVISION}, True),
        ("feature_row.json", {"revision": records.MAX_REVISION + 1}, False),
        ("feature_row.json", {"revision": None}, False),
        ("feature_row.json", {"values": {"ret_1": 1, "vol_20": True, "unread": 2.5}, "unknown": "field"}, True),
        ("feature_row.json", {"values": {"ret_1": "0.1"}}, False),
        ("feature_row.json", {"values": {}}, True),
        ("outcome.json", {"ts_known_us": None, "unknown": "field"}, True),
        ("outcome.json", {"value": 1}, True),
        ("outcome.json", {"value": None}, False),
        ("outcome.json", {"horizon_us": 0}, False),
        ("outcome.json", {"ts_known_us": _LIMIT}, False),
        ("outcome.json", {"revision": -1}, False),
        ("outcome.json", {"revision": records.MAX_REVISION + 1}, False),
        ("serving_spec.json", {"unknown": "field"}, False),
        ("serving_spec.json", {"layout": 2}, False),
        ("serving_spec.json", {"runtime": "onnx"}, True),
        ("serving_spec.json", {"runtime": "fastest"}, False),
        ("serving_spec.json", {"level": 1.0}, False),
        ("serving_spec.json", {"min_completeness": 1.5}, False),
        ("serving_spec.json", {"horizon_us": 0}, False),
        ("serving_spec.json", {"columns": []}, False),
        ("serving_spec.json", {"prediction_reference": None}, True),
    ],
)
def test_at_the_limits_schema_and_code_agree(file: str, change: dict[str, Any], right: bool) -> None:  # noqa: FBT001
    record = json.loads(wire.golden(file)) | change
    assert (valid(GOLDEN[file], record), accepts(file, record)) == (right, right)


@pytest.mark.parametrize(
    ("lag", "right"),
    [
        (0, True),
        (1, False),
        ({"bars": 0}, True),
        ({"us": 5, "bars": None}, True),
        ({"bars": 1, "us": 1}, False),
        ({"bars": None, "us": None}, False),
        ({"bars": -1}, False),
        ({"days": 1}, False),
        ({}, False),
    ],
)
def test_a_lag_is_one_of_three(lag: object, right: bool) -> None:  # noqa: FBT001
    record = with_other(json.loads(wire.golden("serving_spec.json")), ("columns", 0, "lag"), lag)
    assert (valid("serving_spec", record), accepts("serving_spec.json", record)) == (right, right)


def test_an_abstention_has_a_reason_and_no_value_and_nothing_else_has() -> None:
    given, none = json.loads(wire.golden("prediction.json")), json.loads(wire.golden("prediction_abstained.json"))
    for wrong in (given | {"reason": "incomplete"}, given | {"value": None}, given | {"abstained": True}):
        assert not valid("prediction", wrong)
    for wrong in (none | {"reason": None}, none | {"value": 0.1}, none | {"p_up": 0.5}, none | {"abstained": False}):
        assert not valid("prediction", wrong)


def test_a_firing_alert_has_fired() -> None:
    firing = json.loads(wire.golden("alert.json"))
    assert firing["state"] == "firing"
    for wrong in (firing | {"fired_us": None}, firing | {"started_us": None}, firing | {"state": "resolved"}):
        assert not valid("alert", wrong)
