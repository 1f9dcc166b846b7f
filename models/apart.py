"""A version scored in a process of its own, so that whatever it does there, this process goes on. Shell.

| what the child does                     | its rows abstain with      | and then                                        |
|-----------------------------------------|----------------------------|-------------------------------------------------|
| predict raises, or answers no numbers   | as in this process         | it serves on                                    |
| answers later than the allowance allows | ``challenger_unavailable`` | it is killed, and started again off to the side |
| ends, or answers out of turn            | ``challenger_unavailable`` | the same                                        |

While no child is ready, every call abstains at once. A child that failed is started again after `FIRST_REST_S`, doubled with
each failure of the last minute; after `MOST_FAILURES` of them in a minute the version stays off until it is loaded anew.
A thread for each version starts its children and waits for them.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Literal

from models.apart_pipe import Child, ChildFailed
from models.errors import ChallengerUnavailable, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

State = Literal["starting", "ready", "resting", "off", "closed"]

COMMAND: Final = (sys.executable, "-P", "-s", "-m", "models.apart_child")
START_S: Final = 60.0
FIRST_REST_S: Final = 0.5
MOST_FAILURES: Final = 5
WINDOW_S: Final = 60.0


class Allowance:
    """How long each version may keep its caller in one turn, in seconds; a turn is a chunk. Counted for each version apart."""

    def __init__(self, budget_s: float) -> None:
        self.budget_s = budget_s
        self.turn = 0

    def begin(self) -> None:
        """A new turn."""
        self.turn += 1


class Apart:
    """One version in a child process; calling it is its `Predict`. Calls come from one thread at a time."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        version: str,
        digest: str,
        allowance: Allowance,
        allow_code: bool = False,
        command: Sequence[str] = COMMAND,
        seen: Callable[[State, str], None] = lambda _state, _why: None,
    ) -> None:
        """Begin to start it. `seen`: called, from any thread, with each new state and why it is so.

        `folder` must stay as it is until `close`.
        """
        self._what = f"challenger {name!r} version {version}"
        self._start: Callable[[], Child] = lambda: Child(
            command, folder, name=name, version=version, digest=digest, allow_code=allow_code
        )
        self._allowance = allowance
        self._seen = seen
        self._turn = -1
        self._left_s = 0.0
        self._child: Child | None = None
        self._coming: Child | None = None
        self._ended: list[Child] = []
        self._failures: deque[float] = deque(maxlen=MOST_FAILURES)
        self._state: State = "starting"
        self._why = "its process is starting"
        self._changed = threading.Condition()
        self.started = 0
        """Children started so far."""
        threading.Thread(target=self._keep, name=self._what, daemon=True).start()

    @property
    def state(self) -> State:
        """Where it stands."""
        return self._state

    def wait(self, timeout_s: float) -> str | None:
        """None once it serves; else why it does not: it failed, or is not ready in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._state != "starting", timeout_s)
            return None if self._state == "ready" else self._why

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """`Predict`, within what the allowance leaves. Raises `ChallengerUnavailable`; `ModelOutputError` for what it raised."""
        child = self._child
        if child is None:
            raise ChallengerUnavailable(f"{self._what}: {self._why}", told=True)
        if self._turn != self._allowance.turn:
            self._turn, self._left_s = self._allowance.turn, self._allowance.budget_s
        began_s = time.monotonic()
        try:
            answers: NDArray[np.float64] = child.ask(values, began_s + self._left_s)  # type: ignore[assignment]  # `score` judges it
        except ChildFailed as e:
            child.end()
            self._failed(str(e), child)
            raise ChallengerUnavailable(f"{self._what}: {e}; its process is killed") from e
        finally:
            self._left_s -= time.monotonic() - began_s
        return answers

    def close(self) -> None:
        """End its process; calls abstain from now on."""
        with self._changed:
            if self._coming is not None:
                self._coming.end()
            if self._child is not None:
                self._child.end()
                self._ended.append(self._child)
                self._child = None
            self._become("closed", "it is no longer served")

    def _failed(self, why: str, child: Child | None) -> None:
        with self._changed:
            if child is not None:
                self._ended.append(child)
            if self._state == "closed":
                return
            self._child = None
            now_s = time.monotonic()
            self._failures.append(now_s)
            often = len(self._failures) == MOST_FAILURES and now_s - self._failures[0] < WINDOW_S
            if often:
                why = f"{why}; that is {MOST_FAILURES} failures in a minute, and it stays off: give its alias to another version"
            self._become("off" if often else "resting", why)

    def _become(self, state: State, why: str) -> None:
        self._state, self._why = state, why
        self._changed.notify_all()
        self._seen(state, why)

    def _keep(self) -> None:
        """Start a child whenever one is wanted, and bury the dead; the life of this thread is that of its children."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._state not in {"ready", "off"})
                ended, self._ended = self._ended, []
                state = self._state
            for child in ended:
                child.bury()
            if state == "closed":
                return
            if state in {"starting", "resting"} and self._rested():
                self._begin()

    def _rested(self) -> bool:
        """Wait as long as the failures of the last minute ask; whether it is still wanted then."""
        now_s = time.monotonic()
        recent = sum(now_s - at < WINDOW_S for at in self._failures)
        rest_s = FIRST_REST_S * 2 ** (recent - 1) if recent else 0.0
        with self._changed:
            return not self._changed.wait_for(lambda: self._state == "closed", rest_s)

    def _begin(self) -> None:
        self.started += 1
        try:
            child = self._start()
        except (OSError, ModelError) as e:
            self._failed(f"it could not be started: {e}", None)
            return
        with self._changed:
            self._coming = child
            if self._state == "closed":
                child.end()
        try:
            child.wait_ready(time.monotonic() + START_S)
        except ChildFailed as e:
            child.end()
            self._failed(str(e), child)
            return
        finally:
            self._coming = None
        with self._changed:
            if self._state == "closed":
                self._ended.append(child)
            else:
                self._child = child
                self._become("ready", "it serves")
