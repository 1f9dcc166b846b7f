"""How far a row lies off the pattern of its columns: the reconstruction error of a principal component analysis. Core.

Columns that go up and down together in training lie near a plane of few directions, the principal components. A row's error
is its distance from that plane. It sees what no column shows alone: two columns may each keep their distribution while the
correlation between them breaks (a feed that hands one symbol's volume to another, a hedge ratio that changed), and then rows
leave the plane. Inside the plane it sees nothing; there the columns' own references do. As the Q statistic, or squared
prediction error, of process control: Jackson & Mudholkar 1979, "Control procedures for residuals associated with principal
component analysis".

    z = (x - center) / scale, 0 where x is missing
    error = sqrt( (|z|^2 - |C z|^2) / columns present )          C: the components, orthonormal rows
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models.errors import SpecError
from models.reference import column_reference
from models.trained import Reconstruction

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXPLAINED = 0.8
"""Share of the variance the components must explain; as many are kept as that takes, at most `MOST_COMPONENTS`."""

MOST_COMPONENTS = 8
"""Most components chosen by `EXPLAINED`: a row's error costs a multiplication for each component and column."""

LEAST_ROWS = 30
"""Fewest rows, in each of two halves, to fit components to; with fewer there is no reconstruction."""

MOST_ROWS = 100_000
"""Rows the components are fitted to at most, spread evenly over those given; more do not move them."""

_ROUNDING = 1e-12
"""Squared errors below this share of |z|^2 are rounding, and count as 0."""

_BLOCK_ROWS = 4096
"""Rows worked on at a time, so that they stay in the processor's cache. Bits do not depend on it."""

_PRODUCT_ROWS = 256
"""Rows of every product of matrices, the last ones filled up: of another shape it might add in another order."""


class Rows(NamedTuple):
    """Rows in time order: `x` float64[rows, columns], NaN = missing; the series and the instant of each, where known."""

    x: NDArray[np.float64]
    groups: NDArray[np.int64] | None = None
    times: NDArray[np.int64] | None = None


class _Components(NamedTuple):
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    components: NDArray[np.float64]  # (components, columns)
    explained: float


def fit_reconstruction(
    training: Rows, *, held_out: Rows | None = None, components: int | None = None, bins: int = 10
) -> Reconstruction | None:
    """Components of the training rows, and the distribution of the error on rows they were not fitted to.

    Columns are standardised and missing values count as the mean. `components`: how many; None takes the fewest that explain
    `EXPLAINED` of the variance, at most `MOST_COMPONENTS` and one fewer than there are columns; 0 makes no reconstruction.

    The error's reference comes from the `held_out` rows, or with fewer than twice `LEAST_ROWS` of them from two halves of the
    training rows in time, each held against components of the other. Never from the rows the components were fitted to:
    errors there are too small, and serving would seem to have drifted from the first row on.

    None with fewer than two columns, fewer than twice `LEAST_ROWS` training rows, or where no column varies (in either half).
    Raises `SpecError` if there are not as many components as asked for.

    >>> x = np.random.default_rng(1).normal(size=(200, 1)) * [1.0, -1.0, 2.0]  # three columns, one direction
    >>> found = fit_reconstruction(Rows(x))
    >>> len(found.components), round(found.explained, 6), round(found.error.high, 6)
    (1, 1.0, 0.0)
    """
    rows, columns = training.x.shape
    if components is not None and not 0 <= components < max(columns, 1):
        msg = f"{components} components of {columns} columns; right is 0 (none) to {columns - 1}, or None to have them chosen"
        raise SpecError(msg)
    if components == 0 or columns < 2 or rows < 2 * LEAST_ROWS:  # noqa: PLR2004 - one column has no correlations
        return None
    fitted = _fit(training.x, components)
    if fitted is None:
        return None
    errors: NDArray[np.float64] | None
    if held_out is not None and len(held_out.x) >= 2 * LEAST_ROWS:
        errors, of = _errors(fitted, held_out.x), held_out
    else:
        errors, of = _crossed(training.x, len(fitted.components)), training
    if errors is None or not np.isfinite(errors).any():
        return None
    finite = np.where(np.isfinite(errors), errors, np.nan)
    return Reconstruction(
        center=tuple(fitted.center.tolist()),
        scale=tuple(fitted.scale.tolist()),
        components=tuple(tuple(c) for c in fitted.components.tolist()),
        error=column_reference(finite, bins=bins, groups=of.groups, times=of.times, levels=(), name="reconstruction error"),
        explained=fitted.explained,
    )


