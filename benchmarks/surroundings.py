"""What a run stands in: which core is whose, the broker's process, the contender's process and what the kernel says of it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

ROOT = Path(__file__).parents[1]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class BenchmarkFailed(Exception):
    """A run did not come to its end, or its answers were wrong: its time does not count."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The contender's core, and the one of broker and producer; the same one where there is only one."""

    contender: int
    broker: int


def cores() -> Cores:
    """The first and the last core this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        raise BenchmarkFailed(f"pinning and /proc are Linux's; this is {platform.system()}: run it on a Linux machine")
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[-1])


def machine(where: Cores) -> dict[str, Any]:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo").read_text()
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    memory_kb = int(Path("/proc/meminfo").read_text().split(maxsplit=2)[1])
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory_kb / 2**20, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "contender_core": where.contender,
        "broker_and_producer_core": where.broker,
        "load_before": round(os.getloadavg()[0], 2),
    }


class Child:
    """A process of ours pinned to one core, its output in a file; ended when the block ends."""

    def __init__(
        self, arguments: Sequence[str], *, core: int, log: Path, env: Mapping[str, str], python: Path | None = None
    ) -> None:
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
                [sys.executable if python is None else str(python), "-m", *arguments],
                cwd=ROOT,
                env={**os.environ, **env},
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        os.sched_setaffinity(self._process.pid, {core})  # threads it starts from here on inherit it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=15.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def output(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def check(self) -> None:
        """Raise `BenchmarkFailed` when it has ended."""
        code = self._process.poll()
        if code is not None:
            raise BenchmarkFailed(f"{self._log.stem} ended with code {code}:\n{self.output()[-2_000:]}")

    def cpu_s(self) -> float:
        """User and system time of all its threads so far."""
        return cpu_s(self._process.pid)

    def peak_rss_mb(self) -> float:
        """The most memory it has had resident."""
        return memory_mb(self._process.pid, "VmHWM")


def cpu_s(pid: int) -> float:
    """User and system time that all threads of a process have had so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def memory_mb(pid: int, which: str) -> float:
    """Memory of a process, by the kernel's name for it: VmRSS what is resident, VmHWM the most that was."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{which}:"):
            return int(line.split()[1]) / 1024
    raise BenchmarkFailed(f"the kernel does not tell {which}")


@contextlib.contextmanager
def broker_process(folder: Path, *, core: int, env: Mapping[str, str]) -> Iterator[str]:
    """A fresh embedded broker; yields its address. It ends with this process, whatever ends that."""
    arguments = ["streams.cli", "broker", "--with-parent", "--address-file", str(folder / "broker.json")]
    with Child(arguments, core=core, log=folder / "broker.log", env=env) as child:
        deadline = time.monotonic() + 30.0
        while time.monotonic() < deadline:
            child.check()
            for line in child.output().splitlines():
                if line.startswith("{") and line.endswith("}"):
                    yield str(json.loads(line)["bootstrap_servers"])
                    return
            time.sleep(0.02)
        raise BenchmarkFailed(f"the embedded broker did not start within 30 s: {child.output()}")
