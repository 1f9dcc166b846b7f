"""What waits for one receiver, and what becomes of it: try, try again later, or give up. Core; clock and chance are arguments.

| answer                          | what is done                                                                          |
|---------------------------------|---------------------------------------------------------------------------------------|
| 2xx                             | delivered                                                                             |
| none, 408, 425, 429, 5xx        | *away*: everything for this receiver waits, longer each time (or what Retry-After says) |
| any other, an address refused   | *refused*: this event is tried again later, `MOST_REFUSALS` times at most; others go on |

An event that was appended to its topic more than `GIVE_UP_S` ago is not tried again. Waits have full jitter: anything
between nothing and a bound that doubles (Brooker, "Exponential Backoff And Jitter", AWS 2015).

Events of one fingerprint go out in their order; a refused one holds up no other. What has been read may be committed up to the
oldest event that still waits (`committable`), so what was not delivered is read again after a crash: at least once.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_WAITING: Final = 1_000
"""Events in memory for one receiver; the others stay in their topic until there is room."""
MOST_REFUSALS: Final = 8
GIVE_UP_S: Final = 24 * 3600.0
FIRST_BOUND_S: Final = 1.0
LAST_BOUND_S: Final = 60.0
LONGEST_RETRY_AFTER_S: Final = 300.0

_LATER = frozenset({408, 425, 429})

Verdict = Literal["delivered", "away", "refused"]
Fate = Literal["delivered", "again", "dead"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt; `why` for the log, without the address."""

    verdict: Verdict
    why: str = ""
    retry_after_s: float | None = None


@dataclass(slots=True)
class Event:
    """One event on its way to one receiver. `appended_s`: when it was written to its topic, seconds since 1970."""

    partition: int
    offset: int
    record: Mapping[str, Any]
    appended_s: float
    attempts: int = 0
    due_s: float = -math.inf


def answered(status: int, *, retry_after: str | None = None) -> Answer:
    """The answer with this HTTP status. A Retry-After that is no number of seconds is not read.

    >>> answered(204).verdict, answered(429, retry_after="7"), answered(302).verdict
    ('delivered', Answer(verdict='away', why='status 429', retry_after_s=7.0), 'refused')
    """
    if 200 <= status < 300:  # noqa: PLR2004 - what HTTP calls a success
        return Answer("delivered")
    if status >= 500 or status in _LATER:  # noqa: PLR2004 - what HTTP calls the server's own error
        digits = retry_after is not None and retry_after.isascii() and retry_after.isdigit()
        wait_s = min(float(retry_after[:6]), LONGEST_RETRY_AFTER_S) if digits and retry_after is not None else None
        return Answer("away", f"status {status}", wait_s)
    return Answer("refused", f"status {status}")


def wait_s(failures: int, *, chance: float) -> float:
    """How long to wait after so many failures in a row; `chance` in [0, 1).

    >>> [wait_s(n, chance=0.5) for n in (1, 2, 3, 50)]
    [0.5, 1.0, 2.0, 30.0]
    """
    return chance * min(LAST_BOUND_S, FIRST_BOUND_S * 2.0 ** min(failures - 1, 30))


@dataclass
class Deliveries:
    """The events that wait for one receiver, in the order in which they were read."""

    positions: dict[int, int] = field(default_factory=dict)
    """By partition, the offset to read next."""
    held_until_s: float = -math.inf
    """The receiver is away: nothing is sent before."""
    failures: int = 0
    """In a row, of a receiver that is away."""
    _waiting: OrderedDict[tuple[int, int], Event] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """No more is to be read for now."""
        return len(self._waiting) >= MOST_WAITING

    def passed(self, partition: int, offset: int) -> None:
        """A partition has been read to below this offset."""
        self.positions[partition] = max(offset, self.positions.get(partition, 0))

    def add(self, event: Event) -> None:
        """The receiver is to be told of this event, after those added before."""
        self._waiting[event.partition, event.offset] = event

    def committable(self) -> dict[int, int]:
        """By partition, the offset from which on a restart must read again."""
        found = dict(self.positions)
        for partition, offset in self._waiting:
            found[partition] = min(offset, found.get(partition, offset))
        return found

    def due(self, now_s: float) -> Event | None:
        """The event to send now, None if there is none or the receiver is away."""
        if now_s < self.held_until_s:
            return None
        before: set[str] = set()
        for event in self._waiting.values():
            fingerprint = event.record["fingerprint"]
            if fingerprint not in before and event.due_s <= now_s:
                return event
            before.add(fingerprint)
        return None

    def hold(self, answer: Answer, *, now_s: float, chance: float) -> None:
        """Note whether the receiver is away, after whatever was sent to it."""
        if answer.verdict != "away":
            self.failures = 0
            return
        self.failures += 1
        pause_s = wait_s(self.failures, chance=chance)
        self.held_until_s = now_s + (pause_s if answer.retry_after_s is None else max(answer.retry_after_s, pause_s))

    def settle(self, event: Event, answer: Answer, *, now_s: float, wall_s: float, chance: float) -> Fate:
        """What becomes of an event after this answer. `now_s` never goes back; `wall_s`: seconds since 1970."""
        self.hold(answer, now_s=now_s, chance=chance)
        place = event.partition, event.offset
        if answer.verdict == "delivered":
            del self._waiting[place]
            return "delivered"
        event.attempts += answer.verdict == "refused"
        if event.attempts >= MOST_REFUSALS or wall_s - event.appended_s > GIVE_UP_S:
            del self._waiting[place]
            return "dead"
        if answer.verdict == "refused":
            event.due_s = now_s + wait_s(event.attempts, chance=chance)
        fingerprint = event.record["fingerprint"]
        for other in [p for p, e in self._waiting.items() if e.record["fingerprint"] == fingerprint]:
            self._waiting.move_to_end(other)  # the next attempt may be another's
        return "again"


@dataclass
class Firing:
    """What an Alertmanager was told that fires: it wants to hear so again, until it is told that it ended."""

    resend_s: float
    _records: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _told_s: dict[str, float] = field(default_factory=dict)

    def told(self, record: Mapping[str, Any], *, now_s: float = -math.inf) -> None:
        """The receiver knows of this event, since `now_s`; before this start if not given."""
        fingerprint = record["fingerprint"]
        if record["state"] == "firing":
            self._records[fingerprint], self._told_s[fingerprint] = record, now_s
        else:
            self._records.pop(fingerprint, None)
            self._told_s.pop(fingerprint, None)

    def due(self, now_s: float, *, most: int = 100) -> list[Mapping[str, Any]]:
        """What is to be said again now, at most so many at once."""
        late = [key for key, told_s in self._told_s.items() if now_s - told_s >= self.resend_s]
        return [self._records[key] for key in late[:most]]
