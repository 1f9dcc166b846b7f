from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import SpecError
from models.loss_estimate import LEAST_ROWS, MOST_CELLS, fit_loss_estimate
from models.reference import cells, column_reference
from models.trained import ColumnReference, LossEstimate

Floats = NDArray[np.float64]
STRENGTHS = np.array([0.5, 2.0, 8.0, 32.0, 1e6])


def data(rows: int, columns: int = 3, *, seed: int = 1) -> tuple[dict[str, Floats], dict[str, ColumnReference], Floats]:
    """Columns, their references, and errors: twice as large where c0 > 0."""
    rng = np.random.default_rng(seed)
    values = {f"c{i}": rng.normal(size=rows) for i in range(columns)}
    errors = rng.normal(size=rows) * np.where(values["c0"] > 0, 2.0, 1.0)
    return values, {n: column_reference(v) for n, v in values.items()}, errors


def fit(values: dict[str, Floats], references: dict[str, ColumnReference], errors: Floats, **how: object) -> LossEstimate:
    found = fit_loss_estimate(references, values, errors, **how)  # type: ignore[arg-type]  # passed on as given
    assert found is not None
    return found


def ridge(values: dict[str, Floats], references: dict[str, ColumnReference], loss: Floats) -> dict[str, Floats]:
    """The textbook way: scikit-learn's ridge on indicators, for every strength, and the one with the least GCV score."""
    from sklearn.linear_model import Ridge

    hot = np.concatenate([np.eye(len(r.counts))[cells(r, values[n])] for n, r in references.items()], axis=1)
    centred, n = hot - hot.mean(axis=0), len(loss)
    best, weights = np.inf, np.zeros(hot.shape[1])
    for strength in STRENGTHS:
        hat = centred @ np.linalg.solve(centred.T @ centred + strength * np.eye(hot.shape[1]), centred.T)
        found = Ridge(alpha=strength).fit(hot, loss)
        score = n * np.sum((loss - found.predict(hot)) ** 2) / (n - 1 - np.trace(hat)) ** 2
        if score < best:
            best, weights = score, found.coef_
    starts = np.cumsum([0, *(len(r.counts) for r in references.values())])
    by_column = {}
    for (name, r), a, b in zip(references.items(), starts, starts[1:], strict=False):
        rows = np.bincount(cells(r, values[name]), minlength=len(r.counts))
        by_column[name] = np.where(rows > 0, weights[a:b] - weights[a:b] @ rows / n, 0.0)
    return by_column


