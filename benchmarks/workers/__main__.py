"""`python -m benchmarks.workers [--quick] [--write]`: workers on a real Kafka node, all on one machine; writes workers.json.

| part       | what                                                                                   |
|------------|----------------------------------------------------------------------------------------|
| throughput | 1, 2 and 4 workers drain a prefilled topic, as rows and as frames; one monitor its log |
| symbols    | one worker drains rows of 1,000 and 10,000 symbols                                     |
| recovery   | that worker again, on an emptied and on a kept folder, with little and more to read     |
| rebalance  | a third worker joins, leaves, is killed, while rows flow                               |

Broker, producer and all workers share the machine's cores, so throughput stops growing when these are busy; CPU time of a row
is what carries over to a cluster. `docs/sizing.md`, which `make docs` writes, makes a model of it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.contenders import Setup
from benchmarks.job import FRAME_ROWS, Feed, Job
from benchmarks.served import publish_model, write_model
from benchmarks.surroundings import ROOT, BenchmarkFailed, cores, machine
from benchmarks.workers.draining import described, drain, monitored, summary, warmed_up
from benchmarks.workers.figures import spread
from benchmarks.workers.rebalancing import RATE, rebalances
from benchmarks.workers.recovering import import_s, recoveries
from benchmarks.workers.stage import COMMIT_S, Ground, Stage
from tests.kafka.artifacts import VERSION, Unavailable
from tests.kafka.cluster import KafkaCluster

RESULTS: Final = Path(__file__).parents[1] / "workers.json"
WORKERS: Final = (1, 2, 4)
SYMBOLS: Final = (1_000, 10_000)
SESSION_S: Final = 10.0
FRAMES: Final = "ours_frames_out"
SYMBOL_DRAINS: Final = 2
_JVM: Final = "-XX:TieredStopAtLevel=4 -Xms1g -Xmx1g"
"""What the tests' small, quickly started broker leaves out: the second compiler and a heap. Wins over its command line."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. `rows`: JSON rows of one drain, frames bring twice as many."""

    rounds: int = 2
    drains: int = 3
    rows: int = 150_000
    warm_up_rows: int = 50_000
    symbols: tuple[int, ...] = SYMBOLS
    restarts: int = 3
    cycles: int = 3


QUICK: Final = Plan(rounds=1, drains=1, rows=20_000, warm_up_rows=10_000, symbols=(1_000, 2_000), restarts=1, cycles=1)


