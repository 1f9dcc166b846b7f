"""The model against what was measured: a figure is foretold from other cases than the one it is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.job import FEATURE_SET
from benchmarks.sizing.constants import SLACK_ROWS, median, recoveries, recovery_line, window_us
from benchmarks.sizing.model import symbol_bytes, windows_per_s
from streams.state import head_of_set, head_of_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PACKED_ROWS = 50_000
"""Rows between two checkpoints in scaling.json."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line: a figure foretold, and measured."""

    what: str
    unit: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """How far the prediction is off, as a share of what was measured; above 0 it was too high."""
        return self.predicted / self.measured - 1


def checks(found: Mapping[str, Any], results: Mapping[str, Any], scaling: Mapping[str, Any]) -> list[Check]:
    """All checks: of workers.json, and of the files of the other benchmarks."""
    return [*_workers(found, results), *_symbols(found), *_core_path(scaling), *_memory(found), *_times(found)]


def value_bytes(*, features: int, rows: int) -> int:
    """Length of a symbol's packed window in the changelog, as `streams.state` lays it out.

    >>> value_bytes(features=20, rows=16)
    3049
    """
    names = tuple(f"f{i:02d}" for i in range(features))
    return len(head_of_value(sets=1)) + len(head_of_set(FEATURE_SET, names, rows=rows)) + rows * (24 + 8 * features)


def foreseen_rate(workers: int, *, row_us: float, broker_us: float, cores: int) -> float:
    """Rows a second of workers on one machine that the broker is on too: a core each, and never more than there are cores.

    >>> [round(foreseen_rate(n, row_us=10.0, broker_us=5.0, cores=2)) for n in (1, 2, 4)]
    [100000, 133333, 133333]
    """
    return min(workers * 1e6 / row_us, cores * 1e6 / (row_us + broker_us))


def _workers(found: Mapping[str, Any], results: Mapping[str, Any]) -> Iterator[Check]:
    symbols, cores = found["job"]["symbols"], found["machine"]["cores"]
    for d in found["drains"]:
        if d["symbols"] != symbols:
            continue
        name, n = d["contender"], d["workers"]
        one = next(o for o in found["drains"] if (o["contender"], o["workers"], o["symbols"]) == (name, 1, symbols))
        row_us = median(one, "worker_us_per_row") if n > 1 else results["contenders"][name]["us_per_row"]
        source = "as one here" if n > 1 else "as in results.json"
        of = f"`{name}`, {n} worker{'s' * (n > 1)}"
        yield Check(f"{of}, CPU of a row, {source}", "µs", row_us, median(d, "worker_us_per_row"))
        rate = foreseen_rate(n, row_us=row_us, broker_us=median(one, "broker_us_per_row"), cores=cores)
        yield Check(f"{of}, {cores} cores", "rows/s", rate, median(d, "rows_per_s"))


def _symbols(found: Mapping[str, Any]) -> Iterator[Check]:
    ones = sorted((d for d in found["drains"] if d["contender"] == "ours" and d["workers"] == 1), key=lambda d: d["symbols"])
    few, many = ones[0], ones[-1]
    for d in ones:
        rate = median(d, "rows_per_s")
        written = windows_per_s(d["symbols"], rate, found["commit_s"]) / rate
        yield Check(f"{d['symbols']:,} symbols, windows written for a row", "", written, median(d, "windows_per_row"))
    for d in ones:
        if few["symbols"] < d["symbols"] < many["symbols"]:
            more = median(d, "windows_per_row") - median(few, "windows_per_row")
            foretold = median(few, "worker_us_per_row") + more * window_us(found)
            yield Check(f"{d['symbols']:,} symbols, CPU of a row", "µs", foretold, median(d, "worker_us_per_row"))


def _core_path(scaling: Mapping[str, Any]) -> Iterator[Check]:
    """Without Kafka: what a row costs with 500 symbols, and a window's packing on top."""
    base = scaling["by_models"][0]
    window = base["packing_us_per_row"] * PACKED_ROWS / base["symbols"]
    for case in scaling["by_symbols"]:
        foretold = base["us_per_row"] + (case["symbols"] - base["symbols"]) / PACKED_ROWS * window
        yield Check(f"{case['symbols']:,} symbols, core path without Kafka (scaling.json)", "µs", foretold, case["us_per_row"])


def _memory(found: Mapping[str, Any]) -> Iterator[Check]:
    job = found["job"]
    rows, features = job["window_rows"], job["features"]
    yield Check(
        "a window in the changelog, from the codec", "bytes", value_bytes(features=features, rows=rows), _full_window(found)
    )
    ones = sorted((d for d in found["drains"] if d["contender"] == "ours" and d["workers"] == 1), key=lambda d: d["symbols"])
    few, each = ones[0], symbol_bytes(features=features, depth_rows=rows, slack_rows=SLACK_ROWS)
    for d in ones[1:]:
        foretold = median(few, "rss_mb") + (d["symbols"] - few["symbols"]) * each / 2**20
        yield Check(f"{d['symbols']:,} symbols, memory of a worker", "MB", foretold, median(d, "rss_mb"))


def _full_window(found: Mapping[str, Any]) -> float:
    """Bytes of a window where most were full when written."""
    return float(max(d["bytes_per_window"] for d in found["drains"]))


def _times(found: Mapping[str, Any]) -> Iterator[Check]:
    recover_s, bytes_per_s = recovery_line(found)
    for r in recoveries(found)[1:-1]:
        foretold = recover_s + 1e6 * r["mb"] / bytes_per_s
        yield Check(f"{r['symbols']:,} symbols, {r['mb']:,.0f} MB of changelog rebuilt", "s", foretold, median(r, "recover_s"))
    events = found["rebalance"]["events"]
    foretold = found["rebalance"]["session_s"] + median(events["clean leave"], "longest_s")
    yield Check("longest gap after kill -9", "s", foretold, median(events["kill -9"], "longest_s"))
