"""kill -9 of inference and monitor workers at any moment: ready and busy, starting, recovering, in a rebalance."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.broker.inference_world import registry
from tests.chaos.recount import Outcomes, close_windows, judge_monitor, monitor_settings
from tests.chaos.world import Run

if TYPE_CHECKING:
    from random import Random

    from tests.chaos.world import Context, Result

INFERENCE = ("a", "b")
MONITOR = "m"
WIPED = 0.15
"""Share of kills after which the state folder is emptied."""
EARLY = 0.2
"""Share of rounds that do not wait for the workers to be ready."""

SLOW_S = 10.0
"""A recovery that takes longer is named in the results."""


def moments(rng: Random) -> tuple[list[str], float, bool, set[str]]:
    """One round: who is killed, how long after (ready and busy, or the start), whether early, whose folder is emptied."""
    victims = [w for w in (*INFERENCE, MONITOR) if rng.random() < 0.6] or [rng.choice(INFERENCE)]
    early = rng.random() < EARLY
    wait_s = rng.uniform(0.0, 4.0 if early else 0.8)
    return victims, wait_s, early, {v for v in victims if rng.random() < WIPED}


def run(context: Context) -> Result:
    """Two inference workers and the monitor, killed in rounds of one to three, each started again at once."""
    uri = registry()
    settings = {"MLFLOW__TRACKING_URI": uri, **monitor_settings()}
    with Run(context, "kills", light=False, settings=settings) as run:
        run.result.title = "kill -9 of inference and monitor workers, with and without their disk"
        outcomes = Outcomes(run)
        run.crew.start(MONITOR, "monitor")
        run.begin(*INFERENCE)
        run.crew.wait_ready()
        while run.time_left:
            victims, wait_s, early, wiped = moments(run.rng)
            if not early:
                run.crew.wait_ready(timeout_s=90)
            run.sleep(wait_s)
            outcomes.send()
            ends = run.group.ends()
            since = time.monotonic()
            for name in victims:
                run.crew.kill(name)
            for name in victims:
                run.crew.start(name, "monitor" if name == MONITOR else "inference", wipe=name in wiped)
            run.result.faults += len(victims)
            if not early and set(victims) & set(INFERENCE):
                took = run.recover(since, ends=ends)
                if took > SLOW_S:
                    run.result.note(f"{took:.1f} s after {', '.join(victims)} (emptied: {', '.join(sorted(wiped)) or 'none'})")
        run.settle()
        close_windows(run, outcomes)
        result = run.finish()
        judge_monitor(run)
        return result
