"""What a model version was trained on, as the monitor measures it: made of its serving spec. Core."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from models.bars import BarGrid
from models.reconstruction import reconstruction_error
from models.trained import PREDICTION
from monitoring.estimate import Loss
from monitoring.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from models.spec import ColumnReference, ColumnSpec, ServingSpec

RECONSTRUCTION = "reconstruction_error"
"""The column that stands behind the model's own and its answer: how badly the vector fits training's correlations."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What a version is measured against. `columns` are the vector's, the answer and, where trained, the reconstruction error."""

    columns: tuple[str, ...]
    reference: Reference
    reconstruct: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None
    prediction: str
    error: str
    """What the columns of the answer and of the reconstruction error are called."""
    sets: Mapping[str, tuple[str, ...]]
    """Joined feature sets (not the trigger) → their columns without a lag."""
    set_of: Mapping[str, str]
    """Column → its feature set."""
    losses: Mapping[str, Loss]
    residuals: NDArray[np.float64] | None
    """Absolute calibration residuals, ascending."""
    level: float
    horizon_us: int
    bar_us: int
    usual_lag_us: int
    """From a row's event time to its decision at the most, as long as all is well: publication lag and deadline."""
    sessions: tuple[tuple[int, int], ...]
    reach: tuple[tuple[BarGrid, ColumnSpec], ...]
    """The vector's columns, each with the grid its lag counts on."""

    def rows(self, vectors: Sequence[NDArray[np.float64]], value: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[rows, columns]: vectors in pieces float64[some rows, vector], answers float64[rows], error where trained."""
        found = np.empty((len(value), len(self.columns)))
        width = vectors[0].shape[1]
        np.concatenate(vectors, out=found[:, :width])
        found[:, width] = value
        if self.reconstruct is not None:
            found[:, width + 1] = self.reconstruct(found[:, :width])
        return found

    def warming(self, *, first_us: int, start_us: int) -> NDArray[np.bool_]:
        """Which columns, bool[columns], look back beyond the first row seen, in a window that begins at `start_us`.

        Their values are missing until the windows have filled, and that is no drift.
        """
        reach = [_earliest(grid, column, start_us) < first_us for grid, column in self.reach]
        return np.array([*reach, *[False] * (len(self.columns) - len(reach))], np.bool_)


def trained_of(spec: ServingSpec, columns: tuple[str, ...]) -> Trained:
    """The version's, for vectors of these columns."""
    prediction, error = _apart(PREDICTION, columns), _apart(RECONSTRUCTION, columns)
    known = {name: r for name, r in spec.reference.items() if name in columns}
    names = [*columns, prediction]
    if spec.prediction_reference is not None:
        known[prediction] = spec.prediction_reference
    fits = tuple(c.name for c in spec.columns) == columns
    pca = spec.reconstruction if fits else None
    if pca is not None:
        names.append(error)
        known[error] = pca.error
    reference = Reference.from_columns(
        names, {name: _plain(r) for name, r in known.items()}, rows_per_instant=spec.rows_per_instant
    )
    grids = {name: BarGrid(fs.bar_us, fs.sessions) for name, fs in spec.feature_sets.items()}
    trigger = spec.feature_sets[spec.trigger]
    residuals = np.sort(np.abs(np.asarray(spec.residuals, np.float64)))
    return Trained(
        columns=tuple(names),
        reference=reference,
        reconstruct=None if pca is None else partial(reconstruction_error, pca),
        prediction=prediction,
        error=error,
        sets=_joined(spec),
        set_of={c.name: c.feature_set for c in spec.columns},
        losses=_losses(spec, reference, prediction),
        residuals=residuals if len(residuals) else None,
        level=spec.level,
        horizon_us=spec.horizon_us,
        bar_us=trigger.bar_us,
        usual_lag_us=trigger.publication_lag_us + spec.deadline_us,
        sessions=tuple(trigger.sessions),
        reach=tuple((grids[c.feature_set], c) for c in spec.columns) if fits else (),
    )


def _plain(reference: ColumnReference) -> dict[str, object]:
    return dict(msgspec.to_builtins(reference))


def _apart(name: str, columns: tuple[str, ...]) -> str:
    while name in columns:
        name += "_"
    return name


def _joined(spec: ServingSpec) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for c in spec.columns:
        if c.feature_set != spec.trigger and c.lag == 0:
            found[c.feature_set] = (*found.get(c.feature_set, ()), c.name)
    return found


def _losses(spec: ServingSpec, reference: Reference, prediction: str) -> dict[str, Loss]:
    if spec.loss_estimate is None:
        return {}
    found = {}
    for what in ("absolute", "squared"):
        loss = getattr(spec.loss_estimate, what)
        weights = {prediction if name == PREDICTION else name: w for name, w in loss.weights.items()}
        found[what] = Loss.of(reference, loss.intercept, weights)
    return found


def _earliest(grid: BarGrid, column: ColumnSpec, at_us: int) -> int:
    """The instant this column looks at for a row at `at_us`."""
    if column.lag == 0:
        return at_us
    if column.lag.us is not None:
        return at_us - column.lag.us
    return int(grid.back(np.array([at_us], np.int64), column.lag.bars or 0)[0][0])
