"""Ends in good order: SIGTERM under load, with a model that hangs, with a registry that does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.chaos.world import Run

if TYPE_CHECKING:
    from tests.chaos.world import Context, Result

ENDS_WITHIN_S = 10.0
HUNG = ("tests.chaos.hung_worker",)


def sigterm(context: Context) -> Result:
    """Told to leave at any moment, it leaves within ten seconds, with everything it took committed."""
    with Run(context, "sigterm") as run:
        run.result.title = "SIGTERM under load"
        run.begin("a", "b")
        while run.time_left:
            run.sleep(run.rng.uniform(0.0, 2.0))
            name = run.rng.choice(["a", "b"])
            ends, since = run.group.ends(), time.monotonic()
            worker = run.crew.workers.pop(name)
            code = worker.stop()
            took = time.monotonic() - since
            run.result.must("it ends in good order", hold=worker.left_in_order(code), found=f"{code}: {worker.log[-300:]}")
            run.result.must(f"within {ENDS_WITHIN_S:g} s", hold=took <= ENDS_WITHIN_S, found=took)
            run.result.faults += 1
            run.crew.start(name)
            run.recover(since, ends=ends)
            if run.rng.random() < 0.7:
                run.crew.wait_ready()
        return run.finish()


def hung_model(context: Context) -> Result:
    """Told to leave while its model hangs; another worker then takes the rows."""
    with Run(context, "hung_model") as run:
        run.result.title = "SIGTERM while the model hangs"
        run.begin("a")
        while run.time_left:
            ends = run.group.ends()
            run.crew.stop("a")
            worker = run.crew.start("h", command=HUNG)
            run.crew.wait("it hangs", lambda worker=worker: (worker.state / "hangs").exists(), 60, tend=False)  # type: ignore[misc]  # bound now
            run.result.faults += 1
            since = time.monotonic()
            worker.process.terminate()
            run.crew.workers.pop("h")
            while not worker.ended and time.monotonic() < since + 2 * ENDS_WITHIN_S:
                time.sleep(0.05)
            took = time.monotonic() - since
            run.result.must(f"within {ENDS_WITHIN_S:g} s", hold=worker.ended and took <= ENDS_WITHIN_S, found=took)
            if not worker.ended:
                worker.kill()
            (worker.state / "hangs").unlink()
            run.crew.start("a")
            run.recover(since, ends=ends)
        return run.finish()
