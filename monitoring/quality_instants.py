"""Sums per instant of prediction and outcome: a window's quality is computed from its panes, each summed once.

Core. An instant is one event time with all symbols predicted for it. Rows of one instant are never summed with another's,
so the instants of a window are those of its panes, one after another, and the report is the same however rows were cut.

| rows (symbol, event time) | instants                                             |
|---------------------------|------------------------------------------------------|
| (A, 10) (B, 10) (A, 20)   | 10: sums over A and B; 20: sums over A               |
| (A, 30)                   | 30: sums over A                                      |
| both `joined`             | 10, 20, 30; turnover of 30 from the positions at 20  |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitoring.reference import Floats, Ints

MIN_SYMBOLS: Final = 3
"""Fewest symbols at one instant whose ranks are compared across symbols."""

MIN_DECILE_SYMBOLS: Final = 10
"""Fewest symbols at one instant that have deciles."""

CALIBRATION_BINS: Final = 10
"""Bins of p_up: (0, 0.1], (0.1, 0.2], ... with 0 in the first."""

COLUMNS: Final = (
    # Over published rows: a finite value, whether or not the outcome is known.
    "published",
    "said",  # rows with p_up
    "sum_p_up",
    "sum_certainty",  # of max(p, 1 - p)
    "sum_p_variance",  # of p (1 - p)
    "turnover",  # of positions against the instant before; NaN where either has none
    # Over labelled rows: value and outcome are finite.
    "rows",
    "sum_value",
    "sum_outcome",
    "value_squares",  # about the instant's own mean, so nothing cancels: sum (v - mean v)^2
    "outcome_squares",
    "products",
    "sum_absolute_error",
    "sum_squared_error",
    "sum_absolute_outcome",  # the errors of always 0
    "sum_squared_outcome",
    "signed",  # rows where neither value nor outcome is 0
    "hits",
    "probabilities",  # rows with p_up
    "sum_brier",
    "sum_log_loss",
    "bounded",  # rows with a finite interval
    "covered",
    "sum_width",
    "rank_ic",  # NaN with fewer than MIN_SYMBOLS, or where either does not vary
    "decile_spread",  # NaN with fewer than MIN_DECILE_SYMBOLS
    "placed",  # rows whose |residual| was placed among those of calibration
    "sum_place",
    # The labelled rows themselves where there are 1 or 2: a single symbol's rank IC is over time, and needs them.
    "value_1",
    "outcome_1",
    "value_2",
    "outcome_2",
    *(f"bin_rows_{k}" for k in range(CALIBRATION_BINS)),
    *(f"bin_p_up_{k}" for k in range(CALIBRATION_BINS)),
    *(f"bin_up_{k}" for k in range(CALIBRATION_BINS)),
)
"""What `Instants.sums` holds, in order."""

AT: Final = {name: k for k, name in enumerate(COLUMNS)}
"""Place of a column."""

BINS: Final = slice(AT["bin_rows_0"], AT["bin_rows_0"] + 3 * CALIBRATION_BINS)
THIN: Final = slice(AT["value_1"], AT["value_1"] + 4)


@dataclass(frozen=True, slots=True, eq=False)
class Positions:
    """What would be held at one instant: values demeaned across symbols and scaled to |weights| that sum to 1."""

    symbols: tuple[str, ...]
    codes: Ints  # (held,), into symbols
    weights: Floats  # (held,)


@dataclass(frozen=True, slots=True, eq=False)
class Instants:
    """Sums per distinct event time, ascending. `head` and `tail`: positions at the first and last of them, if there are any.

    `horizon_us`: how long after the event time an outcome is due; instants of different horizons are never joined.
    """

    ts_event_us: Ints  # (instants,)
    sums: Floats  # (instants, COLUMNS)
    horizon_us: int
    head: Positions | None = None
    tail: Positions | None = None

    def __len__(self) -> int:
        return len(self.ts_event_us)

    def column(self, name: str) -> Floats:
        """One of `COLUMNS`, float64[instants]."""
        return self.sums[:, AT[name]]


def nothing(*, horizon_us: int) -> Instants:
    """No instants at all."""
    return Instants(np.empty(0, np.int64), np.empty((0, len(COLUMNS))), horizon_us)


def joined(parts: Sequence[Instants]) -> Instants:
    """At least one pane as one, in order of time. `ValueError` where two share an instant or lie within one another.

    What depends on the instant before is filled in where two parts meet: turnover.
    """
    ordered = in_order(parts)
    if len(ordered) == 1:
        return ordered[0]
    sums = np.concatenate([p.sums for p in ordered])
    at = 0
    for a, b in pairwise(ordered):
        at += len(a)
        sums[at, AT["turnover"]] = turnover(a.tail, b.head)
    ts_event_us = np.concatenate([p.ts_event_us for p in ordered])
    return replace(ordered[0], ts_event_us=ts_event_us, sums=sums, tail=ordered[-1].tail)


class Timed(Protocol):
    """Something per instant of one horizon."""

    @property
    def ts_event_us(self) -> Ints: ...  # noqa: D102  # named in the class's docstring
    @property
    def horizon_us(self) -> int: ...  # noqa: D102


T = TypeVar("T", bound=Timed)


def in_order(parts: Sequence[T]) -> list[T]:
    """Parts that have instants, by time, or one part without any."""
    horizons = {p.horizon_us for p in parts}
    if len(horizons) != 1:
        raise ValueError(f"parts have horizons {sorted(horizons)} us; give at least one part, all of one horizon")
    ordered = sorted((p for p in parts if len(p.ts_event_us)), key=lambda p: int(p.ts_event_us[0]))
    for a, b in pairwise(ordered):
        if a.ts_event_us[-1] >= b.ts_event_us[0]:
            raise ValueError(
                f"parts overlap: one ends at {a.ts_event_us[-1]} us, the next begins at {b.ts_event_us[0]} us; "
                "an instant's rows must all be in one part"
            )
    return ordered or [parts[0]]


@lru_cache(maxsize=64)  # windows share all their panes but one
def turnover(before: Positions | None, now: Positions | None) -> float:
    """Half of sum |w_now - w_before| over the symbols of both: 0 nothing traded, 1 all of it; NaN without positions.

    >>> a = Positions(("A", "B"), np.array([0, 1]), np.array([0.5, -0.5]))
    >>> b = Positions(("B", "C"), np.array([0, 1]), np.array([0.5, -0.5]))
    >>> turnover(a, a), turnover(a, b)
    (0.0, 1.0)
    """
    if before is None or now is None:
        return float("nan")
    codes = before.codes
    if before.symbols is not now.symbols and before.symbols != now.symbols:
        place = {symbol: k for k, symbol in enumerate(now.symbols)}
        first_new = len(place)
        codes = np.array([place.get(before.symbols[c], first_new + c) for c in codes.tolist()], np.int64)
    held = np.zeros(1 + max(int(codes.max()), int(now.codes.max())))
    held[now.codes] = now.weights
    held[codes] -= before.weights
    return float(np.abs(held).sum() / 2)
