"""`make bench`: our worker and the tuned loop in turn, on one core each time; prints the table, writes results.json."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.contenders import NAMES, Setup
from benchmarks.job import Feed, Job, publish_model, write_model
from benchmarks.measure import Figures, run_once
from benchmarks.reference import Reference
from benchmarks.report import results, table
from benchmarks.surroundings import ROOT, BenchmarkFailed, cores, machine

RESULTS = Path(__file__).with_name("results.json")
_QUIET_LOAD = 0.7


def main() -> int:
    """Run the benchmark; 1 when a run failed or answered wrongly."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="how often each contender runs [6]")
    parser.add_argument("--only", choices=NAMES, action="append", help="run just these contenders")
    parser.add_argument("--quick", action="store_true", help="one round with few rows: does it work, not how fast")
    parser.add_argument("--output", type=Path, help=f"where to write the results [{RESULTS.name}; with --quick nowhere]")
    args = parser.parse_args()
    job = Job(warm_up_rows=10_000, rows=20_000, paced_rows=6_000) if args.quick else Job()
    try:
        runs, where = _run(job, rounds=1 if args.quick else args.rounds, names=args.only or NAMES)
    except BenchmarkFailed as e:
        print(f"benchmark failed: {e}", file=sys.stderr)
        return 1
    found = results(runs, machine=where, job=job.described())
    print(table(found))
    output = args.output if args.quick else args.output or RESULTS
    if output is not None:
        output.write_text(json.dumps(found, indent=2) + "\n")
        print(f"every figure: {output}")
    return 0


def _run(job: Job, *, rounds: int, names: tuple[str, ...] | list[str]) -> tuple[list[Figures], dict[str, object]]:
    where = cores()
    about = machine(where)
    if os.getloadavg()[0] > _QUIET_LOAD:
        print(f"this machine is busy (load {os.getloadavg()[0]:.1f}): the figures will be lower and wider than they could be")
    os.sched_setaffinity(0, {where.broker})  # the producer is this process
    print("encoding rows, publishing the model", flush=True)
    feed = Feed(job)
    feed.messages  # noqa: B018 - encoded now, before anything is timed
    runs: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="trading-ml-bench-") as scratch:
        setup = Setup(job, Path(scratch), ROOT / "config" / "local.yaml")
        write_model(job, setup.model_folder)
        publish_model(job, tracking_uri=setup.tracking_uri, artifact_root=setup.folder / "artifacts")
        reference = Reference(feed, features_topic=setup.kafka().topics.features)
        gc.collect()
        gc.freeze()  # some hundred thousand rows that the collector need not look at again
        for number in range(1, rounds + 1):
            for name in names:
                figures = run_once(
                    name, setup, feed, reference, where=where, number=number, folder=Path(scratch) / f"{number}-{name}"
                )
                runs.append(figures)
                print(
                    f"round {number} {name:<26}{figures.rows_per_s:>9,.0f} rows/s {figures.us_per_row:6.2f} us CPU/row "
                    f"{figures.core_share:4.0%} of its core, p99 {figures.p99_ms:.0f} ms",
                    flush=True,
                )
    return runs, {**about, "load_after": round(os.getloadavg()[0], 2)}


if __name__ == "__main__":
    sys.exit(main())
