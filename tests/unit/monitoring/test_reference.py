"""References: order, padding, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from monitoring.errors import BadReferenceError
from monitoring.reference import MAX_BINS, Reference, fold

GOOD: dict[str, Any] = {"edges": [0.0, 1.0], "counts": [1, 2, 3, 4], "low": -1.0, "high": 2.0, "rho": 0.5}
LEVELS: dict[str, Any] = {"edges": (), "levels": [1.0, 4.0], "counts": [7, 8, 0, 2], "low": 1.0, "high": 4.0, "cross": 0.25}


def test_columns_come_in_the_order_of_names_and_are_padded() -> None:
    wide = {"edges": [1.0, 2.0, 3.0], "counts": [1, 1, 1, 1, 9], "low": 0.0, "high": 4.0}
    r = Reference.from_columns(["b", "a"], {"a": GOOD, "b": wide})
    assert r.names == ("b", "a")
    assert r.shape == (2, 7)
    assert r.bins.tolist() == [4, 3]
    assert r.kinds == ["numeric", "numeric"]
    assert r.edges.tolist() == [[1.0, 2.0, 3.0], [0.0, 1.0, np.inf]]
    assert r.counts.tolist() == [[1, 1, 1, 1, 9], [1, 2, 3, 0, 4]]
    assert r.rho.tolist() == [0.0, 0.5]


def test_a_name_without_training_data_has_one_empty_bin() -> None:
    r = Reference.from_columns(["a", "new"], {"a": GOOD})
    assert r.bins.tolist() == [3, 1]
    assert r.counts[1].sum() == 0
    assert np.isnan(r.low[1])


def test_levels_are_cells_of_their_own_and_other_is_one_more() -> None:
    r = Reference.from_columns(["a", "b"], {"a": GOOD, "b": LEVELS}, rows_per_instant=500)
    assert r.bins.tolist() == [3, 3]
    assert r.counts.tolist() == [[1, 2, 3, 4], [7, 8, 0, 2]]
    assert r.kinds == ["numeric", "levels"]
    assert r.levels[1].tolist() == [1.0, 4.0]
    assert r.cross.tolist() == [0.0, 0.25]
    assert r.rows_per_instant == 500


def test_what_lies_outside_the_range_is_judged_in_the_outer_bins() -> None:
    wide = {"edges": [1.0, 2.0, 3.0], "counts": [1, 1, 1, 1, 9], "low": 0.0, "high": 4.0}
    r = Reference.from_columns(["a", "wide", "b"], {"a": GOOD, "wide": wide, "b": LEVELS})
    kept = np.array([[1, 10, 20, 30, 0, 2, 3], [1, 10, 20, 30, 40, 2, 3], [0, 10, 20, 0, 0, 2, 3]])
    assert fold(r, kept).tolist() == [[11, 20, 32, 0, 3], [11, 20, 30, 42, 3], [10, 20, 2, 0, 3]]
    assert kept[0].tolist() == [1, 10, 20, 30, 0, 2, 3]
    with pytest.raises(BadReferenceError, match=r"counts of shape \(3, 5\) do not belong to a reference of shape \(3, 7\)"):
        fold(r, r.counts)


def test_a_range_within_the_bins_moves_nothing_across_an_edge() -> None:
    """Ranges written by hand may contradict the bins."""
    r = Reference.from_columns(["a"], {"a": GOOD | {"low": 0.5, "high": 0.75}})
    assert r.limits.tolist() == [[0.0, 0.0, 1.0, 1.0, np.inf]]


def test_columns_judged_on_what_is_present_have_no_missing_rows() -> None:
    r = Reference.from_columns(["a", "b"], {"a": GOOD, "b": GOOD})
    only = r.present_only(np.array([False, True]))
    assert only.counts.tolist() == [[1, 2, 3, 4], [1, 2, 3, 0]]
    assert only.absent.tolist() == [True, False]
    assert r.counts[1, -1] == 4


def test_the_digest_names_the_bins_and_not_the_counts() -> None:
    r = Reference.from_columns(["a"], {"a": GOOD})
    assert r.digest() == Reference.from_columns(["a"], {"a": GOOD | {"counts": [9, 9, 9, 9]}}).digest()
    assert r.digest() != Reference.from_columns(["a"], {"a": GOOD | {"edges": [0.0, 1.5]}}).digest()
    assert r.digest() != Reference.from_columns(["a"], {"a": GOOD | {"high": 3.0}}).digest()
    assert r.digest() != Reference.from_columns(["b"], {"b": GOOD}).digest()
    levels = Reference.from_columns(["a"], {"a": LEVELS})
    assert levels.digest() != Reference.from_columns(["a"], {"a": LEVELS | {"levels": [1.0, 5.0]}}).digest()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"edges": [1.0, 1.0]}, "'a': edges must be finite and ascending"),
        ({"edges": [0.0, np.inf]}, "'a': edges must be finite and ascending"),
        ({"counts": [1, 2, 3]}, "4 counts are needed, got 3"),
        ({"counts": [1, -2, 3, 4]}, "counts must not be negative"),
        ({"rho": 1.5}, "rho 1.5 is not between -1 and 1"),
        ({"rho": np.nan}, "rho nan is not between -1 and 1"),
        ({"edges": list(range(MAX_BINS)), "counts": [1] * (MAX_BINS + 2)}, "use at most 253"),
        ({"low": 3.0}, "low 3.0 is above high 2.0"),
        ({"cross": -0.1}, "cross -0.1 is not between 0 and 1"),
        ({"cross": np.nan}, "cross nan is not between 0 and 1"),
        ({"levels": [1.0]}, "has 2 edges and 1 levels; it is judged by one or the other"),
        ({"edges": [], "levels": [2.0, 1.0]}, "'a': levels must be finite and ascending"),
        ({"edges": [], "levels": [1.0, 2.0], "counts": [1, 2, 3]}, "2 levels and other and one for missing, so 4 counts"),
    ],
)
def test_a_contradiction_is_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(BadReferenceError, match=says):
        Reference.from_columns(["a"], {"a": GOOD | wrong})


@pytest.mark.parametrize("rows", [0.5, np.nan])
def test_an_instant_has_at_least_one_row(rows: float) -> None:
    with pytest.raises(BadReferenceError, match="must be at least 1"):
        Reference.from_columns(["a"], {"a": GOOD}, rows_per_instant=rows)
