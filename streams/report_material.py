"""What a report is made of, from the warehouse and the registry. Shell.

Rows are read slice by slice of event time and reduced at once, so memory holds one slice, however long the span.
"""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
import structlog

from monitoring.report.page import Material
from monitoring.report.rows import OUTCOMES, PREDICTIONS
from monitoring.report.times import moment, span
from streams.asking import FOREVER_US

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from config import Settings
    from monitoring.report.records import Window
    from streams.history import History

log = structlog.get_logger()

_MICROSECOND: Final = timedelta(microseconds=1)
SLICES: Final = 60
"""Stretches of a span; latency is told for each."""


def newest_us(history: History, model: str) -> int | None:
    """When the newest window of this model ended, else its newest prediction's event time; None where there is neither."""
    for table, column in (("performance", "window_end_us"), ("predictions", "ts_event_us")):
        found = history.table(table, start_us=-FOREVER_US, end_us=FOREVER_US, model=model, columns=[column])[column]
        if len(found):
            import pyarrow.compute as pc

            return int(pc.max(found).as_py())
    return None


def gather(history: History, settings: Settings, model: str, *, start_us: int, end_us: int, alerts_until_us: int) -> Material:
    """Everything stored of the model in (start_us, end_us]; alerts as they stood at `alerts_until_us`."""
    made = Material(model, start_us, end_us, threshold=settings.monitoring.alert_threshold)
    edges_us = _edges(start_us, end_us)
    for a, b in _slices(edges_us, at_once=history.at_once):
        windows = history.table("performance", start_us=a, end_us=b, model=model)
        made.records.add(windows.to_pylist())
        predictions = history.table("predictions", start_us=a, end_us=b, model=model, columns=PREDICTIONS)
        if len(predictions):
            outcomes = history.table("outcomes", start_us=a, end_us=b, columns=OUTCOMES)
            made.rows.add(model, predictions, outcomes, edges_us=edges_us)
    made.events = history.table("alerts", start_us=-FOREVER_US, end_us=alerts_until_us).to_pylist()
    made.alerts_until_us = alerts_until_us
    made.how = _how(made, settings, history.source)
    return made


def _how(made: Material, settings: Settings, source: str) -> list[tuple[str, str]]:
    monitoring = settings.monitoring
    read = (
        f"{made.rows.predictions:,} predictions, {made.rows.outcomes:,} outcomes, {made.records.rows:,} performance records, "
        f"{len(made.events):,} alert events"
    )
    newest = max((w for ws in made.records.windows().values() for w in ws if w.drift is not None), key=_end_us, default=None)
    if newest is None or newest.drift is None:
        gates = f"PSI from {monitoring.alert_threshold:g} on, at least {monitoring.min_samples:,} rows, false discovery rate "
        gates += f"{monitoring.false_discovery_rate:g} (Benjamini–Hochberg), by the settings"
        length_us = monitoring.metrics_window // _MICROSECOND
    else:
        drift = newest.drift
        gates = f"PSI from {drift.threshold:g} on, at least {drift.min_samples:,} rows, false discovery rate "
        gates += f"{drift.false_discovery_rate:g} (Benjamini–Hochberg), as the newest record was judged"
        length_us = newest.end_us - newest.start_us
    return [
        ("span", f"{moment(made.start_us)} to {moment(made.end_us)} UTC, start excluded, end included"),
        ("read from", source),
        ("rows read", read),
        ("drift", gates),
        ("windows", f"{span(length_us)} long; a window's quality is that of the predictions made a horizon earlier"),
        ("alerts", f"fire after {monitoring.pending_windows} windows, {span(monitoring.cooldown // _MICROSECOND)} cooldown"),
    ]


def _edges(start_us: int, end_us: int) -> NDArray[np.int64]:
    count = max(1, min(SLICES, end_us - start_us))
    return np.array([start_us + (end_us - start_us) * k // count for k in range(count + 1)], np.int64)


def _slices(edges_us: NDArray[np.int64], *, at_once: bool) -> Sequence[tuple[int, int]]:
    edges = edges_us.tolist()
    return [(edges[0], edges[-1])] if at_once else list(itertools.pairwise(edges))


def _end_us(window: Window) -> int:
    return window.end_us
