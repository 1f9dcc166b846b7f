"""The text of a spec: as it ever was for versions of before there was more, golden for those that have it all."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from models import spec as specs
from models.errors import SpecError
from models.spec import AdditiveLoss, ColumnReference, LossEstimate, Reconstruction, ServingSpec, decode_spec, encode_spec
from streams import schemas
from streams.commands.models_look import _trained_lines
from tests.unit.streams import trained_spec, wire

GOLDEN = "serving_spec_trained.json"
SCHEMA = schemas.load("serving_spec")


def test_the_golden_spec_is_what_is_published_and_reads_back_to_the_same_numbers() -> None:
    assert encode_spec(trained_spec.spec()) == wire.golden(GOLDEN)
    assert decode_spec(wire.golden(GOLDEN)) == trained_spec.spec()


def test_a_spec_of_before_keeps_its_text_and_digest() -> None:
    old = wire.golden("serving_spec.json")
    assert encode_spec(decode_spec(old)) == old
    assert decode_spec(old).digest() == hashlib.sha256(old).hexdigest()[:16] == "1257f974664b6d92"
    said = json.loads(old)
    said |= {"rows_per_instant": 1, "reconstruction": None, "loss_estimate": None, "runtime": "native"}
    said["reference"]["ret_1"] |= {"cross": 0, "levels": []}
    assert encode_spec(decode_spec(json.dumps(said).encode())) == old


@pytest.mark.parametrize(
    "change",
    [
        {"rows_per_instant": 2.0},
        {"reconstruction": trained_spec.spec().reconstruction},
        {"prediction_reference": ColumnReference(edges=(), levels=(1.0,), counts=(1, 0, 0), low=1.0, high=1.0)},
        {"reference": {"ret_1": ColumnReference(edges=(), counts=(1, 0), low=1.0, high=1.0, cross=0.5)}},
    ],
)
def test_whatever_is_not_default_is_in_the_text(change: dict[str, Any]) -> None:
    changed = msgspec.structs.replace(wire.spec(), **change)
    assert decode_spec(encode_spec(changed)) == changed
    assert changed.digest() != wire.spec().digest()


def test_the_golden_spec_fits_the_schema_and_the_schema_has_the_fields_of_the_code() -> None:
    record = json.loads(wire.golden(GOLDEN))
    for validator in (Draft202012Validator, Draft7Validator):
        validator(SCHEMA).validate(record)
    kinds: dict[str, type[msgspec.Struct]] = {
        "reconstruction": Reconstruction, "loss_estimate": LossEstimate, "additive_loss": AdditiveLoss,
    }  # fmt: skip
    for definition, kind in kinds.items():
        fields = msgspec.structs.fields(kind)
        assert set(SCHEMA["$defs"][definition]["properties"]) == {f.name for f in fields}
        assert set(SCHEMA["$defs"][definition]["required"]) == {f.name for f in fields if f.required}


@pytest.mark.parametrize(
    "change",
    [
        {"rows_per_instant": 0.5},
        {"rows_per_instant": "2"},
        {"reconstruction": {}},
        {"loss_estimate": {"absolute": {"intercept": 0.0, "weights": {"ret_1": 1.0}, "explained": 0.0}}},
    ],
)
def test_what_the_schema_refuses_the_code_refuses(change: dict[str, Any]) -> None:
    record = json.loads(wire.golden(GOLDEN)) | change
    assert not Draft202012Validator(SCHEMA).is_valid(record)
    with pytest.raises(SpecError):
        decode_spec(json.dumps(record).encode())


FLAG = ColumnReference(edges=(), levels=(0.0, 1.0), counts=(1, 1, 0, 0), low=0.0, high=1.0)
BINS = ColumnReference(edges=(0.0,), counts=(1, 1, 0), low=-1.0, high=1.0)


@pytest.mark.parametrize(
    ("known", "changes", "why"),
    [
        (FLAG, {"counts": (1, 1, 0)}, "3 counts; right is 4, for 2 levels and other and for missing"),
        (BINS, {"counts": (1, 1, 0, 0)}, "4 counts; right is 3, for 2 bins and for missing"),
        (BINS, {"counts": (1, -1, 0)}, "counts must not be negative"),
        (FLAG, {"levels": (1.0, 0.0)}, "levels must be finite and ascending"),
        (FLAG, {"levels": (0.0, float("inf"))}, "levels must be finite and ascending"),
        (BINS, {"edges": (float("nan"),)}, "edges must be finite and ascending"),
        (FLAG, {"edges": (0.5,)}, "a numeric column has edges, a categorical one levels"),
        (BINS, {"rho": 1.5}, "rho 1.5 is not between -1 and 1"),
        (BINS, {"cross": -0.1}, "cross -0.1 is not between 0 and 1"),
        (BINS, {"low": 2.0}, "low 2.0 is above high 1.0"),
    ],
)
def test_an_inconsistent_reference_is_named(known: ColumnReference, changes: dict[str, Any], why: str) -> None:
    wrong = msgspec.structs.replace(known, **changes)
    plain = wire.spec()
    for what, change in (
        ("reference of column 'ret_1'", {"reference": plain.reference | {"ret_1": wrong}}),
        ("prediction_reference", {"prediction_reference": wrong}),
        ("reconstruction error", {"reconstruction": replaced(trained_spec.spec().reconstruction, error=wrong)}),
    ):
        with pytest.raises(SpecError, match=f"^serving spec of 'goog_ret_5d': {what}: .*{why}$"):
            msgspec.structs.replace(plain, **change).check()


def replaced(struct: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(struct, **changes)


def with_weights(**weights: tuple[float, ...]) -> dict[str, Any]:
    estimate = trained_spec.spec().loss_estimate
    assert estimate is not None
    return {"loss_estimate": replaced(estimate, squared=replaced(estimate.squared, weights=weights))}


PCA = trained_spec.spec().reconstruction


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"rows_per_instant": 0.9}, "rows_per_instant 0.9 is not at least 1"),
        ({"rows_per_instant": float("nan")}, "rows_per_instant nan is not at least 1"),
        ({"reconstruction": replaced(PCA, center=(0.0,))}, "1 centers and 3 scales; right is one of each for 3 columns"),
        ({"reconstruction": replaced(PCA, components=((1.0, 0.0),))}, r"width \[2\]; right is at least one, each of width 3"),
        ({"reconstruction": replaced(PCA, components=())}, r"width \[\]; right is at least one"),
        ({"reconstruction": replaced(PCA, scale=(1.0, 0.0, 1.0))}, "scales finite and above 0"),
        (with_weights(ret_2=(0.0,)), "loss_estimate.squared: weights of 'ret_2', which has no reference"),
        (with_weights(ret_1=(0.0,)), "1 weights for 'ret_1'; right is 4, one for each cell of its reference"),
        (with_weights(prediction=(0.0, 0.0)), "2 weights for 'prediction'; right is 4"),
        (with_weights(ret_1=(0.0, 0.0, 0.0, float("nan"))), "must be finite"),
    ],
)
def test_an_inconsistent_spec_says_what_would_be_right(change: dict[str, Any], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        msgspec.structs.replace(trained_spec.spec(), **change).check()


def test_structs_are_still_found_where_they_were() -> None:
    assert specs.ColumnReference is ColumnReference
    assert isinstance(wire.spec(), ServingSpec)


def test_show_says_what_there_is_and_nothing_of_an_old_version() -> None:
    assert list(_trained_lines(wire.spec())) == []
    assert list(_trained_lines(trained_spec.spec())) == [
        "  levels      vol_20.lag1",
        "  instants    12.5 training rows in each",
        "  components  1, which explain 75% of the variance of the columns",
        "  losses      absolute 0.015 on average, 4.0% of its variance foreseen; squared 0.0005, 0.0%",
    ]
