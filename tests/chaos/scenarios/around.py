"""What stands around: the model registry away, the machine's clock wrong."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from streams.demo.processes import _die_with_parent
from tests.broker.inference_world import free_port, registry
from tests.chaos.workers import environment
from tests.chaos.world import Result, Run
from tests.kafka.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.world import Context

CLOCK = Path(__file__).parents[1] / "clock.c"
JUMPS_S = (50 * 60, -6 * 3600, -3 * 86400, 1, 0, 40 * 86400)
"""How far the clock is off after a jump."""
TOO_FAR_S = 3600
"""Kafka takes no records that are dated further ahead (its `message.timestamp.after.max.ms`)."""
ENDS_WITHIN_S = 10.0


@contextmanager
def _server(folder: Path) -> Iterator[Proxy]:
    """An MLflow server over the tests' registry, and the proxy that everybody reaches it by."""
    port, front = free_port(), free_port()
    env = environment({}) | {"MLFLOW_SERVER_ALLOWED_HOSTS": "*", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "mlflow.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--backend-store-uri", registry()],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_die_with_parent(),  # noqa: PLW1509 - it makes one system call
        )
    try:
        with Proxy(port=front, target=port) as proxy:
            yield proxy
    finally:
        os.killpg(server.pid, 9)
        server.wait(10)


def registry_away(context: Context) -> Result:
    """Refusing, or silent: scoring goes on with the versions in service, and a worker told to leave does so in time."""
    folder = context.folder / "mlflow"
    folder.mkdir()
    with _server(folder) as proxy:
        settings = {"MLFLOW__TRACKING_URI": f"http://127.0.0.1:{proxy.port}", "INFERENCE__CACHE_TTL": "1s"}
        with Run(context, "registry_away", light=False, settings=settings) as run:
            run.result.title = "the model registry refusing or silent"
            run.crew.wait("the registry", lambda: _answers(proxy.port), 60)
            run.begin("a")
            while run.time_left:
                run.sleep(run.rng.uniform(0.5, 2.0))
                before = run.group.ends()
                proxy.mode = run.rng.choice(["refuse", "swallow"])
                run.result.faults += 1
                run.recover(time.monotonic(), ends=before, timeout_s=20)
                run.sleep(run.rng.uniform(4.0, 8.0))
                run.recover(time.monotonic(), timeout_s=20)  # rows that came while it was away
                if run.rng.random() < 0.5:
                    told = time.monotonic()
                    code = run.crew.stop("a")
                    took = time.monotonic() - told
                    run.result.must("it leaves in time", hold=took <= ENDS_WITHIN_S and code in {0, 75}, found=[code, took])
                    proxy.mode = "open"
                    run.crew.start("a")
                    run.crew.wait_ready()
                proxy.mode = "open"
            return run.finish()


def _answers(port: int) -> bool:
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def clock_jumps(context: Context) -> Result:
    """The worker's wall clock jumps by hours, forwards and back, while it runs. Nothing it writes may depend on it."""
    title = "the machine's clock jumps by hours and days"
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return Result("clock_jumps", context.seed, title=title, skipped="not run: no C compiler here, or not Linux")
    with Run(context, "clock_jumps") as run:
        run.result.title = title
        shim, clock = run.folder / "clock.so", run.folder / "clock"
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(shim), str(CLOCK), "-ldl", "-lpthread"], check=True)
        _set(clock, 0)
        run.crew.extra = {"LD_PRELOAD": str(shim), "CHAOS_CLOCK": str(clock)}
        run.begin("a", "b")
        while run.time_left:
            run.sleep(run.rng.uniform(1.0, 3.0))
            ends, since = run.group.ends(), time.monotonic()
            jump = run.rng.choice(JUMPS_S)
            before = len(run.crew.exits)
            _set(clock, jump)
            run.result.faults += 1
            if jump > TOO_FAR_S:
                run.crew.wait("Kafka refuses what is dated so far ahead", lambda before=before: len(run.crew.exits) > before)  # type: ignore[misc]  # bound now
                codes = {e.code for e in run.crew.exits[before:]}
                run.result.must("who cannot write leaves", hold=codes == {75}, found=sorted(codes))
                _set(clock, 0)
                since = time.monotonic()
            run.recover(since, ends=ends)
            if run.rng.random() < 0.3:
                name = run.rng.choice(["a", "b"])
                run.crew.kill(name)
                run.crew.start(name)
                run.crew.wait_ready()
        return run.finish()


def _set(clock: Path, seconds: int) -> None:
    """How far the workers' clock is off from now on; the file is mapped by them, so it is written in place."""
    with clock.open("r+b" if clock.exists() else "wb") as f:
        f.write(struct.pack("=q", seconds))
