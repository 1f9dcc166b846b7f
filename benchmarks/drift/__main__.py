"""`python -m benchmarks.drift [--write] [--quick]`: the drift detector's false alarms and its delay, some two minutes.

`--write` keeps what was found in benchmarks/drift.json, of which docs/drift.md is made. `--quick` asks whether it works.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.drift.nulls import FALSE_DISCOVERY_RATE, THRESHOLD, null_days, null_windows
from benchmarks.drift.series import Shape
from benchmarks.drift.shifts import rows_until_called

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OUTPUT = Path(__file__).parents[1] / "drift.json"

HOUR = Shape(columns=50, symbols=20, instants=60, rho=0.9)
"""Minute bars of 20 symbols."""
INDEPENDENT = replace(HOUR, rho=0.0)
DAY = Shape(columns=50, symbols=1, instants=1_440, rho=0.9, training=20_000)
"""Minute bars of one symbol."""
MARKET = Shape(columns=10, symbols=500, instants=60, rho=0.5, cross=0.5, training=1_000)
"""500 symbols, half of whose variance is one factor."""
MIXED = replace(HOUR, rho=0.98, fast=0.5)
"""Half slow movement, half noise: the lag-1 correlation is 0.49, but correlation lasts."""


def measured(scale: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, at this share of the full number of windows, days and runs."""

    def n(full: int, parts: int) -> int:
        return max(round(full * scale / parts), 1) * parts

    found: dict[str, Any] = {"threshold": THRESHOLD, "false_discovery_rate": FALSE_DISCOVERY_RATE, "null": {}, "days": {}}
    nulls: dict[str, tuple[Shape, int, int, bool]] = {
        "hour": (HOUR, 10_000, 20, True),
        "independent": (INDEPENDENT, 10_000, 20, True),
        "day": (DAY, 3_000, 20, True),
        "hour_of_one": (replace(DAY, instants=60), 200, 2, True),
        "five_hours_of_one": (replace(DAY, instants=300), 4_000, 20, True),
        "market": (MARKET, 300, 10, True),
        "market_unknown": (MARKET, 300, 10, False),
        "mixed": (MIXED, 500, 10, True),
    }
    for name, (shape, windows, references, cross) in nulls.items():
        found["null"][name] = null_windows(shape, windows=n(windows, references), references=references, cross=cross)
        say(f"null {name}: {found['null'][name]}")
    for name, shape in (("hour", HOUR), ("independent", INDEPENDENT)):
        found["days"][name] = null_days(shape, days=n(20, 2), references=2)
        say(f"days {name}: {found['days'][name]}")
    shifts = {"independent": INDEPENDENT, "hour": HOUR, "day_independent": replace(DAY, rho=0.0), "day": DAY}
    found["shift"] = {name: rows_until_called(shape, runs=n(1_000, 1)) for name, shape in shifts.items()}
    for name, one in found["shift"].items():
        say(f"shift {name}: {one}")
    return found


def main(arguments: Sequence[str]) -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift")
    parser.add_argument("--write", action="store_true", help=f"keep the numbers in {OUTPUT.name}")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the windows")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    found = measured(0.01 if options.quick else 1.0, print)
    print(f"{time.monotonic() - start:.0f} s")
    if options.write:
        OUTPUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
