"""Workers as processes that are killed, held still, and started again on the same or an emptied folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from streams.demo.processes import _die_with_parent
from tests.broker.inference_rows import MODEL
from tests.broker.inference_world import LIGHT, ROOT, Worker, free_port
from tests.kafka.artifacts import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.chaos.names import Names

Group = Literal["inference", "monitor"]


class ChaosWorker(Worker):
    """`trading-ml worker <group>` on the run's names; its state folder is `<folder>/<name>`.

    Start it from the main thread: the kernel ends it with the thread that began it.
    """

    def __init__(
        self,
        folder: Path,
        names: Names,
        name: str,
        *,
        group: Group = "inference",
        command: Sequence[str] | None = None,
        extra: Mapping[str, str] | None = None,
        **settings: str,
    ) -> None:
        """`command` replaces the program, `extra` adds to its environment."""
        self.port = free_port()
        self.group = group
        self.state = folder / name
        self._err = folder / f"{name}.log"
        self._from = self._err.stat().st_size if self._err.exists() else 0
        changes = {
            "MODELS": json.dumps([{"name": MODEL}]),
            "STORAGE__STATE_DIR": str(self.state),
            "STORAGE__CACHE_DIR": str(folder / f"cache-{name}"),
            "DATABASE__PATH": str(folder / f"{name}.duckdb"),
            "INFERENCE__BATCH_SIZE": "100",
            "INFERENCE__COMMIT_INTERVAL": "0.3s",
            "WEB__PORT": str(self.port),
            **names.settings(),
            **settings,
        }
        with self._err.open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *(command or ("streams.cli", "worker", group))],
                cwd=folder,
                env=environment(changes) | dict(extra or {}),
                stdin=subprocess.DEVNULL,
                stdout=err,
                stderr=err,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - it makes one system call
            )

    @property
    def log(self) -> str:
        """What it said since it was started."""
        with self._err.open("rb") as f:
            f.seek(self._from)
            return f.read().decode(errors="replace")

    @property
    def ended(self) -> bool:
        """Whether its process is gone."""
        return self.process.poll() is not None

    def left_in_order(self, code: int) -> bool:
        """Whether it obeyed a SIGTERM. Python's own end is the right one for a process that has not got to its first line yet."""
        return code == 0 or (code == -signal.SIGTERM and not self.log.strip())

    def pause(self) -> None:
        """Hold it still."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process with these settings.

    Compiled modules are kept outside the tree: a start that compiles everything takes twice the time.
    """
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env |= {"CONFIG_PATH": str(ROOT / "config" / "local.yaml"), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    env |= {"PYTHONPYCACHEPREFIX": str(cache_folder() / "pycache")}
    return env | {f"TRADING_ML__{k}": v for k, v in settings.items()}


@dataclass(frozen=True)
class Exit:
    """A worker that ended without being told to."""

    name: str
    code: int
    last_line: str


class Crew:
    """Workers by name, and what a supervisor does: who ends by itself is noted and started again."""

    def __init__(self, folder: Path, names: Names, *, light: bool = False, **settings: str) -> None:
        """`light`: inference workers with a model at hand, which start without MLflow."""
        self.folder = folder
        self.names = names
        self.workers: dict[str, ChaosWorker] = {}
        self.exits: list[Exit] = []
        self.extra: Mapping[str, str] = {}
        self._light = light
        self._settings = settings

    def start(
        self, name: str, group: Group = "inference", *, wipe: bool = False, command: Sequence[str] | None = None
    ) -> ChaosWorker:
        """Start a worker, for the first time or again; `wipe`: on an empty state folder; `command`: another program."""
        if wipe:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        if command is None and self._light and group == "inference":
            command = LIGHT
        worker = ChaosWorker(self.folder, self.names, name, group=group, command=command, extra=self.extra, **self._settings)
        self.workers[name] = worker
        return worker

    def tend(self) -> None:
        """Start again whoever ended by itself."""
        for name, worker in list(self.workers.items()):
            if worker.ended:
                lines = worker.log.strip().splitlines()
                self.exits.append(Exit(name, worker.process.returncode, lines[-1] if lines else ""))
                self.start(name, worker.group)

    def kill(self, name: str) -> None:
        """SIGKILL; it is no longer tended."""
        self.workers.pop(name).kill()

    def stop(self, name: str) -> int:
        """SIGTERM, and the exit code, 0 if it left in order; it is no longer tended."""
        worker = self.workers.pop(name)
        code = worker.stop()
        return 0 if worker.left_in_order(code) else code

    def wait(self, what: str, condition: Callable[[], bool], timeout_s: float = 60, *, tend: bool = True) -> float:
        """Wait for a condition, tending the workers; returns how long it took, fails after `timeout_s`."""
        started = time.monotonic()
        while not condition():
            if tend:
                self.tend()
            if time.monotonic() - started > timeout_s:
                logs = "\n".join(f"--- {n}: {w.log[-1500:]}" for n, w in self.workers.items())
                raise AssertionError(f"not within {timeout_s:g} s: {what}\n{logs}")
            time.sleep(0.05)
        return time.monotonic() - started

    def wait_ready(self, *names: str, timeout_s: float = 60) -> float:
        """Wait until these, or all, say they are ready."""
        return self.wait("ready", lambda: all(self.workers[n].get("/readyz")[0] == 200 for n in names or self.workers), timeout_s)

    def close(self) -> None:
        """End all."""
        for worker in self.workers.values():
            if not worker.ended:
                worker.resume()
                worker.kill()
        self.workers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
