"""What must hold of a world that has come to rest, worked out from the topics alone by a run that nothing interrupts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from streams.group import RULES
from streams.layout import SetLayout, merge_specs
from streams.partitions import VERSIONS
from streams.pipeline import STREAM_TIME, Pipeline
from streams.predictions import vector_hashes
from streams.records import PartitionRecords
from streams.rejections import fit
from streams.state import APPLIED, unpack
from streams.switches import History, is_switch
from streams.topics import WINDOWS_TABLE
from streams.waiting import StreamTime, Waiting
from streams.windows import LagWindows
from tests.laws.oracle import Oracle, Row
from tests.simulation.broker import Commit, Stored
from tests.simulation.consumer import CHANGELOG, TOPICS
from tests.simulation.rows import PARTITIONS

if TYPE_CHECKING:
    from models.handle import ModelHandle
    from streams.switches import Order
    from tests.record import Record
    from tests.simulation.broker import Broker
    from tests.simulation.world import World

_TIME, _VERSIONS = STREAM_TIME.encode(), VERSIONS.encode()
_SHADOW = "shadow: "
TOGETHER = 8
"""Records the uninterrupted run takes at a time: how closely it knows at which offset a row is settled."""


@dataclass
class Truth:
    """What a run that nothing interrupts makes of a features topic."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    due: list[tuple[int, int, str]] = field(default_factory=list)
    """(partition, offset from which on it must be out, the prediction's id)"""
    rejected: set[tuple[Any, ...]] = field(default_factory=set)
    state: dict[tuple[int, bytes], bytes] = field(default_factory=dict)
    histories: dict[int, History] = field(default_factory=dict)
    applied: list[tuple[int, int, bytes, int]] = field(default_factory=list)
    """(partition, offset from which on it must be so, symbol, position of its last row applied), ascending"""


def truth(broker: Broker, handles: list[ModelHandle], orders: list[Order] | None) -> Truth:
    """One pipeline, from the first record to the last, that has all versions and orders from the beginning."""
    out = Truth()
    pipeline = Pipeline(handles, partitions=PARTITIONS, max_future_us=10**15, slack_rows=30, orders=orders)
    for p in range(PARTITIONS):
        log = broker.log(TOPICS.features, p)
        for at in range(0, len(log), TOGETHER):
            some = log[at : at + TOGETHER]
            found = pipeline.step([PartitionRecords(TOPICS.features, p, some)], lambda *_: None)
            for apart, records in (("", found.predictions), (_SHADOW, found.shadow)):
                for _, _, value in records:
                    pid = apart + msgspec.json.decode(value)["prediction_id"]
                    assert pid not in out.bodies
                    out.bodies[pid] = value
                    out.due.append((p, some[-1].offset + 1, pid))
            for r in map(fit, found.rejected):
                out.rejected.add((r.partition, r.offset, r.key, r.value, r.reason, r.detail))
            for _, key, value in pipeline.take_dirty():
                out.state[p, key] = value
                if not key.startswith(b"\x00"):
                    out.applied.append((p, some[-1].offset + 1, key, applied(value)))
        if p in pipeline.partitions:
            out.histories[p] = pipeline.partitions.history(p)
    return out


def applied(value: bytes) -> int:
    """The position a table value says it is at."""
    return int.from_bytes(value[APPLIED], "little", signed=True)


def faults(world: World) -> list[str]:
    """Everything that is not as it must be."""
    found: list[str] = []
    if world.stalled is not None:
        return [f"it does not come to rest: {world.stalled}"]
    broker = world.broker
    found += [f"a worker ended by its own fault: {why}" for why in world.did if why.startswith(("crashed: ", "70: "))]
    one = truth(broker, world.registry.versions, world.registry.orders)
    first: dict[str, int] = {}
    for p in range(PARTITIONS):
        published = [("", r) for r in broker.log(TOPICS.predictions, p)]
        published += [(_SHADOW, r) for r in broker.log(TOPICS.predictions_shadow, p)]
        for apart, r in published:
            assert r.value is not None
            pid = apart + msgspec.json.decode(r.value)["prediction_id"]
            right = one.bodies.get(pid)
            if right is None:
                found.append(f"unknown: {pid}")
            elif right != r.value:
                found.append(f"wrong: {r.value.decode()} instead of {right.decode()}")
            first[pid] = min(first.get(pid, r.at), r.at)
    found += [f"lost: {pid}" for pid in sorted(set(one.bodies) - set(first))]
    found += _versions(one)
    found += _oracle(world, truth(broker, world.registry.versions[:1], None))
    found += _commits(broker, one, first)
    found += _changelog(broker, one)
    found += _rejected(broker, one)
    found += _state(world, one)
    return found


