"""Windows' counts made again from the warehouse, and held against what the monitor recorded. Shell: reads the history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.joined import Scorer
from monitoring.recount import Difference, Recount, difference
from monitoring.report.records import Records

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from streams.history import History
    from streams.trained import Trained
    from streams.trainings import Trainings

_SLICE_US = 6 * 3_600_000_000
_MOST_SLICES = 400


@dataclass(frozen=True, slots=True)
class Checked:
    """One scorer: windows compared, rows they were made of again, and what differs."""

    scorer: Scorer
    windows: int
    rows: int
    differences: tuple[Difference, ...]


def check(history: History, trainings: Trainings, model: str, *, start_us: int, end_us: int) -> list[Checked]:
    """Compare all windows of this model that ended in (start_us, end_us].

    Raises `WarehouseError`, and `ModelError` where the registry does not answer.
    """
    recorded: dict[Scorer, dict[tuple[int, int], Any]] = {}
    for a, b in slices(start_us, end_us, at_once=history.at_once):
        columns = ["model", "version", "role", "window_start_us", "window_end_us", "revision", "drift"]
        for row in history.table("performance", start_us=a, end_us=b, model=model, columns=columns).to_pylist():
            if row["drift"] is not None:
                scorer = Scorer(row["model"], row["version"], row["role"])
                recorded.setdefault(scorer, {})[row["window_start_us"], row["window_end_us"]] = _counts(row)
    return [_checked(history, trainings.get(s.version), s, windows) for s, windows in sorted(recorded.items())]


def slices(start_us: int, end_us: int, *, at_once: bool) -> list[tuple[int, int]]:
    """The span (start_us, end_us] in stretches that are read one by one.

    >>> slices(0, 10, at_once=False), len(slices(0, 86_400_000_000, at_once=False))
    ([(0, 10)], 4)
    """
    step = end_us - start_us if at_once else max(_SLICE_US, -(-(end_us - start_us) // _MOST_SLICES))
    return [(a, min(a + step, end_us)) for a in range(start_us, end_us, max(step, 1))]


def _counts(row: Any) -> list[dict[str, Any]]:
    """Names and counts alone: the rest of a record is large, and a span has many."""
    records = Records()
    records.add([row])
    (windows,) = records.windows().values()
    drift = windows[0].drift
    return [] if drift is None else [{"name": c.name, "counts": c.counts} for c in drift.columns]


def _checked(history: History, trained: Trained, scorer: Scorer, windows: dict[tuple[int, int], Any]) -> Checked:
    recount = Recount(trained.reference, windows)
    rows = 0
    first, last = min(a for a, _ in windows), max(b for _, b in windows)
    for a, b in slices(first, last, at_once=history.at_once):
        for values, ts_event_us in _rows(history, trained, scorer, a, b):
            recount.add(values, ts_event_us)
            rows += len(values)
    found = [
        difference(trained.reference, said, recount.window(a, b), start_us=a, end_us=b)
        for (a, b), said in sorted(windows.items())
    ]
    return Checked(scorer, len(windows), rows, tuple(d for d in found if d is not None))


def _rows(history: History, trained: Trained, scorer: Scorer, start_us: int, end_us: int) -> Iterator[tuple[Any, Any]]:
    """The scorer's rows as the monitor counts them: values (rows, columns), event times (rows,)."""
    columns = ["prediction_id", "version", "role", "value", "abstained"]
    made = history.table("predictions", start_us=start_us, end_us=end_us, model=scorer.model, columns=columns)
    made = _only(_only(made, "version", scorer.version), "role", scorer.role)
    if not len(made):
        return
    features = history.table(
        "features", start_us=start_us, end_us=end_us, model=scorer.model, columns=["prediction_id", "ts_event_us", "vector"]
    )
    import pyarrow.compute as pc

    place = pc.index_in(features["prediction_id"], value_set=made["prediction_id"].combine_chunks())
    features = features.filter(place.is_valid())
    made = made.take(place.drop_null())
    if not len(features):
        return
    width = sum(1 for name in trained.columns if name not in _behind(trained))
    vectors = features["vector"].combine_chunks()
    flat = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    value = made["value"].to_numpy().astype(np.float64)
    abstained = made["abstained"].to_numpy().astype(bool)
    yield trained.rows([flat.reshape(-1, width)], np.where(abstained, np.nan, value)), features["ts_event_us"].to_numpy()


def _behind(trained: Trained) -> set[str]:
    """Columns that are not the vector's."""
    return set(trained.columns[trained.columns.index(trained.prediction) :])


def _only(table: pa.Table, column: str, value: str) -> pa.Table:
    import pyarrow.compute as pc

    return table.filter(pc.equal(table[column], value))