@pytest.mark.parametrize("columns", [2, 20])  # fewer cells than rows, and more
def test_weights_are_those_of_scikit_learn_s_ridge_at_the_strength_of_generalised_cross_validation(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.loss_estimate._STRENGTHS", STRENGTHS)
    values, references, errors = data(LEAST_ROWS, columns)
    found = fit(values, references, np.where(values["c0"] > 0, 1.0, 0.5) + 0.1 * errors)
    loss = np.abs(np.where(values["c0"] > 0, 1.0, 0.5) + 0.1 * errors)
    for kind, y in ((found.absolute, loss), (found.squared, loss**2)):
        assert kind.explained > 0.0
        assert kind.intercept == pytest.approx(y.mean())
        for name, expected in ridge(values, references, y).items():
            np.testing.assert_allclose(kind.weights[name], expected, rtol=1e-6, atol=1e-9)


def test_it_foresees_what_can_be_foreseen_and_no_more() -> None:
    """|error| is s |N(0, 1)| with s in {1, 2}: of its variance, E[s^2] - E[s]^2 2 / pi, the part var(s) 2 / pi can be known."""
    values, references, errors = data(20_000)
    found = fit(values, references, errors)
    foreseen, total = 0.25 * 2 / np.pi, 2.5 - 1.5**2 * 2 / np.pi
    assert found.absolute.explained == pytest.approx(foreseen / total, abs=0.015)
    weights = np.array(found.absolute.weights["c0"][:-1])
    np.testing.assert_allclose(weights, np.where(np.arange(10) < 5, -1, 1) * 0.5 * (2 / np.pi) ** 0.5, atol=0.12)
    assert np.abs(found.absolute.weights["c1"]).max() < 0.1
    later, _, later_errors = data(5_000, seed=2)
    rare = later["c0"] > 0  # a window with none of the calm rows
    expected = found.absolute.intercept + sum(
        np.array(found.absolute.weights[n])[cells(references[n], later[n][rare])].mean() for n in references
    )
    assert expected == pytest.approx(np.abs(later_errors[rare]).mean(), rel=0.05)


def test_an_estimate_that_knows_nothing_says_the_mean() -> None:
    values, references, _ = data(500)
    nothing = 0
    for seed in range(10):
        errors = np.random.default_rng(100 + seed).normal(size=500)
        found = fit(values, references, errors)
        for loss, y in ((found.absolute, np.abs(errors)), (found.squared, errors**2)):
            assert 0.0 <= loss.explained < 0.02
            assert loss.intercept == pytest.approx(y.mean())
            if loss.explained == 0.0:
                nothing += 1
                assert all(str(w) == "0.0" for of in loss.weights.values() for w in of)
    assert nothing >= 8
    constant = fit(values, references, np.ones(500))
    assert (constant.squared.intercept, constant.squared.explained) == (1.0, 0.0)


def test_explained_is_of_blocks_in_time_and_not_of_what_only_holds_within_one() -> None:
    """Errors follow the level of a random walk's stretch, which tells nothing of the next stretch."""
    rng = np.random.default_rng(3)
    stretch = np.repeat(np.arange(50.0), 20)
    x = {"stretch": stretch, "noise": rng.normal(size=1_000)}
    references = {n: column_reference(v, bins=40) for n, v in x.items()}
    errors = rng.normal(size=1_000) * np.repeat(rng.lognormal(sigma=1.0, size=50), 20)
    assert fit(x, references, errors).absolute.explained == 0.0
    shuffled = rng.permutation(1_000)
    again = fit({n: v[shuffled] for n, v in x.items()}, references, errors[shuffled])
    assert again.absolute.explained > 0.1


def test_rows_whose_outcomes_overlap_a_block_are_not_learned_from_for_it() -> None:
    """With a horizon as long as the blocks nearly nothing is left to learn from; with one longer, nothing."""
    values, references, errors = data(1_000)
    times = np.arange(1_000, dtype=np.int64)
    free = fit(values, references, errors, times=times, horizon_us=1)
    near = fit(values, references, errors, times=times, horizon_us=150)
    assert free.absolute == fit(values, references, errors).absolute
    assert free.absolute.explained != near.absolute.explained > 0.0
    assert fit(values, references, errors, times=times, horizon_us=1_000).absolute.explained == 0.0


def test_rows_of_an_instant_are_foreseen_together() -> None:
    values, references, errors = data(1_000)
    times = np.repeat(np.arange(4), 250).astype(np.int64)
    assert fit(values, references, errors, times=times).absolute.explained > 0.0
    with pytest.raises(SpecError, match="time order"):
        fit(values, references, errors, times=times[::-1])


def test_a_cell_that_calibration_never_met_weighs_nothing() -> None:
    values, references, errors = data(400)
    last = references["c0"].edges[-1]
    values["c0"][values["c0"] > last] = last  # the last bin has no row
    loss = fit(values, references, errors).absolute
    assert loss.weights["c0"][-2:] == (0.0, 0.0)
    assert loss.weights["c0"][0] < 0.0 < loss.weights["c0"][7]


def test_rows_without_an_outcome_do_not_count_and_too_few_rows_give_none() -> None:
    values, references, errors = data(500)
    known = np.random.default_rng(5).random(500) < 0.7
    only = {n: v[known] for n, v in values.items()}
    assert fit(values, references, np.where(known, errors, np.nan)) == fit(only, references, errors[known])
    few = np.where(np.arange(500) < LEAST_ROWS - 1, errors, np.nan)
    assert fit_loss_estimate(references, values, few) is None


def test_many_cells_are_learned_from_fewer_rows() -> None:
    values, references, errors = data(1_100, 100)
    assert sum(len(r.counts) for r in references.values()) > MOST_CELLS
    loss = fit(values, references, np.where(values["c0"] > 0, 3.0, 1.0) + 0.1 * errors).absolute
    assert loss.explained > 0.5
    assert loss.weights["c0"][0] < 0.0 < loss.weights["c0"][9]


def test_weights_are_exact_in_json() -> None:
    values, references, errors = data(400)
    found = fit(values, references, errors)
    assert msgspec.json.decode(msgspec.json.encode(found), type=LossEstimate) == found
