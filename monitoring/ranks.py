"""Ranks and correlations within groups, vectorised: what the information coefficients are made of.

Core. A group is a timestamp: all symbols predicted for the same instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from monitoring.reference import Floats, Ints


class Sorted(NamedTuple):
    """Rows in the order of (group, value), and where in that order something new begins; all arrays (rows,)."""

    order: Ints
    new_group: NDArray[np.bool_]
    new_run: NDArray[np.bool_]
    """A run is a group's rows of one value: its ties."""


def sorted_within(groups: Ints, values: Floats) -> Sorted:
    """Sort rows by group, then value; ties stay in their order."""
    order = np.lexsort((values, groups))
    g, v = groups[order], values[order]
    new_group = np.ones(len(g), np.bool_)
    np.not_equal(g[1:], g[:-1], out=new_group[1:])
    new_run = new_group.copy()
    new_run[1:] |= v[1:] != v[:-1]
    return Sorted(order, new_group, new_run)


def ranks_of(rows: Sorted) -> Floats:
    """Rank of every row (in the rows' own order) within its group, ties sharing their mean rank, from 1."""
    n = len(rows.order)
    at = np.arange(n)
    start = np.maximum.accumulate(np.where(rows.new_group, at, 0))
    ranks = np.empty(n)
    if rows.new_run.all():
        ranks[rows.order] = at - start + 1
    else:
        run = np.cumsum(rows.new_run) - 1
        first = at[rows.new_run]
        last = np.append(first[1:], n) - 1
        ranks[rows.order] = (first[run] + last[run]) / 2 - start + 1
    return ranks


def ranks_within(groups: Ints, values: Floats) -> Floats:
    """Rank of every value among those of its group, ties sharing their mean rank, from 1.

    >>> ranks_within(np.array([0, 0, 0, 1]), np.array([5.0, 2.0, 5.0, 9.0])).tolist()
    [2.5, 1.0, 2.5, 1.0]
    """
    return ranks_of(sorted_within(groups, values))


def correlations_within(groups: Ints, x: Floats, y: Floats, *, how_many: int) -> Floats:
    """Pearson correlation of x and y in every group 0..how_many-1; NaN where one of them does not vary.

    >>> groups, x, y = np.array([0, 0, 0, 1]), np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 4.0, 6.0, 1.0])
    >>> correlations_within(groups, x, y, how_many=2).round(9).tolist()
    [1.0, nan]
    """
    size = np.maximum(np.bincount(groups, minlength=how_many), 1)
    dx = x - (np.bincount(groups, x, how_many) / size)[groups]
    dy = y - (np.bincount(groups, y, how_many) / size)[groups]
    xy, xx, yy = (np.bincount(groups, d, how_many) for d in (dx * dy, dx * dx, dy * dy))
    # Rounding leaves a constant group with a tiny variance: below this share of its squared size it is none.
    flat = (xx <= 1e-24 * np.bincount(groups, x * x, how_many)) | (yy <= 1e-24 * np.bincount(groups, y * y, how_many))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(flat, np.nan, np.clip(xy / np.sqrt(xx * yy), -1.0, 1.0))
