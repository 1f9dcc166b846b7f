"""What of a performance record is logged on the model version: numbers by name, and tags. Core.

| name (after `monitor.<role>.`)                        | what                                                          |
|-------------------------------------------------------|---------------------------------------------------------------|
| `drift_verdict`                                        | 0 insufficient_data, 1 stable, 2 warn, 3 critical             |
| `worst_psi`, `columns_warn`, `columns_critical`         | over the columns of the vector and the prediction             |
| `ic`, `hit_rate`, `rmse`, `skill`, ... and with `_se`    | the numbers of `quality`                                      |
| `estimate.*`, `paired.*`, `concept.*`                    | the numbers of these parts                                    |

The step is the window's end in seconds, the timestamp its end in milliseconds plus the record's revision: of equal steps
MLflow shows the latest timestamp, and it takes no second value for the same pair.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VERDICTS: Final = ("insufficient_data", "stable", "warn", "critical")
"""Names of the values 0, 1, 2 and 3 of `drift_verdict`."""
MOST_METRICS: Final = 500
"""Of one record."""
WINDOW_END: Final = "monitor.window_end"
"""Name of the tag with the newest window's end: RFC 3339 in UTC, which sorts as time does."""
VERDICT: Final = "monitor.verdict"
_PARTS: Final = ("estimate", "paired", "concept")
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_\-. /]")


def metrics_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The record's numbers by the names they are logged under; what is unknown is left out.

    >>> drift = {"verdict": "warn", "columns": [{"psi": 0.2, "verdict": "warn"}, {"psi": None, "verdict": "stable"}]}
    >>> metrics_of({"role": "champion", "drift": drift, "quality": {"horizon_us": 60, "ic": 0.1, "ic_se": None}})
    {'monitor.champion.drift_verdict': 2.0, 'monitor.champion.worst_psi': 0.2, 'monitor.champion.columns_warn': 1.0, \
'monitor.champion.columns_critical': 0.0, 'monitor.champion.ic': 0.1}
    """
    found = [*_drift(record.get("drift")), *_numbers(record.get("quality"))]
    for part in _PARTS:
        found += [(f"{part}.{name}", value) for name, value in _numbers(record.get(part), deep=True)]
    return {_UNFIT.sub("_", f"monitor.{record['role']}.{name}"): value for name, value in found[:MOST_METRICS]}


def place_of(record: Mapping[str, Any]) -> tuple[int, int]:
    """(step, timestamp in ms) of all the record's metrics.

    >>> place_of({"window_end_us": 1_700_000_060_000_000, "revision": 2})
    (1700000060, 1700000060002)
    """
    end_us = record["window_end_us"]
    return end_us // 1_000_000, end_us // 1000 + record["revision"]


def tags_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Tags of the version whose newest window this is; without drift (a revision) no verdict.

    >>> tags_of({"window_end_us": 1_700_000_060_000_000, "drift": {"verdict": "warn"}})
    {'monitor.verdict': 'warn', 'monitor.window_end': '2023-11-14T22:14:20.000000Z'}
    """
    end = f"{np.datetime_as_string(np.datetime64(record['window_end_us'], 'us'), unit='us')}Z"
    drift = record.get("drift")
    return ({} if drift is None else {VERDICT: str(drift["verdict"])}) | {WINDOW_END: end}


def _drift(drift: Mapping[str, Any] | None) -> Iterator[tuple[str, float]]:
    if drift is None:
        return
    yield "drift_verdict", float(VERDICTS.index(drift["verdict"]))
    psis = [c["psi"] for c in drift["columns"] if _known(c["psi"])]
    if psis:
        yield "worst_psi", float(max(psis))
    for verdict in VERDICTS[2:]:
        yield f"columns_{verdict}", float(sum(c["verdict"] == verdict for c in drift["columns"]))


def _numbers(part: Mapping[str, Any] | None, *, deep: bool = False) -> Iterator[tuple[str, float]]:
    """Counts and measures, if `deep` of parts of the part too; times are where they belong, in step and timestamp."""
    for name, value in () if part is None else part.items():
        if deep and isinstance(value, dict):
            yield from ((f"{name}.{inner}", number) for inner, number in _numbers(value, deep=True))
        elif _known(value) and not name.endswith("_us"):
            yield name, float(value)


def _known(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
