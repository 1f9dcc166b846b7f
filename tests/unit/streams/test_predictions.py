"""The prediction record's parts; its golden bytes are in test_schemas_produced.py."""

from __future__ import annotations

import hashlib
import json
import math

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streams.predictions import SCHEMA_VERSION, Prediction, Source, vector_hashes

NAN = math.nan


def prediction(**changes: object) -> Prediction:
    given: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "prediction_id": "m:1:A:5:0",
        "symbol": "A",
        "model": "m",
        "version": "1",
        "role": "champion",
        "ts_event_us": 5,
        "ts_decision_us": 6,
        "horizon_us": 10,
        "revision": 0,
        "value": 0.25,
        "lower": -0.5,
        "upper": 1.0,
        "level": 0.9,
        "p_up": 0.75,
        "confidence": 0.75,
        "ood": 0.0,
        "completeness": 1.0,
        "missing": (),
        "stale": (),
        "abstained": False,
        "reason": None,
        "vector_hash": "0" * 16,
        "spec_digest": "1" * 16,
        "source": Source("f", 3, 41),
        "supersedes": None,
    }
    return msgspec.convert(given | changes, Prediction, from_attributes=True)


def test_the_record_is_one_flat_object_of_a_fixed_shape() -> None:
    given = json.loads(msgspec.json.encode(prediction()))
    abstains = {
        "value": NAN,
        "lower": NAN,
        "upper": NAN,
        "p_up": NAN,
        "confidence": NAN,
        "abstained": True,
        "reason": "incomplete",
    }
    none = json.loads(msgspec.json.encode(prediction(**abstains, missing=["x"])))
    assert list(given) == list(none) == list(Prediction.__struct_fields__)
    assert [none[n] for n in abstains] == [None, None, None, None, None, True, "incomplete"]
    assert given["source"] == {"topic": "f", "partition": 3, "offset": 41}
    assert [n for n, v in given.items() if isinstance(v, dict)] == ["source"]


def test_an_unbounded_interval_is_null_not_a_word_json_does_not_know() -> None:
    body = json.loads(msgspec.json.encode(prediction(lower=-math.inf, upper=math.inf)))
    assert (body["lower"], body["upper"]) == (None, None)


@given(hnp.arrays(np.float64, st.tuples(st.integers(0, 6), st.integers(1, 5)), elements=st.floats(width=64)))
def test_a_hash_is_of_a_rows_own_bytes_wherever_the_row_stands(values: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    hashes = vector_hashes(values)
    assert hashes == [hashlib.blake2b(row.tobytes(), digest_size=8).hexdigest() for row in values]
    assert hashes == [vector_hashes(values[i : i + 1])[0] for i in range(len(values))]
    wide = np.concatenate([values, values], axis=1)
    assert vector_hashes(wide[:, : values.shape[1]]) == hashes  # a view that is not contiguous
