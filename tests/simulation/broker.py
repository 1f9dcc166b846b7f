"""A Kafka in one thread: logs, committed offsets, a consumer group, and producers whose requests take their time.

What it promises is what Kafka promises with acks=all and an idempotent producer, nothing more: a partition's records of
one producer arrive in order; those under way when a process is killed arrive in part; a commit counts only from a member of
the group's present generation; compaction keeps a key's last value, and all of the last `KEPT_S`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError

from tests.record import Record

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    Headers = Sequence[tuple[str, bytes]]

SESSION_S = 0.6
"""A member that has not been heard of for so long is out."""
KEPT_S = 5.0
"""Records of a changelog that came so long ago are there only if no record of their key is as old, and came later."""


@dataclass(frozen=True, slots=True)
class Stored(Record):
    """A record in a log; at which event of the world and when it came, and from whom."""

    at: int = 0
    at_s: float = 0.0
    by: str = ""


@dataclass(slots=True)
class Member:
    """A process in the group."""

    heard_s: float
    joined: bool = True


@dataclass(slots=True)
class Commit:
    """Offsets the group committed, at which event of the world."""

    at: int
    partition: int
    offset: int
    by: str


@dataclass
class Group:
    """A consumer group of the eager protocol: all give up everything, then all get their share."""

    generation: int = 0
    preparing: bool = False
    members: dict[str, Member] = field(default_factory=dict)
    shares: dict[str, list[int]] = field(default_factory=dict)


class Broker:
    """All logs, by (topic, partition)."""

    def __init__(self, rng: random.Random, partitions: int, clock: Callable[[], float]) -> None:
        self.rng = rng
        self.partitions = partitions
        self.clock = clock
        self.events = 0
        self.logs: dict[tuple[str, int], list[Stored]] = {}
        self.committed: dict[int, int] = {}
        self.commits: list[Commit] = []
        self.group = Group()
        self.refusing = 0

    def log(self, topic: str, partition: int) -> list[Stored]:
        """Records of a partition; the list index is the offset."""
        return self.logs.setdefault((topic, partition), [])

    def append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers = (), by: str = ""
    ) -> int:
        """Write a record; returns its offset."""
        log = self.log(topic, partition)
        self.events += 1
        log.append(Stored(len(log), 10**9, key, value, tuple(headers), self.events, self.clock(), by))
        return len(log) - 1

    def compacted(self, topic: str, partition: int, *, start: int) -> list[Stored]:
        """What a reader of a compacted topic finds from an offset on."""
        log = self.log(topic, partition)
        cleaned = bisect_left(log, self.clock() - KEPT_S, key=attrgetter("at_s"))
        last = {r.key: r.offset for r in log[:cleaned]}
        return [r for r in log[start:] if r.offset >= cleaned or last[r.key] == r.offset]

    def tick(self) -> None:
        """Members not heard of leave; a rebalance for which all that remain have joined is complete."""
        group, now = self.group, self.clock()
        gone = [name for name, m in group.members.items() if now - m.heard_s > SESSION_S]
        for name in gone:
            self.leave(name)
        if group.preparing and group.members and all(m.joined for m in group.members.values()):
            group.generation += 1
            group.preparing = False
            names = sorted(group.members)
            self.rng.shuffle(names)
            group.shares = {n: list(range(i, self.partitions, len(names))) for i, n in enumerate(names)}

    def join(self, name: str) -> None:
        """Ask for a share; `share` has the answer."""
        self.group.preparing = True
        self.group.members[name] = Member(self.clock())

    def leave(self, name: str) -> None:
        """A member goes in good order, or is found to be gone."""
        if self.group.members.pop(name, None) is not None:
            self.group.preparing = True
        self.group.shares.pop(name, None)

    def share(self, name: str) -> tuple[int, list[int]] | None:
        """Generation and partitions once a rebalance is complete; while it is not, a member waits and is heard of."""
        member = self.group.members.get(name)
        if member is None:
            self.join(name)
            return None
        member.heard_s = self.clock()
        return None if self.group.preparing else (self.group.generation, self.group.shares[name])

    def heartbeat(self, name: str, generation: int) -> bool:
        """Whether the member may go on with what it has."""
        member = self.group.members.get(name)
        if member is None or generation != self.group.generation:
            return False
        member.heard_s = self.clock()
        if self.group.preparing:
            member.joined = False
            return False
        return True

    def commit(self, name: str, generation: int, offsets: Mapping[int, int]) -> bool:
        """Commit, if the member is one of the present generation."""
        if name not in self.group.members or generation != self.group.generation:
            return False
        self.group.members[name].heard_s = self.clock()
        for partition, offset in offsets.items():
            self.events += 1
            self.committed[partition] = offset
            self.commits.append(Commit(self.events, partition, offset, name))
        return True


class Message:
    """What a delivery report shows of a record."""

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        self._at = topic, partition, offset

    def topic(self) -> str:
        return self._at[0]

    def partition(self) -> int:
        return self._at[1]

    def offset(self) -> int:
        return self._at[2]


class Producer:
    """confluent-kafka's producer as `streams.outbox` uses it: requests by partition, in order; reports when polled."""

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker = broker
        self._name = name
        self.on_produce: Callable[[str], object] = lambda _: None
        self._queues: dict[tuple[str, int], deque[tuple[Any, Any, Any, Any]]] = {}
        self._reports: deque[tuple[Any, Any, Any]] = deque()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values())) + len(self._reports)

    def produce(
        self, topic: str, value: Any, key: Any, partition: int, *, on_delivery: Any = None, headers: Any = None, **_: Any
    ) -> None:
        self._queues.setdefault((topic, partition), deque()).append((key, value, headers or (), on_delivery))
        self.on_produce(topic)

    def produce_batch(self, topic: str, messages: list[dict[str, Any]], *, partition: int, on_delivery: Any) -> int:
        for m in messages:
            self.produce(topic, m["value"], m["key"], partition, on_delivery=m.get("on_delivery", on_delivery))
        return len(messages)

    def poll(self, _timeout_s: float = 0) -> int:
        """Hand out what has been answered."""
        served = len(self._reports)
        while self._reports:
            report, error, message = self._reports.popleft()
            if report is not None:
                report(error, message)
        return served

    def flush(self, _timeout_s: float = 0) -> int:
        self.poll()
        return len(self)

    def list_topics(self, timeout: float = 0) -> None:
        """The broker is always known."""

    def deliver(self) -> bool:
        """The broker takes some records of one partition, or refuses one for good; False when nothing is under way."""
        waiting = [at for at, queue in self._queues.items() if queue]
        if not waiting:
            return False
        rng = self._broker.rng
        at = rng.choice(waiting)
        refused = self._broker.refusing > 0
        self._broker.refusing -= refused
        for _ in range(min(len(self._queues[at]), rng.choice([1, 2, 5, 50, 500]))):
            key, value, headers, report = self._queues[at].popleft()
            if refused:
                self._reports.append((report, KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), Message(*at, -1)))
                break
            self._reports.append((report, None, Message(*at, self._broker.append(*at, key, value, headers, self._name))))
        return True
