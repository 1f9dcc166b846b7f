"""Does a row cost the same with more symbols, and a prediction with more models? `python -m benchmarks.scaling` measures it.

The whole core path (decode, windows, vectors, model, records, log) of the standard job, without Kafka, on one core, with a
checkpoint's packing after 50,000 rows. Every case is run several times, in turn with the others; the median counts.
Writes scaling.json and the two plots of docs/performance.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.job import Consumed, Feed, Job
from benchmarks.served import read_model, write_model
from benchmarks.surroundings import ROOT, BenchmarkFailed, cores, machine
from streams.pipeline import Pipeline
from streams.records import PartitionRecords

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SYMBOLS: Final = (100, 300, 1_000, 3_000, 10_000)
MODELS: Final = (1, 2, 4, 8)
ROWS: Final = 50_000
RESULTS: Final = Path(__file__).with_name("scaling.json")
PLOTS: Final = ROOT / "docs"
_TS_MS: Final = 4_000_000_000_000


def chunks(feed: Feed, rows: int) -> Iterator[list[PartitionRecords]]:
    """The feed's rows in chunks, each with a share of every partition, as fetches bring them."""
    partitions = len(feed.messages)
    at = [0] * partitions
    while any(at[p] < len(feed.messages[p]) for p in range(partitions)):
        parts = []
        for p in range(partitions):
            some = feed.messages[p][at[p] : at[p] + rows // partitions]
            if some:
                parts.append(
                    PartitionRecords("f", p, [Consumed(at[p] + i, _TS_MS, m["key"], m["value"]) for i, m in enumerate(some)])
                )
                at[p] += len(some)
        yield parts


class Case:
    """One number of symbols and of models; windows full before anything is timed."""

    def __init__(self, symbols: int, models: int, rounds: int) -> None:
        warm_rows = (Job().window_rows + 8) * symbols
        job = Job(symbols=symbols, warm_up_rows=warm_rows, rows=rounds * ROWS + Job().batch_rows, frames_times=0, paced=())
        with tempfile.TemporaryDirectory() as folder:
            write_model(job, "linear", Path(folder))
            handle = read_model(Path(folder))
        handles = [replace(handle, name=f"{handle.name}{i}") for i in range(models)]
        self.symbols, self.models = symbols, models
        self.us: dict[str, list[float]] = {"step": [], "packing": []}
        self._pipeline = Pipeline(handles, partitions=job.partitions, max_future_us=1 << 60, slack_rows=32)
        self._chunks = chunks(Feed(job), job.batch_rows)
        self._take(warm_rows)
        self._pipeline.take_dirty()

    def run(self) -> None:
        """Time a round: CPU time of a row, and its share of packing what was touched, as a checkpoint does."""
        began = time.process_time()
        rows = self._take(ROWS)
        stepped = time.process_time()
        self._pipeline.take_dirty()
        packed = time.process_time()
        self.us["step"].append((stepped - began) / rows * 1e6)
        self.us["packing"].append((packed - stepped) / rows * 1e6)

    def found(self) -> dict[str, Any]:
        """The medians."""
        step, packing = (statistics.median(self.us[name]) for name in ("step", "packing"))
        return {
            "symbols": self.symbols,
            "models": self.models,
            "us_per_row": round(step + packing, 3),
            "us_per_prediction": round((step + packing) / self.models, 3),
            "packing_us_per_row": round(packing, 3),
        }

    def _take(self, rows: int) -> int:
        taken = 0
        while taken < rows:
            chunk = next(self._chunks)
            found = self._pipeline.step(chunk, lambda _p, _s: None)
            n = sum(len(p.records) for p in chunk)
            if found.counts["predictions"] != n * self.models:
                raise BenchmarkFailed(f"{n} rows, {self.models} models, {found.counts['predictions']} predictions")
            taken += n
        return taken


def main() -> int:
    """Measure, print, plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each case runs [5]")
    parser.add_argument("--quick", action="store_true", help="one round of the smallest cases, nothing written: does it work")
    args = parser.parse_args()
    where = cores()
    about = machine(where)
    os.sched_setaffinity(0, {where.contender})
    by_symbols = _measure([(n, 1) for n in SYMBOLS[: 2 if args.quick else None]], 1 if args.quick else args.rounds)
    by_models = _measure([(500, n) for n in MODELS[: 2 if args.quick else None]], 1 if args.quick else args.rounds)
    for case in (*by_symbols, *by_models):
        print(
            f"{case['symbols']:>7,} symbols {case['models']} models {case['us_per_row']:7.2f} us/row "
            f"{case['us_per_prediction']:6.2f} us/prediction, of a row {case['packing_us_per_row']:.2f} us packing"
        )
    if not args.quick:
        found = {"by_symbols": by_symbols, "by_models": by_models, "machine": about, "rows_per_round": ROWS}
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
        plot(by_symbols, "symbols", "us_per_row", "CPU time of a row, one model", PLOTS / "cost-by-symbols.svg")
        plot(by_models, "models", "us_per_prediction", "CPU time of a prediction, 500 symbols", PLOTS / "cost-by-models.svg")
    return 0


def _measure(which: Sequence[tuple[int, int]], rounds: int) -> list[dict[str, Any]]:
    print(f"encoding rows, filling windows: {which}", flush=True)
    cases = [Case(symbols, models, rounds) for symbols, models in which]
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for case in cases:
            case.run()
    return [case.found() for case in cases]


def plot(cases: Sequence[dict[str, Any]], across: str, up: str, title: str, file: Path) -> None:
    """A small line plot as SVG, the same bytes for the same numbers."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "scaling"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5.2, 2.6), layout="constrained")
    x, y = [c[across] for c in cases], [c[up] for c in cases]
    axes.plot(x, y, marker="o", color="#1f5fa8")
    axes.set_xscale("log", base=10 if across == "symbols" else 2)
    axes.set_xticks(x, [f"{n:,}" for n in x])
    axes.minorticks_off()
    axes.set_ylim(0, max(y) * 1.3)
    axes.set_xlabel(across)
    axes.set_ylabel("µs")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    for at, value in zip(x, y, strict=True):
        axes.annotate(f"{value:.1f}", (at, value), textcoords="offset points", xytext=(0, 7), ha="center", fontsize=8)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
