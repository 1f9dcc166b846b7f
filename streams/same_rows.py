"""Stored predictions of two versions and the outcomes → the rows both predicted, as the core judges them. Core: Arrow in.

A row is (symbol, event time): of each version the greatest revision of its predictions that have a value, and the greatest of the
outcome. Rows whose outcome was not due by the newest prediction are left out, as the monitor does: they can have none yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from monitoring.labels import QualityRows

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

PREDICTIONS: Final = (
    *("symbol", "version", "ts_event_us", "horizon_us", "revision", "value", "lower", "upper", "p_up", "completeness", "level"),
)
"""Columns of the table of predictions that are needed."""
OUTCOMES: Final = ("symbol", "ts_event_us", "horizon_us", "revision", "value")
"""Columns of the table of outcomes."""
_FLOATS: Final = ("value", "lower", "upper", "p_up", "completeness")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SameRows:
    """What both versions predicted. `level` of the challenger's intervals, None where it has none or several."""

    champion: QualityRows
    challenger: QualityRows
    horizon_us: int
    level: float | None
    predicted: tuple[int, int]
    """Due rows with a value of (champion, challenger), in both or not."""


def horizon_of(predictions: pa.Table) -> int | None:
    """The horizon of the predictions; None if there are none, 0 if there are several."""
    found = predictions["horizon_us"].unique().to_pylist()
    return None if not found else found[0] if len(found) == 1 else 0


def of_versions(predictions: pa.Table, *versions: str) -> pa.Table:
    """The rows of these versions that have a value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    named = pc.is_in(predictions["version"], pa.array(versions, pa.string()))
    return predictions.filter(pc.and_(named, pc.is_finite(predictions["value"])))


def same_rows(predictions: pa.Table, outcomes: pa.Table, *, champion: str, challenger: str, horizon_us: int) -> SameRows:
    """The rows of both versions, with the outcome where it is known.

    `predictions`, with the columns `PREDICTIONS`, have values and one horizon; `outcomes`, with `OUTCOMES`, may have others.
    """
    import pyarrow.compute as pc

    outcomes = outcomes.filter(pc.equal(outcomes["horizon_us"], horizon_us))
    symbols, (of_prediction, of_outcome) = _codes(predictions["symbol"], outcomes["symbol"])
    when = predictions["ts_event_us"].to_numpy()
    due = when + horizon_us <= when.max(initial=0)
    times = np.unique(when)
    width = max(len(symbols), 1)
    key = np.searchsorted(times, when) * width + of_prediction
    revision = predictions["revision"].to_numpy()
    places = []
    for version in (champion, challenger):
        of_version = pc.equal(predictions["version"], version).to_numpy(zero_copy_only=False)
        places.append(_greatest(key, revision, np.flatnonzero(of_version & due)))
    known_when = outcomes["ts_event_us"].to_numpy()
    at = np.searchsorted(times, known_when)
    asked = at < len(times)
    asked[asked] = times[at[asked]] == known_when[asked]
    known_key = at * width + of_outcome
    held = _greatest(known_key, outcomes["revision"].to_numpy(), np.flatnonzero(asked))
    keys, a, b = np.intersect1d(key[places[0]], key[places[1]], assume_unique=True, return_indices=True)
    outcome = _looked_up(keys, known_key[held], outcomes["value"].to_numpy()[held])
    floats = {name: predictions[name].to_numpy() for name in _FLOATS}
    sides = [
        QualityRows(
            **{name: values[place] for name, values in floats.items()},
            outcome=outcome,
            symbol_codes=keys % width,
            ts_event_us=times[keys // width],
            symbols=symbols,
        )
        for place in (places[0][a], places[1][b])
    ]
    levels = np.unique(predictions["level"].to_numpy()[places[1][b]])
    levels = levels[np.isfinite(levels)]
    return SameRows(
        champion=sides[0],
        challenger=sides[1],
        horizon_us=horizon_us,
        level=float(levels[0]) if len(levels) == 1 else None,
        predicted=(len(places[0]), len(places[1])),
    )


def _codes(*columns: pa.ChunkedArray) -> tuple[tuple[str, ...], list[NDArray[np.int64]]]:
    """All symbols in ascending order, and each column as places in them."""
    import pyarrow as pa

    whole = pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())
    encoded = whole.combine_chunks().dictionary_encode()
    found = np.array(encoded.dictionary.to_pylist(), object)
    order = np.argsort(found) if len(found) else np.empty(0, np.int64)
    place = np.empty(len(found), np.int64)
    place[order] = np.arange(len(found))
    codes = place[encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)]
    return tuple(found[order].tolist()), np.split(codes, np.cumsum([len(c) for c in columns])[:-1])


def _greatest(key: NDArray[np.int64], revision: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of these places, for each key the one with the greatest revision, by key."""
    ordered = places[np.lexsort((revision[places], key[places]))]
    last = np.ones(len(ordered), np.bool_)
    last[:-1] = np.diff(key[ordered]) != 0
    return ordered[last]


def _looked_up(keys: NDArray[np.int64], known: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value at each key, from `known` in ascending order; NaN where it is not."""
    if not len(known):
        return np.full(len(keys), np.nan)
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[at] == keys, values[at], np.nan)
