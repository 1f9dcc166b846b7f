"""The lag rules once more, by brute force: vectors recomputed from raw rows, sharing nothing with the workers' windows.

The demo trains on these, and checks the vectors the workers logged against them.

For a trigger row (event time e, known at d = the decision time), a column's value is that of the row which

1. is of the column's symbol and feature set, and came no later in the log than the trigger row,
2. is among the newest `depth_rows` of those (by event time, then revision),
3. was known: ts_known <= d,
4. lies at or before the instant: ts_event <= e - lag,
5. is the newest of those (greatest event time, then greatest revision),

and missing (NaN) if there is none or its age e - lag - ts_event is above the max age. A row repeating the identity
(symbol, feature set, event time, revision) of an earlier one is ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from models.spec import ColumnSpec, ServingSpec

IDENTITY = ["symbol", "feature_set", "ts_event_us", "revision"]
_TIMES = ("position", "ts_event_us", "ts_known_us", "revision")


class _Rows(NamedTuple):
    """One symbol's rows of one feature set; the first four int64[rows]."""

    position: NDArray[np.int64]
    event_us: NDArray[np.int64]
    known_us: NDArray[np.int64]
    revision: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]


def vectors_from_rows(rows: pd.DataFrame, spec: ServingSpec) -> pd.DataFrame:
    """Return one row per trigger row: symbol, ts_event_us, revision, ts_decision_us, then the spec's columns in order.

    `rows`: in log order, with symbol, feature_set, ts_event_us, ts_known_us, revision and one float column a feature, as
    `streams.demo.rows.FeatureRows.frame` gives them. Rows of one symbol come out in log order.
    """
    import pandas as pd  # heavy; reachable from the command line's start

    rows = rows.drop_duplicates(IDENTITY)
    rows = rows.assign(position=np.arange(len(rows)))
    out = []
    for symbol, own in rows.groupby("symbol", sort=False):
        sets = {name: _arrays(own[own["feature_set"] == name], s.features) for name, s in spec.feature_sets.items()}
        trigger = sets[spec.trigger]
        for i in range(len(trigger.position)):
            at, event_us, decision_us = trigger.position[i], trigger.event_us[i], trigger.known_us[i]
            seen = {n: _seen(r, at, decision_us, spec.feature_sets[n].depth_rows) for n, r in sets.items()}
            values = [_value(sets[c.feature_set], seen[c.feature_set], event_us, c, spec) for c in spec.columns]
            out.append([symbol, event_us, trigger.revision[i], decision_us, *values])
    return pd.DataFrame(out, columns=[*IDENTITY[:1], *IDENTITY[2:], "ts_decision_us", *(c.name for c in spec.columns)])


def _arrays(table: pd.DataFrame, features: tuple[str, ...]) -> _Rows:
    position, event_us, known_us, revision = (table[name].to_numpy(np.int64) for name in _TIMES)
    return _Rows(position, event_us, known_us, revision, {name: table[name].to_numpy(np.float64) for name in features})


def _seen(rows: _Rows, at: np.int64, decision_us: np.int64, depth_rows: int) -> NDArray[np.intp]:
    """Rules 1 to 3: which rows may be looked at, oldest first."""
    before = np.flatnonzero(rows.position <= at)
    newest = before[np.lexsort((rows.revision[before], rows.event_us[before]))][-depth_rows:]
    return newest[rows.known_us[newest] <= decision_us]


def _value(rows: _Rows, seen: NDArray[np.intp], event_us: np.int64, column: ColumnSpec, spec: ServingSpec) -> float:
    """Rules 4 and 5, and the age."""
    bar_us = spec.feature_sets[column.feature_set].bar_us
    lag_us, max_age_us = 0, column.max_age_us
    if column.lag != 0 and column.lag.us is not None:
        lag_us = column.lag.us
    elif column.lag != 0 and column.lag.bars is not None:
        lag_us = column.lag.bars * bar_us
        max_age_us = bar_us - 1 if max_age_us is None else max_age_us
    instant = int(event_us) - lag_us
    past = seen[rows.event_us[seen] <= instant]
    if len(past) == 0 or (max_age_us is not None and instant - rows.event_us[past[-1]] > max_age_us):
        return float("nan")
    return float(rows.values[column.feature][past[-1]])
