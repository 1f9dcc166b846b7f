"""Messages through the real decoders and `Pipeline.step`, and what must hold of every one of them.

Good rows of symbols no fuzzed message has (the witnesses) stand between the bad ones; a second pipeline sees only these.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from streams.errors import StateLayoutError
from streams.frames import is_frame
from streams.layout import merge_specs
from streams.logrows import read_log
from streams.outcomes import OutcomeDecoder
from streams.pipeline import Pipeline
from streams.prediction_frames import decode_predictions
from streams.records import FeatureDecoder, PartitionRecords
from streams.recordtext import record_lines
from streams.rejections import fit, rejection_headers
from streams.replays import as_row, refused
from streams.state import unpack
from tests.fuzz.cases import as_record
from tests.fuzz.seeds import HOME, MAX_FUTURE_US, NOW_MS, PARTITIONS, WITNESSES
from tests.record import Record
from tests.unit.streams.pipes import X1, X, Y, Z, handle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.pipeline import StepResult
    from streams.records import FeatureBatch, Rejected
    from tests.fuzz.cases import Message

MOST_RECORD_BYTES = 1_000_000
_QUIET = int(np.array(np.nan).view(np.uint64))


class Broken(AssertionError):
    """What must hold does not."""


@dataclass
class Tally:
    """What became of how many messages, and which took longest."""

    fates: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    slowest_s: dict[str, float] = field(default_factory=dict)
    slowest: dict[str, bytes] = field(default_factory=dict)

    def took(self, kind: str, seconds: float, value: bytes | None) -> None:
        if seconds > self.slowest_s.get(kind, 0.0):
            self.slowest_s[kind], self.slowest[kind] = seconds, value or b""


def pipeline() -> Pipeline:
    """One model whose rows must all be answered at once, and one that waits."""
    handles = [handle("m", [X, X1, Y]), handle("waits", [X, Z], deadline_us=15)]
    return Pipeline(handles, partitions=PARTITIONS, max_future_us=MAX_FUTURE_US, slack_rows=8)


class Features:
    """The features topic: one partition, chunk after chunk."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self._all, self._good = pipeline(), pipeline()
        layout = merge_specs(h.spec for h in self._all.partitions.handles.values())
        self._decoder = FeatureDecoder(layout, partitions=PARTITIONS, max_future_us=MAX_FUTURE_US)
        self._offset = 0
        self._event = 0
        self._answered: set[str] = set()

    def chunk(self, messages: Sequence[Message]) -> None:
        """Take these messages, with witnesses between them. Raises `Broken` when one is not treated as it must be."""
        records, witnesses = [], []
        for i, message in enumerate(messages):
            if i % 6 == 0:
                witnesses.append(self._witness())
                records.append(witnesses[-1])
            records.append(as_record(message, self._offset, NOW_MS))
            self._offset += 1
        part = PartitionRecords("f", HOME, records)
        counts: Counter[str] = Counter()
        batches, refusals = self._decoder.decode([part], counts)
        began = time.perf_counter()
        out = self._all.step([part], lambda *_: None)
        seconds = time.perf_counter() - began
        self._same_witnesses(out, [PartitionRecords("f", HOME, witnesses)])
        self._accounted(part, batches, refusals, out, counts["rows"])
        self._answers(batches, out)
        for r in out.rejected[:200] + out.rejected[200::97]:  # rows of one frame are much alike
            self._sendable(r)
        for _, _, value in self._all.take_dirty():
            if value[0] == 2:
                unpack(value)
        self._good.take_dirty()
        if len(messages) == 1 or seconds > max(self.tally.slowest_s.values(), default=0.0):
            self._time(messages, seconds)

    def _time(self, messages: Sequence[Message], seconds: float) -> None:
        for message in messages:
            if len(messages) > 1:
                alone, record = pipeline(), as_record(message, 0, NOW_MS)
                began = time.perf_counter()
                alone.step([PartitionRecords("f", HOME, [record])], lambda *_: None)
                seconds = time.perf_counter() - began
            kind = "frame" if is_frame(as_record(message, 0, 0)) else "row"
            self.tally.took(kind, seconds, message[1])

    def _witness(self) -> Record:
        symbol = WITNESSES[self._event // 10 % len(WITNESSES)]
        values = {"x": self._event % 7, "y": None}
        row = {"symbol": symbol, "feature_set": "bars", "ts_event_us": self._event, "values": values}
        found = Record(self._offset, NOW_MS, symbol.encode(), json.dumps(row).encode())
        self._event += 10
        self._offset += 1
        return found

    def _same_witnesses(self, out: StepResult, good: list[PartitionRecords]) -> None:
        """The good rows' records are byte for byte those without the bad ones beside them."""
        names = [w.encode() for w in WITNESSES]
        alone = [p for p in self._good.step(good, lambda *_: None).predictions if b'"model":"m"' in p[2]]
        beside = [p for p in out.predictions if p[1] in names and b'"model":"m"' in p[2]]
        if alone != beside or len(alone) != len(good[0].records):
            raise Broken(f"good rows are not answered as they are alone: {beside} instead of {alone}")

    def _accounted(
        self, part: PartitionRecords, batches: list[FeatureBatch], refusals: list[Rejected], out: StepResult, rows: int
    ) -> None:
        """Each record is in a batch or among the rejected, once, with its bytes; of a frame each of its rows."""
        taken = Counter(at for b in batches for at in b.source_offset.tolist())
        refused_at: dict[int, list[Rejected]] = {}
        for r in refusals:
            refused_at.setdefault(r.offset, []).append(r)
        positions = [at for b in batches for at in b.offset.tolist()]
        if len(set(positions)) != len(positions) or rows != len(positions) + len(refusals):
            raise Broken(f"{rows} rows, {len(positions)} taken at {len(set(positions))} places, {len(refusals)} rejected")
        for b in batches:
            lengths = {len(b.symbols), len(b.seq), len(b.ts_event_us), len(b.ts_known_us), len(b.revision), len(b.values)}
            if lengths != {len(b.offset)} or set(b.values[np.isnan(b.values)].view(np.uint64).tolist()) - {_QUIET}:
                raise Broken(f"columns of {lengths} rows, or another NaN than the quiet one")
        for record in part.records:
            good, bad = taken[record.offset], refused_at.get(record.offset, [])
            framed = is_frame(record)
            whole = [r for r in bad if r.value == record.value and r.key == record.key]
            if not framed and (good + len(bad) != 1 or len(whole) != len(bad)):
                raise Broken(f"a row was taken {good} times and rejected {len(bad)} times, {len(whole)} with its bytes")
            if framed and not (len(bad) == len(whole) == 1 and not good) and any("of the frame" not in r.detail for r in bad):
                raise Broken(f"a frame was neither rejected whole nor row by row: {good} rows, {bad[:1]}")
            kind = "frame" if framed else "row"
            self.tally.messages[kind] += 1
            self.tally.fates[f"{kind}: taken" + (" in part" if bad else "") if good else f"{kind}: without rows"] += (
                not bad or good > 0
            )
            for r in bad:
                of = "whole " if framed and r in whole else ""
                self.tally.fates[f"{'row of a ' if framed and not of else of}{kind}: {r.reason}"] += 1
        later = [r.reason for r in out.rejected[len(refusals) :]]
        if {*later} - {"conflict", "expired"} or [(r.offset, r.reason) for r in refusals] != [
            (r.offset, r.reason) for r in out.rejected[: len(refusals)]
        ]:
            raise Broken(f"the pipeline rejected {later[:3]} beyond what the decoder did")
        self.tally.fates.update(f"taken row: {reason}" for reason in later)

    def _answers(self, batches: list[FeatureBatch], out: StepResult) -> None:
        """Every good row of the trigger set has its record of model m, or was rejected by the windows."""
        self._answered.update(json.loads(value)["prediction_id"] for _, _, value in out.predictions)
        windows = {(r.offset, r.key) for r in out.rejected if r.reason in {"conflict", "expired"}}
        for b in batches:
            if b.feature_set != "bars":
                continue
            columns = zip(b.symbols, b.ts_event_us.tolist(), b.revision.tolist(), b.source_offset.tolist(), strict=True)
            for symbol, event, revision, offset in columns:
                if f"m:1:{symbol}:{event}:{revision}" not in self._answered and (offset, symbol.encode()) not in windows:
                    raise Broken(f"no record for {symbol} at {event}, revision {revision}, offset {offset}")

    def _sendable(self, r: Rejected) -> None:
        """The rejected topic can take it, and it can be read from there."""
        sent = fit(r)
        headers = rejection_headers(sent)
        size = len(sent.key or b"") + len(sent.value or b"") + sum(len(n.encode()) + len(d) + 10 for n, d in headers)
        if size > MOST_RECORD_BYTES or (sent.value is None and r.value is not None and "left out" not in sent.detail):
            raise Broken(f"rejected as a record of {size} bytes: {sent.detail}")
        if any("\0" in name for name, _ in headers):
            raise Broken(f"a header name that the client would cut short: {headers}")
        again = refused(0, sent.key, sent.value, headers)
        if again is None or (again.reason, again.offset, again.value) != (r.reason, r.offset, sent.value):
            raise Broken(f"the rejected topic says something else of it: {again}")
        if again.whole == ((r.key, r.value) != (sent.key, sent.value) or (r.value is None and " bytes left out; " in r.detail)):
            raise Broken("the rejected topic does not say that something was left out")
        as_row(again)
        if len(sent.value or b"") < 5_000:
            record_lines(sent.value, headers)


class Others:
    """Everything else that is decoded."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self._outcomes = OutcomeDecoder(partitions=PARTITIONS, max_future_us=MAX_FUTURE_US)

    def outcomes(self, messages: Sequence[Message]) -> None:
        part = PartitionRecords("o", HOME, [as_record(m, i, NOW_MS) for i, m in enumerate(messages)])
        batch, rejected = self._outcomes.decode(part)
        self._once("outcome", part, batch.offset.tolist(), rejected)

    def logs(self, messages: Sequence[Message]) -> None:
        for message in messages:
            part = PartitionRecords("l", HOME, [as_record(message, 0, NOW_MS)])
            began = time.perf_counter()
            rows, rejected = read_log(part)
            for r in rows:
                json.dumps(r.table.slice(0, 50).to_pylist(), default=str)
            self.tally.took("log", time.perf_counter() - began, message[1])
            self._once("log", part, [0] if rows or not rejected else [], rejected)

    def predictions(self, value: bytes) -> None:
        began = time.perf_counter()
        try:
            fate = "rows" if isinstance(decode_predictions(value), list) else "nothing"
        except ValueError:
            fate = "ValueError"
        self._other("prediction frame", fate, began, value)

    def state(self, value: bytes) -> None:
        began = time.perf_counter()
        try:
            fate = "windows" if unpack(value).sets is not None else "nothing"
        except StateLayoutError:
            fate = "StateLayoutError"
        self._other("table value", fate, began, value)

    def text(self, message: Message) -> None:
        _, value, headers = message
        began = time.perf_counter()
        lines = record_lines(value, headers)
        if not all(line.isprintable() for line in lines):
            raise Broken(f"lines that are not printable: {lines[:1]}")
        self._other("text", "lines", began, value)

    def _other(self, kind: str, fate: str, began: float, value: bytes | None) -> None:
        self.tally.took(kind, time.perf_counter() - began, value)
        self.tally.messages[kind] += 1
        self.tally.fates[f"{kind}: {fate}"] += 1

    def _once(self, kind: str, part: PartitionRecords, taken: list[int], rejected: list[Rejected]) -> None:
        if sorted([*taken, *(r.offset for r in rejected)]) != [r.offset for r in part.records]:
            raise Broken(f"{kind}: taken {taken}, rejected {[r.offset for r in rejected]}")
        for r in rejected:
            record = part.records[r.offset]
            if (r.key, r.value) != (record.key, record.value) and "left out" not in r.detail:
                raise Broken(f"{kind}: rejected with other bytes")
            rejection_headers(r)
        self.tally.messages[kind] += len(part.records)
        self.tally.fates[f"{kind}: taken"] += len(taken)
        self.tally.fates.update(f"{kind}: {r.reason}" for r in rejected)
