"""Every numbered row accounted for, from the topics alone: confluent-kafka reads, the oracle of the lag windows judges.

a row is                          and then
predicted, abstained              its id is among the predictions and in the log, each copy with the same body, and the
                                  vector logged is the oracle's, bit for bit
rejected: <reason>                its bytes are in the rejected topic with that reason and where they came from
context                           of another feature set: it enters the vectors of others
repeated                          a row sent again: nothing of its own
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.broker.inference_rows import COLUMNS, FEATURE_SETS, MODEL, SETS, SPEC, VERSION
from tests.chaos.feeding import NUMBER
from tests.chaos.reading import Read, read_all
from tests.laws.oracle import Oracle, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.names import Names

ERRORS = "__connect.errors."


class NewestRows(Oracle):
    """The oracle, forgetting rows that can decide nothing any more, so that its cost does not grow with the stream.

    Expiry, identity and vectors all look at a set's `depth` newest rows of a symbol only: what is below them stays below.
    """

    def _place(self, row: Row) -> str:
        fate = super()._place(row)
        if fate == "kept":
            mine = sorted((k for k in self.kept if k.feature_set == row.feature_set), key=lambda k: (k.event, k.revision))
            if len(mine) > self.depth[row.feature_set]:
                self.kept.remove(mine[0])
        return fate


@dataclass
class Demand:
    """What must come of the rows of a features topic."""

    rows: int = 0
    numbers: set[int] = field(default_factory=set)
    fates: Counter[str] = field(default_factory=Counter)
    vectors: dict[str, list[float]] = field(default_factory=dict)
    stale: dict[str, list[str]] = field(default_factory=dict)
    number: dict[str, int] = field(default_factory=dict)
    origin: dict[str, tuple[int, int]] = field(default_factory=dict)
    rejected: dict[tuple[int, int], str] = field(default_factory=dict)


def demand(features: Sequence[Read]) -> Demand:
    """Each row's fate in the order of offsets, one oracle a symbol: windows are never shared between symbols."""
    out = Demand(rows=len(features))
    depth = {n: f.depth_rows for n, f in FEATURE_SETS.items()}
    oracles: defaultdict[str, Oracle] = defaultdict(lambda: NewestRows(SPEC, depth))
    for r in features:
        number = int(r.headers[NUMBER])
        out.numbers.add(number)
        reason = r.headers["expect"].decode() if "expect" in r.headers else _read(out, oracles, r, number)
        if reason is not None:
            out.rejected[r.partition, r.offset] = reason
            out.fates[f"rejected: {reason}"] += 1
    return out


def _read(out: Demand, oracles: defaultdict[str, Oracle], r: Read, number: int) -> str | None:
    d = json.loads(r.value or b"")
    values = {f: math.nan if d["values"].get(f) is None else d["values"][f] for f in SETS[d["feature_set"]]}
    row = Row(r.offset, d["symbol"], d["feature_set"], d["ts_event_us"], d["ts_known_us"], d["revision"], values)
    oracle = oracles[row.symbol]
    fate = oracle.read(row)
    if fate in {"conflict", "expired"}:
        return fate
    if fate == "duplicate":
        out.fates["repeated"] += 1
    elif not oracle.answers:
        out.fates["context"] += 1
    for answer in oracle.answers:
        pid = f"{MODEL}:{VERSION}:{answer.row.symbol}:{answer.row.event}:{answer.row.revision}"
        out.vectors[pid], out.stale[pid] = answer.vector, answer.stale
        out.number[pid], out.origin[pid] = number, (r.partition, r.offset)
    oracle.answers.clear()
    return None


@dataclass
class Ledger:
    """What was found. Every list holds what must never be, except `repeated`."""

    rows: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    not_written: list[int] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    contradictory: list[str] = field(default_factory=list)
    repeated: int = 0

    @property
    def faults(self) -> dict[str, list[Any]]:
        """The first few of each kind of fault; empty for a clean ledger."""
        names = ("not_written", "lost", "unknown", "wrong", "contradictory")
        return {n: getattr(self, n)[:5] for n in names if getattr(self, n)}


