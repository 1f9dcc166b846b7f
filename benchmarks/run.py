"""`make bench`: all contenders in turn, on one core each time; prints the table, writes results.json."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contenders import CONTENDERS, NAMES, Contender, Setup
from benchmarks.job import Feed, Job
from benchmarks.measure import Figures, run_once
from benchmarks.peers.environment import environment
from benchmarks.reference import Reference
from benchmarks.report import results, table
from benchmarks.served import MODELS, publish_model, read_model, write_model
from benchmarks.surroundings import ROOT, BenchmarkFailed, cores, machine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.served import Model

RESULTS = Path(__file__).with_name("results.json")
QUICK = Job(warm_up_rows=10_000, rows=20_000, paced=((2_000, 4_000), (5_000, 6_000)))
_QUIET_LOAD = 0.7


def main() -> int:
    """Run the benchmark; 1 when a run failed or answered wrongly."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="how often ours and the loops run, the peers half as often [8]")
    parser.add_argument("--only", choices=NAMES, action="append", help="run just these contenders")
    parser.add_argument("--model", choices=MODELS, help="run just the contenders with this model")
    parser.add_argument("--without-peers", action="store_true", help="leave the other frameworks out, and their environment")
    parser.add_argument("--quick", action="store_true", help="one round with few rows: does it work, not how fast")
    parser.add_argument("--output", type=Path, help=f"where to write the results [{RESULTS.name}; with --quick nowhere]")
    args = parser.parse_args()
    chosen = [c for c in CONTENDERS.values() if args.only is None or c.name in args.only]
    chosen = [c for c in chosen if args.model in (None, c.model) and not (c.peer and args.without_peers)]
    if not chosen:
        parser.error("no contender is left")
    job = QUICK if args.quick else Job()
    try:
        runs, where = _run(job, rounds=1 if args.quick else args.rounds, chosen=chosen)
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


def _run(job: Job, *, rounds: int, chosen: Sequence[Contender]) -> tuple[list[Figures], dict[str, object]]:
    where = cores()
    python = environment(say=print) if any(c.peer for c in chosen) else None
    about = machine(where)
    if os.getloadavg()[0] > _QUIET_LOAD:
        print(f"this machine is busy (load {os.getloadavg()[0]:.1f}): the figures will be lower and wider than they could be")
    os.sched_setaffinity(0, {where.broker})  # the producer is this process
    print("encoding rows, publishing the models", flush=True)
    feed = encoded(job, chosen)
    runs: list[Figures] = []
    failed: list[dict[str, object]] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="trading-ml-bench-") as scratch:
        setup = Setup(job, Path(scratch), ROOT / "config" / "local.yaml")
        references = {model: published(setup, feed, model) for model in sorted({c.model for c in chosen})}
        gc.collect()
        gc.freeze()  # some hundred thousand rows that the collector need not look at again
        for number in range(1, rounds + 1):
            for contender in (c for c in chosen if (number - 1) % c.every == 0):
                try:
                    figures = run_once(
                        contender,
                        setup,
                        feed,
                        references[contender.model],
                        where=where,
                        number=number,
                        folder=Path(scratch) / f"{number}-{contender.name}",
                        python=python if contender.peer else None,
                    )
                except BenchmarkFailed as e:
                    if not contender.peer:
                        raise
                    failed.append({"contender": contender.name, "round": number, "why": str(e)[-400:]})
                    print(f"round {number} {contender.name:<34} failed: {e}", flush=True)
                    continue
                runs.append(figures)
                print(_line(figures), flush=True)
    minutes = round((time.monotonic() - begun) / 60, 1)
    return runs, {**about, "load_after": round(os.getloadavg()[0], 2), "minutes": minutes, "failed_peers": failed}


def encoded(job: Job, chosen: Sequence[Contender]) -> Feed:
    """The rows in the forms that are wanted, made now, before anything is timed."""
    feed = Feed(job)
    wires = {c.wire_in for c in chosen}
    if "rows" in wires:
        feed.messages  # noqa: B018 - kept by the feed
    if "frames" in wires:
        feed.frames  # noqa: B018 - kept by the feed
    return feed


def published(setup: Setup, feed: Feed, model: Model) -> Reference:
    """A model where its contenders find it, and what is right for it."""
    folder = setup.model_folder(model)
    write_model(setup.job, model, folder)
    artifacts = setup.folder / "artifacts"
    publish_model(setup.job, model, folder, tracking_uri=setup.tracking_uri, artifact_root=artifacts)
    return Reference(feed, model, read_model(folder).spec, features_topic=setup.kafka().topics.features)


def _line(f: Figures) -> str:
    p99 = "no latency" if f.p99_ms is None else f"p99 {f.p99_ms:.0f} ms"
    return (
        f"round {f.round} {f.contender:<34}{f.rows_per_s:>9,.0f} rows/s {f.us_per_row:7.2f} us CPU/row "
        f"{f.core_share:4.0%} of its core, {p99}"
    )


if __name__ == "__main__":
    sys.exit(main())
