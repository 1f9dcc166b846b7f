"""Rows of predictions and outcomes → sums per instant. Core. `monitoring.quality_instants` says what is summed.

Rows stand sorted by (group, event time), so each instant of each group is a stretch of rows, called a segment here, and every
sum is one `reduceat`. With one group, segments are instants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from monitoring.quality_instants import (
    AT,
    BINS,
    CALIBRATION_BINS,
    COLUMNS,
    MIN_DECILE_SYMBOLS,
    MIN_SYMBOLS,
    THIN,
    Instants,
    Positions,
    nothing,
)
from monitoring.ranks import Sorted, ranks_of, sorted_within

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from monitoring.labels import QualityRows
    from monitoring.reference import Floats, Ints

_EPS = float(np.finfo(np.float64).eps)
_FLAT = 1e-12
"""Values whose spread is below this share of their size differ by rounding only."""


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Published rows, sorted by (group, event time, symbol), and their segments."""

    numbers: Floats  # (value lower upper p_up outcome, rows)
    codes: Ints  # (rows,)
    group: Ints  # (segments,)
    ts_event_us: Ints  # (segments,)
    starts: Ints  # (segments,)
    sizes: Ints  # (segments,)
    segment: Ints  # (rows,)


def instants_of(rows: QualityRows, *, horizon_us: int, calibration: Floats | None = None) -> Instants:
    """Sum rows by event time. `calibration`: ascending |residuals| of the model's calibration, float64[m].

    With `calibration`, each |outcome - value| gets its place u among them: the share of them that are not above it.
    """
    group = np.zeros(len(rows.value), np.int64)
    (whole,) = split_instants(rows, group, how_many=1, horizon_us=horizon_us, calibration=calibration)
    return whole


# Squares of absurd numbers are infinite, and what is made of them is infinite or NaN: it cannot be told.
@np.errstate(over="ignore", invalid="ignore")
def split_instants(
    rows: QualityRows, group: Ints, *, how_many: int, horizon_us: int, calibration: Floats | None = None
) -> list[Instants]:
    """As `instants_of`, for every group 0..how_many-1 by itself; `group` int64[rows]."""
    table = _table(rows, group)
    sums = np.zeros((len(table.starts), len(COLUMNS)))
    _published(table, sums)
    _labelled(table, sums, calibration)
    weights, defined = _positions(table)
    sums[:, AT["turnover"]] = _turnovers(table, weights, defined)
    bounds = np.searchsorted(table.group, np.arange(how_many + 1))

    def held(segment: int) -> Positions | None:
        stretch = slice(table.starts[segment], table.starts[segment] + table.sizes[segment])
        return Positions(rows.symbols, table.codes[stretch], weights[stretch]) if defined[segment] else None

    return [
        Instants(table.ts_event_us[a:b], sums[a:b], horizon_us, held(a), held(b - 1)) if a < b else nothing(horizon_us=horizon_us)
        for a, b in zip(bounds.tolist(), bounds[1:].tolist(), strict=False)
    ]


def _table(rows: QualityRows, group: Ints) -> _Table:
    numbers = np.stack([rows.value, rows.lower, rows.upper, rows.p_up, rows.outcome])
    codes, ts = rows.symbol_codes, rows.ts_event_us
    kept = np.isfinite(numbers[0])
    if not kept.all():
        numbers, codes, ts, group = numbers[:, kept], codes[kept], ts[kept], group[kept]
    step = np.diff(ts)
    if (np.diff(group) != 0).any() or (step < 0).any() or (np.diff(codes)[step == 0] <= 0).any():
        order = np.lexsort((codes, ts, group))
        numbers, codes, ts, group = numbers[:, order], codes[order], ts[order], group[order]
    new = np.ones(len(ts), np.bool_)
    new[1:] = (ts[1:] != ts[:-1]) | (group[1:] != group[:-1])
    starts = np.flatnonzero(new)
    sizes = np.diff(starts, append=len(ts))
    segment = np.repeat(np.arange(len(starts)), sizes)
    return _Table(numbers, codes, group[starts], ts[starts], starts, sizes, segment)


