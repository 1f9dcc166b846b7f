"""Groups of symbols and buckets of completeness."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monitoring.groups import SymbolGroups, breakdown, breakdown_reports, joined_breakdowns
from monitoring.quality import instants_of
from tests.unit.monitoring.quality_rows import BAR, Rows, panel


def test_the_first_group_that_matches_has_the_symbol() -> None:
    groups = SymbolGroups({"btc": ["BTC-USD"], "all": ["*-USD"], "btc-again": ["BTC*"], "odd": ["X[ab]?"]})
    symbols = ("BTC-USD", "ETH-USD", "BTC-EUR", "Xa1", "Xc1", "btc-usd")
    assert [groups.of(s) for s in symbols] == ["btc", "all", "btc-again", "odd", "other", "other"]
    assert groups.codes(symbols).tolist() == [0, 1, 2, 3, 4, 4]
    assert groups.codes(symbols[:2]).tolist() == [0, 1]


def test_a_symbol_whose_name_looks_like_a_pattern_is_named_as_it_is() -> None:
    assert SymbolGroups({"odd": ["A[1]"]}).of("A[1]") == "odd"


@pytest.mark.parametrize(
    ("groups", "says"), [({"other": ["A"]}, "cannot be called"), ({"a": []}, "must list"), ({"a": "A*"}, "must list")]
)
def test_groups_that_mean_nothing_are_refused(groups: dict[str, list[str]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SymbolGroups(groups)


def split(rows: Rows, groups: SymbolGroups | None) -> tuple[int, int]:
    whole = instants_of(rows, horizon_us=BAR)
    parts = breakdown(rows, whole=whole, groups=groups)
    by_group, by_completeness = breakdown_reports(parts, horizon_us=BAR)
    # One part costs nothing: it is the whole.
    assert all(part is whole for one in (parts.by_group, parts.by_completeness) if len(one) == 1 for part in one.values())
    return len(by_group), len(by_completeness)


def test_a_dimension_with_one_part_is_left_out() -> None:
    rows = panel(1, symbols=6, instants=5)
    assert split(rows, None) == (0, 0)
    assert split(rows, SymbolGroups({"all": ["S*"]})) == (0, 0)
    assert split(rows, SymbolGroups({"a": ["S000"]})) == (2, 0)
    assert split(replace(rows, completeness=np.tile([1, 0.9, 0.89, 0.5, 0.49, np.nan], 5)), None) == (0, 5)


def test_a_pane_with_one_bucket_joins_a_pane_with_two() -> None:
    rows = panel(1, symbols=4, instants=6)
    rows.completeness[20:] = 0.95
    panes = [rows.between(0, 3 * BAR), rows.between(3 * BAR, 9 * BAR)]
    parts = joined_breakdowns([breakdown(p, whole=instants_of(p, horizon_us=BAR), groups=None) for p in panes])
    _, by_completeness = breakdown_reports(parts, horizon_us=BAR)
    assert {name: r.rows for name, r in by_completeness.items()} == {"complete": 20, "0.9-1": 4}


def test_rows_without_a_value_are_in_no_part() -> None:
    rows = panel(1, symbols=2, instants=3)
    rows.value[::2] = np.nan
    assert split(rows, SymbolGroups({"a": ["S000"], "b": ["S001"]})) == (0, 0)
    rows.value[:] = np.nan
    assert split(rows, SymbolGroups({"a": ["S000"], "b": ["S001"]})) == (0, 0)
