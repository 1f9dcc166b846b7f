"""A seeded run: so many fuzzed feature messages, in chunks, and a share of everything else that is decoded."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from tests.fuzz import seeds
from tests.fuzz.cases import FRAME, headers_of, named
from tests.fuzz.mutate import damaged
from tests.fuzz.world import Broken, Features, Others, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.fuzz.cases import Header, Message

T = TypeVar("T")
POOL = 60
ANEW_EVERY = 2_000
"""Messages until the valid ones that are damaged are others, and the windows empty again."""
CHUNKS = (1, 3, 40, 300)
"""Messages taken together."""


@dataclass
class Failure:
    """What went wrong, and the messages that do it again."""

    seed: int
    number: int
    error: str
    messages: Sequence[Message]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, after {self.number} messages: {self.error}"]
        for key, value, headers in self.messages:
            shown = [(n, None if d is None else d.hex()) for n, d in headers[:20]]
            lines.append(
                f"  key {None if key is None else key.hex()} headers {shown} value {None if value is None else value.hex()}"
            )
        return "\n".join(lines)


@dataclass
class Campaign:
    """One run; `failures` is empty if all held."""

    seed: int
    tally: Tally = field(default_factory=Tally)
    failures: list[Failure] = field(default_factory=list)
    most_failures: int = 5
    watch: Callable[[Sequence[Message]], None] = lambda _: None
    """Called with messages before they are taken: should the process die of them, somebody knows which they were."""

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)  # noqa: S311 - the same messages every time
        self._number = 0
        self._others = Others(self.tally)
        self._renew()

    def _renew(self) -> None:
        rng = self._rng
        self._features = Features(self.tally)
        self._rows = [json.dumps(seeds.row(rng)).encode() for _ in range(POOL)]
        self._frames = [seeds.frame(rng) for _ in range(POOL)] + seeds.producers_frames(rng)
        self._outcomes = [json.dumps(seeds.outcome(rng)).encode() for _ in range(POOL)]
        self._logs = [seeds.log(rng) for _ in range(5)]
        self._states = [seeds.state(rng) for _ in range(20)]

    def cases(self, *, every: int = 1, rows: int = 20_000) -> None:
        """The named cases, each alone; of those with the same name only every n-th. `rows`: how many the largest have."""
        seen: dict[str, int] = {}
        for name, message in named(rows):
            seen[name] = seen.get(name, 0) + 1
            if seen[name] % every == 1 % every:
                self._feed([message], name)
                for take in (self._others.text, _one(self._others.outcomes), _one(self._others.logs)):
                    self._try(_bound(take, message), [message])

    def run(self, messages: int) -> None:
        """So many feature messages."""
        rng, done, renewed = self._rng, 0, 0
        while done < messages and len(self.failures) < self.most_failures:
            if done - renewed >= ANEW_EVERY:
                self._renew()
                renewed = done
            chunk = [self._message() for _ in range(min(rng.choice(CHUNKS), messages - done))]
            self._feed(chunk, "")
            done += len(chunk)
            if rng.random() < 0.3:
                self._rest()

    def _message(self) -> Message:
        rng = self._rng
        what = rng.random()
        headers: tuple[Header, ...] = ()
        if rng.random() < 0.01:
            headers = rng.choice(HEADERS)
        if what < 0.35:
            key, value = seeds.wrong_row(rng)
            return key, value, headers
        if what < 0.75:
            good = rng.choice(self._rows)
            return json.loads(good)["symbol"].encode(), damaged(rng, good, self._rows, text=True), headers
        if what < 0.8:
            good = rng.choice(self._rows)
            return rng.choice((None, b"M", rng.randbytes(5))), rng.choice((good, None, rng.randbytes(rng.randrange(60)))), headers
        framed = FRAME if rng.random() < 0.97 else ()
        value = rng.choice(self._frames)
        return None, damaged(rng, value, self._frames, text=False) if rng.random() < 0.9 else value, (*framed, *headers)

    def _rest(self) -> None:
        rng = self._rng
        some: list[Message] = []
        for _ in range(rng.randint(1, 12)):
            good = rng.choice(self._outcomes)
            some.append((json.loads(good)["symbol"].encode(), damaged(rng, good, self._rows, text=True), ()))
        self._try(lambda: self._others.outcomes(some), some)
        log: Message = (None, damaged(rng, rng.choice(self._logs), self._frames, text=False), FRAME)
        self._try(lambda: self._others.logs([log]), [log])
        for make, good in ((self._others.predictions, PREDICTIONS), (self._others.state, rng.choice(self._states))):
            bad = damaged(rng, good, self._frames, text=False)
            self._try(_bound(make, bad), [(None, bad, ())])
        shown = self._message()
        self._try(lambda: self._others.text(shown), [shown])

    def _feed(self, chunk: Sequence[Message], name: str) -> None:
        self._number += len(chunk)
        self.watch(chunk)
        try:
            self._features.chunk(chunk)
        except Exception as e:  # noqa: BLE001 - any exception at all is what is looked for
            told = f"{name}: {type(e).__name__}: {str(e)[:500]}"
            self.failures.append(Failure(self.seed, self._number, told, self._alone(chunk)))
            self._features = Features(self.tally)

    def _alone(self, chunk: Sequence[Message]) -> Sequence[Message]:
        """The one message of a chunk that does it by itself, else all."""
        for message in chunk:
            try:
                Features(Tally()).chunk([message])
            except Exception:  # noqa: BLE001 - the same
                return [message]
        return chunk

    def _try(self, call: Callable[[], Any], messages: Sequence[Message]) -> None:
        self.watch(messages)
        try:
            call()
        except Exception as e:  # noqa: BLE001 - the same
            self.failures.append(Failure(self.seed, self._number, f"{type(e).__name__}: {str(e)[:500]}", messages))


HEADERS = [headers for _, headers in headers_of()][3:]
"""The smaller ones."""
PREDICTIONS = seeds.predictions()


def _bound(call: Callable[[T], None], value: T) -> Callable[[], None]:
    return lambda: call(value)


def _one(call: Callable[[Sequence[Message]], None]) -> Callable[[Message], None]:
    return lambda message: call([message])


__all__ = ["Broken", "Campaign", "Failure"]
