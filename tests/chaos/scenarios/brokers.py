"""Kafka itself fails: one node of three, all of it for a minute, or it is merely slow."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.chaos.world import Run
from tests.kafka.provide import new_cluster

if TYPE_CHECKING:
    from tests.chaos.world import Context, Result

AWAY_S = 70.0
LONG_S = 300.0
BACK_S = 30.0
"""What was written while Kafka was away is delivered within this after its return."""


def one_of_three(context: Context) -> Result:
    """A node killed and started again; topics have three copies, two must have a row before it counts."""
    with (
        new_cluster(context.folder / "three", nodes=3) as three,
        Run(context, "one_of_three", cluster=three, rate=200) as run,
    ):
        run.result.title = "one broker node of three killed and restarted, acks=all"
        run.begin("a", "b")
        while run.time_left:
            run.sleep(run.rng.uniform(0.5, 3.0))
            node = run.rng.choice(three.nodes)
            ends, since = run.group.ends(), time.monotonic()
            node.kill()
            run.result.faults += 1
            run.recover(since, ends=ends)
            run.sleep(run.rng.uniform(0.0, 3.0))
            node.start()
            three.wait_ready(timeout_s=90)
        return run.finish()


def _away(context: Context, name: str, *, seconds: float, how: str) -> Result:
    with (
        new_cluster(context.folder / f"{name}-kafka") as alone,
        Run(context, name, cluster=alone) as run,
    ):
        node = alone.nodes[0]
        run.result.title = f"the whole broker away for {seconds:g} s ({how})"
        run.begin("a", "b")
        run.sleep(run.rng.uniform(1.0, 3.0))
        node.pause() if how == "held still" else node.kill()
        run.result.faults = 1
        run.sleep(seconds)
        if how == "held still":
            node.resume()
        else:
            node.start()
            alone.wait_ready(timeout_s=90)  # Kafka lets a killed node back in once its old session is over
        since = time.monotonic()
        took = run.recover(since, ends=run.group.ends(30))
        run.result.must(f"all delivered within {BACK_S:g} s of its return", hold=took <= BACK_S, found=round(took, 1))
        return run.finish()


def away_held(context: Context) -> Result:
    """SIGSTOP: connections stay, nothing answers."""
    return _away(context, "away_held", seconds=AWAY_S, how="held still")


def away_killed(context: Context) -> Result:
    """SIGKILL: connections are refused."""
    return _away(context, "away_killed", seconds=AWAY_S, how="killed")


def away_long(context: Context) -> Result:
    """Five minutes."""
    return _away(context, "away_long", seconds=LONG_S, how="killed")


def slow(context: Context) -> Result:
    """Every answer later by up to a second, connections cut now and then, in the client's way only."""
    with (
        new_cluster(context.folder / "slow-kafka", proxied=True) as alone,
        Run(context, "slow", cluster=alone, session_s=6) as run,
    ):
        proxy = alone.nodes[0].proxy
        if proxy is None:
            raise RuntimeError("the cluster was asked for a proxy")
        run.result.title = "a slow broker: answers up to 0.8 s late, 200 kB/s, connections cut"
        run.begin("a", "b")
        while run.time_left:
            since = time.monotonic()
            what = run.rng.choice(["late", "narrow", "cut"])
            ends = run.group.ends()
            if what == "late":
                proxy.delay_s = run.rng.uniform(0.1, 0.4)
            elif what == "narrow":
                proxy.bytes_per_s = 200_000.0
            else:
                proxy.cut()
            run.result.faults += 1
            run.sleep(run.rng.uniform(2.0, 6.0))
            proxy.delay_s, proxy.bytes_per_s = 0.0, None
            run.recover(since, ends=ends)
        return run.finish()
