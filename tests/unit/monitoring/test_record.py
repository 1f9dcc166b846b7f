"""Record and request on the wire: golden files, and JSON without NaN."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitoring.record import encode, performance_record
from tests.unit.monitoring import a_record

GOLDEN = Path(__file__).parents[2] / "golden"


def rounded(value: Any) -> Any:
    """To nine figures: the last bits of logarithms and square roots are the machine's own."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


@pytest.mark.parametrize(("made", "file"), [(a_record.window, "performance.json"), (a_record.request, "retrain_request.json")])
def test_golden(made: Any, file: str) -> None:
    said, held = json.loads(encode(made())), json.loads((GOLDEN / file).read_text(encoding="utf-8"))
    assert json.dumps(rounded(said)) == json.dumps(rounded(held))  # as text, so the order of the fields too


def test_the_id_names_the_window_and_its_revision() -> None:
    named = {"model": "m", "version": "3", "role": "champion", "window_start_us": 5, "window_end_us": 65}
    record = performance_record(**named, revision=2)  # type: ignore[arg-type]  # of a dict
    assert record["performance_id"] == "m:3:champion:5:65:2"
    assert {record[part] for part in ("drift", "quality", "paired", "estimate", "concept")} == {None}


def test_what_is_not_finite_is_null_and_numpy_is_plain() -> None:
    odd = {
        "a": math.nan,
        "b": -math.inf,
        "c": np.float64("nan"),
        "d": np.array([1.5, np.nan]),
        "e": np.int64(7),
        "f": np.isfinite(1.0),
    }
    assert encode(odd) == b'{"a":null,"b":null,"c":null,"d":[1.5,null],"e":7,"f":true}'
    with pytest.raises(NotImplementedError, match="a record holds object"):
        encode({"a": object()})
