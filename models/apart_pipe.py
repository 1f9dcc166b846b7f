"""One child that serves a version, seen from the process that asks: start, ask within a time, end. Shell, for `models.apart`."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from models.apart_child import HEAD, MOST_WORDS, RAISED, READY, REFUSED, SCORED, SHAPE, TYPE, ServeTask
from models.errors import ModelOutputError
from models.trials import clean_environment, how_ended, last_words, limits_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_PIPE_BYTES: Final = 1 << 20
_REAP_S: Final = 0.05


class ChildFailed(Exception):
    """The child did not do what it is there for; it is of no more use."""


class Child:
    """A child process, its pipes, and a folder for it to write in. Not thread-safe: one asks at a time."""

    def __init__(self, command: Sequence[str], folder: Path, *, name: str, version: str, digest: str, allow_code: bool) -> None:
        """Start it; it is not ready yet. The calling thread must outlive it: Linux ends the child when that thread ends.

        Raises `OSError`, and `UntrustedModel` for a folder that is none any more.
        """
        limits = limits_for(folder, allow_code=allow_code)
        self._scratch = tempfile.TemporaryDirectory(prefix="trading-ml-challenger-", ignore_cleanup_errors=True)
        asks, self._asks = os.pipe()
        self._answers, answers = os.pipe()
        task = ServeTask(
            folder=str(folder.resolve()),
            name=name,
            version=version,
            digest=digest,
            allow_code=allow_code,
            limits=limits,
            parent=os.getpid(),
            asks=asks,
            answers=answers,
        )
        scratch = Path(self._scratch.name)
        try:
            with (scratch / "output").open("wb") as output:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module; the argument is data
                    [*command, msgspec.json.encode(task).decode()],
                    cwd=scratch,
                    env=clean_environment(scratch),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(asks, answers),
                    start_new_session=True,
                )
        except OSError:
            self._close()
            raise
        finally:
            os.close(asks)
            os.close(answers)
        for pipe in (self._asks, self._answers):
            os.set_blocking(pipe, False)
            with suppress(OSError, AttributeError):  # not on every system, and not without end on any
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._number = 0

    def wait_ready(self, deadline_s: float) -> None:
        """Return once it serves. `deadline_s`: by `time.monotonic`. Raises `ChildFailed`."""
        kind, words = self._answer(0, deadline_s)
        if kind == REFUSED:
            raise ChildFailed(bytes(words).decode(errors="replace"))
        if kind != READY:
            raise ChildFailed("its process spoke out of turn")

    def ask(self, values: NDArray[np.float64], deadline_s: float) -> NDArray[np.generic]:
        """What predict answers for float64[rows, columns]; of what is no answer, an array with its shape or another dtype.

        Raises `ModelOutputError` if predict raised, and `ChildFailed`.
        """
        rows, columns = values.shape
        self._number = self._number % 0xFFFF_FFFF + 1
        head = HEAD.pack(self._number, rows, columns)
        self._write([memoryview(head), np.ascontiguousarray(values).data.cast("B")], deadline_s)
        kind, body = self._answer(self._number, deadline_s, rows=rows)
        if kind == SCORED:
            return np.frombuffer(body, dtype=np.float64)
        if kind == RAISED:
            raise ModelOutputError(bytes(body).decode(errors="replace"))
        if kind == TYPE:
            return np.zeros(rows, dtype="V1")
        try:
            shape = msgspec.json.decode(body, type=tuple[int, ...])
            return np.broadcast_to(np.nan, shape)  # takes no memory, however many it says there were
        except (msgspec.MsgspecError, ValueError) as e:
            raise ChildFailed("its process answered nonsense") from e

    def end(self) -> None:
        """Kill it and whatever it may have started; does not wait."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def bury(self) -> None:
        """Wait for the end of a child that was killed, and clean up."""
        self.end()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        os.close(self._asks)
        os.close(self._answers)
        self._scratch.cleanup()

    def _write(self, left: list[memoryview], deadline_s: float) -> None:
        while left:
            try:
                done = os.writev(self._asks, left)
            except BlockingIOError:
                self._wait(self._asks, select.POLLOUT, deadline_s)
                continue
            except BrokenPipeError:
                raise self._gone() from None
            while left and done >= len(left[0]):
                done -= len(left.pop(0))
            if left:
                left[0] = left[0][done:]

    def _answer(self, number: int, deadline_s: float, *, rows: int | None = None) -> tuple[int, bytearray]:
        head = bytearray(HEAD.size)
        self._fill(head, deadline_s)
        replied, kind, size = HEAD.unpack(head)
        right = (READY, REFUSED) if rows is None else (SCORED, RAISED, SHAPE, TYPE)
        fits = size == 8 * rows if rows is not None and kind == SCORED else size <= MOST_WORDS
        if replied != number or kind not in right or not fits:
            raise ChildFailed("its process answered nonsense")
        body = bytearray(size)
        self._fill(body, deadline_s)
        return kind, body

    def _fill(self, to: bytearray, deadline_s: float) -> None:
        left = memoryview(to)
        while left:
            try:
                got = os.readv(self._answers, [left])
            except BlockingIOError:
                self._wait(self._answers, select.POLLIN, deadline_s)
                continue
            if got == 0:
                raise self._gone()
            left = left[got:]

    def _wait(self, pipe: int, event: int, deadline_s: float) -> None:
        left_s = deadline_s - time.monotonic()
        poll = select.poll()
        poll.register(pipe, event)
        if left_s <= 0 or not poll.poll(max(1, left_s * 1000)):
            raise ChildFailed("it did not answer in time")

    def _gone(self) -> ChildFailed:
        try:
            code = self._process.wait(_REAP_S)
        except subprocess.TimeoutExpired:
            return ChildFailed("its process closed its pipes")
        return ChildFailed(f"its process {how_ended(code)}{last_words(Path(self._scratch.name))}")
