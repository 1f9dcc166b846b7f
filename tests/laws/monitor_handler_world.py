"""A random market for laws of the whole monitor: the records of its three topics."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from streams.operations import REASON
from streams.partitioner import partition_of
from tests.laws.monitor_handler_wire import COLUMNS, MINUTE_US, PANE_US, START_US, encoded
from tests.record import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG, OUTCOMES, REJECTED = "trading.inference-log", "trading.outcomes", "trading.features.rejected"
GRACE = 1

Who = tuple[str, str]
"""version, role"""
Placed = tuple[str, int, Record]
"""topic, partition, record"""


class Row(NamedTuple):
    """One prediction as the log has it; `place`: where its trigger row stands in its source."""

    who: Who
    symbol: str
    ts: int
    revision: int
    vector: tuple[float, ...]
    value: float
    completeness: float
    place: int

    @property
    def pid(self) -> str:
        return f"m:{self.who[0]}:{self.symbol}:{self.ts}:{self.revision}"

    @property
    def pane(self) -> int:
        return (self.ts - 1) // PANE_US


class Said(NamedTuple):
    """An outcome as its topic has it."""

    symbol: str
    ts: int
    revision: int
    value: float


@dataclass
class Rules:
    """What is drawn once for a world."""

    partitions: int
    symbols: tuple[str, ...]
    panes: int
    horizon_us: int
    bars: int
    second: int
    challenger: bool
    groups: dict[str, list[str]]
    behind_us: int
    drift: range
    late: bool
    """Whether rows come late, or revised."""

    @classmethod
    def drawn(cls, rng: random.Random) -> Rules:
        bars = rng.randint(50, 90)
        names = [f"S{n}" for n in rng.sample(range(40), rng.randint(3, 7))]
        groups = {} if rng.random() < 0.4 else {"few": rng.sample(names, 2), "more": [f"S{rng.randint(1, 3)}*"]}
        start = rng.randint(20, bars)
        return cls(
            partitions=rng.randint(1, 3),
            symbols=tuple(names),
            panes=rng.randint(1, 4),
            horizon_us=rng.choice([1, 2, 5, 7, 10, 17, 33]) * MINUTE_US + rng.choice([0, 0, 1, 17_000_000]),
            bars=bars,
            second=rng.randint(15, 2 * bars),
            challenger=rng.random() < 0.6,
            groups=groups,
            behind_us=rng.choice([1, 50, 60_000]) * 1_000_000,
            drift=range(start, start + rng.randint(10, 40)),
            late=rng.random() < 0.6,
        )


@dataclass
class World:
    """Everything that is in the topics, in the order of time."""

    rules: Rules
    stream: list[Placed] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    """Each prediction once, in the order of the log."""
    outcomes: list[Said] = field(default_factory=list)
    """Each (symbol, event time, revision) once: the first of it."""
    wrong: list[bytes] = field(default_factory=list)
    """Values of records that must be rejected."""

    def home(self, symbol: str) -> int:
        return partition_of(symbol.encode(), self.rules.partitions)


class _Making:
    """A world in the making."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311  # the same worlds every time
        self.rules = Rules.drawn(self.rng)
        self.world = World(self.rules)
        self.at: list[tuple[float, int, str, int, bytes | None, bytes, tuple[tuple[str, bytes], ...]]] = []
        self.places: defaultdict[int, int] = defaultdict(int)
        self.newest: dict[Who, int] = {}
        self.own: dict[tuple[Who, int], int] = {}
        self.held: dict[int, list[list[Row]]] = defaultdict(list)
        self.late: list[tuple[int, Row]] = []
        self.told: set[tuple[str, int, int]] = set()
        self.gap = 0

    def put(self, bar: float, topic: str, partition: int, value: bytes, *, key: bytes | None = None, why: str = "") -> None:
        headers = ((REASON, why.encode()),) if why else ()
        self.at.append((bar, len(self.at), topic, partition, key, value, headers))

    def done(self) -> World:
        for number in range(self.rules.bars):
            self.bar(number)
        for row in {(r.symbol, r.ts): r for r in self.world.rows}.values():
            self.outcome(row)
        self.at.sort(key=lambda a: a[:2])
        offsets: defaultdict[tuple[str, int], int] = defaultdict(int)
        for bar, _, topic, partition, key, value, headers in self.at:
            at_ms = (START_US + round(bar * MINUTE_US) + self.rules.behind_us) // 1000
            self.world.stream.append((topic, partition, Record(offsets[topic, partition], at_ms, key, value, headers)))
            offsets[topic, partition] += 1
            if topic == OUTCOMES:
                self.say(value)
        return self.world

    def say(self, value: bytes) -> None:
        if value in self.world.wrong:
            return
        body = json.loads(value)
        if body["horizon_us"] == self.rules.horizon_us:
            said = Said(body["symbol"], body["ts_event_us"], body["revision"], body["value"])
            if said[:3] not in self.told:
                self.told.add(said[:3])
                self.world.outcomes.append(said)

    def bar(self, bar: int) -> None:
        rng, rules = self.rng, self.rules
        if rng.random() < 0.02:
            self.gap = bar + rng.randint(3, 25)
        for _ in range(rng.choice([0, 0, 0, 0, 1, 4])):
            self.put(bar, REJECTED, rng.randrange(rules.partitions), b"?", why=rng.choice(["late", "undecodable"]))
        if bar < self.gap:
            return
        for partition in rng.sample(range(rules.partitions), rules.partitions):
            symbols = [s for s in rules.symbols if self.world.home(s) == partition and rng.random() < 0.95]
            for who in self.who(bar):
                rows = [self.row(who, s, START_US + bar * MINUTE_US, bar) for s in symbols]
                now = [r for r in rows if rng.random() < 0.93 or len(rows) == 1]
                self.late += [(bar + rng.randint(1, 5 * (rules.panes + 3)), r) for r in rows if r not in now]
                self.log(bar, partition, now)
            self.afterwards(bar, partition)
        if rng.random() < 0.05:
            self.wrong(bar)

    def who(self, bar: int) -> list[Who]:
        champion = ("1" if bar < self.rules.second else "2", "champion")
        challenger = [("9", "challenger")] if self.rules.challenger and bar > 10 and self.rng.random() < 0.95 else []
        return [champion, *challenger]

    def row(self, who: Who, symbol: str, ts: int, bar: int, revision: int = 0) -> Row:
        rng = self.rng
        vector = [math.nan if rng.random() < 0.04 else rng.gauss(0, 1) for _ in COLUMNS]
        vector[1] += 2.0 if bar in self.rules.drift else 0.0
        value = math.nan if rng.random() < 0.06 else round(rng.gauss(0, 1), 3)
        return Row(who, symbol, ts, revision, tuple(vector), value, rng.choice([0.3, 0.7, 0.95, 1.0, 1.0, 1.0]), -1)

    def log(self, bar: float, partition: int, rows: Sequence[Row]) -> None:
        """A record of rows of one scorer, which did not come before."""
        if not rows:
            return
        placed = []
        for row in rows:
            self.places[partition] += 1
            placed.append(row._replace(place=self.places[partition]))
            self.newest[row.who] = max(self.newest.get(row.who, -1), row.pane)
            self.own[row.who, partition] = max(self.own.get((row.who, partition), -1), row.pane)
        self.world.rows += placed
        self.held[partition].append(placed)
        self.put(bar, LOG, partition, encoded(placed, partition, self.rules.horizon_us))

    def afterwards(self, bar: int, partition: int) -> None:
        """Rows that come late, rows revised, and what a killed inference worker repeats."""
        rng = self.rng
        due = [r for at, r in self.late if at <= bar and self.world.home(r.symbol) == partition]
        self.late = [(at, r) for at, r in self.late if r not in due]
        due = due if self.rules.late else []
        old = [r for some in self.held[partition][-30:] for r in some]
        if old and self.rules.late and rng.random() < 0.15:
            r = rng.choice(old)
            greatest = max(o.revision for o in self.world.rows if (o.who, o.symbol, o.ts) == (r.who, r.symbol, r.ts))
            again = self.row(r.who, r.symbol, r.ts, bar, greatest + rng.choice([1, 1, 4]))
            due.append(again)
        for row in due:
            # So it is as late whatever chunks are made of the stream: time is that of all partitions.
            newest = self.newest.get(row.who, -1)
            if row.pane <= newest == self.own.get((row.who, partition), -1):
                self.log(bar, partition, [row])
        if rng.random() < 0.06:
            for who in sorted({r.who for some in self.held[partition][-6:] for r in some}):
                rows = [r for some in self.held[partition][-rng.randint(1, 6) :] for r in some if r.who == who]
                while rows:
                    n = rng.randint(1, 5)
                    self.put(bar, LOG, partition, encoded(rows[:n], partition, self.rules.horizon_us))
                    rows = rows[n:]

    def outcome(self, row: Row) -> None:
        rng, horizon_us = self.rng, self.rules.horizon_us
        bar = (row.ts - START_US) / MINUTE_US
        due = bar + horizon_us / MINUTE_US
        if rng.random() < 0.1:
            return  # never
        first = rng.choice(
            [due, due, due, due + rng.uniform(0, 40), bar - rng.uniform(0, 3), self.rules.bars + rng.uniform(0, 9)]
        )
        value = round(rng.gauss(0, 1) + 0.4 * (0 if math.isnan(row.value) else row.value), 3)
        self.tell(first, row, value, 0)
        if rng.random() < 0.15:
            self.tell(first + rng.uniform(-4, 30), row, round(value + rng.gauss(0, 1), 3), rng.choice([1, 1, 3]))
        if rng.random() < 0.03:
            self.tell(first + rng.uniform(0, 9), row, 7.0, 0)  # contradicts: the first holds
        if rng.random() < 0.03:
            self.tell(first, row, -7.0, 5, horizon_us=horizon_us + MINUTE_US)

    def tell(self, bar: float, row: Row, value: float, revision: int, horizon_us: int | None = None) -> None:
        body = {"symbol": row.symbol, "ts_event_us": row.ts, "horizon_us": horizon_us or self.rules.horizon_us}
        text = json.dumps({**body, "value": value, "revision": revision}).encode()
        earliest = (row.ts - START_US) / MINUTE_US - 4  # more than five minutes is refused
        self.put(max(bar, earliest), OUTCOMES, self.world.home(row.symbol), text, key=row.symbol.encode())

    def wrong(self, bar: int) -> None:
        n = len(self.world.wrong)
        self.world.wrong += [b'{"symbol": %d}' % n, b"no arrow %d" % n]
        self.put(bar, OUTCOMES, 0, self.world.wrong[-2], key=b"S1")
        self.put(bar, LOG, self.rng.randrange(self.rules.partitions), self.world.wrong[-1])


def world(seed: int) -> World:
    return _Making(seed).done()
