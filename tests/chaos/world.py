"""What a scenario stands in: a cluster, names of its own, rows that flow, workers, and the clock on each recovery."""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tests.chaos.feeding import Feed, Flow, endless
from tests.chaos.ledger import Ledger, audit
from tests.chaos.names import SESSION_S, Names
from tests.chaos.reading import Following
from tests.chaos.workers import Crew

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.kafka.cluster import KafkaCluster

RATE = 300.0
"""Rows a second."""


@dataclass
class Result:
    """One line of the report. `faults`: how many were injected; `bad`: what must never be, empty when all is well."""

    scenario: str
    seed: int
    title: str = ""
    faults: int = 0
    rows: int = 0
    lost: int = 0
    wrong: int = 0
    contradictory: int = 0
    repeated: int = 0
    recoveries_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    exits: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    bad: dict[str, Any] = field(default_factory=dict)
    skipped: str | None = None

    def note(self, text: str) -> None:
        """Something the report should say."""
        self.notes.append(text)

    def take(self, ledger: Ledger) -> None:
        """Add a ledger's figures."""
        self.rows += ledger.rows
        self.lost += len(ledger.lost) + len(ledger.not_written)
        self.wrong += len(ledger.wrong) + len(ledger.unknown)
        self.contradictory += len(ledger.contradictory)
        self.repeated += ledger.repeated
        if ledger.faults:
            self.bad["ledger"] = ledger.faults

    def must(self, what: str, *, hold: bool, found: object = None) -> None:
        """A claim of the scenario beside the ledger."""
        if not hold:
            self.bad[what] = found

    def summary(self) -> dict[str, Any]:
        """As JSON: recoveries as median and maximum."""
        out = asdict(self)
        times = out.pop("recoveries_s")
        out["recovery_median_s"] = round(statistics.median(times), 2) if times else None
        out["recovery_max_s"] = round(max(times), 2) if times else None
        out["seconds"] = round(self.seconds, 1)
        return out


@dataclass
class Context:
    """What the runner gives to each scenario."""

    seed: int
    seconds: float
    folder: Path
    cluster: KafkaCluster

    def rng(self, name: str) -> random.Random:
        """Decides everything a scenario leaves to chance."""
        return random.Random(f"{self.seed}:{name}")  # noqa: S311 - repeatable on purpose


class Run:
    """Context manager of one scenario's world. Rows flow from `begin` on; `finish` lets all settle and audits."""

    def __init__(
        self,
        context: Context,
        name: str,
        *,
        cluster: KafkaCluster | None = None,
        rate: float = RATE,
        light: bool = True,
        session_s: float = SESSION_S,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.result = Result(name, context.seed)
        self.rng = context.rng(name)
        self.folder = context.folder / name
        self.folder.mkdir(parents=True)
        cluster = cluster or context.cluster
        copies = min(3, len(cluster.nodes))
        self.names = Names(cluster.bootstrap_servers, name, copies=copies, session_s=session_s)
        self.names.create()
        self.crew = Crew(self.folder, self.names, light=light, **(settings or {}))
        self.feed = Feed(self.names.servers, self.names.topics.features)
        self.group = Following(self.names.servers, self.names.kafka.inference_group, self.names.topics.features)
        self.rows = endless(context.seed)
        self.flow: Flow | None = None
        self._rate = rate
        self._started = time.monotonic()
        self._seconds = context.seconds
        self._until = self._started

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._started

    @property
    def time_left(self) -> bool:
        """Whether another fault may begin: for the scenario's seconds from `begin` on."""
        return time.monotonic() < self._until

    def begin(self, *workers: str) -> None:
        """Start these inference workers, wait until they serve, let rows flow."""
        for name in workers:
            self.crew.start(name)
        self.crew.wait_ready(*workers)
        self.flow = Flow(self.feed, self.rows, self._rate)
        self.flow.start()
        self._until = time.monotonic() + self._seconds
        self.sleep(1.0)

    def sleep(self, seconds: float) -> None:
        """A moment for rows to flow in, with the workers tended."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.crew.tend()
            time.sleep(min(0.05, max(0.0, until - time.monotonic())))

    def recover(self, since: float, *, timeout_s: float = 120, ends: Any = None) -> float:
        """Wait until the group has committed what stood in the topic; the time since the fault counts as a recovery."""
        self.crew.wait("the group caught up", self.group.past(ends or self.group.ends()), timeout_s)
        took = time.monotonic() - since
        self.result.recoveries_s.append(took)
        return took

    def settle(self, *, timeout_s: float = 120) -> None:
        """No more rows; wait until all are committed."""
        if self.flow is not None:
            self.flow.stop(timeout_s)
        self.crew.wait("all committed", self.group.past(), timeout_s)

    def finish(self) -> Result:
        """Let everything be committed, end the workers in good order, audit."""
        self.settle()
        codes = {name: self.crew.stop(name) for name in list(self.crew.workers)}
        self.result.must("exit codes", hold=not any(codes.values()), found=codes)
        self.result.must("something was broken", hold=self.result.faults > 0, found=self.result.faults)
        self.result.take(audit(self.names, sent=self.feed.sent))
        for gone in self.crew.exits:
            said = gone.last_line.replace(str(self.folder.parent), "<folder>")
            line = f"{gone.name} left with {gone.code}: {said[:160]}"
            self.result.exits[line] = self.result.exits.get(line, 0) + 1
        self.result.seconds = self.elapsed
        return self.result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.crew.close()
        self.group.close()
