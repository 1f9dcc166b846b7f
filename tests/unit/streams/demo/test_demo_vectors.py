"""The brute-force lag rules, case by case, as the table in the module says them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from models.spec import ColumnSpec, FeatureSetSpec, Lag, ServingSpec
from streams.demo.ledger import Place, PredictionHead
from streams.demo.vectors import vectors_from_rows
from streams.demo.verify import verify_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray


def spec(*columns: ColumnSpec, depth_rows: int = 100) -> ServingSpec:
    sets = {name: FeatureSetSpec(features=("x",), bar_us=10, depth_rows=depth_rows) for name in ("bars", "slow")}
    return ServingSpec(model="m", trigger="bars", horizon_us=10, columns=columns, feature_sets=sets)


def column(lag: Any = 0, *, of: str = "bars", max_age_us: int | None = None) -> ColumnSpec:
    return ColumnSpec(name=f"{of}.{lag}", feature_set=of, feature="x", lag=lag, max_age_us=max_age_us)


def rows(*given: tuple[str, int, int, int, float]) -> pd.DataFrame:
    """(feature set, event, known, revision, value), in log order."""
    table = pd.DataFrame(given, columns=["feature_set", "ts_event_us", "ts_known_us", "revision", "x"])
    return table.assign(symbol="A")


def last(table: pd.DataFrame, of: ServingSpec) -> NDArray[np.float64]:
    found: NDArray[np.float64] = vectors_from_rows(table, of)[[c.name for c in of.columns]].to_numpy(np.float64)[-1]
    return found


def test_lag_by_bars_counts_the_grid_and_a_gap_is_a_gap() -> None:
    table = rows(("bars", 10, 10, 0, 1.0), ("bars", 30, 30, 0, 3.0), ("bars", 40, 40, 0, 4.0))
    found = last(table, spec(column(Lag(bars=1)), column(Lag(bars=2)), column(Lag(bars=3))))
    assert found.tolist()[:1] == [3.0]
    assert np.isnan(found[1])  # nothing at 20, and the row at 10 is a whole bar old
    assert found[2] == 1.0


@pytest.mark.parametrize(("max_age_us", "seen"), [(10, 1.0), (9, np.nan)])
def test_max_age_is_inclusive_at_the_lagged_instant(max_age_us: int, seen: float) -> None:
    table = rows(("bars", 10, 10, 0, 1.0), ("bars", 40, 40, 0, 4.0))
    np.testing.assert_equal(last(table, spec(column(Lag(us=20), max_age_us=max_age_us)))[0], seen)


def test_what_was_not_known_at_decision_time_is_not_seen() -> None:
    early = ("bars", 40, 41, 0, 4.0)
    known, unknown = ("slow", 30, 41, 0, 7.0), ("slow", 30, 42, 0, 7.0)
    assert last(rows(("slow", 20, 20, 0, 5.0), known, early), spec(column(of="slow")))[0] == 7.0
    assert last(rows(("slow", 20, 20, 0, 5.0), unknown, early), spec(column(of="slow")))[0] == 5.0


def test_what_came_later_in_the_log_is_not_seen() -> None:
    assert np.isnan(last(rows(("bars", 40, 41, 0, 4.0), ("slow", 30, 30, 0, 7.0)), spec(column(of="slow")))[0])


def test_the_greatest_revision_of_the_newest_event_time_wins() -> None:
    table = rows(("slow", 30, 30, 1, 8.0), ("slow", 30, 31, 0, 7.0), ("slow", 20, 32, 5, 9.0), ("bars", 40, 41, 0, 4.0))
    assert last(table, spec(column(of="slow")))[0] == 8.0


def test_only_the_newest_rows_count() -> None:
    table = rows(*[("bars", t, t, 0, float(t)) for t in range(10, 60, 10)])
    assert last(table, spec(column(Lag(bars=2)), depth_rows=3))[0] == 30.0
    assert np.isnan(last(table, spec(column(Lag(bars=3)), depth_rows=3))[0])


def test_a_repeated_row_is_ignored_and_a_late_one_placed() -> None:
    table = rows(("bars", 20, 20, 0, 2.0), ("bars", 20, 20, 0, 2.0), ("bars", 10, 10, 0, 1.0), ("bars", 30, 30, 0, 3.0))
    found = vectors_from_rows(table, spec(column(Lag(bars=2))))
    assert found["ts_event_us"].tolist() == [20, 10, 30]
    assert found.iloc[-1, -1] == 1.0


def test_symbols_do_not_see_each_other() -> None:
    one = rows(("slow", 10, 10, 0, 1.0))
    other = rows(("bars", 20, 20, 0, 2.0)).assign(symbol="B")
    assert np.isnan(last(pd.concat([one, other]), spec(column(of="slow")))[0])


def test_verify_counts_equal_hashes_and_names_one_that_differs() -> None:
    table, of = rows(("bars", 10, 10, 0, 1.5), ("bars", 20, 20, 0, 2.5)), spec(column(), column(Lag(bars=1)))
    right = [hashlib.blake2b(np.array(v, dtype="<f8").tobytes(), digest_size=8).hexdigest() for v in ([1.5, np.nan], [2.5, 1.5])]
    made = [
        PredictionHead(f"m:1:A:{t}:0", "A", "1", t, 0.0, 0.0, 0.0, 0.5, vector_hash, Place(0, 0))
        for t, vector_hash in ((10, right[0]), (20, "0" * 16))
    ]
    found = verify_vectors(table, made, of)
    assert (found.checked, found.equal, found.differing) == (2, 1, "m:1:A:20:0")
