"""Recovery: a worker that held all symbols is stopped and started again, on an emptied folder or on the one it left.

| phase   | from                              | until                                       |
|---------|-----------------------------------|---------------------------------------------|
| load    | the process starts                | it has imported all and loaded its model    |
| join    |                                   | the group has given it its partitions       |
| recover |                                   | it says it is ready: the state is there     |
"""

from __future__ import annotations

import subprocess
import sys
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from benchmarks.surroundings import ROOT, BenchmarkFailed, cpu_s
from benchmarks.workers.figures import said_at, spread
from tests.chaos.workers import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.workers.stage import Stage

WORKER = "w0"
_IMPORTS = "import streams.app, streams.cli, streams.group, streams.inference, streams.web, models.registry, mlflow"


def import_s() -> float:
    """What importing all that a worker needs takes, interpreter included."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", _IMPORTS], check=True, cwd=ROOT, env=environment({}))  # noqa: S603 - our own interpreter
    return time.monotonic() - begun


def restart(stage: Stage, *, wipe: bool) -> dict[str, float]:
    """Stop the one worker in good order, start it again, say how long each phase took."""
    if stage.crew.stop(WORKER) != 0:
        raise BenchmarkFailed("the worker did not stop in good order")
    begun = time.time()
    worker = stage.crew.start(WORKER, wipe=wipe)
    stage.wait("ready again", lambda: worker.get("/readyz")[0] == HTTPStatus.OK)
    ready = time.time()
    loaded, assigned = (said_at(worker.log, event) for event in ("worker starts", "partitions assigned"))
    if loaded is None or assigned is None:
        raise BenchmarkFailed(f"the worker's log does not tell when it started:\n{worker.log[-1500:]}")
    return {
        "load_s": loaded - begun,
        "join_s": assigned - loaded,
        "recover_s": ready - assigned,
        "ready_s": ready - begun,
        "cpu_s": cpu_s(worker.process.pid),
    }


def recoveries(stage: Stage, runs: int, folders: Sequence[str]) -> list[dict[str, Any]]:
    """Restarts on an emptied ("empty") or kept ("kept") folder, in turn; the worker runs and has committed all."""
    found: dict[str, list[dict[str, float]]] = {folder: [] for folder in folders}
    for _ in range(runs):
        for folder, some in found.items():
            some.append(restart(stage, wipe=folder == "empty"))
    about: dict[str, Any] = {"symbols": stage.feed.job.symbols, "windows": stage.changelog_records()}
    about["mb"] = round(stage.topic_bytes()["changelog"] / 1e6, 1)
    phases = {folder: {what: spread([r[what] for r in some]) for what in some[0]} for folder, some in found.items()}
    return [{**about, "folder": folder, **phases[folder]} for folder in folders]
