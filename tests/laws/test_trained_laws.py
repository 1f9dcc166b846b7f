"""Laws of what a spec keeps of training, against brute force: cells, correlations, reconstruction, loss estimates."""

from __future__ import annotations

from itertools import groupby
from math import isnan

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from models.dependence import (
    autocorrelation,
    autocorrelation_of_levels,
    intraclass_correlation,
    intraclass_correlation_of_levels,
)
from models.loss_estimate import LEAST_ROWS, fit_loss_estimate
from models.reconstruction import Rows, fit_reconstruction, reconstruction_error
from models.reference import cells, column_reference
from models.trained import PREDICTION, AdditiveLoss, ColumnReference, Reconstruction
from monitoring.drift import count
from monitoring.reference import Reference, fold

Floats = NDArray[np.float64]
RNG = np.random.default_rng(7)

present = st.floats(-1e6, 1e6).map(lambda v: v + 0.0)
coded = st.sampled_from([0.0, 1.0, 3.0, 45.0, np.nan])


@given(values=st.lists(coded, min_size=1, max_size=60))
def test_levels_hold_every_row_once(values: list[float]) -> None:
    known = [v for v in values if not isnan(v)]
    if not known:
        return
    r = column_reference(np.array(values), levels="auto")
    assert list(r.levels) == sorted(set(known))
    assert list(r.counts) == [*(known.count(level) for level in r.levels), 0, len(values) - len(known)]
    few = column_reference(np.array(values), levels=(1.0, 45.0))
    assert list(few.counts) == [
        known.count(1.0), known.count(45.0), known.count(0.0) + known.count(3.0), len(values) - len(known),
    ]  # fmt: skip


@given(values=st.lists(st.one_of(present, coded), min_size=1, max_size=40), at=st.lists(st.one_of(present, coded), max_size=40))
def test_a_cell_is_the_one_brute_force_finds(values: list[float], at: list[float]) -> None:
    if all(isnan(v) for v in values):
        return
    for levels in (None, (), "auto"):
        r = column_reference(np.array(values), bins=4, levels=levels)
        assert cells(r, np.array(at)).tolist() == [brute_cell(r, v) for v in at]
        assert np.bincount(cells(r, np.array(values)), minlength=len(r.counts)).tolist() == list(r.counts)


def brute_cell(r: ColumnReference, v: float) -> int:
    if isnan(v):
        return len(r.counts) - 1
    if r.levels:
        return r.levels.index(v) if v in r.levels else len(r.levels)
    return sum(edge < v for edge in r.edges)


panels = st.lists(st.tuples(st.integers(0, 6), st.one_of(st.integers(-3, 3).map(float), st.just(np.nan))), max_size=40)


@given(rows=panels)
def test_cross_is_the_textbooks_analysis_of_variance(rows: list[tuple[int, float]]) -> None:
    times, values = np.array([t for t, _ in rows]), np.array([v for _, v in rows], dtype=np.float64)
    assert intraclass_correlation(values, times) == pytest.approx(brute_intraclass(rows), abs=1e-9)
    codes = np.where(np.isnan(values), -1, values + 3).astype(np.int64)
    assert intraclass_correlation_of_levels((codes > 2) - (codes < 0) * 1, times) == pytest.approx(
        brute_intraclass([(t, v if isnan(v) else float(v > -1)) for t, v in rows]), abs=1e-9
    )
    order = RNG.permutation(4)
    renamed = np.where(codes < 0, -1, order[codes % 4])
    assert intraclass_correlation_of_levels(renamed, times) == pytest.approx(
        intraclass_correlation_of_levels(np.where(codes < 0, -1, codes % 4), times), abs=1e-9
    )


def brute_intraclass(rows: list[tuple[int, float]]) -> float:
    known = sorted((t, v) for t, v in rows if not isnan(v))
    groups = [[v for _, v in of] for _, of in groupby(known, key=lambda row: row[0])]
    n, k = len(known), len(groups)
    if k < 2 or n == k:
        return 0.0
    mean = sum(v for _, v in known) / n
    msb = sum(len(g) * (sum(g) / len(g) - mean) ** 2 for g in groups) / (k - 1)
    msw = sum((v - sum(g) / len(g)) ** 2 for g in groups for v in g) / (n - k)
    m0 = (n - sum(len(g) ** 2 for g in groups) / n) / (k - 1)
    total = msb + (m0 - 1) * msw
    return min(max((msb - msw) / total, 0.0), 1.0) if total > 0 else 0.0


@given(rows=st.lists(st.tuples(st.sampled_from([0.0, 1.0, np.nan]), st.integers(0, 2)), max_size=40))
def test_of_two_levels_rho_is_that_of_the_numbers(rows: list[tuple[float, int]]) -> None:
    numbers, of = np.array([v for v, _ in rows], dtype=np.float64), [g for _, g in rows]
    codes = np.where(np.isnan(numbers), -1, numbers).astype(np.int64)
    assert autocorrelation_of_levels(codes, groups=of) == pytest.approx(autocorrelation(numbers, groups=of), abs=1e-9)


