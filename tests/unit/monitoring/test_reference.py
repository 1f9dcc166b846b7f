"""References: order, padding, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from monitoring.errors import BadReferenceError
from monitoring.reference import MAX_BINS, Reference

GOOD: dict[str, Any] = {"edges": [0.0, 1.0], "counts": [1, 2, 3, 4], "low": -1.0, "high": 2.0, "rho": 0.5}


def test_columns_come_in_the_order_of_names_and_are_padded() -> None:
    wide = {"edges": [1.0, 2.0, 3.0], "counts": [1, 1, 1, 1, 9], "low": 0.0, "high": 4.0}
    r = Reference.from_columns(["b", "a"], {"a": GOOD, "b": wide})
    assert r.names == ("b", "a")
    assert r.shape == (2, 5)
    assert r.bins.tolist() == [4, 3]
    assert r.edges.tolist() == [[1.0, 2.0, 3.0], [0.0, 1.0, np.inf]]
    assert r.counts.tolist() == [[1, 1, 1, 1, 9], [1, 2, 3, 0, 4]]
    assert r.rho.tolist() == [0.0, 0.5]


def test_a_name_without_training_data_has_one_empty_bin() -> None:
    r = Reference.from_columns(["a", "new"], {"a": GOOD})
    assert r.bins.tolist() == [3, 1]
    assert r.counts[1].sum() == 0
    assert np.isnan(r.low[1])


def test_the_digest_names_the_bins_and_not_the_counts() -> None:
    r = Reference.from_columns(["a"], {"a": GOOD})
    assert r.digest() == Reference.from_columns(["a"], {"a": GOOD | {"counts": [9, 9, 9, 9]}}).digest()
    assert r.digest() != Reference.from_columns(["a"], {"a": GOOD | {"edges": [0.0, 1.5]}}).digest()
    assert r.digest() != Reference.from_columns(["b"], {"b": GOOD}).digest()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"edges": [1.0, 1.0]}, "'a': edges must be finite and ascending"),
        ({"edges": [0.0, np.inf]}, "'a': edges must be finite and ascending"),
        ({"counts": [1, 2, 3]}, "4 counts are needed, got 3"),
        ({"counts": [1, -2, 3, 4]}, "counts must not be negative"),
        ({"rho": 1.5}, "rho 1.5 is not between -1 and 1"),
        ({"rho": np.nan}, "rho nan is not between -1 and 1"),
        ({"edges": list(range(MAX_BINS)), "counts": [1] * (MAX_BINS + 2)}, "use at most 254"),
    ],
)
def test_a_contradiction_is_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(BadReferenceError, match=says):
        Reference.from_columns(["a"], {"a": GOOD | wrong})
