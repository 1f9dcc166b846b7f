"""The demo's books: every trigger row ends as exactly one prediction, abstention or rejected record, or is named.

Core: fed with what an outside reader sees on the topics (not with what the producer meant to send). A row is known by
its place in the features topic, (partition, offset), which predictions and rejected records both carry.

| seen on the topics                                          | what the books say               |
|-------------------------------------------------------------|----------------------------------|
| trigger row, one prediction id (abstained or not)           | settled                          |
| the same id again with the same bytes (a crash's replay)    | settled, counted as repeated     |
| the same id again with other bytes                          | fault                            |
| a second id for the row, or an id that is not the row's own | fault                            |
| a rejected record for the row                               | settled, counted as rejected     |
| a prediction and a rejected record for the row              | fault                            |
| nothing                                                     | open                             |
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import msgspec

_MOST_FAULTS = 20


class FeatureHead(msgspec.Struct, gc=False):
    """What the books need of a feature row."""

    symbol: str
    feature_set: str
    ts_event_us: int
    revision: int = 0


class Place(msgspec.Struct, gc=False):
    """Where a record stands in the features topic."""

    partition: int
    offset: int


class PredictionHead(msgspec.Struct, gc=False):
    """What the books and the summary need of a prediction record."""

    prediction_id: str
    symbol: str
    version: str
    ts_event_us: int
    value: float | None
    lower: float | None
    upper: float | None
    p_up: float | None
    vector_hash: str
    source: Place
    abstained: bool = False


@dataclass(slots=True)
class _Entry:
    """A row of the features topic: its own id's tail, when it was appended, and how it was settled."""

    tail: str
    logged_ms: int
    trigger: bool
    prediction_id: str | None = None
    body: bytes = b""
    rejected: bool = False


@dataclass(slots=True)
class Ledger:
    """Books of one run. `trigger`: the feature set whose rows ask for predictions. Fed in any order between topics.

    `predictions`: the first of each id; `version`: the model version last heard of; `reasons`: each of the rejected once.
    """

    trigger: str
    rows: int = 0
    triggers: int = 0
    settled: int = 0
    abstained: int = 0
    repeated: int = 0
    rejected: int = 0
    latency_ms: list[int] = field(default_factory=list)
    predictions: list[PredictionHead] = field(default_factory=list)
    version: str = "-"
    reasons: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    fault_count: int = 0
    _entries: dict[tuple[int, int], _Entry] = field(default_factory=dict)
    _early: dict[tuple[int, int], list[tuple[PredictionHead | None, bytes, int]]] = field(default_factory=dict)

    @property
    def open(self) -> int:
        """Trigger rows logged and not settled yet."""
        return self.triggers - self.settled

    def feature(self, head: FeatureHead, *, partition: int, offset: int, logged_ms: int) -> None:
        """Enter a row of the features topic; `logged_ms` its record's timestamp."""
        trigger = head.feature_set == self.trigger
        self._entries[partition, offset] = _Entry(f":{head.symbol}:{head.ts_event_us}:{head.revision}", logged_ms, trigger)
        self.rows += 1
        self.triggers += trigger
        for answer, body, at_ms in self._early.pop((partition, offset), ()):
            self._settle(self._entries[partition, offset], answer, body, at_ms)

    def prediction(self, head: PredictionHead, body: bytes, *, logged_ms: int) -> None:
        """Enter a prediction record with its original bytes and its record's timestamp."""
        self.version = head.version
        self._answer((head.source.partition, head.source.offset), head, body, logged_ms)

    def reject(self, *, partition: int, offset: int, why: str) -> None:
        """Enter a rejected record by the place of the row it rejects, and its reason."""
        if why not in self.reasons:
            self.reasons.append(why)
        self._answer((partition, offset), None, b"", 0)

    def fault(self, what: str) -> None:
        """Note a fault; the first twenty are kept in words, all are counted."""
        self.fault_count += 1
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(what)

    def close(self) -> list[str]:
        """End of the run: return why the books do not balance, nothing if they do."""
        wrong = list(self.faults)
        if self.fault_count > len(self.faults):
            wrong.append(f"and {self.fault_count - len(self.faults)} further faults")
        lost = [e.tail for e in self._entries.values() if e.trigger and e.prediction_id is None and not e.rejected]
        if lost:
            wrong.append(f"{len(lost)} of {self.triggers} trigger rows have no prediction, among them {lost[0][1:]}")
        if self._early:
            wrong.append(
                f"{len(self._early)} answers name rows that are not in the features topic, such as {next(iter(self._early))}"
            )
        return wrong

    def _answer(self, place: tuple[int, int], head: PredictionHead | None, body: bytes, logged_ms: int) -> None:
        entry = self._entries.get(place)
        if entry is None:  # topics are read side by side: an answer may be read before its row
            self._early.setdefault(place, []).append((head, body, logged_ms))
        else:
            self._settle(entry, head, body, logged_ms)

    def _settle(self, entry: _Entry, head: PredictionHead | None, body: bytes, logged_ms: int) -> None:
        if head is None:
            self._settle_rejected(entry)
            return
        digest = hashlib.blake2b(body, digest_size=16).digest()
        if not head.prediction_id.endswith(entry.tail):
            self.fault(f"prediction {head.prediction_id} names the row{entry.tail} as its source")
        elif not entry.trigger:
            self.fault(f"prediction {head.prediction_id} has a row as its source that asks for none")
        elif entry.rejected:
            self.fault(f"prediction {head.prediction_id} is of a row that was rejected")
        elif entry.prediction_id is None:
            entry.prediction_id, entry.body = head.prediction_id, digest
            self.settled += 1
            self.abstained += head.abstained
            self.latency_ms.append(max(0, logged_ms - entry.logged_ms))
            self.predictions.append(head)
        elif entry.prediction_id != head.prediction_id:
            self.fault(f"one row has two predictions: {entry.prediction_id} and {head.prediction_id}")
        elif entry.body != digest:
            self.fault(f"prediction {head.prediction_id} came twice with different content")
        else:
            self.repeated += 1

    def _settle_rejected(self, entry: _Entry) -> None:
        if entry.prediction_id is not None:
            self.fault(f"row{entry.tail} was rejected and has prediction {entry.prediction_id}")
        elif entry.rejected:
            self.repeated += 1
        else:
            entry.rejected = True
            self.rejected += 1
            self.settled += entry.trigger