class Benchmark:
    """All parts in turn on one cluster; `found` holds their results."""

    def __init__(self, plan: Plan, ground: Ground) -> None:
        self._plan = plan
        self._ground = ground
        self._stages = 0
        spare = (1 + plan.drains) * FRAME_ROWS * Job().partitions  # frames are sent whole
        rows = plan.drains * plan.rows + spare
        self._feed = Feed(Job(warm_up_rows=plan.warm_up_rows, rows=rows, frames_times=2, paced=()))
        self._rows = {"ours": plan.rows, FRAMES: 2 * plan.rows}
        self.found: dict[str, Any] = {}

    def run(self) -> None:
        """Everything."""
        self.found["drains"], self.found["monitor"] = self._throughput()
        by_symbols, self.found["recovery"] = self._symbols()
        self.found["drains"] += by_symbols
        self.found["import_s"] = spread([import_s() for _ in range(self._plan.restarts)])
        self.found["rebalance"] = self._rebalance()

    def _throughput(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        plan = self._plan
        drains: dict[tuple[str, int], list[dict[str, float]]] = {}
        about: dict[tuple[str, int], dict[str, Any]] = {}
        monitors: list[dict[str, float]] = []
        for number in range(plan.rounds):
            for contender in ("ours", FRAMES) if number == 0 else ("ours",):
                for workers in WORKERS:
                    with self._stage(contender) as stage:
                        warmed_up(stage, workers, plan.warm_up_rows)
                        some = drains.setdefault((contender, workers), [])
                        some += [drain(stage, self._rows[contender]) for _ in range(plan.drains)]
                        about[contender, workers] = described(stage)
                        _say(f"{contender}, {workers} workers: {_line(some[-1])}")
                        if contender == "ours" and workers == 1:
                            stage.crew.stop("w0")
                            monitors.append(monitored(stage))
                            _say(f"monitor: {_line(monitors[-1])}")
        found = [{**summary(some), **about[key]} for key, some in drains.items()]
        return found, {what: spread([m[what] for m in monitors], 1) for what in monitors[0]}

    def _symbols(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        plan, found, recovered = self._plan, [], []
        for symbols in plan.symbols:
            warm = max(plan.warm_up_rows, (Job().window_rows + 1) * symbols)
            rows = plan.rows // symbols * symbols
            job = Job(symbols=symbols, warm_up_rows=warm, rows=SYMBOL_DRAINS * rows, frames_times=0, paced=())
            with self._stage("ours", Feed(job)) as stage:
                warmed_up(stage, 1, job.ticks_of(warm) * symbols)
                if symbols == max(plan.symbols):
                    recovered += recoveries(stage, min(2, plan.restarts), ["empty"])
                drains = [drain(stage, rows) for _ in range(SYMBOL_DRAINS)]
                found.append({**summary(drains), **described(stage)})
                _say(f"{symbols} symbols: {_line(drains[-1])}")
                recovered += recoveries(stage, plan.restarts, ["empty", "kept"])
                _say(f"recovery of {symbols} symbols: {json.dumps(recovered[-2:])}")
        return found, recovered

    def _rebalance(self) -> dict[str, Any]:
        job = Job(warm_up_rows=0, rows=RATE * (70 + 60 * self._plan.cycles), frames_times=0, paced=())
        with self._stage("ours", Feed(job), session_s=SESSION_S) as stage:
            found = rebalances(stage, self._plan.cycles, SESSION_S)
        _say(json.dumps(found))
        return found

    def _stage(self, contender: str, feed: Feed | None = None, **how: float) -> Stage:
        self._stages += 1
        name = f"s{self._stages:02}-{contender.replace('_', '-')}"
        return Stage(self._ground, name, feed or self._feed, contender=contender, **how)


def main() -> int:
    """Measure, print, write; 1 when something did not come to its end."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="once with few rows: does it work, not how fast")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    args = parser.parse_args()
    plan = QUICK if args.quick else Plan()
    os.environ["_JAVA_OPTIONS"] = _JVM
    about = machine(cores())
    begun = time.monotonic()
    try:
        found = _measured(plan)
    except (BenchmarkFailed, Unavailable) as e:
        print(f"benchmark failed: {e}", file=sys.stderr)
        return 1
    minutes = round((time.monotonic() - begun) / 60, 1)
    about = {k: v for k, v in about.items() if not k.endswith("_core")} | {"minutes": minutes}
    setting = {"quick": args.quick, "kafka": VERSION, "jvm": _JVM, "commit_s": COMMIT_S, "rows_per_drain": plan.rows}
    found = {**found, **setting, "job": Job().described(), "machine": about}
    print(json.dumps(found, indent=1))
    if args.write:
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
        print(f"wrote {RESULTS}, after {minutes} minutes")
    return 0


def _measured(plan: Plan) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="trading-ml-workers-") as scratch:
        folder = Path(scratch)
        setup = Setup(Job(), folder / "models", ROOT / "config" / "local.yaml")
        _publish(setup)
        with KafkaCluster(folder / "kafka", settings={"log.segment.delete.delay.ms": "1000"}) as cluster:
            benchmark = Benchmark(plan, Ground(cluster, setup, folder))
            benchmark.run()
    return benchmark.found


def _publish(setup: Setup) -> None:
    write_model(setup.job, "linear", setup.model_folder("linear"))
    artifacts = setup.folder / "artifacts"
    publish_model(setup.job, "linear", setup.model_folder("linear"), tracking_uri=setup.tracking_uri, artifact_root=artifacts)


def _line(drained: dict[str, float]) -> str:
    return ", ".join(f"{what} {value:,.{0 if value > 1_000 else 2}f}" for what, value in drained.items())  # noqa: PLR2004 - a matter of taste


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