def audit(names: Names, *, sent: int | None = None) -> Ledger:
    """Read the topics and account for every row; `sent`: rows 0 to `sent` must all be in the features topic."""
    features = read_all(names.servers, names.topics.features)
    want = demand(features)
    out = Ledger(rows=want.rows, fates=want.fates)
    out.not_written = sorted(set(range(sent or 0)) - want.numbers)
    logged = _judge_log(names, want, out)
    _judge_predictions(names, want, logged, out)
    _judge_rejected(names, want, features, out)
    return out


def _judge_log(names: Names, want: Demand, out: Ledger) -> dict[str, tuple[bytes, float]]:
    import pyarrow as pa

    logged: dict[str, tuple[bytes, float]] = {}
    for r in read_all(names.servers, names.topics.inference_log):
        table = pa.ipc.open_stream(r.value).read_all()
        columns = [table[n].to_pylist() for n in ("prediction_id", "vector", "value", "source_offset")]
        for pid, vector, value, offset in zip(*columns, strict=True):
            entry = bits(vector), math.nan if value is None else value
            before = logged.setdefault(pid, entry)
            if before[0] != entry[0] or bits([before[1]]) != bits([entry[1]]):
                out.contradictory.append(f"log: {pid}")
            elif pid in want.origin and (r.partition, offset) != want.origin[pid]:
                out.wrong.append(f"log: {pid} says it comes from {r.partition}:{offset}")
    for pid, vector in want.vectors.items():
        if pid not in logged:
            out.lost.append(f"log: {pid}")
        elif logged[pid][0] != bits(vector):
            out.wrong.append(f"log: {pid} has another vector")
    out.unknown += [f"log: {pid}" for pid in logged.keys() - want.vectors.keys()]
    return logged


def _judge_predictions(names: Names, want: Demand, logged: dict[str, tuple[bytes, float]], out: Ledger) -> None:
    bodies: dict[str, bytes] = {}
    for r in read_all(names.servers, names.topics.predictions):
        value = r.value or b""
        body = json.loads(value)
        pid = body["prediction_id"]
        if pid in bodies:
            out.repeated += 1
            if bodies[pid] != value:
                out.contradictory.append(pid)
            continue
        bodies[pid] = value
        if pid not in want.vectors:
            out.unknown.append(pid)
            continue
        out.fates["abstained" if body["abstained"] else "predicted"] += 1
        missing = [c.name for c, v in zip(COLUMNS, want.vectors[pid], strict=True) if math.isnan(v)]
        origin = r.partition, body["source"]["offset"]
        made = math.nan if body["value"] is None else body["value"]
        if (body["missing"], body["stale"], origin, r.key, body["source"]["partition"]) != (
            missing,
            want.stale[pid],
            want.origin[pid],
            body["symbol"].encode(),
            r.partition,
        ) or (pid in logged and bits([made]) != bits([logged[pid][1]])):
            out.wrong.append(pid)
    out.lost += [f"row {want.number[pid]}: {pid}" for pid in want.vectors.keys() - bodies.keys()]


def _judge_rejected(names: Names, want: Demand, features: Sequence[Read], out: Ledger) -> None:
    origin = {(f.partition, f.offset): f for f in features}
    seen: dict[tuple[int, int], tuple[str, str]] = {}
    for r in read_all(names.servers, names.topics.features_rejected):
        h = {k.removeprefix(ERRORS): v.decode() for k, v in r.headers.items() if k.startswith(ERRORS)}
        at = int(h["partition"]), int(h["offset"])
        why = h["exception.class.name"], h["exception.message"]
        if at in seen:
            out.repeated += 1
            if seen[at] != why:
                out.contradictory.append(f"rejected: {at} {seen[at]} {why}")
            continue
        seen[at] = why
        if at not in want.rejected:
            out.unknown.append(f"rejected: {at} {why}")
            continue
        same = (r.key, r.value, r.partition, h["topic"]) == (origin[at].key, origin[at].value, at[0], names.topics.features)
        if not same or why[0] != want.rejected[at] or not why[1]:
            out.wrong.append(f"rejected: {at} {why}, not {want.rejected[at]}")
    out.lost += [f"rejected: {at} {want.rejected[at]}" for at in want.rejected.keys() - seen.keys()]


def bits(values: Sequence[float]) -> bytes:
    """Float64 as bytes: NaN equals NaN, −0 does not equal 0."""
    return struct.pack(f"<{len(values)}d", *values)
