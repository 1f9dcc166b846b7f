"""Predictions joined with their outcomes: the rows that `pending` gives and `quality` judges.

Core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from monitoring.reference import Floats, Ints

Key = tuple[str, int, int]
"""symbol, ts_event_us, horizon_us"""


class Scorer(NamedTuple):
    """Whose prediction: one model version in one role."""

    model: str
    version: str
    role: str


class Held(NamedTuple):
    """One prediction kept for its outcome."""

    prediction_id: str
    revision: int
    value: float
    lower: float
    upper: float
    p_up: float
    labelled: bool


class Ripe(NamedTuple):
    """One prediction that met its outcome."""

    scorer: Scorer
    key: Key
    held: Held
    outcome: float
    outcome_revision: int
    revised: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matured:
    """Joined rows of one scorer and horizon, all arrays (rows,), in the order they matured.

    `revised`: the row matured before, with another outcome or as a lower revision of the prediction; it takes the place
    of the row of the same symbol and event time.
    """

    scorer: Scorer
    horizon_us: int
    prediction_ids: tuple[str, ...]
    symbols: tuple[str, ...]
    ts_event_us: Ints
    value: Floats
    lower: Floats
    upper: Floats
    p_up: Floats
    outcome: Floats
    outcome_revision: Ints
    revised: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.symbols)


def matured(ripe: Iterable[Ripe]) -> list[Matured]:
    """Gather ripe rows by scorer and horizon, first come first."""
    groups: dict[tuple[Scorer, int], list[Ripe]] = {}
    for row in ripe:
        groups.setdefault((row.scorer, row.key[2]), []).append(row)
    return [
        Matured(
            scorer=scorer,
            horizon_us=horizon_us,
            prediction_ids=tuple(r.held.prediction_id for r in rows),
            symbols=tuple(r.key[0] for r in rows),
            ts_event_us=np.array([r.key[1] for r in rows], np.int64),
            value=np.array([r.held.value for r in rows]),
            lower=np.array([r.held.lower for r in rows]),
            upper=np.array([r.held.upper for r in rows]),
            p_up=np.array([r.held.p_up for r in rows]),
            outcome=np.array([r.outcome for r in rows]),
            outcome_revision=np.array([r.outcome_revision for r in rows], np.int64),
            revised=np.array([r.revised for r in rows], np.bool_),
        )
        for (scorer, horizon_us), rows in groups.items()
    ]
