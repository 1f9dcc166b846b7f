"""The loss to expect of a window by its inputs alone, before any outcome is known. Core.

Direct loss estimation (NannyML 2023, "DLE"): a second model, fitted where outcomes were known, says how large the first one's
loss is on rows like these. Here it is additive over the cells of the drift reference, so the mean over a window is linear in
the counts that are kept anyway:

    loss(row) = intercept + sum_c w[c, cell of c in row]      mean = intercept + sum_c sum_k w[c, k] counts[c, k] / rows

It follows what the inputs do, and nothing else: where the relation of inputs and outcomes changed, only outcomes tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from monitoring.errors import BadReferenceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from monitoring.reference import Floats, Ints, Reference


def estimated_loss(intercept: float, weights: Floats, counts: Ints) -> float:
    """Mean loss of the rows in judged counts int64[columns, cells], from weights float64[columns, cells]; NaN without rows.

    >>> estimated_loss(1.0, np.array([[0.0, 0.5, 0.0]]), np.array([[30, 10, 0]]))
    1.125
    """
    if weights.shape != counts.shape:
        raise BadReferenceError(f"weights of shape {weights.shape} do not belong to judged counts of shape {counts.shape}")
    rows = counts.sum(axis=1)
    if not rows.any():
        return float("nan")
    return float(intercept + ((weights * counts).sum(axis=1) / np.maximum(rows, 1)).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """One additive loss, laid out as the counts of a reference are."""

    intercept: float
    weights: Floats  # (columns, bins + 1)

    @classmethod
    def of(cls, reference: Reference, intercept: float, weights: Mapping[str, Sequence[float]]) -> Loss:
        """Lay out weights given by column, one for each judged cell (bins, or levels and other; then missing).

        A column of the reference without weights has no part in the loss. Raises `BadReferenceError` naming the column where
        there are not as many weights as cells, or no such column.

        >>> from monitoring.reference import Reference
        >>> r = Reference.from_columns(["a"], {"a": {"edges": [0.0], "counts": [50, 50, 0], "low": -1, "high": 1}})
        >>> Loss.of(r, 1.0, {"a": (0.0, 0.5, 0.25)}).mean(np.array([[30, 10, 0]]))
        1.125
        """
        laid = np.zeros(reference.counts.shape)
        for name, row in weights.items():
            if name not in reference.names:
                raise BadReferenceError(f"loss weights of column {name!r}: the reference has no such column")
            c = reference.names.index(name)
            bins = int(reference.bins[c])
            if len(row) != bins + 1:
                raise BadReferenceError(f"loss weights of column {name!r}: {bins + 1} cells need as many, got {len(row)}")
            laid[c, :bins] = row[:-1]
            laid[c, -1] = row[-1]
        return cls(float(intercept), laid)

    def mean(self, counts: Ints) -> float:
        """Mean loss to expect of the rows in these judged counts; NaN without rows."""
        return estimated_loss(self.intercept, self.weights, counts)
