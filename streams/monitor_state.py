"""All the monitor remembers, and its place in the group's table.

Core: table entries in, table entries out. One worker holds all partitions in this version.

| entry                            | partition           | value                                                       |
|----------------------------------|---------------------|-------------------------------------------------------------|
| ``journal|000003``               | the rows' own       | a segment of predictions and outcomes (`monitoring.journal`) |
| ``watch|["m","3","champion"]``   | 0                   | drift counts, alerts (`streams.watch`); empty once gone     |
| ``operations``                   | 0                   | traffic, its alerts (`streams.operations`)                  |

After a crash some entries may be of the last checkpoint begun and others of the one before, and the rows since the last
commit come again. Each entry says itself what it has seen, so none counts a row twice. An inference worker that was killed
repeats rows in new records of the log: labels know them by symbol, event time and revision, drift by their places in the
source (`monitoring.panes`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from monitoring.errors import StateError
from monitoring.joined import Scorer
from monitoring.labels import Labels
from streams.operations import Operations
from streams.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from streams.checkpoint import TableRecord
    from streams.rules import Rules

HOME = 0
"""Partition of entries that belong to no single source partition."""

_JOURNAL = b"journal|"
_WATCH = b"watch|"
_OPERATIONS = b"operations"


class Entries(Protocol):
    """What is needed of the table."""

    def items(self, partition: int) -> Sequence[tuple[bytes, bytes]]:
        """All entries of a partition."""
        ...

    def get(self, partition: int, key: bytes) -> bytes | None:
        """One entry."""
        ...


class Said(NamedTuple):
    """What is to be said now: alert events and retrain requests, each in order."""

    events: list[dict[str, Any]]
    requests: list[dict[str, Any]]


class _Written(NamedTuple):
    """An entry as given to be written, and how much of what is in it is still to be said."""

    packed: bytes
    events: int
    requests: int = 0


class MonitorState:
    """Labels by partition, watches by scorer, the traffic. One owner, one thread."""

    def __init__(self, rules: Rules) -> None:
        self.labels: dict[int, Labels] = {}
        self.watches: dict[Scorer, Watch] = {}
        self.operations = Operations(rules.alerts)
        self._rules = rules
        self._models: Collection[str] | None = None
        self._dirty: set[Scorer] = set()
        self._gone: list[Scorer] = []
        self._written: dict[bytes, _Written] = {}
        self._home = False
        self._just_said = False

    @property
    def complete(self) -> bool:
        """Whether every partition's state is in memory."""
        return self._home and len(self.labels) == self._rules.partitions

    def load(self, table: Entries) -> list[StateError]:
        """Read what is not in memory; what could not be read, and starts afresh."""
        faults: list[StateError] = []
        for partition in range(self._rules.partitions):
            if partition in self.labels and (partition != HOME or self._home):
                continue
            entries = table.items(partition)
            if partition not in self.labels:
                self.labels[partition] = self._labels(entries)
                faults += self.labels[partition].faults
            if partition == HOME and not self._home:
                faults += self._load_home(entries)
                self._home = True
        return faults

    def forget(self, partitions: Iterable[int]) -> None:
        """Let go of these partitions' state, saved or not."""
        for partition in partitions:
            self.labels.pop(partition, None)
            if partition == HOME:
                self._home = False
                self.watches.clear()
                self.operations = Operations(self._rules.alerts)
                self._dirty.clear()
                self._gone.clear()
                self._written.clear()
                self._just_said = False

    def watch(self, scorer: Scorer) -> Watch:
        """The scorer's watch, made where there is none; it will be written."""
        found = self.watches.get(scorer)
        if found is None:
            found = self.watches[scorer] = Watch(scorer, self._rules)
            found.served = self._models is None or scorer.model in self._models
        self._dirty.add(scorer)
        return found

    def touch(self, scorer: Scorer) -> None:
        """Have the scorer's watch written."""
        self._dirty.add(scorer)

    def serve(self, models: Collection[str], now_us: int) -> None:
        """These models are served and no others: of others nothing rises, and what was raised ends."""
        self._models = models
        self.operations.serve(models, now_us)
        self._dirty |= {scorer for scorer, watch in self.watches.items() if watch.serve(served=scorer.model in models)}

    def unsaid(self) -> bool:
        """Whether there are events or requests that were not said yet, or were and the table does not know it."""
        return self._just_said or bool(self.operations.unsaid) or any(w.unsaid or w.requests for w in self.watches.values())

    def drop(self, scorer: Scorer) -> bool:
        """Let go of a scorer for good; not yet, if it was not written since it last changed: then its rows may come again."""
        if scorer in self._dirty:
            return False
        del self.watches[scorer]
        self._gone.append(scorer)
        return True

    def take_dirty(self) -> list[TableRecord]:
        """Entries changed since the last call."""
        records: list[TableRecord] = [
            (partition, _JOURNAL + b"%06d" % slot, data)
            for partition, labels in sorted(self.labels.items())
            for slot, data in labels.journal.take_dirty()
        ]
        records += [(HOME, _watch_key(s), b"") for s in self._gone if s not in self.watches]
        for scorer in sorted(self._dirty):
            watch = self.watches[scorer]
            records.append(self._entry(_watch_key(scorer), watch.pack(), len(watch.unsaid), len(watch.requests)))
        if self.operations.dirty:
            records.append(self._entry(_OPERATIONS, self.operations.pack(), len(self.operations.unsaid)))
            self.operations.dirty = False
        self._dirty.clear()
        self._gone.clear()
        self._just_said = False
        return records

    def take_durable(self, table: Entries) -> Said:
        """What the table holds with the state it comes from: to be said now. Each comes once, but for a crash."""
        said = Said([], [])
        for key, written in list(self._written.items()):
            if table.get(HOME, key) != written.packed:
                continue
            if key == _OPERATIONS:
                unsaid, self.operations.dirty = self.operations.unsaid, True
            else:
                watch = self.watch(_scorer(key))
                unsaid = watch.unsaid
                said.requests.extend(watch.requests[: written.requests])
                del watch.requests[: written.requests]
            said.events.extend(unsaid[: written.events])
            del unsaid[: written.events], self._written[key]
            self._just_said = True
        return said

    def _entry(self, key: bytes, packed: bytes, events: int, requests: int = 0) -> TableRecord:
        if events or requests:
            self._written[key] = _Written(packed, events, requests)
        return HOME, key, packed

    def _labels(self, entries: Sequence[tuple[bytes, bytes]]) -> Labels:
        rules = self._rules
        segments = [(int(key.removeprefix(_JOURNAL)), data) for key, data in entries if key.startswith(_JOURNAL)]
        return Labels.restore(segments, timeout_us=rules.labels_kept_us, pane_us=rules.pane_us, most=rules.most_rows)

    def _load_home(self, entries: Sequence[tuple[bytes, bytes]]) -> list[StateError]:
        faults: list[StateError] = []
        for key, data in entries:
            try:
                if key.startswith(_WATCH) and data:
                    scorer = _scorer(key)
                    watch = self.watches[scorer] = Watch.unpack(scorer, self._rules, data)
                    self._entry(key, data, len(watch.unsaid), len(watch.requests))
                elif key == _OPERATIONS and data:
                    self.operations = Operations.unpack(self._rules.alerts, data)
                    self._entry(key, data, len(self.operations.unsaid))
            except StateError as e:
                faults.append(e)
        return faults


def _watch_key(scorer: Scorer) -> bytes:
    return _WATCH + json.dumps(scorer, separators=(",", ":")).encode()


def _scorer(key: bytes) -> Scorer:
    return Scorer(*json.loads(key.removeprefix(_WATCH)))
