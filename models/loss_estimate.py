"""What errors to expect of a row before its outcome is known, learned from calibration rows. Core.

Direct loss estimation: a second model learns the first one's loss from what the first one sees (NannyML's DLE, 2022; "error
estimation" in Guerra, Prudencio & Ludermir 2008). Here it is additive in the very cells that drift is counted in, the model's
own answer among the columns:

    expected loss of a row = intercept + sum over columns of weight[column][cell of the row's value]

so the expected mean loss of a window is linear in the counts of its cells, which the monitor has anyway: it costs nothing a
row, and each column's part in it can be read off. What it cannot see is a change of the target that leaves the columns as
they are (concept drift): that needs outcomes.

Fitted by ridge regression (Hoerl & Kennard 1970), its strength by generalised cross-validation over all rows (Golub, Heath &
Wahba 1979).
Weights are shifted so that their mean over the calibration rows is 0 in every column: the intercept is the mean loss there,
and a weight how much more or less a row of that cell costs. A cell without calibration rows weighs 0.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np

from models.errors import SpecError
from models.reference import cells
from models.trained import AdditiveLoss, LossEstimate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from models.trained import ColumnReference

LEAST_ROWS: Final = 200
"""Fewest rows with an outcome to learn losses from."""

BLOCKS: Final = 5
"""Blocks in time, each foreseen from the others, that `explained` is measured on."""

MOST_ROWS: Final = 50_000
"""Rows learned from at most, spread evenly over those given."""

MOST_CELLS: Final = 1_000
"""With more cells than this, only so many rows: the work grows with the third power of the lesser of the two numbers."""

_CHUNK_ROWS = 8_192
_STRENGTHS = np.geomspace(1e-1, 1e7, 33)  # in rows: a lone cell of n rows keeps n / (n + strength) of its effect

Floats: TypeAlias = "NDArray[np.float64]"
Ints: TypeAlias = "NDArray[np.int64]"


class _Rows(NamedTuple):
    """Rows in time order: `codes` int64[columns, rows], cells numbered through all columns; `losses` float64[rows, kinds]."""

    codes: Ints
    losses: Floats

    def take(self, rows: Ints) -> _Rows:
        return _Rows(self.codes[:, rows], self.losses[rows])


class _Block(NamedTuple):
    """Rows `first` to `last` to be foreseen, and the rows `near_first` to `near_last` that must not be learned from for it."""

    first: int
    last: int
    near_first: int
    near_last: int


def fit_loss_estimate(
    references: Mapping[str, ColumnReference],
    values: Mapping[str, Floats],
    errors: Floats,
    *,
    times: Ints | None = None,
    horizon_us: int = 0,
) -> LossEstimate | None:
    """The loss estimate of a model from its errors on rows it was not trained on; None with fewer than `LEAST_ROWS`.

    `references`: the cells, by column (the answer's among them, `models.trained.PREDICTION`); `values` float64[rows] of each
    of these columns; `errors` float64[rows], outcome minus prediction, NaN where not known; all in time order.

    `explained` is out of sample: each of `BLOCKS` blocks in time is foreseen from the others, less (with `times`, event times
    in us) the rows within `horizon_us` of it, whose outcomes overlap its own; against the others' mean loss (Campbell &
    Thompson 2008). An estimate that foresees no more than that mean says the mean: its weights are all 0, and so is `explained`.

    >>> from models.trained import ColumnReference
    >>> x = np.tile([0.0, 1.0], 200)  # where x is 1, errors are twice as large
    >>> cells = ColumnReference(levels=(0.0, 1.0), edges=(), counts=(200, 200, 0, 0), low=0.0, high=1.0)
    >>> found = fit_loss_estimate({"x": cells}, {"x": x}, 1.0 + x)
    >>> round(found.absolute.intercept, 2), [round(w, 2) for w in found.absolute.weights["x"]]
    (1.5, [-0.5, 0.5, 0.0, 0.0])
    """
    known = np.flatnonzero(np.isfinite(errors))
    if known.size < LEAST_ROWS:
        return None
    if times is not None and (np.diff(times) < 0).any():
        msg = "rows of a loss estimate must be in time order; sort them by their times"
        raise SpecError(msg)
    sizes = [len(r.counts) for r in references.values()]
    most = MOST_ROWS if sum(sizes) <= MOST_CELLS else MOST_CELLS
    if known.size > most:
        known = known[np.linspace(0, known.size - 1, most).astype(np.intp)]
    starts = np.cumsum([0, *sizes])
    codes = np.stack([cells(r, values[name][known]) for name, r in references.items()]) + starts[:-1, None]
    absolute = np.abs(errors[known])
    rows = _Rows(codes, np.stack([absolute, absolute**2], axis=1))
    blocks = _blocks(known.size, None if times is None else times[known], horizon_us)
    width = int(starts[-1])
    by_block = None if known.size < width else [_cooccurrences(codes[:, b.first : b.last], width) for b in blocks]
    weights, strength = _fit(rows, starts, None if by_block is None else sum(by_block, start=np.zeros((width, width))))
    explained = _explained(rows, blocks, starts, by_block, strength)
    weights = np.where(explained > 0.0, weights, 0.0)
    losses = [
        AdditiveLoss(
            intercept=float(mean),
            weights={name: tuple(of[a:b].tolist()) for name, a, b in zip(references, starts, starts[1:], strict=False)},
            explained=float(share),
        )
        for mean, of, share in zip(rows.losses.mean(axis=0), weights.T, explained, strict=True)
    ]
    return LossEstimate(absolute=losses[0], squared=losses[1])


def _explained(rows: _Rows, blocks: list[_Block], starts: Ints, by_block: list[Floats] | None, strength: Floats) -> Floats:
    """Share of the variance of each kind of loss foreseen out of sample, float64[kinds]; 0 where it is none."""
    width = int(starts[-1])
    unforeseen, variance = np.zeros(2), np.zeros(2)
    everything = np.arange(len(rows.losses))
    for number, block in enumerate(blocks):
        others = rows.take(np.concatenate([everything[: block.near_first], everything[block.near_last :]]))
        if len(others.losses) < LEAST_ROWS // BLOCKS:
            continue
        left = None
        if by_block is not None:  # those of the other blocks, without the rows near this one
            left = sum((one for at, one in enumerate(by_block) if at != number), start=np.zeros((width, width)))
            for near in (slice(block.near_first, block.first), slice(block.last, block.near_last)):
                left -= _cooccurrences(rows.codes[:, near], width)
        (weights, _), mean = _fit(others, starts, left, strength), others.losses.mean(axis=0)
        held = rows.take(everything[block.first : block.last])
        foreseen = np.zeros_like(held.losses)
        for codes in held.codes:
            foreseen += weights[codes]
        unforeseen += ((held.losses - mean - foreseen) ** 2).sum(axis=0)
        variance += ((held.losses - mean) ** 2).sum(axis=0)
    return np.asarray(np.maximum(1.0 - np.divide(unforeseen, variance, out=np.ones(2), where=variance > 0.0), 0.0))


def _fit(rows: _Rows, starts: Ints, products: Floats | None, strength: Floats | None = None) -> tuple[Floats, Floats]:
    """Ridge weights of all cells, float64[cells, kinds], and the strength of each kind, chosen unless given.

    `products`: how often two cells have a row in common; None to solve for the rows instead, which gives the same weights
    and is less work with fewer rows than cells. Weights have mean 0 over the rows in every column; a cell without rows weighs 0.
    """
    width, n = int(starts[-1]), len(rows.losses)
    count = np.bincount(rows.codes.ravel(), minlength=width).astype(np.float64)
    losses = rows.losses - rows.losses.mean(axis=0)
    dual = products is None
    if products is None:
        hot = _one_hot(rows.codes, width)
        products = (hot @ hot.T).astype(np.float64)
        mean = products.mean(axis=0)
        products += mean.mean() - mean - mean[:, None]
        target = losses
    else:
        products = products - np.outer(count, count) / n
        target = _summed(rows.codes, losses, width)
    if strength is None:
        sizes, directions = np.linalg.eigh(products)
        sizes = np.maximum(sizes, 0.0)
        along = directions.T @ target
        strength = _strength(sizes, along**2 * sizes[:, None] if dual else along**2, losses)
        found = directions @ (along / (sizes[:, None] + strength))
    else:
        unit = np.eye(len(products))
        kinds = zip(strength.tolist(), target.T, strict=True)
        found = np.stack([np.linalg.solve(products + one * unit, of) for one, of in kinds], axis=1)
    weights = _summed(rows.codes, found, width) if dual else found
    weights[count == 0.0] = 0.0
    shift = np.add.reduceat(weights * count[:, None], starts[:-1]) / n
    return np.where(count[:, None] > 0.0, weights - np.repeat(shift, np.diff(starts), axis=0), 0.0), strength


def _strength(sizes: Floats, squares: Floats, losses: Floats) -> Floats:
    """The strength with the least generalised cross-validation score n RSS / (n - df)^2, float64[kinds].

    `sizes` eigenvalues s of the centred products; `squares` [sizes, kinds] what the losses have along each, so that the
    residual sum of squares is that of the losses less sum(squares (s + 2 strength) / (s + strength)^2).
    """
    n, total = len(losses), (losses**2).sum(axis=0)
    scores = []
    for strength in _STRENGTHS:
        left = total - (squares * ((sizes + 2 * strength) / (sizes + strength) ** 2)[:, None]).sum(axis=0)
        scores.append(left / (n - 1.0 - (sizes / (sizes + strength)).sum()) ** 2)
    return np.asarray(_STRENGTHS[np.argmin(scores, axis=0)])


def _cooccurrences(codes: Ints, width: int) -> Floats:
    """How often two cells have a row in common, float64[cells, cells]: whole numbers, exact in whatever order they are added."""
    found = np.zeros((width, width))
    for start in range(0, codes.shape[1], _CHUNK_ROWS):
        hot = _one_hot(codes[:, start : start + _CHUNK_ROWS], width)
        found += hot.T @ hot
    return found


def _one_hot(codes: Ints, width: int) -> NDArray[np.float32]:
    hot = np.zeros((codes.shape[1], width), dtype=np.float32)  # counts below 2^24 are exact
    hot[np.arange(codes.shape[1]), codes] = 1.0
    return hot


def _summed(codes: Ints, weights: Floats, width: int) -> Floats:
    """Weights float64[rows, kinds] summed over the rows of each cell, float64[cells, kinds]."""
    each = [np.bincount(codes.ravel(), weights=np.tile(w, len(codes)), minlength=width) for w in weights.T]
    return np.stack(each, axis=1)


def _blocks(rows: int, times: Ints | None, horizon_us: int) -> list[_Block]:
    """Blocks in time, and which rows around each have outcomes in common with it; an instant is never cut.

    >>> [tuple(b) for b in _blocks(10, np.arange(10) * 5, 5)][:2], tuple(_blocks(10, None, 5)[1])
    ([(0, 2, 0, 2), (2, 4, 2, 4)], (2, 4, 2, 4))
    >>> [tuple(b) for b in _blocks(10, np.arange(10) * 5, 6)][1]
    (2, 4, 1, 5)
    """
    cuts = np.linspace(0, rows, BLOCKS + 1).astype(np.int64)
    if times is None:
        return [_Block(a, b, a, b) for a, b in pairwise(cuts.tolist())]
    cuts[1:-1] = np.searchsorted(times, times[cuts[1:-1]], side="left")
    found = []
    for a, b in pairwise(cuts.tolist()):
        if a < b:
            before = int(np.searchsorted(times, times[a] - horizon_us, side="right"))
            after = int(np.searchsorted(times, times[b - 1] + horizon_us, side="left"))
            found.append(_Block(a, b, min(before, a), max(after, b)))
    return found
