"""When to ask an endpoint again, and when to stop asking. Core: time and chance are arguments.

The pause before a retry is drawn evenly from 0 to a bound that doubles ("full jitter", M. Brooker, AWS Architecture
Blog, 2015): workers that failed together do not come back together. A circuit breaker (M. Nygard, Release It!, 2007)
keeps a dead endpoint from costing every chunk its whole timeout:

    closed --3 failures in a row--> open --10 s--> half-open --one trial--> closed, or open again
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from typing import Self

BASE_S: Final = 0.05
CAP_S: Final = 1.0
FAILURES: Final = 3
PAUSE_S: Final = 10.0

State = Literal["closed", "open", "half_open"]


def retry_pause_s(attempt: int, *, draw: float, retry_after_s: float | None = None) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 1); `draw` in [0, 1) is the chance.

    Where the server says how long to wait, never less than that.

    >>> retry_pause_s(1, draw=0.5), retry_pause_s(3, draw=0.5), retry_pause_s(30, draw=0.5)
    (0.025, 0.1, 0.5)
    >>> retry_pause_s(1, draw=0.5, retry_after_s=2.0)
    2.025
    """
    pause_s = draw * min(CAP_S, BASE_S * 2.0 ** min(attempt - 1, 30))
    return pause_s if retry_after_s is None else retry_after_s + pause_s


@dataclass(frozen=True, slots=True)
class Breaker:
    """Failures in a row, when it opened, and since when a trial is out; every `now_s` from one steady clock.

    >>> breaker = Breaker(failures_to_open=1).failed(now_s=0.0)
    >>> breaker.state(now_s=9.9), breaker.state(now_s=10.0)
    ('open', 'half_open')
    >>> breaker, may = breaker.ask(now_s=10.0)
    >>> may, breaker.ask(now_s=10.1)[1]  # one trial at a time
    (True, False)
    >>> breaker.succeeded().state(now_s=10.2)
    'closed'
    """

    failures_to_open: int = FAILURES
    pause_s: float = PAUSE_S
    failures: int = 0
    opened_s: float | None = None
    trial_s: float | None = None

    def state(self, *, now_s: float) -> State:
        """Closed: ask freely. Open: do not ask. Half-open: one trial may go out."""
        if self.opened_s is None:
            return "closed"
        return "open" if now_s - self.opened_s < self.pause_s else "half_open"

    def ask(self, *, now_s: float) -> tuple[Self, bool]:
        """(the breaker from now on, whether a call may go out). A trial that never reported is forgotten after a pause."""
        state = self.state(now_s=now_s)
        if state == "closed":
            return self, True
        if state == "open" or (self.trial_s is not None and now_s - self.trial_s < self.pause_s):
            return self, False
        return self._but(failures=self.failures, opened_s=self.opened_s, trial_s=now_s), True

    def succeeded(self) -> Self:
        """After an answer: closed, nothing counted."""
        return self._but(failures=0, opened_s=None, trial_s=None)

    def failed(self, *, now_s: float) -> Self:
        """After a failure: open when there were enough in a row, or when it was the trial's."""
        failures = self.failures + 1
        opens = failures >= self.failures_to_open or self.opened_s is not None
        return self._but(failures=failures, opened_s=now_s if opens else None, trial_s=None)

    def _but(self, *, failures: int, opened_s: float | None, trial_s: float | None) -> Self:
        return self.__class__(self.failures_to_open, self.pause_s, failures, opened_s, trial_s)
