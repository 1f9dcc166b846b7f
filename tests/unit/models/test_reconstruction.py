from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import SpecError
from models.reconstruction import LEAST_ROWS, MOST_COMPONENTS, Rows, fit_reconstruction, reconstruction_error

if TYPE_CHECKING:
    from models.trained import Reconstruction

Floats = NDArray[np.float64]


def correlated(rows: int, *, columns: int = 6, seed: int = 1) -> Floats:
    """Columns of two common factors and some noise, on different scales."""
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(0).normal(size=(2, columns))
    x = rng.normal(size=(rows, 2)) @ loadings + 0.3 * rng.normal(size=(rows, columns))
    return np.asarray(x * 10.0 ** np.arange(columns) + np.arange(columns))


def fitted(x: Floats, *, held_out: Floats | None = None, components: int | None = None) -> Reconstruction:
    r = fit_reconstruction(Rows(x), held_out=None if held_out is None else Rows(held_out), components=components)
    assert r is not None
    return r


def test_components_are_those_of_scikit_learn() -> None:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    x = correlated(400)
    r = fitted(x, components=3)
    scaler, pca = StandardScaler().fit(x), PCA(3)
    pca.fit(scaler.transform(x))
    np.testing.assert_allclose(r.center, scaler.mean_)
    np.testing.assert_allclose(r.scale, scaler.scale_)
    c = np.array(r.components)
    np.testing.assert_allclose(np.abs(np.sum(c * pca.components_, axis=1)), 1.0)
    np.testing.assert_allclose(c @ c.T, np.eye(3), atol=1e-12)
    assert r.explained == pytest.approx(pca.explained_variance_ratio_.sum())
    z = scaler.transform(correlated(50, seed=2))
    brute = np.sqrt(((z - pca.inverse_transform(pca.transform(z))) ** 2).mean(axis=1))
    np.testing.assert_allclose(reconstruction_error(r, correlated(50, seed=2)), brute)


def test_as_many_components_as_explain_four_fifths_of_the_variance() -> None:
    few = fitted(correlated(400))
    assert len(few.components) == 2
    assert few.explained >= 0.8
    assert fitted(correlated(400), components=1).explained < 0.8
    noise = np.random.default_rng(3).normal(size=(400, 30))
    assert len(fitted(noise).components) == MOST_COMPONENTS
    assert len(fitted(noise[:, :2]).components) == 1  # of two, so that something is left to err in


def test_it_sees_a_broken_correlation_that_no_column_shows() -> None:
    r = fitted(correlated(2_000), held_out=correlated(1_000, seed=2))
    usual, broken = correlated(1_000, seed=3), correlated(1_000, seed=3)
    broken[:, 0] = broken[::-1, 0]  # the same values, for other rows
    np.testing.assert_array_equal(np.sort(broken, axis=0), np.sort(usual, axis=0))
    top = r.error.edges[-1]
    assert np.mean(reconstruction_error(r, usual) > top) == pytest.approx(0.1, abs=0.03)
    assert np.mean(reconstruction_error(r, broken) > top) > 0.5


def test_the_error_s_reference_is_that_of_rows_the_components_were_not_fitted_to() -> None:
    """Thirty columns of noise and a hundred rows: the plane follows the noise, and in sample the errors look small."""
    rng = np.random.default_rng(4)
    train, held, later = (rng.normal(size=(n, 30)) for n in (100, 500, 3_000))
    for r in (fitted(train), fitted(train, held_out=held)):
        errors = reconstruction_error(r, later)
        codes = np.searchsorted(r.error.edges, errors)
        shares = np.bincount(codes, minlength=len(r.error.counts) - 1) / len(later)
        known = np.array(r.error.counts[:-1]) / sum(r.error.counts)
        assert np.abs(np.cumsum(shares) - np.cumsum(known)).max() < 0.12
    inside = reconstruction_error(fitted(train), train)
    assert np.mean(inside > np.quantile(reconstruction_error(fitted(train), later), 0.5)) < 0.25


def test_the_reference_tells_how_dependent_the_errors_are() -> None:
    x = correlated(400)
    r = fit_reconstruction(Rows(np.repeat(x, 2, axis=0), times=np.repeat(np.arange(400), 2)))
    assert r is not None
    assert r.error.cross == pytest.approx(1.0, abs=0.01)
    assert (r.error.levels, sum(r.error.counts)) == ((), 800)


def test_a_constant_column_and_missing_values() -> None:
    x = correlated(300)
    x[:, 2] = 7.0
    x[np.random.default_rng(5).random(x.shape) < 0.1] = np.nan
    r = fitted(x)
    assert (r.center[2], r.scale[2]) == (7.0, 1.0)
    assert all(abs(c[2]) < 1e-12 for c in r.components)
    one = np.full((2, 6), np.nan)
    one[1] = r.center
    assert np.isnan(reconstruction_error(r, one)[0])
    assert reconstruction_error(r, one)[1] == 0.0
    one[1, 2] += 6.0  # six columns, of which one is off by 6
    assert reconstruction_error(r, one)[1] == pytest.approx(6.0 / 6**0.5)
    one[1, [0, 1, 3, 4, 5]] = np.nan
    assert reconstruction_error(r, one)[1] == pytest.approx(6.0)


def test_what_overflows_lies_infinitely_far_off() -> None:
    r = fitted(correlated(300))
    assert reconstruction_error(r, np.full((1, 6), 1e300)).tolist() == [np.inf]
    assert reconstruction_error(r, np.array([[np.inf, 0, 0, 0, 0, 0], [-np.inf, np.inf, 0, 0, 0, 0]])).tolist() == [np.inf] * 2


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_neither_overflows_nor_vanishes(scale: float) -> None:
    x = correlated(300) / 1e5
    np.testing.assert_allclose(
        reconstruction_error(fitted(x * scale), x * scale), reconstruction_error(fitted(x), x), rtol=1e-6, atol=1e-9
    )


def test_more_columns_than_rows() -> None:
    wide = correlated(100, columns=40) / 10.0 ** np.arange(40)
    r = fitted(np.concatenate([wide, wide + 1e-3 * np.random.default_rng(6).normal(size=wide.shape)], axis=1)[:, :200])
    c = np.array(r.components)
    np.testing.assert_allclose(c @ c.T, np.eye(len(c)), atol=1e-12)
    many = np.tile(wide, 4)
    assert fitted(many).explained == pytest.approx(fitted(wide).explained)


def test_the_same_rows_give_the_same_components_whatever_their_sign() -> None:
    x = correlated(300)
    assert fitted(x) == fitted(x.copy())
    for c in fitted(x).components:
        assert max(c, key=abs) > 0


@pytest.mark.parametrize(
    "x",
    [
        correlated(300)[:, :1],
        correlated(2 * LEAST_ROWS - 1),
        np.full((300, 4), 2.0),
        np.concatenate([np.zeros((150, 3)), correlated(150)[:, :3]]),  # nothing varies in the first half
    ],
)
def test_there_is_none_without_correlations_to_learn(x: Floats) -> None:
    assert fit_reconstruction(Rows(x)) is None


def test_components_asked_for_are_given_or_refused() -> None:
    x = correlated(300)
    assert fit_reconstruction(Rows(x), components=0) is None
    assert len(fitted(x, components=5).components) == 5
    for wrong in (6, -1):
        with pytest.raises(SpecError, match=f"{wrong} components of 6 columns; right is 0 .none. to 5"):
            fit_reconstruction(Rows(x), components=wrong)