def _versions(truth: Truth) -> list[str]:
    """One record of each row and revision, by the version of its event time, or by the oldest that counts."""
    seen = set()
    out = []
    for pid, value in truth.bodies.items():
        if pid.startswith(_SHADOW):
            continue
        b = msgspec.json.decode(value)
        row, version = pid.split(":", 2)[2], int(b["version"])
        entries = truth.histories[b["source"]["partition"]].entries()
        numbers = [(e.from_us, int(e.order.version)) for e in entries if e.order.role == "champion"]
        right = max((number for from_us, number in numbers if from_us <= b["ts_event_us"]), default=0)
        newest = max(number for _, number in numbers)
        if b["role"] == "champion" and version != right and not right < version < newest:
            out.append(f"{pid} answered instead of version {right}")
        if row in seen:
            out.append(f"two versions answered {row}")
        seen.add(row)
    return out


def _oracle(world: World, truth: Truth) -> list[str]:
    """The uninterrupted run against the meaning of a lag window in plain Python lists."""
    spec = world.registry.versions[0].spec
    depth = {name: s.depth_rows for name, s in spec.feature_sets.items()}
    right = {}
    for p in range(PARTITIONS):
        oracle = Oracle(spec, depth)
        for r in world.broker.log(TOPICS.features, p):
            if is_switch(r):
                continue
            for row in world.meant[p, r.offset] if (p, r.offset) in world.meant else [_clock(r)]:
                read = {f: row.values[f] for f in row.values if f != "w"}
                oracle.read(replace(row, values=read))
        for a in oracle.answers:
            pid = f"m:1:{a.row.symbol}:{a.row.event}:{a.row.revision}"
            missing = [c.name for c, v in zip(spec.columns, a.vector, strict=True) if math.isnan(v)]
            right[pid] = [vector_hashes(np.array([a.vector]))[0], a.decision, missing, a.stale]
    names = ("vector_hash", "ts_decision_us", "missing", "stale")
    ours = {pid: [msgspec.json.decode(value)[n] for n in names] for pid, value in truth.bodies.items()}
    return [f"not the oracle's: {pid}" for pid in sorted({*right, *ours}) if right.get(pid) != ours.get(pid)]


def _clock(record: Record) -> Row:
    """The row of a clock record a worker appended."""
    row = msgspec.json.decode(record.value or b"")
    return Row(0, row["symbol"], row["feature_set"], row["ts_event_us"], row["ts_known_us"], 0, {})


def _commits(broker: Broker, truth: Truth, first: dict[str, int]) -> list[str]:
    """No offset was committed before what it stands for was delivered."""
    out = []
    due = {p: sorted((offset, row) for q, offset, row in truth.due if q == p) for p in range(PARTITIONS)}
    done = dict.fromkeys(range(PARTITIONS), 0)
    for c in broker.commits:
        mine = due[c.partition]
        while done[c.partition] < len(mine) and mine[done[c.partition]][0] <= c.offset:
            row = mine[done[c.partition]][1]
            if first.get(row, c.at) >= c.at:
                out.append(f"committed early: {row} was not out when {c.by} committed {c.offset} of {c.partition}")
            done[c.partition] += 1
        if c.offset > len(broker.log(TOPICS.features, c.partition)):
            out.append(f"committed past the end: {c}")
    return out


