"""How a spec's columns are read from windows: columns of the same lag share one lookup. Core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.bars import BarGrid
from streams.records import MAX_TS_US

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.spec import ServingSpec
    from streams.layout import Layout


@dataclass(frozen=True, slots=True)
class Lookup:
    """Columns of one feature set that look at the same instant."""

    feature_set: str
    lag_us: int
    bars: int | None  # counted on the grid; None: lag_us is the whole lag
    grid: BarGrid
    max_age_us: int | None
    depth_rows: int
    columns: NDArray[np.intp] | slice  # a slice where they stand side by side
    features: NDArray[np.intp] | None  # None: all of the set, in order
    awaited: bool  # a required column of another set than the trigger's is among them

    def rows_back(self) -> int:
        """How many rows before the newest the row looked for lies, where no bar is absent."""
        return -(-self.lag_us // self.grid.bar_us) if self.bars is None else self.bars

    def instants(self, ts_event_us: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64] | int | None]:
        """The instant each row looks at, and the greatest age there: one for all rows, or int64 (rows,), or None."""
        if self.bars is None:
            return ts_event_us - self.lag_us, self.max_age_us
        instant, length = self.grid.back(ts_event_us, self.bars)
        return instant, length - 1 if self.max_age_us is None else self.max_age_us


@dataclass(frozen=True, slots=True)
class VectorPlan:
    """A spec's columns, grouped so that columns of the same lag share one lookup."""

    columns: int
    trigger: str
    trigger_depth: int | None  # None: windows of the trigger set are no deeper than this model asks
    lookups: dict[str, tuple[Lookup, ...]]  # by feature set


def plan_vectors(spec: ServingSpec, layout: Layout) -> VectorPlan:
    """How to build this spec's vectors from windows of this layout (which must come from `merge_specs`)."""
    groups: dict[tuple[str, int, int | None, int | None], list[tuple[int, int]]] = {}
    for at, c in enumerate(spec.columns):
        lag_us, bars = (0, None) if c.lag == 0 else (c.lag.us or 0, c.lag.bars)
        place = layout[c.feature_set].features.index(c.feature)
        groups.setdefault((c.feature_set, lag_us, bars, c.max_age_us), []).append((at, place))
    grids = {name: BarGrid(fs.bar_us, fs.sessions) for name, fs in spec.feature_sets.items()}
    depth = spec.feature_sets[spec.trigger].depth_rows
    lookups: dict[str, list[Lookup]] = {}
    for (name, lag_us, bars, max_age_us), members in groups.items():
        look = Lookup(
            name,
            min(lag_us, MAX_TS_US),  # beyond it there is nothing to find, and sort keys would overflow
            bars,
            grids[name],
            max_age_us,
            spec.feature_sets[name].depth_rows,
            _side_by_side([c for c, _ in members]),
            _places([f for _, f in members], len(layout[name].features)),
            name != spec.trigger and any(spec.columns[c].required for c, _ in members),
        )
        lookups.setdefault(name, []).append(look)
    return VectorPlan(
        len(spec.columns),
        spec.trigger,
        depth if depth < layout[spec.trigger].depth_rows else None,
        {name: tuple(looks) for name, looks in lookups.items()},
    )


def _side_by_side(columns: list[int]) -> NDArray[np.intp] | slice:
    first, n = columns[0], len(columns)
    return slice(first, first + n) if columns == list(range(first, first + n)) else np.array(columns, dtype=np.intp)


def _places(features: list[int], of: int) -> NDArray[np.intp] | None:
    return None if features == list(range(of)) else np.array(features, dtype=np.intp)
