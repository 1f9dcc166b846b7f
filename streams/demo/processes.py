"""The demo's real processes: started in their own groups, logged to files, ended with the demo whatever ends it.

Shell. Three nets, because each has a hole: `close` ends them in every ordinary way out; Linux kills them when the demo
itself is killed (PR_SET_PDEATHSIG, prctl(2)); and `close` sends SIGKILL to whoever outlasts SIGTERM.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from streams.demo.errors import DemoFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.05


@dataclass(slots=True)
class Child:
    """One process and the file its output goes to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def last_lines(self, most: int = 8) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-most:])


@dataclass(slots=True)
class Processes:
    """Context manager of all children. Start them from the main thread: the kernel's net follows the starting thread."""

    folder: Path
    grace_s: float = 12.0
    children: list[Child] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self, name: str, arguments: Sequence[str], env: Mapping[str, str]) -> Child:
        """Start `python -m streams.cli ARGUMENTS` with `env` as its whole environment."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "streams.cli", *arguments],
                env={**env, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - no threads run yet, and it makes one system call
            )
        child = Child(name, process, log)
        self.children.append(child)
        return child

    def check(self) -> None:
        """Raise `DemoFailed` when a process has ended, with the end of its log."""
        for child in self.children:
            code = child.process.poll()
            if code is not None:
                raise DemoFailed(f"{child.name} ended with code {code}; its log {child.log} ends:\n{child.last_lines()}")

    def wait(self, what: str, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Wait until `ready()`; raise `DemoFailed` when a process ends before, or after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise DemoFailed(f"waited {timeout_s:.0f} s for {what} in vain; the logs are in {self.folder}")
            time.sleep(_POLL_S)

    def close(self) -> None:
        """End all: SIGTERM to each group, SIGKILL after the grace period; the first started, on which the others stand, last.

        A second Ctrl-C does not interrupt this; it is bounded by twice the grace period.
        """
        with _undisturbed():
            self._end(self.children[1:])
            self._end(self.children[:1])
        self.children.clear()

    def _end(self, children: Sequence[Child]) -> None:
        for child in children:
            _signal_group(child, signal.SIGTERM)
        deadline = time.monotonic() + self.grace_s
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, deadline - time.monotonic()))
            _signal_group(child, signal.SIGKILL)
            child.process.wait()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on right now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def answers(url: str) -> bool:
    """Whether a GET of this http address on loopback answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=2.0) as response:  # noqa: S310 - an http address we built
            return bool(response.status == 200)  # noqa: PLR2004 - HTTP's OK
    except (urllib.error.URLError, OSError):
        return False


def _die_with_parent() -> Callable[[], None] | None:
    """Return what a child runs before it becomes the program; None where the kernel has no such call."""
    if not sys.platform.startswith("linux"):
        return None
    library, parent = ctypes.CDLL(None), os.getpid()

    def arm() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked to be told
            os._exit(1)

    return arm


def _signal_group(child: Child, number: signal.Signals) -> None:
    if child.process.poll() is None:  # once it is reaped its number may be another's
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, number)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM for a while; in a thread that may not say so, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
