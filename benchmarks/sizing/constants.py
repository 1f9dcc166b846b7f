"""The model's constants, out of the file of results that `python -m benchmarks.workers` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.sizing.model import Costs, symbol_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

RESULTS: Final = Path(__file__).parents[1] / "workers.json"
WIRES: Final = {"rows": "ours", "frames": "ours_frames_out"}
"""Wire format of features and predictions, and which contender measured it."""
SLACK_ROWS: Final = 32
"""`inference.slack_rows`, its default."""


def measured() -> dict[str, Any]:
    """The file of results."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def costs_of(found: Mapping[str, Any], wire: str) -> Costs:
    """The constants, out of workers.json."""
    job = found["job"]
    drains = {(d["contender"], d["workers"], d["symbols"]): d for d in found["drains"]}
    one = drains[WIRES[wire], 1, job["symbols"]]
    recover_s, bytes_per_s = recovery_line(found)
    events = found["rebalance"]["events"]
    return Costs(
        row_us=median(one, "worker_us_per_row") - median(one, "windows_per_row") * window_us(found),
        window_us=window_us(found),
        broker_row_us=median(one, "broker_in_us_per_row") + median(one, "broker_us_per_row"),
        features_bytes=one["bytes_per_row"]["features"],
        predictions_bytes=one["bytes_per_row"]["predictions"],
        log_bytes=one["bytes_per_row"]["inference_log"],
        window_bytes=max(d["bytes_per_window"] for d in found["drains"]),
        symbol_bytes=symbol_bytes(features=job["features"], depth_rows=job["window_rows"], slack_rows=SLACK_ROWS),
        base_mb=median(one, "rss_mb"),
        recover_s=recover_s,
        recovery_bytes_per_s=bytes_per_s,
        pause_s=median(events["clean leave"], "longest_s"),
        monitor_us=median(found["monitor"], "us_per_row"),
    )


def window_us(found: Mapping[str, Any]) -> float:
    """CPU time of a window written: what a row costs more where symbols are many, for each window more that it writes.

    Not below zero: a busy machine can hide it.
    """
    ones = sorted((d for d in found["drains"] if d["contender"] == "ours" and d["workers"] == 1), key=lambda d: d["symbols"])
    few, many = ones[0], ones[-1]
    more = median(many, "windows_per_row") - median(few, "windows_per_row")
    return max(0.0, (median(many, "worker_us_per_row") - median(few, "worker_us_per_row")) / more)


def recoveries(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Starts on an emptied folder, by what there was to read, least first."""
    return sorted((r for r in found["recovery"] if r["folder"] == "empty"), key=lambda r: float(r["mb"]))


def recovery_line(found: Mapping[str, Any]) -> tuple[float, float]:
    """(seconds that a recovery takes whatever there is to read, bytes a second on top), by the least and the most there was.

    Where more was not slower, all of the time is put down to reading.
    """
    least, *_, most = recoveries(found)
    seconds, size = (median(most, "recover_s") - median(least, "recover_s")), 1e6 * (most["mb"] - least["mb"])
    if seconds <= 0:
        return 0.0, 1e6 * most["mb"] / median(most, "recover_s")
    bytes_per_s = size / seconds
    return max(0.0, median(most, "recover_s") - 1e6 * most["mb"] / bytes_per_s), bytes_per_s


def median(figures: Mapping[str, Any], what: str) -> float:
    """The median of a figure that was measured several times."""
    return float(figures[what]["median"])