FLAT = ColumnReference(edges=(), counts=(1, 0), low=0.0, high=0.0)
BASIS = np.linalg.qr(RNG.normal(size=(5, 2)))[0].T
PCA = Reconstruction(
    center=tuple(RNG.normal(size=5).tolist()),
    scale=tuple(RNG.uniform(0.1, 3.0, size=5).tolist()),
    components=tuple(tuple(c) for c in BASIS.tolist()),
    error=FLAT,
)
vectors = arrays(np.float64, st.tuples(st.integers(0, 12), st.just(5)), elements=st.one_of(present, st.just(np.nan)))


@given(values=vectors)
def test_the_reconstruction_error_is_the_distance_from_the_plane(values: Floats) -> None:
    z = np.nan_to_num((values - np.array(PCA.center)) / np.array(PCA.scale))
    off = z - z @ BASIS.T @ BASIS
    known = np.count_nonzero(~np.isnan(values), axis=1)
    brute = np.where(known > 0, np.sqrt((off**2).sum(axis=1) / np.maximum(known, 1)), np.nan)
    size = np.abs(z).max(initial=1.0)
    np.testing.assert_allclose(reconstruction_error(PCA, values), brute, rtol=1e-6, atol=1e-5 * size)


@settings(max_examples=50)
@given(values=vectors, cuts=st.lists(st.integers(0, 12), max_size=4), block=st.integers(1, 13))
def test_cutting_rows_changes_no_bit_of_their_error(values: Floats, cuts: list[int], block: int) -> None:
    before = values.tobytes()
    together = reconstruction_error(PCA, values).tobytes()
    pieces = np.split(values, sorted(min(c, len(values)) for c in cuts))
    assert together == b"".join(reconstruction_error(PCA, p).tobytes() for p in pieces)
    assert together == b"".join(reconstruction_error(PCA, row[None]).tobytes() for row in values)
    assert together == reconstruction_error(PCA, np.asfortranarray(values)).tobytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.reconstruction._BLOCK_ROWS", block)
        assert together == reconstruction_error(PCA, values).tobytes()
    assert values.tobytes() == before  # and the rows are left as they were


def test_many_columns_in_any_batch_have_the_same_bits() -> None:
    x = RNG.normal(size=(10_000, 6)) @ RNG.normal(size=(6, 83)) + RNG.normal(size=(10_000, 83))
    x[RNG.random(x.shape) < 0.02] = np.nan
    r = fit_reconstruction(Rows(x[:500]))
    assert r is not None
    together = reconstruction_error(r, x)
    for size in (1, 7, 64, 4_095):
        rows = x[: 40 * size]
        pieces = [reconstruction_error(r, rows[i : i + size]) for i in range(0, len(rows), size)]
        assert np.concatenate(pieces).tobytes() == together[: len(rows)].tobytes()


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), rows=st.integers(LEAST_ROWS, 400), columns=st.integers(1, 40))
def test_the_mean_loss_expected_is_linear_in_the_counts_of_the_cells(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)).round(1)
    x[rng.random(x.shape) < 0.05] = np.nan
    errors = rng.normal(size=rows) * (1.0 + 4.0 * (x[:, 0] > 0))
    named = {f"c{i}": x[:, i] for i in range(columns)} | {PREDICTION: rng.normal(size=rows)}
    references = {name: column_reference(v, bins=5) for name, v in named.items()}
    found = fit_loss_estimate(references, named, errors)
    assert found is not None
    window = rng.integers(0, rows, size=50)
    for loss in (found.absolute, found.squared):
        assert {n: len(w) for n, w in loss.weights.items()} == {n: len(r.counts) for n, r in references.items()}
        each = [expected(loss, references, {n: v[i] for n, v in named.items()}) for i in window]
        counts = {n: np.bincount(cells(r, named[n][window]), minlength=len(r.counts)) for n, r in references.items()}
        linear = loss.intercept + sum(float(np.dot(counts[n], w)) for n, w in loss.weights.items()) / len(window)
        assert np.mean(each) == pytest.approx(linear)


def expected(loss: AdditiveLoss, references: dict[str, ColumnReference], row: dict[str, float]) -> float:
    return loss.intercept + sum(w[brute_cell(references[n], row[n])] for n, w in loss.weights.items())


@given(values=st.lists(st.one_of(present, coded), min_size=1, max_size=40), at=st.lists(st.one_of(present, coded), max_size=40))
def test_the_monitor_judges_in_the_cells_that_training_counted(values: list[float], at: list[float]) -> None:
    """`models` and `monitoring` do not know each other; a loss estimate's weights are of one and its counts of the other."""
    if all(isnan(v) for v in values):
        return
    for levels in (None, (), "auto"):
        r = column_reference(np.array(values), bins=4, levels=levels)
        monitored = Reference.from_columns(["x"], {"x": msgspec.to_builtins(r)})
        counts = fold(monitored, count(monitored, np.array(at, dtype=np.float64).reshape(-1, 1)))
        assert counts[0].tolist() == np.bincount(cells(r, np.array(at)), minlength=len(r.counts)).tolist()
