"""Many worlds, one seed each: `python -m tests.simulation.run --seeds 0-999`.

Exits 1 if a world fails, and prints the smallest plan found that fails as well.
"""

# ruff: noqa: T201 - a program that says what it found

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from dataclasses import fields, replace
from itertools import product
from typing import Any

import structlog

from tests.simulation.judge import faults
from tests.simulation.world import Plan, World

FAULTS = ("kills", "kills_at_a_stage", "pauses", "pauses_at_a_stage", "pauses_in_the_gap", "wipes", "joins", "refusals", "swaps")


def smallest(plan: Plan, *, tries: int = 150) -> Plan:
    """A plan with fewer rows and faults that fails as well. Another plan is another world, so it may need another seed."""
    while True:
        counts = {name: int(getattr(plan, name)) for name in FAULTS}
        changes: list[dict[str, Any]] = [{name: 0} for name, n in counts.items() if n]
        changes += [{"rows": plan.rows // 2}] if plan.rows > 20 else []
        found = None
        for seed, change in product(range(plan.seed, plan.seed + 8), changes):
            if tries == 0:
                return plan
            tries -= 1
            fewer = replace(plan, seed=seed, **change)
            if faults(World(fewer).run()):
                found = fewer
                break
        if found is None:
            return plan
        plan = found


def told(plan: Plan) -> str:
    """The plan as code that makes it again."""
    return f"Plan({', '.join(f'{f.name}={getattr(plan, f.name)!r}' for f in fields(plan))})"


def main() -> int:
    """Run the worlds that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0-99", help="FIRST-LAST")
    parser.add_argument("--rows", type=int, default=Plan(0).rows, help="rows a world")
    gap = Plan(0).pauses_in_the_gap
    parser.add_argument("--gap", type=int, nargs="?", default=gap, const=4, help="pauses between fence and changelog a world")
    parser.add_argument("--no-layouts", action="store_true", help="new versions read the features of those before them")
    parser.add_argument("--roles", action="store_true", help="some of the new versions are challengers and canaries")
    asked = parser.parse_args()
    first, last = map(int, asked.seeds.split("-"))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    started = time.monotonic()
    totals: Counter[str] = Counter()
    did: Counter[str] = Counter()
    failed: list[Plan] = []
    for seed in range(first, last + 1):
        plan = Plan(seed, rows=asked.rows, pauses_in_the_gap=asked.gap, layouts=not asked.no_layouts, roles=asked.roles)
        world = World(plan).run()
        totals += Counter(worlds=1, events=world.steps, rows=world.rows, lives=world.lives, repeated=world.repeated)
        did += world.did
        found = faults(world)
        if found:
            failed.append(plan)
            print(f"seed {seed}: {len(found)} faults, the first: {found[0][:1000]}", flush=True)
    print(f"{time.monotonic() - started:.0f} s:", ", ".join(f"{n:,} {what}" for what, n in totals.items()))
    for what, n in did.most_common():
        print(f"  {n:6,} {what}")
    if failed:
        print(f"{len(failed)} worlds fail: seeds {[p.seed for p in failed]}; the smallest of the first:")
        print(f"  {told(smallest(failed[0]))}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
