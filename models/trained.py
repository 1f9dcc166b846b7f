"""What a spec keeps of the data a model was trained and calibrated on, for the monitor to hold serving against. Core.

Counts and weights, never rows: of each column its distribution, of all columns how they hang together, and how large
errors were in which part of the data. Built by `models.reference`, `models.reconstruction` and `models.loss_estimate`.
"""

from __future__ import annotations

from itertools import pairwise
from math import isfinite
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREDICTION = "prediction"
"""The name the model's own answer has among the columns of a loss estimate."""


class ColumnReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A column's training distribution: the rows in each of its cells.

    | column      | cells                                                             | `edges`  | `levels` |
    |-------------|-------------------------------------------------------------------|----------|----------|
    | numeric     | bins: bin k holds edges[k-1] < x <= edges[k], the outer ones open  | bins - 1 | none     |
    | categorical | one for each level, then one for any other value ("other")         | none     | levels   |

    `counts`: int, one for each cell, then one for missing. `low`, `high`: training range. `rho`: lag-1 autocorrelation of the
    AR(1) series that remembers as long (`models.persistence`). `cross`: intraclass correlation of the rows (symbols) of one
    instant, in [0, 1]. How many independent rows n training rows are worth follows from both (`models.dependence`).
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    low: float
    high: float
    rho: float = 0.0
    cross: float = 0.0
    levels: tuple[float, ...] = ()


class Reconstruction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the columns hang together: principal components, and how far rows lie off them (`models.reconstruction`).

    `center`, `scale`: float[columns], what a column is standardised by. `components`: k orthonormal rows of float[columns].
    `error`: distribution of the reconstruction error on rows they were not fitted on. `explained`: share of the variance of
    the standardised training rows that lies in the components.
    """

    center: tuple[float, ...]
    scale: tuple[float, ...]
    components: tuple[tuple[float, ...], ...]
    error: ColumnReference
    explained: float = 0.0


class AdditiveLoss(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Expected loss of a row: `intercept` plus, for each column, the weight of the cell the row lies in.

    `weights`: by column (`PREDICTION` for the model's answer), one for each of the cells that `ColumnReference.counts`
    counts, missing the last. `explained`: share of the loss's variance it foresaw on rows it was not fitted on (R^2).
    """

    intercept: float
    weights: dict[str, tuple[float, ...]]
    explained: float


class LossEstimate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What errors to expect before outcomes are known: `absolute` of |y - prediction|, `squared` of its square."""

    absolute: AdditiveLoss
    squared: AdditiveLoss


def column_contradictions(what: str, r: ColumnReference) -> Iterator[str]:
    """What is wrong with one column's reference, a line for each."""
    if r.levels and r.edges:
        yield f"{what}: it has edges and levels; a numeric column has edges, a categorical one levels"
    for name, ascending in (("edges", r.edges), ("levels", r.levels)):
        if not all(map(isfinite, ascending)) or any(a >= b for a, b in pairwise(ascending)):
            yield f"{what}: {name} must be finite and ascending"
    cells = len(r.levels or r.edges) + 1
    if len(r.counts) != cells + 1:
        kind = f"{len(r.levels)} levels and other" if r.levels else f"{cells} bins"
        yield f"{what}: {len(r.counts)} counts; right is {cells + 1}, for {kind} and for missing"
    if any(n < 0 for n in r.counts):
        yield f"{what}: counts must not be negative"
    if r.low > r.high:
        yield f"{what}: low {r.low} is above high {r.high}"
    if not -1.0 <= r.rho <= 1.0:
        yield f"{what}: rho {r.rho} is not between -1 and 1"
    if not 0.0 <= r.cross <= 1.0:
        yield f"{what}: cross {r.cross} is not between 0 and 1"


def reconstruction_contradictions(r: Reconstruction, columns: int) -> Iterator[str]:
    """What is wrong with the reconstruction of so many columns."""
    if not len(r.center) == len(r.scale) == columns:
        yield f"reconstruction: {len(r.center)} centers and {len(r.scale)} scales; right is one of each for {columns} columns"
    if not r.components or any(len(c) != columns for c in r.components):
        widths = sorted({len(c) for c in r.components})
        yield f"reconstruction: components of width {widths}; right is at least one, each of width {columns}"
    if not all(isfinite(v) for part in (r.center, r.scale, *r.components) for v in part) or any(s <= 0.0 for s in r.scale):
        yield "reconstruction: centers and components must be finite, scales finite and above 0"
    yield from column_contradictions("reconstruction error", r.error)


def loss_contradictions(name: str, loss: AdditiveLoss, cells: Mapping[str, int]) -> Iterator[str]:
    """What is wrong with a loss estimate, given how many cells (missing included) the reference of each column has."""
    what = f"loss_estimate.{name}"
    unknown = sorted(loss.weights.keys() - cells.keys())
    if unknown:
        yield f"{what}: weights of {unknown[0]!r}, which has no reference"
    for column, weights in loss.weights.items():
        if column in cells and len(weights) != cells[column]:
            yield f"{what}: {len(weights)} weights for {column!r}; right is {cells[column]}, one for each cell of its reference"
    if not all(isfinite(v) for v in (loss.intercept, loss.explained, *(v for w in loss.weights.values() for v in w))):
        yield f"{what}: intercept, weights and explained must be finite"


def cells_of(reference: Mapping[str, ColumnReference], prediction: ColumnReference | None) -> dict[str, ColumnReference]:
    """The references a loss estimate may speak of, the prediction's among them.

    A column that is itself named "prediction" is none of them: the name is taken.
    """
    known = {name: r for name, r in reference.items() if name != PREDICTION}
    return known if prediction is None else known | {PREDICTION: prediction}


_LATER: Mapping[str, tuple[object, ...]] = {"cross": (0.0,), "levels": ((), [])}


def sparse(reference: Mapping[str, object]) -> dict[str, object]:
    """A column's reference as plain values without what is there by default, so that it has the text it always had."""
    return {name: value for name, value in reference.items() if value not in _LATER.get(name, ())}