def _published(table: _Table, sums: Floats) -> None:
    p = table.numbers[3]
    given = np.isfinite(p)
    if not given.all():
        p = np.where(given, p, 0.0)
    parts = np.stack([given.astype(np.float64), p, np.where(given, np.maximum(p, 1 - p), 0.0), p * (1 - p)])
    sums[:, AT["published"]] = table.sizes
    if len(table.starts):
        sums[:, AT["said"] : AT["said"] + 4] = np.add.reduceat(parts, table.starts, axis=1).T


def _labelled(table: _Table, sums: Floats, calibration: Floats | None) -> None:
    known = np.isfinite(table.numbers[4])
    value, lower, upper, p, outcome = table.numbers if known.all() else table.numbers[:, known]
    segment = table.segment if known.all() else table.segment[known]
    counts = np.bincount(segment, minlength=len(table.starts))
    sums[:, AT["rank_ic"]] = sums[:, AT["decile_spread"]] = sums[:, THIN] = np.nan
    if not len(value):
        return
    filled = np.flatnonzero(counts)
    size = counts[filled]
    starts = np.cumsum(size) - size
    mean = np.add.reduceat(np.stack([value, outcome]), starts, axis=1) / size
    dv, do = value - np.repeat(mean[0], size), outcome - np.repeat(mean[1], size)
    sums[filled, AT["rows"]] = size
    sums[filled, AT["sum_value"] : AT["sum_value"] + 2] = (mean * size).T
    judged = [*_errors(value, outcome), *_probabilities(p, outcome), *_bounds(lower, upper, outcome)]
    parts = np.stack([dv * dv, do * do, dv * do, *judged])
    first = AT["value_squares"]
    sums[filled, first : first + len(parts)] = np.add.reduceat(parts, starts, axis=1).T
    if calibration is not None and len(calibration):
        place = np.searchsorted(calibration, np.abs(outcome - value), side="right") / len(calibration)
        sums[filled, AT["placed"]] = size
        sums[filled, AT["sum_place"]] = np.add.reduceat(place, starts)
    _bins(p, outcome, segment, sums)
    _thin(value, outcome, counts, sums)
    if (size >= MIN_SYMBOLS).any():
        by_value = sorted_within(segment, value)
        sums[filled, AT["rank_ic"]] = _rank_ics(by_value, sorted_within(segment, outcome), starts, size)
        sums[filled, AT["decile_spread"]] = _decile_spreads(by_value, outcome, starts, size)


def _errors(value: Floats, outcome: Floats) -> list[Floats]:
    """Absolute and squared errors of value and of always 0; signed rows and hits."""
    off, signs = np.abs(value - outcome), np.sign(value) * np.sign(outcome)
    return [off, off * off, np.abs(outcome), outcome * outcome, np.abs(signs), (signs > 0).astype(np.float64)]


def _probabilities(p: Floats, outcome: Floats) -> list[Floats]:
    """Rows with p_up, their Brier scores and log-losses."""
    given, up = np.isfinite(p), outcome > 0
    p_of_what_came = np.where(up, p, 1 - p)
    brier, loss = (1 - p_of_what_came) ** 2, -np.log(np.clip(p_of_what_came, _EPS, 1 - _EPS))
    if not given.all():
        brier, loss = np.where(given, brier, 0.0), np.where(given, loss, 0.0)
    return [given.astype(np.float64), brier, loss]


def _bounds(lower: Floats, upper: Floats, outcome: Floats) -> list[Floats]:
    """Rows with finite bounds, those whose outcome lies within (bounds included), and widths."""
    bounded = np.isfinite(lower) & np.isfinite(upper)
    covered = bounded & (lower <= outcome) & (outcome <= upper)
    width = np.zeros(len(lower))
    np.subtract(upper, lower, out=width, where=bounded)
    return [bounded.astype(np.float64), covered.astype(np.float64), width]


