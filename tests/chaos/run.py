"""`python -m tests.chaos.run`: every fault in turn on a real Kafka, each row accounted for; figures to results.json.

Seeded: the same seed breaks the same things in the same order, though not at the same microsecond. Bounded: the plan says
how long each scenario injects faults, within `--minutes` in all.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.report import write_page, write_some
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.world import Context, Result
from tests.kafka.artifacts import Unavailable
from tests.kafka.provide import new_cluster

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.kafka.cluster import KafkaCluster

MINUTES = 60.0
LARGEST_SHARE = 0.1
"""A scenario that needs a fixed time larger than this share of the whole is left out, unless it is named."""
OVERHEAD_S = 15.0
"""Start of workers, settling and audit of a scenario, beside the time in which it breaks things."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 when anything was lost, wrong or contradictory."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="only this one; may be repeated")
    minutes = float(os.environ.get("CHAOS_MINUTES", str(MINUTES)))
    parser.add_argument("--minutes", type=float, default=minutes, help="for all together; default: CHAOS_MINUTES, or 60")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("CHAOS_SEED", "1")), help="default: CHAOS_SEED, or 1")
    parser.add_argument("--write", action="store_true", help="write results and page; of named scenarios, only theirs")
    parser.add_argument("--keep", action="store_true", help="keep the folder with data and logs")
    chosen = parser.parse_args(arguments)
    plan = plan_of(chosen.scenario or fitting(chosen.minutes), minutes=chosen.minutes)
    say(f"seed {chosen.seed}; repeat with: {_again(chosen)}")
    for name, seconds in plan.items():
        say(f"  {name:<18} {seconds:>6.0f} s")
    folder = Path(tempfile.mkdtemp(prefix="trading-ml-chaos-"))
    started = time.monotonic()
    try:
        with new_cluster(folder / "kafka") as cluster:
            results = [one(name, seconds, chosen.seed, folder, cluster) for name, seconds in plan.items()]
    except Unavailable as e:
        say(f"skipped: {e}")
        return 0
    bad = [r for r in results if r.bad]
    say(
        f"{len(results)} scenarios in {(time.monotonic() - started) / 60:.1f} minutes, {len(bad)} of them bad, seed {chosen.seed}"
    )
    if chosen.write and chosen.scenario is not None:
        write_some(results, command=_again(chosen))
    elif chosen.write:
        minutes = (time.monotonic() - started) / 60
        write_page([*results, *_left_out(plan, chosen)], seed=chosen.seed, minutes=minutes, command=_again(chosen))
    if not bad and not chosen.keep:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
    else:
        say(f"data and logs: {folder}")
    return 1 if bad else 0


def fitting(minutes: float) -> list[str]:
    """The scenarios that a run of so many minutes takes when none is named."""
    return [n for n, s in SCENARIOS.items() if s.fixed_s <= LARGEST_SHARE * minutes * 60]


def plan_of(names: Sequence[str], *, minutes: float) -> Mapping[str, float]:
    """Seconds for each scenario, by weight; one that needs a fixed time gets that, whatever the rest."""
    fixed = {n: SCENARIOS[n].fixed_s for n in names}
    left = minutes * 60 - sum(f + OVERHEAD_S for f in fixed.values())
    weights = sum(SCENARIOS[n].weight for n in names) or 1.0
    return {n: fixed[n] + max(0.0, left) * SCENARIOS[n].weight / weights for n in names}


def one(name: str, seconds: float, seed: int, folder: Path, cluster: KafkaCluster) -> Result:
    """One scenario; whatever it raises is a bad result that names the seed."""
    say(f"{name} ...")
    try:
        result = SCENARIOS[name].run(Context(seed, seconds, folder, cluster))
    except Exception as e:  # noqa: BLE001 - the other scenarios go on
        traceback.print_exc()
        result = Result(name, seed, title=SCENARIOS[name].run.__doc__ or name)
        result.bad["raised"] = f"{type(e).__name__}: {str(e)[:2000]}"
    say(json.dumps(result.summary(), indent=1))
    if result.bad:
        again = f"python -m tests.chaos.run --scenario {name} --minutes {seconds / 60:.1f}"
        say(f"{name} FAILED; repeat with: CHAOS_SEED={seed} {again}")
    return result


def say(text: str) -> None:
    """Tell whoever watches."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _left_out(plan: Mapping[str, float], chosen: argparse.Namespace) -> list[Result]:
    """What the report must say was not run."""
    reason = f"it takes more than a tenth of {chosen.minutes:g} minutes"
    return [Result(n, chosen.seed, title=f"`{n}`", skipped=f"not run: {reason}") for n in SCENARIOS if n not in plan]


def _again(chosen: argparse.Namespace) -> str:
    """The command that does the same."""
    if chosen.scenario is None:
        return f"make chaos CHAOS_SEED={chosen.seed} CHAOS_MINUTES={chosen.minutes:g}"
    only = " ".join(f"--scenario {s}" for s in chosen.scenario)
    return f"python -m tests.chaos.run {only} --minutes {chosen.minutes:g} --seed {chosen.seed}"


if __name__ == "__main__":
    sys.exit(main())
