"""The layout that serves several models: the union of what they read, or a refusal that names the contradiction."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.spec import ColumnSpec, FeatureSetSpec, ServingSpec
from streams.errors import LayoutError
from streams.layout import MAX_DEPTH_ROWS, MAX_NAMES_BYTES, MAX_STATE_BYTES, SetLayout, merge_specs
from streams.records import FeatureDecoder
from streams.state import SetState, SymbolState, pack


def spec(model: str = "m", /, **sets: FeatureSetSpec) -> ServingSpec:
    first = next(iter(sets))
    column = ColumnSpec(name="c", feature_set=first, feature=sets[first].features[0])
    return ServingSpec(model=model, trigger=first, horizon_us=1, columns=(column,), feature_sets=dict(sets))


def fs(*features: str, lag: int = 5, depth: int = 4) -> FeatureSetSpec:
    return FeatureSetSpec(features=features, bar_us=10, publication_lag_us=lag, depth_rows=depth)


def test_no_models_no_layout() -> None:
    assert merge_specs([]) == {}


def test_features_come_in_first_come_order_and_the_deepest_window_counts() -> None:
    merged = merge_specs([spec(bars=fs("b", "a", depth=4)), spec(bars=fs("a", "c", depth=9), slow=fs("z"))])
    assert merged == {
        "bars": SetLayout("bars", ("b", "a", "c"), 5, 9),
        "slow": SetLayout("slow", ("z",), 5, 4),
    }


def test_one_model_alone_is_its_own_layout() -> None:
    assert merge_specs([spec(bars=fs("b", "a"))])["bars"].features == ("b", "a")


def test_two_publication_lags_of_a_set_are_refused() -> None:
    with pytest.raises(LayoutError, match=r"model 'n' wants a publication lag of 7 us for feature set 'bars', another .* 5 us"):
        merge_specs([spec(bars=fs("a")), spec("n", bars=fs("a", lag=7))])


def test_windows_deeper_than_a_table_value_holds_are_refused() -> None:
    merge_specs([spec(bars=fs("a", depth=MAX_DEPTH_ROWS))])
    with pytest.raises(LayoutError, match="windows of 65536 rows, 65535 are possible"):
        merge_specs([spec(bars=fs("a", depth=MAX_DEPTH_ROWS + 1))])


def test_windows_larger_than_a_changelog_record_are_refused_together() -> None:
    names = tuple(f"f{i}" for i in range(100))
    rows = MAX_STATE_BYTES // 2 // (8 * 103) - 10
    merge_specs([spec(bars=fs(*names, depth=rows))])
    merge_specs([spec(bars=fs(*names, depth=rows), slow=fs(*names, depth=rows))])
    with pytest.raises(LayoutError, match=f"bytes a symbol, {MAX_STATE_BYTES} are possible"):
        merge_specs([spec(bars=fs(*names, depth=rows), slow=fs(*names, depth=rows)), spec("n", more=fs(*names, depth=100))])


def test_column_names_too_long_for_a_prediction_that_names_them_all_are_refused() -> None:
    def wide(columns: int) -> ServingSpec:
        named = tuple(ColumnSpec(name=f"{i:095}", feature_set="bars", feature="a") for i in range(columns))
        return ServingSpec(model="m", trigger="bars", horizon_us=1, columns=named, feature_sets={"bars": fs("a")})

    most = MAX_NAMES_BYTES // 98 - 1
    merge_specs([wide(most)])
    with pytest.raises(LayoutError, match=f"columns of model 'm' take .* bytes, {MAX_NAMES_BYTES} are possible"):
        merge_specs([wide(most + 2)])
    names = [c.name for c in wide(most).columns]
    body = {"missing": names, "stale": names, "symbol": "s" * 256, "else": "x" * 5_000}
    assert len(msgspec.json.encode(body)) < 1_000_000


def test_the_greatest_windows_allowed_can_be_packed() -> None:
    merged = merge_specs([spec(bars=fs("a", depth=MAX_DEPTH_ROWS))])
    numbers = np.zeros(MAX_DEPTH_ROWS, dtype=np.int64)
    state = SetState(merged["bars"].features, numbers, numbers, numbers, np.zeros((MAX_DEPTH_ROWS, 1)))
    assert len(pack(SymbolState(0, {"bars": state}))) < MAX_STATE_BYTES


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\x1fb", "\x00"])
def test_a_feature_name_that_json_or_the_table_would_escape_is_refused(name: str) -> None:
    with pytest.raises(LayoutError, match="no quotes, backslashes or control characters"):
        merge_specs([spec(bars=fs("a", name))])


@pytest.mark.parametrize("name", ["", "a b", "größe", "a:b", "日", "vol_20.lag1", "f0", "class", "feature_set"])
def test_any_other_name_can_be_decoded(name: str) -> None:
    FeatureDecoder(merge_specs([spec(bars=fs("a", name))]), partitions=1, max_future_us=0)