def _bins(p: Floats, outcome: Floats, segment: Ints, sums: Floats) -> None:
    """Reliability bins per segment: rows, sum of p_up, sum of ups."""
    given = np.isfinite(p)
    if not given.all():
        p, outcome, segment = p[given], outcome[given], segment[given]
    code = np.clip(np.ceil(p * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    cell, cells = segment * CALIBRATION_BINS + code, len(sums) * CALIBRATION_BINS
    of_rows = np.bincount(cell, minlength=cells), np.bincount(cell, p, cells), np.bincount(cell[outcome > 0], minlength=cells)
    sums[:, BINS] = np.concatenate([c.reshape(len(sums), CALIBRATION_BINS) for c in of_rows], axis=1)


def _thin(value: Floats, outcome: Floats, counts: Ints, sums: Floats) -> None:
    """Keep the rows of segments that have fewer than `MIN_SYMBOLS`."""
    at = np.cumsum(counts) - counts
    for k in range(MIN_SYMBOLS - 1):
        has = (counts > k) & (counts < MIN_SYMBOLS)
        sums[has, THIN.start + 2 * k] = value[at[has] + k]
        sums[has, THIN.start + 2 * k + 1] = outcome[at[has] + k]


def _rank_ics(by_value: Sorted, by_outcome: Sorted, starts: Ints, size: Ints) -> Floats:
    """Spearman correlation in every segment, NaN with fewer than `MIN_SYMBOLS` rows or where one does not vary."""
    middle = np.repeat((size + 1) / 2, size)
    x, y = ranks_of(by_value) - middle, ranks_of(by_outcome) - middle
    # Multiples of a quarter: these sums are exact.
    xy, xx, yy = np.add.reduceat(np.stack([x * y, x * x, y * y]), starts, axis=1)
    told = (size >= MIN_SYMBOLS) & (xx > 0) & (yy > 0)
    scale = np.sqrt(np.where(told, xx * yy, 1.0))
    return np.where(told, np.clip(xy / scale, -1.0, 1.0), np.nan)


def _decile_spreads(by_value: Sorted, outcome: Floats, starts: Ints, size: Ints) -> Floats:
    """Mean outcome of the tenth with the greatest values less that of the tenth with the least, in every segment.

    A tenth is size // 10 rows. Ties share their mean outcome, as if drawn by lot, so the order of symbols does not matter.
    """
    spread = np.full(len(size), np.nan)
    wide = size >= MIN_DECILE_SYMBOLS
    if not wide.any():
        return spread
    came = outcome[by_value.order]
    if not by_value.new_run.all():
        first = np.flatnonzero(by_value.new_run)
        ties = np.diff(first, append=len(came))
        came = np.repeat(np.add.reduceat(came, first) / ties, ties)
    a, n = starts[wide], size[wide]
    k = n // 10
    cuts = np.stack([a, a + k, a + n - k, a + n], axis=1).ravel()
    # One row more, so that the last cut is a place too.
    sums = np.add.reduceat(np.append(came, 0.0), cuts)
    spread[wide] = (sums[2::4] - sums[0::4]) / k
    return spread


def _positions(table: _Table) -> tuple[Floats, NDArray[np.bool_]]:
    """Weight of every row, and the segments that have positions: two symbols at least whose values differ."""
    if not len(table.starts):
        return np.empty(0), np.empty(0, np.bool_)
    value = table.numbers[0]
    away = value - np.repeat(np.add.reduceat(value, table.starts) / table.sizes, table.sizes)
    gross, size = np.add.reduceat(np.stack([np.abs(away), np.abs(value)]), table.starts, axis=1)
    defined = gross > _FLAT * size
    scale = np.where(defined, 1 / np.where(defined, gross, 1.0), 0.0)
    return away * np.repeat(scale, table.sizes), defined


def _turnovers(table: _Table, weights: Floats, defined: NDArray[np.bool_]) -> Floats:
    """Half of sum |w - w before| of every segment against the one before it in its group; NaN where there is none."""
    segments = len(table.starts)
    follows = np.zeros(segments, np.bool_)
    follows[1:] = (table.group[1:] == table.group[:-1]) & defined[1:] & defined[:-1]
    if not follows.any():
        return np.full(segments, np.nan)
    # Radix sort of narrow numbers is three times as fast.
    narrow = table.codes.astype(np.int16) if int(table.codes.max()) < 2**15 else table.codes
    order = np.argsort(narrow, kind="stable")  # by symbol, and each symbol's rows by segment
    symbol, segment, w = table.codes[order], table.segment[order], weights[order]
    stays = (symbol[1:] == symbol[:-1]) & (segment[1:] == segment[:-1] + 1)
    before = np.zeros(len(w))
    before[1:][stays] = w[:-1][stays]
    traded = np.bincount(segment, np.abs(w - before), segments + 1)
    leaves = np.ones(len(w), np.bool_)
    leaves[:-1] = ~stays
    traded += np.bincount(segment[leaves] + 1, np.abs(w[leaves]), segments + 1)
    return np.where(follows, traded[:-1] / 2, np.nan)
