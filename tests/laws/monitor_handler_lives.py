"""Lives of a monitor in a random world: chunks, checkpoints, crashes, revocations, clocks."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from config import load_settings
from streams.chunks import Chunk
from streams.monitor import MonitorHandler
from streams.records import PartitionRecords
from streams.spans import SpanTracker
from tests.laws.monitor_handler_wire import PANE_US, spec
from tests.laws.monitor_handler_world import LOG
from tests.unit.streams.monitor_world import LOCAL, Outbox, Table, Warehouse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.spec import ServingSpec
    from tests.laws.monitor_handler_world import Placed, World
    from tests.record import Record


class _Registry:
    def __init__(self, horizon_us: int) -> None:
        self._spec = spec(horizon_us)

    def load_spec(self, _name: str, _version: str) -> ServingSpec:
        return self._spec


class Life:
    """A monitor and all around it; a restart keeps only what outlives a process."""

    def __init__(self, world: World, folder: Path, *, backlog: bool = False, **env: str) -> None:
        """`backlog`: all of the world is in the topics before the monitor starts, else what was fed is all there is."""
        r = world.rules
        self.world = world
        self.settings = load_settings(
            LOCAL,
            {
                "TRADING_ML__STORAGE__STATE_DIR": str(folder),
                "TRADING_ML__KAFKA__PARTITIONS": str(r.partitions),
                "TRADING_ML__MONITORING__METRICS_WINDOW": f"{r.panes * PANE_US // 60_000_000}m",
                "TRADING_ML__MONITORING__PANES": str(r.panes),
                "TRADING_ML__MONITORING__MIN_SAMPLES": "20",
                "TRADING_ML__MONITORING__COOLDOWN": "10m",
                "TRADING_ML__MONITORING__SYMBOL_GROUPS": json.dumps(r.groups),
                **env,
            },
        )
        self.outbox, self.warehouse = Outbox(), Warehouse()
        self.table = Table({p: {} for p in range(r.partitions)})
        self.registry = _Registry(r.horizon_us)
        self.ends = {p: sum(x[:2] == (LOG, p) for x in world.stream) if backlog else 0 for p in range(r.partitions)}
        self.now_s, self.now_us, self.sure = 0.0, 0, 0
        self.live_us = 0
        self.committed: dict[Any, int] = {}
        self.fed: dict[Any, int] = {}
        self.restart()

    def restart(self) -> None:
        outbox: Any = self.outbox
        self.handler = MonitorHandler(self.settings, self.registry, outbox, self.warehouse, clock=lambda: self.now_s)
        self.handler._served = frozenset({"m"})
        self.handler.references.start = lambda ask: ask()
        self.handler.use_table(self.table)
        self.seek()

    def seek(self) -> None:
        """Reading starts again from what was committed."""
        self.tracker = SpanTracker()
        stood = dict(self.committed)
        self.handler.stood = lambda partition: stood.get((LOG, partition))
        fed = dict(self.fed)
        self.handler.highwater = lambda partition: max(self.ends[partition], fed.get((LOG, partition), -1) + 1)

    def feed(self, records: Sequence[Placed]) -> None:
        """Take these as one chunk."""
        places: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)
        for topic, partition, record in records:
            places[topic, partition].append(record)
            self.now_us = max(self.now_us, record.timestamp * 1000)
            if topic == LOG:
                self.live_us = record.timestamp * 1000
        for q, rs in places.items():
            self.fed[q] = max(self.fed.get(q, -1), rs[-1].offset)
        spans = [self.tracker.add(q, first=rs[0].offset, end=rs[-1].offset + 1) for q, rs in places.items()]
        chunk = Chunk([PartitionRecords(t, p, rs) for (t, p), rs in places.items()], spans, self.tracker)
        if not self.handler.process(chunk):
            chunk.finish()

    def checkpoint(self) -> None:
        done = self.tracker.committable()
        dirty = self.handler.take_dirty()
        self.handler.wait_kept()
        self.table.write(dirty)
        self.sure = len(self.outbox.sent)
        self.committed.update(done)

    def crash(self, rng: random.Random) -> None:
        """Dies before, in or after a checkpoint. What was not confirmed may never have been sent."""
        if rng.random() < 0.3:
            del self.outbox.sent[rng.randint(self.sure, len(self.outbox.sent)) :]
        else:
            dirty = list(self.handler.take_dirty())
            self.handler.wait_kept()
            self.sure = len(self.outbox.sent)
            kinds = [dirty, dirty[: rng.randint(0, len(dirty))], [d for d in dirty if rng.random() < 0.5]]
            self.table.write(rng.choice([*kinds, [d for d in dirty if d[0] == 0], [d for d in dirty if d[0] != 0]]))
        self.restart()

    def settle(self) -> None:
        """Time passes in which nothing comes."""
        self.warehouse.down = False
        for _ in range(4):
            self.now_s += 20
            self.checkpoint()
            self.handler.say()
        self.sure = len(self.outbox.sent)

    def said(self, name: str) -> list[dict[str, Any]]:
        """Records with an id of this name, in order."""
        topics = self.settings.kafka.topics
        return [r for topic in (topics.performance, topics.alerts) for r in self.outbox.records(topic) if name in r]

    def rejected(self) -> set[bytes]:
        return {
            value for topic, _, _, value, _ in self.outbox.sent if topic == self.settings.kafka.topics.features_rejected and value
        }


def undisturbed(world: World, folder: Path, size: int = 60) -> Life:
    life = Life(world, folder)
    for at in range(0, len(world.stream), size):
        life.feed(world.stream[at : at + size])
        life.checkpoint()
        life.handler.say()
    life.settle()
    return life


def disturbed(world: World, folder: Path, seed: int, *, in_order: bool) -> Life:
    """A life full of accidents. What comes again is cut otherwise and, unless `in_order`, mixed otherwise."""
    rng = random.Random(seed)  # noqa: S311  # the same accidents every time
    life = Life(world, folder, backlog=not in_order)
    queues: defaultdict[tuple[str, int], list[Placed]] = defaultdict(list)
    for placed in world.stream:
        queues[placed[:2]].append(placed)
    place = {id(p): n for n, p in enumerate(world.stream)}
    at = dict.fromkeys(queues, 0)
    accidents = rng.randint(1, 6)
    typical = rng.choice([3, 20, 90, 400])
    mixed = 0
    while any(at[q] < len(queues[q]) for q in queues):
        n = rng.randint(1, 2 * typical)
        if mixed and not in_order:
            mixed -= 1
            some = rng.sample(sorted(queues), rng.randint(1, len(queues)))
            chunk = [p for q in some for p in queues[q][at[q] : at[q] + rng.randint(0, n)]]
        else:
            chunk = sorted((p for q, held in queues.items() for p in held[at[q] : at[q] + n]), key=lambda p: place[id(p)])[:n]
        life.feed(chunk)
        for p in chunk:
            at[p[:2]] += 1
        # Nobody waits so long that what is behind is not waited for.
        life.now_s += rng.choice([0, 0, 1, 6]) if not len(life.handler._counting._aligned) else 0
        if rng.random() < 0.3:
            life.checkpoint()
        if rng.random() < 0.5:
            life.handler.say()
        if rng.random() < 0.1:
            # What is silent is told by the clock, and keeps drift from rising: in order, nothing is.
            now_us = life.live_us if in_order else life.now_us + rng.choice([0, 10**9])
            life.handler.look_at_the_clock(now_us, caught_up=rng.random() < 0.5)
        if rng.random() < 0.05:
            life.warehouse.down = not life.warehouse.down
        if accidents and rng.random() < 3 * accidents * n / len(world.stream):
            accidents -= 1
            if rng.random() < 0.7:
                life.crash(rng)
            else:
                life.handler.revoked(
                    range(world.rules.partitions) if rng.random() < 0.5 else {rng.randrange(world.rules.partitions)}
                )
                life.seek()
            at, mixed = {q: life.committed.get(q, 0) for q in queues}, rng.randint(1, 5)
    life.settle()
    return life
