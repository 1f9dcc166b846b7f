"""One seed, one world: rows arrive; workers come, die, sleep, lose partitions and disks; versions change.

Everything happens in one thread in virtual time. A step is a callback of a worker, a request the broker answers, a record a
producer appends, or a fault; the seed's random numbers say which, so the same seed is the same world.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.broker import Broker
from tests.simulation.consumer import TOPICS, install
from tests.simulation.rows import DEADLINES_US, PARTITIONS, stream, version
from tests.simulation.store import Folder
from tests.simulation.versions import Registry
from tests.simulation.worker import STAGES, Armed, Worker

if TYPE_CHECKING:
    from streams.switches import Role
    from tests.laws.oracle import Row

PAUSES_S = (0.1, 1.0, 2.0)
"""Two of three outlast the session."""
LONGEST_S = 20.0
"""A world that has not come to rest after so long hangs."""


@dataclass(frozen=True)
class Plan:
    """How many rows, and how many of each fault at most."""

    seed: int
    rows: int = 400
    kills: int = 2
    pauses: int = 1
    kills_at_a_stage: int = 5
    pauses_at_a_stage: int = 2
    wipes: int = 1
    joins: int = 2
    refusals: int = 1
    swaps: int = 3
    layouts: bool = True
    """Whether every other new version also reads other features, deeper."""
    roles: bool = False
    """Whether new versions come as challengers and canaries too, and go."""
    pauses_in_the_gap: int = 1
    """Of those that outlast the session, between a checkpoint's question whether it is still a member and the arrival of its
    changelog. Kafka refuses nothing then: what it writes follows what the new owners wrote."""


@dataclass
class World:
    """The state of a world, and what happened in it."""

    plan: Plan
    now_s: float = 0.0
    did: Counter[str] = field(default_factory=Counter)
    stalled: str | None = None

    def __post_init__(self) -> None:
        self.rng = random.Random(self.plan.seed)  # noqa: S311 - the seed is the world
        self.broker = Broker(self.rng, PARTITIONS, lambda: self.now_s)
        self.deadline_us = self.rng.choice(DEADLINES_US)
        self.registry = Registry.of(version(1, self.deadline_us))
        self.meant: dict[tuple[int, int], tuple[Row, ...]] = {}
        self.folders = [Folder() for _ in range(3)]
        self.lives = 0
        self.workers: dict[int, Worker] = {}
        self.trace = hashlib.blake2b(digest_size=8)
        self.rows_of = list(stream(self.rng, self.plan.rows))
        self.steps = 0

    @property
    def rows(self) -> int:
        """Rows sent; a broken record counts as one."""
        return sum(max(1, len(r.rows)) for r in self.rows_of)

    @property
    def repeated(self) -> int:
        """Predictions that were published before."""
        logs = [self.broker.log(TOPICS.predictions, p) for p in range(PARTITIONS)]
        return sum(map(len, logs)) - len({r.value for log in logs for r in log})

    def run(self) -> World:
        """From the first row until all is committed and nothing waits."""
        with contextlib.ExitStack() as stack:
            install(stack)
            self._start(0)
            faults = self._faults()
            at = 0
            while at < len(self.rows_of) or faults:
                if at < len(self.rows_of) and self.rng.random() < 0.5:
                    burst = self.rng.choice([1, 1, 2, 10])
                    for record in self.rows_of[at : at + burst]:
                        offset = self.broker.append(TOPICS.features, record.partition, record.key, record.value, record.headers)
                        self.meant[record.partition, offset] = record.rows
                    at += burst
                if faults and faults[0][0] <= at:
                    getattr(self, f"_{faults.pop(0)[1]}")()
                self._live(self.rng.choice([1, 10, 60]))
            self._come_to_rest()
            for worker in self.workers.values():
                worker.loop.abandon()
        return self

    def _faults(self) -> list[tuple[int, str]]:
        plan = self.plan
        kinds = {
            "kill": plan.kills,
            "arm_kill": plan.kills_at_a_stage,
            "pause": plan.pauses,
            "arm_pause": plan.pauses_at_a_stage,
            "arm_gap": plan.pauses_in_the_gap,
            "wipe": plan.wipes,
            "add": plan.joins,
            "refuse": plan.refusals,
            "swap": plan.swaps,
        }
        return sorted((self.rng.randint(0, len(self.rows_of)), kind) for kind, most in kinds.items() for _ in range(most))

    def _live(self, steps: int) -> None:
        """Some steps of whoever is alive; the dead start again after a while."""
        for _ in range(steps):
            self.steps += 1
            self.broker.tick()
            for slot, worker in list(self.workers.items()):
                while worker.slept:
                    self.did[worker.slept.pop()] += 1
                if worker.slept:
                    self.did[f"slept {worker.slept.pop()}"] += 1
                if worker.over is not None:
                    self._note(f"{worker.name} over")
                    worker.kill(worker.over)
                    self.did[worker.over.split(" was not")[0][:60]] += 1
                    if self.rng.random() < 0.8 or len(self.workers) == 1:
                        self._start(slot)
                    else:
                        del self.workers[slot]
            if not self.workers:
                self._start(self.rng.randrange(3))
            slot = self.rng.choice(list(self.workers))
            worker = self.workers[slot]
            if worker.paused_until > self.now_s:
                self.now_s += 0.0005
                continue
            if self.rng.random() < 0.4 and worker.producer.deliver():
                self._note(f"{worker.name} delivered {self.broker.events}")
            elif not worker.step():
                self._pass_time()

    def _pass_time(self) -> None:
        due = [d for w in self.workers.values() if w.paused_until <= self.now_s and (d := w.loop.next_due()) is not None]
        wakes = [w.paused_until for w in self.workers.values() if w.paused_until > self.now_s]
        after = min([*due, *wakes], default=self.now_s)
        self.now_s = max(self.now_s + 0.0001, min(after, self.now_s + 0.01))

    def _note(self, what: str) -> None:
        self.trace.update(f"{self.now_s:.4f} {what}\n".encode())

    def _start(self, slot: int) -> None:
        self.lives += 1
        self.workers[slot] = Worker(f"w{slot}#{self.lives}", self.folders[slot], self.broker, self.rng, self.registry)

    def _any(self) -> Worker:
        return self.workers[self.rng.choice(list(self.workers))]

    def _kill(self) -> None:
        self._any().over = "killed"

    def _arm_kill(self) -> None:
        self._any().armed = Armed(self.rng.choice(STAGES), self.rng.randint(0, 4))

    def _arm_pause(self) -> None:
        self._any().armed = Armed(self.rng.choice(STAGES), self.rng.randint(0, 4), self.rng.choice(PAUSES_S))

    def _arm_gap(self) -> None:
        self._any().armed = Armed("changelog produced", self.rng.randint(0, 4), self.rng.choice(PAUSES_S[1:]))

    def _pause(self) -> None:
        self._any().sleep(self.rng.choice(PAUSES_S), "paused")

    def _wipe(self) -> None:
        slot = self.rng.choice(list(self.workers))
        self.workers[slot].kill("killed, and its disk lost")
        self.folders[slot].wipe()

    def _add(self) -> None:
        free = [slot for slot in range(3) if slot not in self.workers]
        if free:
            self._start(self.rng.choice(free))
            self.did["added"] += 1

    def _refuse(self) -> None:
        self.broker.refusing += 1

    def _swap(self) -> None:
        number = len(self.registry.versions) + 1
        newest_us = max((row.event for sent in self.meant.values() for row in sent), default=0)
        role: Role = self.rng.choice(["champion", "challenger", "canary"]) if self.plan.roles else "champion"
        nobody = role != "champion" and self.rng.random() < 0.4
        # Now and then so near that rows of then are scored before anybody has heard of it; a wide one after each narrow one.
        self.registry.add(
            None if nobody else version(number, self.deadline_us, wide=self.plan.layouts and number % 2 == 0),
            effective_from_us=newest_us + self.rng.choice([-30, 0, 40, 200]),
            role=role,
            share=self.rng.choice([0.3, 0.7]) if role == "canary" and not nobody else 0.0,
        )
        self.did["version"] += 1

    def _come_to_rest(self) -> None:
        """No more faults: everyone wakes, and the group reaches the end."""
        limit_s = self.now_s + LONGEST_S
        quiet_s = None
        while quiet_s is None or self.now_s < quiet_s + 0.6:
            self._live(50)
            if not self._at_rest():
                quiet_s = None
            elif quiet_s is None:
                quiet_s = self.now_s
            if self.now_s > limit_s:
                ends = {p: len(self.broker.log(TOPICS.features, p)) for p in range(PARTITIONS)}
                self.stalled = f"committed {self.broker.committed} of {ends}, {self.broker.group}"
                return

    def _at_rest(self) -> bool:
        logs = {p: len(self.broker.log(TOPICS.features, p)) for p in range(PARTITIONS)}
        alive = {w.name for w in self.workers.values() if w.over is None}
        settled = not self.broker.group.preparing and set(self.broker.group.shares) == alive
        return settled and all(self.broker.committed.get(p, 0) == end for p, end in logs.items())
