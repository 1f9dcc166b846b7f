"""Laws of the models core, against brute force."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from math import ceil, inf, isnan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from models.confidence import half_width, p_up, residuals_needed
from models.errors import RuntimeMissing
from models.handle import ModelHandle, Predict
from models.native_sklearn import linear_predict
from models.reference import column_reference
from models.runtimes import EXTRAS, load_forest
from models.score import Scores, score
from models.spec import ColumnReference, ColumnSpec, FeatureSetSpec, ServingSpec

Floats = NDArray[np.float64]
finite = st.floats(allow_nan=False, allow_infinity=False)
moderate = st.floats(-1e6, 1e6)
levels = st.integers(1, 99).map(lambda percent: percent / 100)


@given(scores=st.sets(st.floats(0, 1e6), min_size=2, max_size=40), level=levels)
def test_leave_one_out_coverage_is_exactly_the_conformal_rank(scores: set[float], level: float) -> None:
    """Of n + 1 distinct |residuals|, each held out once: exactly min(ceil((n + 1) level), n + 1) lie within the others' width."""
    everything = np.array(sorted(scores))
    covered = sum(held <= half_width(np.delete(everything, i), level=level) for i, held in enumerate(everything))
    assert covered == min(ceil(len(everything) * Fraction(str(level))), len(everything))
    assert covered >= level * len(everything) - 1e-9


@given(level=levels)
def test_needed_residuals_are_the_fewest_with_a_finite_width(level: float) -> None:
    brute = next(n for n in range(1, 1000) if half_width(np.ones(n), level=level) < inf)
    assert residuals_needed(level=level) == brute


@given(values=arrays(np.float64, st.integers(0, 20), elements=finite), residuals=st.lists(finite, min_size=1, max_size=30))
def test_p_up_is_the_counted_share(values: Floats, residuals: list[float]) -> None:
    with np.errstate(over="ignore"):
        brute = [sum(bool(v + np.float64(r) > 0) for r in residuals) / len(residuals) for v in values]
    assert p_up(values, np.sort(np.array(residuals))).tolist() == brute


@given(
    values=st.lists(st.one_of(moderate, st.sampled_from([0.0, 1.0]), st.just(np.nan)), min_size=1, max_size=200),
    bins=st.integers(1, 12),
)
def test_reference_bins_hold_every_row_once(values: list[float], bins: int) -> None:
    present = [v for v in values if not isnan(v)]
    if not present:
        return
    r = column_reference(np.array(values), bins=bins, levels=())
    assert all(a < b for a, b in pairwise(r.edges))
    bounds = [-inf, *r.edges, inf]
    brute = [sum(below < v <= above for v in present) for below, above in pairwise(bounds)]
    assert list(r.counts) == [*brute, len(values) - len(present)]
    assert (r.low, r.high) == (min(present), max(present))
    assert -1.0 <= r.rho <= 1.0


WIDTH = 7


def handle_of(predict: Predict) -> ModelHandle:
    names = tuple(f"c{i}" for i in range(WIDTH))
    reference = {n: ColumnReference(edges=(0.0,), counts=(1, 1, 0), low=-10.0, high=10.0) for n in names}
    spec = ServingSpec(
        model="m",
        trigger="bars",
        horizon_us=1,
        columns=tuple(ColumnSpec(name=n, feature_set="bars", feature=n) for n in names),
        feature_sets={"bars": FeatureSetSpec(features=names, bar_us=1, depth_rows=1)},
        residuals=tuple(np.random.default_rng(5).normal(size=40).tolist()),
        reference=reference,
    )
    return ModelHandle(name="m", version="1", digest="", spec=spec, predict=predict)


def bits(scores: Scores) -> list[bytes]:
    """One byte string a row: every answer for it."""
    parts: list[NDArray[Any]] = [
        scores.value, scores.lower, scores.upper, scores.p_up, scores.confidence, scores.ood, scores.abstained, scores.code,
    ]  # fmt: skip
    return [b"".join(p[i].tobytes() for p in parts) for i in range(len(scores.value))]


def linear() -> Predict:
    return linear_predict(np.random.default_rng(6).normal(size=WIDTH), 0.25, width=WIDTH)


@pytest.fixture(scope="module", name="predicts")
def fixture_predicts() -> dict[str, Predict]:
    from lightgbm import Dataset, train
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import Ridge
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from models.native_sklearn import native

    rng = np.random.default_rng(8)
    x = rng.normal(size=(300, WIDTH))
    y = x[:, 0] - x[:, 1] ** 2 + rng.normal(size=300)
    booster = train({"verbose": -1, "num_threads": 1, "num_leaves": 8}, Dataset(x, y), 20)
    estimators = {
        "scaled ridge": make_pipeline(StandardScaler(), Ridge()),
        "forest": RandomForestRegressor(5, max_depth=5, random_state=1, n_jobs=2),
        "network": MLPRegressor(hidden_layer_sizes=(6,), random_state=1, solver="lbfgs", tol=1e-2),
    }
    predicts: dict[str, Predict] = {n: native(e.fit(x, y), columns=WIDTH).predict for n, e in estimators.items()}
    text = booster.model_to_string()
    for runtime in EXTRAS:
        with suppress(RuntimeMissing):
            predicts[runtime] = load_forest(text, columns=WIDTH, runtime=runtime).predict
    return predicts | {"linear": linear(), "booster": lambda v: np.asarray(booster.predict(v, num_threads=1))}


@pytest.mark.parametrize("kind", ["linear", "scaled ridge", "forest", "network", "booster", *EXTRAS])
def test_a_row_scores_to_the_same_bits_alone_and_in_any_batch(predicts: dict[str, Predict], kind: str) -> None:
    if kind not in predicts:
        pytest.skip(f"the extra {kind!r} is not installed")
    rng = np.random.default_rng(9)
    values = rng.normal(size=(203, WIDTH)) * 10.0 ** rng.integers(-3, 4, size=(203, WIDTH))
    values[rng.random(values.shape) < 0.03] = np.nan
    handle = handle_of(predicts[kind])
    together = bits(score(handle, values))
    assert together == [b for i in range(len(values)) for b in bits(score(handle, values[i : i + 1]))]
    for size in (2, 3, 7, 64):
        assert together == [b for i in range(0, len(values), size) for b in bits(score(handle, values[i : i + size]))]
    assert together == bits(score(handle, np.asfortranarray(values)))
    order = rng.permutation(len(values))
    assert [together[i] for i in order] == bits(score(handle, values[order]))


@settings(max_examples=60)
@given(
    values=arrays(np.float64, st.tuples(st.integers(1, 30), st.just(WIDTH)), elements=st.one_of(finite, st.just(np.nan))),
    cut=st.integers(0, 30),
)
def test_cutting_a_batch_changes_no_bit(values: Floats, cut: int) -> None:
    handle = handle_of(linear())
    assert bits(score(handle, values)) == bits(score(handle, values[:cut])) + bits(score(handle, values[cut:]))