def reconstruction_error(r: Reconstruction, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The reconstruction error of rows, float64[rows], from their values float64[rows, columns], NaN = missing.

    NaN for a row without any value, infinite where the squares overflow. A row has the same bits whatever rows it is computed
    with: products are of matrices of one shape, wherever a row in them has the same bits whatever its place.

    >>> from models.trained import ColumnReference
    >>> flat = ColumnReference(edges=(), counts=(1, 0), low=0.0, high=0.0)
    >>> half = 0.5 ** 0.5
    >>> r = Reconstruction(center=(0.0, 1.0), scale=(1.0, 2.0), components=((half, half),), error=flat)
    >>> reconstruction_error(r, np.array([[1.0, 3.0], [1.0, -1.0], [np.nan, np.nan]])).tolist()
    [0.0, 1.0, nan]
    """
    of = _Components(np.array(r.center), np.array(r.scale), np.array(r.components), r.explained)
    return _errors(of, values)


def _errors(of: _Components, values: NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.asarray(values, dtype=np.float64)
    found = np.empty(len(values))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(values), _BLOCK_ROWS):
            found[start : start + _BLOCK_ROWS] = _block_errors(of, values[start : start + _BLOCK_ROWS])
    return found


def _block_errors(of: _Components, values: NDArray[np.float64]) -> NDArray[np.float64]:
    missing = np.isnan(values)
    present: NDArray[np.int64] | int = values.shape[1]
    z = np.subtract(values, of.center, order="C")  # (rows, columns)
    z /= of.scale
    if missing.any():
        z[missing] = 0.0
        present = values.shape[1] - np.count_nonzero(missing, axis=1)
    length = np.einsum("rc,rc->r", z, z)
    onto = _products(z, np.ascontiguousarray(of.components.T))
    inside = np.einsum("rk,rk->r", onto, onto)
    off = length - inside
    off[off <= _ROUNDING * length] = 0.0
    off[np.isnan(off)] = np.inf  # infinity less infinity
    return np.where(np.greater(present, 0), np.sqrt(off / np.maximum(present, 1)), np.nan)


def _products(z: NDArray[np.float64], components: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return z @ components, float64[rows, components]; its bits do not depend on how many rows there are or where they stand."""
    if not _rows_apart(*components.shape):  # each sum along a row's own numbers: three times the work
        along: NDArray[np.float64] = np.einsum("rc,kc->rk", z, np.ascontiguousarray(components.T))
        return along
    found = np.empty((len(z), components.shape[1]))
    whole = len(z) // _PRODUCT_ROWS * _PRODUCT_ROWS
    for start in range(0, whole, _PRODUCT_ROWS):
        np.matmul(z[start : start + _PRODUCT_ROWS], components, out=found[start : start + _PRODUCT_ROWS])
    if whole < len(z):
        filled = np.zeros((_PRODUCT_ROWS, z.shape[1]))
        filled[: len(z) - whole] = z[whole:]
        found[whole:] = (filled @ components)[: len(z) - whole]
    return found


@functools.cache
def _rows_apart(columns: int, components: int) -> bool:
    """Whether this machine's product of such a shape gives a row the same bits in every place, whatever the other rows are.

    Nearly every one does; it depends on the library numpy was built with, so it is tried.
    """
    rng = np.random.default_rng(columns)
    row, onto = rng.normal(size=columns), rng.normal(size=(columns, components))
    others = rng.normal(size=(_PRODUCT_ROWS, columns))
    alone = np.matmul(np.broadcast_to(row, others.shape).copy(), onto)
    for at in range(_PRODUCT_ROWS):
        kept = others[at].copy()
        others[at] = row
        if not np.array_equal(np.matmul(others, onto)[at], alone[0]):
            return False
        others[at] = kept
    return True


def _crossed(x: NDArray[np.float64], components: int) -> NDArray[np.float64] | None:
    """Errors of each half in time against components of the other, in the rows' order; None if nothing varies in a half."""
    half = len(x) // 2
    early, late = _fit(x[:half], components), _fit(x[half:], components)
    if early is None or late is None:
        return None
    return np.concatenate([_errors(late, x[:half]), _errors(early, x[half:])])


def _fit(x: NDArray[np.float64], components: int | None) -> _Components | None:
    if len(x) > MOST_ROWS:
        x = x[np.linspace(0, len(x) - 1, MOST_ROWS).astype(np.intp)]
    center, scale = _standard(x)
    z = np.nan_to_num((x - center) / scale)
    # The smaller of the two products has the same eigenvalues other than 0.
    wide = z.shape[0] < z.shape[1]
    variance, directions = np.linalg.eigh(z @ z.T if wide else z.T @ z)
    variance, directions = np.maximum(variance[::-1], 0.0), directions[:, ::-1]
    total = variance.sum()
    rank = int(np.count_nonzero(variance > total * _ROUNDING))
    if total == 0.0:
        return None
    share = np.cumsum(variance) / total
    most = min(rank, z.shape[1] - 1)
    chosen = min(int(np.searchsorted(share, EXPLAINED)) + 1, MOST_COMPONENTS) if components is None else components
    kept = directions[:, : min(chosen, most)]
    if wide:
        kept, _ = np.linalg.qr(z.T @ kept)
    kept = kept.T
    # An eigenvector's sign is arbitrary: the largest weight is made positive, so that the same rows give the same text.
    largest = kept[np.arange(len(kept)), np.abs(kept).argmax(axis=1)]
    return _Components(center, scale, kept * np.where(largest < 0.0, -1.0, 1.0)[:, None], float(share[len(kept) - 1]))


def _standard(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column's values; 1 for a constant column, 0 and 1 for one without values."""
    present = ~np.isnan(x)
    rows = np.maximum(present.sum(axis=0), 1)
    largest = np.abs(np.where(present, x, 0.0)).max(axis=0)
    unit = np.where(largest > 0.0, largest, 1.0)  # so that squares neither overflow nor vanish
    scaled = np.where(present, x / unit, 0.0)
    center = scaled.sum(axis=0) / rows
    spread = np.sqrt((np.where(present, scaled - center, 0.0) ** 2).sum(axis=0) / rows)
    constant = np.where(present, x, -np.inf).max(axis=0) <= np.where(present, x, np.inf).min(axis=0)
    scale = spread * unit
    return center * unit, np.where(constant | (scale == 0.0), 1.0, scale)
