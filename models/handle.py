"""One loaded model version, ready to score. Core: knows nothing of registries, files or frameworks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.confidence import half_width

if TYPE_CHECKING:
    from typing import Self

    from models.spec import ServingSpec

Predict = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""float64[rows, columns] (NaN = missing) to float64[rows].

Must be row-independent: a row's answer has the same bits alone as in any batch, because a replay may cut the
batches elsewhere. ``X @ w`` is NOT (BLAS picks another summation order by shape); see `models.native_sklearn`
for a linear predict that is.
"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What scoring needs of a spec, worked out once.

    `residuals` ascending float64[n]; `half_width` of the interval at the spec's level (infinite when there are
    too few residuals); `referenced` intp[k] the columns that have a training range, or None when all have;
    `low`, `high` float64[k] those ranges.
    """

    residuals: NDArray[np.float64]
    half_width: float
    referenced: NDArray[np.intp] | None
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, spec: ServingSpec) -> Self:
        """Prepare a spec."""
        residuals = np.sort(np.asarray(spec.residuals, dtype=np.float64))
        known = [(i, spec.reference[c.name]) for i, c in enumerate(spec.columns) if c.name in spec.reference]
        return cls(
            residuals=residuals,
            half_width=half_width(np.sort(np.abs(residuals)), level=spec.level) if residuals.size else inf,
            referenced=None if len(known) == len(spec.columns) else np.array([i for i, _ in known], dtype=np.intp),
            low=np.array([r.low for _, r in known], dtype=np.float64),
            high=np.array([r.high for _, r in known], dtype=np.float64),
        )


@dataclass(frozen=True, slots=True, eq=False)
class ModelHandle:
    """A model version in memory: equal only to itself, hashable, safe to share between threads if `predict` is.

    `digest` is the artifact digest (SHA-256 over the model folder, `models.artifacts`); `predict` is described at
    `Predict`.

    >>> from models.spec import ColumnSpec, FeatureSetSpec, ServingSpec
    >>> spec = ServingSpec(model="sum", trigger="bars", horizon_us=60_000_000,
    ...     columns=(ColumnSpec(name="x", feature_set="bars", feature="x"),),
    ...     feature_sets={"bars": FeatureSetSpec(features=("x",), bar_us=60_000_000, depth_rows=2)})
    >>> handle = ModelHandle(name="sum", version="1", digest="", spec=spec, predict=lambda x: x[:, 0])
    >>> handle.prepared.half_width
    inf
    """

    name: str
    version: str
    digest: str
    spec: ServingSpec
    predict: Predict
    prepared: Prepared = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prepared", Prepared.of(self.spec))
