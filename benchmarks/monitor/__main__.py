"""`python -m benchmarks.monitor [--quick] [--write]`: does the monitor keep up with what it watches? Writes monitor.json.

The standard job on a real Kafka node. In turn, on the same machine, an inference worker drains a prefilled features topic and the
monitor drains the log that this left; the other one is held still meanwhile. `ratio` is the monitor's rows a second over the
inference worker's in the same round. Cases:

| case           | the inference worker's rows | the monitor reads                                   |
|----------------|-----------------------------|-----------------------------------------------------|
| `log`          | JSON rows                   | the log                                             |
| `log_outcomes` | JSON rows                   | the log, and an outcome of every prediction as well |
| `log_frames`   | Arrow frames                | the log                                             |
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
from benchmarks.monitor.drains import Race, counters_bytes, ratios
from benchmarks.served import publish_model, read_model, write_model
from benchmarks.surroundings import ROOT, BenchmarkFailed, cores, machine
from benchmarks.workers.figures import spread
from benchmarks.workers.stage import COMMIT_S, Ground, Stage
from config import load_settings
from tests.kafka.artifacts import VERSION, Unavailable
from tests.kafka.cluster import KafkaCluster

RESULTS: Final = Path(__file__).parents[1] / "monitor.json"
CASES: Final = {"log": ("ours", False), "log_outcomes": ("ours", True), "log_frames": ("ours_frames", False)}
"""Contender whose wire formats the inference worker has, and whether there are outcomes."""
_JVM: Final = "-XX:TieredStopAtLevel=4 -Xms1g -Xmx1g"
"""As for `benchmarks.workers`."""
_DIGITS: Final = {"rows_per_s": 0, "rss_mb": 0, "rss_ready_mb": 0}
_OUTSIDE: Final = 2
"""Counted beside a column's trained cells: below and above the training range."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: rounds of each case, rows of each round."""

    rounds: int = 5
    rows: int = 600_000
    warm_up_rows: int = 50_000

    def feed(self) -> Feed:
        """Rows for all rounds of a case, as JSON and in frames, which are sent whole."""
        spare = (1 + self.rounds) * FRAME_ROWS * Job().partitions
        return Feed(Job(warm_up_rows=self.warm_up_rows, rows=self.rounds * self.rows + spare, frames_times=1, paced=()))


QUICK: Final = Plan(rounds=1, rows=50_000, warm_up_rows=10_000)


def main() -> int:
    """Measure, print, write; 1 when something did not come to its end."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.monitor", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="once with few rows: does it work, not how fast")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--only", choices=CASES, action="append", help="just these cases")
    args = parser.parse_args()
    plan = QUICK if args.quick else Plan()
    os.environ["_JAVA_OPTIONS"] = _JVM
    about = machine(cores())
    begun = time.monotonic()
    try:
        cases = _measured(plan, args.only or list(CASES))
    except (BenchmarkFailed, Unavailable) as e:
        print(f"benchmark failed: {e}", file=sys.stderr)
        return 1
    minutes = round((time.monotonic() - begun) / 60, 1)
    about = {k: v for k, v in about.items() if not k.endswith("_core")} | {"minutes": minutes}
    setting = {"quick": args.quick, "kafka": VERSION, "jvm": _JVM, "commit_s": COMMIT_S, "rows_per_round": plan.rows}
    found = {"cases": cases, **setting, "job": Job().described(), "machine": about}
    print(json.dumps(found, indent=1))
    if args.write:
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
        print(f"wrote {RESULTS}, after {minutes} minutes")
    return 0


def _measured(plan: Plan, cases: list[str]) -> dict[str, Any]:
    feed = plan.feed()
    with tempfile.TemporaryDirectory(prefix="trading-ml-monitor-") as scratch:
        folder = Path(scratch)
        setup = Setup(Job(), folder / "models", ROOT / "config" / "local.yaml")
        write_model(setup.job, "linear", setup.model_folder("linear"))
        registry, artifacts = setup.tracking_uri, setup.folder / "artifacts"
        publish_model(setup.job, "linear", setup.model_folder("linear"), tracking_uri=registry, artifact_root=artifacts)
        with KafkaCluster(folder / "kafka", settings={"log.segment.delete.delay.ms": "1000"}) as cluster:
            ground = Ground(cluster, setup, folder)
            return {case: _case(plan, ground, feed, case) for case in cases}


def _case(plan: Plan, ground: Ground, feed: Feed, case: str) -> dict[str, Any]:
    contender, outcomes = CASES[case]
    rounds = []
    with Stage(ground, case.replace("_", "-"), feed, contender=contender) as stage:
        race = Race(stage, warm_up_rows=plan.warm_up_rows, outcomes=outcomes)
        for number in range(1, plan.rounds + 1):
            rounds.append(race.round(plan.rows))
            print(f"{time.strftime('%H:%M:%S')} {case} round {number}: {_line(rounds[-1])}", flush=True)
        race.close()
    found: dict[str, Any] = {"ratio": spread(ratios(rounds)), "rounds": [round(r, 2) for r in ratios(rounds)]}
    for who in ("inference", "monitor"):
        found[who] = {what: spread([r[who][what] for r in rounds], _DIGITS.get(what, 2)) for what in rounds[0][who]}
    return found | {"counters_bytes": _counters_bytes(ground.setup)}


def _counters_bytes(setup: Setup) -> int:
    spec = read_model(setup.model_folder("linear")).spec
    references = [*spec.reference.values(), *([] if spec.prediction_reference is None else [spec.prediction_reference])]
    monitoring = load_settings(setup.config, setup.env(setup.folder)).monitoring
    cells = max(len(r.counts) for r in references) + _OUTSIDE
    return counters_bytes(models=1, columns=len(references), cells=cells, panes=monitoring.panes + 1)


def _line(found: dict[str, dict[str, float]]) -> str:
    both = (f"{who} {f['rows_per_s']:,.0f} rows/s {f['us_per_row']:.2f} us" for who, f in found.items())
    return f"{', '.join(both)}, ratio {ratios([found])[0]:.2f}, {found['monitor']['rss_mb']:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
