"""Series with known dependence, and references estimated from a training stretch of them as publishing does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from models.reference import column_reference
from monitoring.reference import Reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Stationary Gaussian AR(1) columns of variance 1; a share `cross` of it is a factor that all symbols have in common.

    A share `fast` of the variance is noise without memory, so that the lag-1 correlation is (1 - fast) rho, and the rest goes on.
    """

    columns: int
    symbols: int
    instants: int
    """Of one window."""
    rho: float
    cross: float = 0.0
    fast: float = 0.0
    training: int = 2_000
    """Instants of training."""

    @property
    def rows(self) -> int:
        """Of one window."""
        return self.symbols * self.instants


def stretch(rng: np.random.Generator, shape: Shape, instants: int | None = None) -> Floats:
    """One stretch, float64[instants * symbols, columns], the symbols of an instant side by side."""
    steps = shape.instants if instants is None else instants
    own = _ar1(rng, (steps, shape.symbols, shape.columns), shape.rho)
    if shape.cross:
        own *= np.sqrt(1.0 - shape.cross)
        own += np.sqrt(shape.cross) * _ar1(rng, (steps, 1, shape.columns), shape.rho)
    if shape.fast:
        own *= np.sqrt(1.0 - shape.fast)
        own += np.sqrt(shape.fast) * rng.standard_normal(own.shape)
    return own.reshape(steps * shape.symbols, shape.columns)


def _ar1(rng: np.random.Generator, size: tuple[int, ...], rho: float) -> Floats:
    x = rng.standard_normal(size)
    x[1:] *= np.sqrt(1.0 - rho**2)
    for t in range(1, len(x)):
        x[t] += rho * x[t - 1]
    return x


def trained(rng: np.random.Generator, shape: Shape, *, cross: bool = True) -> Reference:
    """The reference of a training stretch; without `cross` as if nobody had said which rows are of one instant."""
    values = stretch(rng, shape, shape.training)
    groups = np.tile(np.arange(shape.symbols), shape.training)
    times = np.repeat(np.arange(shape.training), shape.symbols) if cross else None
    columns: dict[str, dict[str, Any]] = {
        f"c{c}": msgspec.to_builtins(column_reference(values[:, c], groups=groups, times=times)) for c in range(shape.columns)
    }
    return Reference.from_columns(list(columns), columns, rows_per_instant=shape.symbols if cross else 1.0)
