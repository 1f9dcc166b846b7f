"""What `publish` passes on to the spec: times in any order, levels by name, components, the loss estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from models.build_spec import build_spec
from models.errors import SpecError
from models.spec import ColumnSpec, FeatureSetSpec, ServingSpec, decode_spec, encode_spec
from models.trained import PREDICTION

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = ("ret", "sector", "halted", "index")
SYMBOLS, DAYS = 5, 120
DAY_US = 86_400_000_000


def panel(seed: int, *, days: int = DAYS) -> dict[str, NDArray[Any]]:
    """Rows of five symbols, day by day: a return, a sector code, a flag, and an index that is one for all."""
    rng = np.random.default_rng(seed)
    n = days * SYMBOLS
    symbol = np.tile(np.arange(SYMBOLS), days)
    ret, flag = rng.normal(size=n), (rng.random(n) < 0.2) * 1.0
    x = np.stack([ret, np.array([10.0, 10, 15, 45, 45])[symbol], flag, np.repeat(rng.normal(size=days), SYMBOLS)], axis=1)
    y = ret + rng.normal(size=n) * np.where(flag > 0, 3.0, 0.3)
    times = np.repeat(np.arange(days), SYMBOLS) * DAY_US
    return {"x": x, "y": y, "groups": np.array(list("ABCDE"))[symbol], "times": times}


TRAIN, FRESH = panel(1), panel(2)
GIVEN: dict[str, Any] = {
    "x": TRAIN["x"], "groups": TRAIN["groups"], "times": TRAIN["times"],
    "x_calibration": FRESH["x"], "y_calibration": FRESH["y"],
    "groups_calibration": FRESH["groups"], "times_calibration": FRESH["times"],
}  # fmt: skip


def built(**changes: Any) -> ServingSpec:
    return build_spec(
        lambda x: x[:, 0] * 0.5,
        name="m",
        columns=[ColumnSpec(name=n, feature_set="bars", feature=n) for n in NAMES],
        feature_sets={"bars": FeatureSetSpec(features=NAMES, bar_us=DAY_US, depth_rows=4)},
        trigger="bars",
        horizon_us=DAY_US,
        **(GIVEN | {"levels": ("sector",)} | changes),
    )


def test_a_spec_of_everything_reads_back_to_the_same_bits() -> None:
    spec = built()
    assert decode_spec(encode_spec(spec)) == spec
    assert spec.rows_per_instant == SYMBOLS
    assert (spec.reference["sector"].levels, spec.reference["halted"].levels) == ((10.0, 15.0, 45.0), (0.0, 1.0))
    assert spec.reference["index"].cross == pytest.approx(1.0)
    assert spec.reference["ret"].cross == pytest.approx(0.0, abs=0.1)
    assert spec.prediction_reference is not None
    assert spec.prediction_reference.levels == ()
    assert spec.reconstruction is not None
    assert sum(spec.reconstruction.error.counts) == len(FRESH["x"])
    assert spec.loss_estimate is not None
    loss = spec.loss_estimate.absolute
    assert set(loss.weights) == {*NAMES, PREDICTION}
    assert loss.explained > 0.2
    calm, halted, other, missing = loss.weights["halted"]
    assert calm < 0.0 == other == missing < halted


def test_rows_may_come_in_any_order_that_keeps_their_times() -> None:
    by_symbol: dict[str, NDArray[Any]] = {}
    for ending, part in (("", TRAIN), ("_calibration", FRESH)):
        order = np.argsort(part["groups"], kind="stable")
        by_symbol |= {f"{name}{ending}": part[name][order] for name in ("x", "groups", "times")}
        if ending:
            by_symbol["y_calibration"] = part["y"][order]
    stacked, in_time = built(**by_symbol), built()
    assert sorted(stacked.residuals) == sorted(in_time.residuals)
    assert (stacked.reference, stacked.prediction_reference) == (in_time.reference, in_time.prediction_reference)
    assert (stacked.reconstruction, stacked.loss_estimate) == (in_time.reconstruction, in_time.loss_estimate)
    assert built(times=np.array(TRAIN["times"], dtype="datetime64[us]")) == in_time


def test_without_times_there_is_nothing_to_say_of_instants() -> None:
    spec = built(times=None, times_calibration=None)
    assert spec.rows_per_instant == 1.0
    assert {r.cross for r in spec.reference.values()} == {0.0}
    assert spec.loss_estimate is not None
    assert spec.reference["ret"].rho <= built().reference["ret"].rho  # what symbols share may be slower than what is their own


def test_what_calibration_does_not_give_is_not_estimated() -> None:
    only_residuals = {"x_calibration": None, "y_calibration": None, "residuals": np.linspace(-1, 1, 50).tolist()}
    plain = built(**only_residuals)
    assert plain.loss_estimate is None
    assert plain.reconstruction is not None
    assert sum(plain.reconstruction.error.counts) == len(TRAIN["x"])  # two halves, each held against the other
    few = np.where(np.arange(len(FRESH["y"])) < 199, FRESH["y"], np.nan)
    assert built(y_calibration=few).loss_estimate is None
    assert built(components=0).reconstruction is None
    three = built(components=3).reconstruction
    assert three is not None
    assert len(three.components) == 3


def test_a_column_named_as_the_answer_gives_the_answer_its_name() -> None:
    spec = build_spec(
        lambda x: x[:, 0] * 0.5,
        name="m",
        columns=[ColumnSpec(name=n, feature_set="bars", feature="ret") for n in ("ret", "prediction")],
        feature_sets={"bars": FeatureSetSpec(features=("ret",), bar_us=DAY_US, depth_rows=4)},
        trigger="bars",
        horizon_us=DAY_US,
        **(GIVEN | {"x": TRAIN["x"][:, :2], "x_calibration": FRESH["x"][:, [0, 2]]}),
    )
    assert spec.loss_estimate is not None
    assert set(spec.loss_estimate.absolute.weights) == {"ret", "prediction"}
    assert spec.prediction_reference is not None
    assert len(spec.loss_estimate.absolute.weights["prediction"]) == len(spec.prediction_reference.counts)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"levels": ("sectors",)}, r"'m': levels names 'sectors', which is not among its columns \['ret'"),
        ({"levels": ("ret",)}, "'ret' has 600 levels; at most 50"),
        ({"components": 4}, "4 components of 4 columns; right is 0 .none. to 3"),
        ({"times": TRAIN["times"][:-1]}, r"'m': times has shape \(599,\) for 600 rows of x; right is \(600,\)"),
        ({"times_calibration": FRESH["times"] / 2}, "'m': times_calibration are float64; right is event times in us as int64"),
        ({"groups": TRAIN["groups"][1:]}, r"'m': groups has shape \(599,\) for 600 rows of x"),
        ({"x_calibration": FRESH["x"][:, :3]}, r"'m': x_calibration has shape \(600, 3\); right is \(rows, 4\)"),
        ({"y_calibration": FRESH["y"][:-1]}, r"y_calibration has shape \(599,\) for 600 rows of x_calibration"),
        ({"residuals": [0.1] * 50}, "both residuals and y_calibration are given"),
    ],
)
def test_what_does_not_fit_is_said(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        built(**changes)
