"""Members that come, go, are held still until they are evicted, and come back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.chaos.names import SESSION_S
from tests.chaos.world import Run

if TYPE_CHECKING:
    from tests.chaos.world import Context, Result


def joins_and_leaves(context: Context) -> Result:
    """A third of the time one more worker, a third one less, at random; who leaves does so in good order."""
    with Run(context, "rebalances") as run:
        run.result.title = "workers added and removed while rows flow"
        run.begin("a")
        spare = ["b", "c"]
        while run.time_left:
            run.sleep(run.rng.uniform(0.2, 2.5))
            ends, since = run.group.ends(), time.monotonic()
            if spare and (len(run.crew.workers) == 1 or run.rng.random() < 0.5):
                run.crew.start(spare.pop(), wipe=run.rng.random() < 0.3)
            else:
                name = run.rng.choice(sorted(run.crew.workers))
                code = run.crew.stop(name)
                run.result.must(f"{name} leaves in good order", hold=code == 0, found=code)
                spare.append(name)
            run.result.faults += 1
            if run.rng.random() < 0.6:  # otherwise the next change falls into this one
                run.recover(since, ends=ends)
        return run.finish()


def takeover(context: Context) -> Result:
    """One of two is killed and stays away: the other, which has none of its state, takes all over."""
    with Run(context, "takeover") as run:
        run.result.title = "a worker gone for good, another takes its partitions over"
        run.begin("a", "b")
        run.crew.wait("a share each", lambda: all(len(w.partitions()) == 2 for w in run.crew.workers.values()))
        while run.time_left:
            run.sleep(run.rng.uniform(0.5, 2.0))
            ends, since = run.group.ends(), time.monotonic()
            gone = run.rng.choice(sorted(run.crew.workers))
            run.crew.kill(gone)
            run.result.faults += 1
            run.recover(since, ends=ends)
            run.crew.start(gone, wipe=run.rng.random() < 0.5)
            run.crew.wait_ready()
        return run.finish()


def evictions(context: Context) -> Result:
    """A worker with rows it has not committed is held still until others have its partitions, and wakes."""
    with Run(context, "evictions", settings={"INFERENCE__COMMIT_INTERVAL": "2s"}) as run:
        run.result.title = "a worker held still until the group evicts it; it wakes with old rows in hand"
        run.begin("a", "b")
        while run.time_left:
            run.crew.wait_ready()
            run.sleep(run.rng.uniform(0.5, 2.0))
            name = run.rng.choice(["a", "b"])
            ends, since = run.group.ends(), time.monotonic()
            run.crew.workers[name].pause()
            run.result.faults += 1
            run.sleep(SESSION_S + run.rng.uniform(0.5, 3.0))
            run.crew.workers[name].resume()
            run.recover(since, ends=ends)
        return run.finish()