def _changelog(broker: Broker, truth: Truth) -> list[str]:
    """When offsets were committed, the last record of each key knew all rows before them, whatever others wrote in between."""
    out = []
    for p in range(PARTITIONS):
        told: list[Stored | Commit] = sorted(
            [*broker.log(CHANGELOG, p), *(c for c in broker.commits if c.partition == p)], key=attrgetter("at")
        )
        due = [d for d in truth.applied if d[0] == p]
        last: dict[bytes, int] = {}
        last_of: dict[str, dict[bytes, int]] = {}  # as it was when a worker had written, and had not asked for anything since
        must: dict[bytes, int] = {}
        reached = 0
        for e in told:
            if isinstance(e, Stored):
                assert e.key is not None
                assert e.value is not None
                last[e.key] = applied(e.value)
                last_of[e.by] = dict(last)
                continue
            held, reached, more = last_of.pop(e.by, None), max(reached, e.offset), e.offset > reached
            if held is None or not more:
                continue
            while due and due[0][1] <= e.offset:
                _, _, key, position = due.pop(0)
                must[key] = position
            stale = sorted(key for key, position in must.items() if held.get(key, -1) < position)
            if stale:
                out.append(f"stale in the changelog of partition {p} when {e.by} committed {e.offset}: {stale}")
    return out


def _rejected(broker: Broker, truth: Truth) -> list[str]:
    seen = set()
    for p in range(PARTITIONS):
        for r in broker.log(TOPICS.features_rejected, p):
            h = {k.removeprefix("__connect.errors."): v.decode() for k, v in r.headers}
            at = int(h["partition"]), int(h["offset"])
            seen.add((*at, r.key, r.value, h["exception.class.name"], h["exception.message"]))
    return [f"rejected: {row}" for row in sorted(seen ^ truth.rejected, key=repr)]


def _state(world: World, truth: Truth) -> list[str]:
    """What a rebuild on an empty disk finds is what the owner has, and what the uninterrupted run has."""
    out = []
    versions = {(h.name, h.version): h for h in world.registry.versions}
    owner = {p: w for w in world.workers.values() for p in world.broker.group.shares.get(w.name, [])}
    for p in range(PARTITIONS):
        rebuilt = rebuild(world.broker, p)
        held = owner[p].folder.state(p)
        right = {key: value for (q, key), value in truth.state.items() if q == p}
        committed = world.broker.committed.get(p, 0)
        if len({_time(entries.pop(_TIME, b"\x01"), committed) for entries in (rebuilt, held, right)}) > 1:
            out.append(f"stream time in partition {p} is not that of an uninterrupted run")
        if rebuilt != held:
            differ = sorted(k for k in {*rebuilt, *held} if rebuilt.get(k) != held.get(k))
            out.append(f"state of {owner[p].name} differs from the changelog in partition {p}: {differ}")
        if rebuilt and _VERSIONS not in rebuilt:
            out.append(f"the changelog does not say what is in force in partition {p}")
            continue
        history = History.unpack(rebuilt[_VERSIONS]) if rebuilt else History()
        layout = merge_specs(versions[v].spec for v in history.versions(["m"]))
        ours, theirs = (
            {k: _as_laid_out(v, layout, history) if k != _VERSIONS else v for k, v in e.items()} for e in (rebuilt, right)
        )
        if ours != theirs:
            differ = sorted(k for k in {*ours, *theirs} if ours.get(k) != theirs.get(k))
            out.append(f"state in partition {p} is not that of an uninterrupted run: {differ}")
    return out


def _as_laid_out(value: bytes, layout: dict[str, SetLayout], history: History) -> bytes:
    """A symbol's state written anew in a layout: one that no row has touched since may still be in that of the day."""
    windows = LagWindows(layout, slack_rows=1)
    windows.cuts[0] = history.cuts
    state = unpack(value)
    windows.admit(0, "s", replace(state, waiting=()))
    windows.wait("s", (Waiting("", 0, 0, 0, 0),))  # marks it as changed
    windows.wait("s", state.waiting)
    ((_, _, out),) = windows.take_dirty()
    return out


def _time(value: bytes, offset: int) -> int:
    """The stream time a worker that begins at an offset goes on from."""
    times = StreamTime()
    times.start(0, offset, value)
    return times._now[0]


def rebuild(broker: Broker, partition: int) -> dict[bytes, bytes]:
    """What a worker finds on an empty disk."""
    out: dict[bytes, bytes] = {}
    for r in broker.compacted(CHANGELOG, partition, start=0):
        assert r.key is not None
        assert r.value is not None
        out[r.key] = RULES[WINDOWS_TABLE](r.key, out[r.key], r.value) if r.key in out else r.value
    return out
