"""All the monitor remembers, and its place in the group's table.

Core: table entries in, table entries out. One worker holds all partitions in this version.

| entry                            | partition           | value                                                       |
|----------------------------------|---------------------|-------------------------------------------------------------|
| ``journal|000003``               | the rows' own       | a segment of predictions and outcomes (`monitoring.journal`) |
| ``watch|["m","3","champion"]``   | 0                   | drift counts and alerts (`streams.watch`); empty once gone  |

After a crash some entries may be of the last checkpoint begun and others of the one before, and the rows since the last
commit come again. Each entry says itself what it has seen, so none counts a row twice. An inference worker that was killed
repeats rows in new records of the log: labels know them by their ids, drift by their places in the source (`monitoring.panes`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from monitoring.errors import StateError
from monitoring.joined import Scorer
from monitoring.labels import Labels
from streams.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streams.checkpoint import TableRecord
    from streams.rules import Rules

HOME = 0
"""Partition of entries that belong to no single source partition."""

_JOURNAL = b"journal|"
_WATCH = b"watch|"


class Entries(Protocol):
    """What is needed of the table."""

    def items(self, partition: int) -> Sequence[tuple[bytes, bytes]]:
        """All entries of a partition."""
        ...

    def get(self, partition: int, key: bytes) -> bytes | None:
        """One entry."""
        ...


class MonitorState:
    """Labels by partition, watches by scorer. One owner, one thread."""

    def __init__(self, rules: Rules) -> None:
        self.labels: dict[int, Labels] = {}
        self.watches: dict[Scorer, Watch] = {}
        self._rules = rules
        self._dirty: set[Scorer] = set()
        self._gone: list[Scorer] = []
        self._written: dict[Scorer, tuple[bytes, int]] = {}
        """Of a scorer with unsaid events: its entry as given to be written, and how many of them are in it."""
        self._home = False

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
                faults += self._load_watches(entries)
                self._home = True
        return faults

    def forget(self, partitions: Iterable[int]) -> None:
        """Let go of these partitions' state, saved or not."""
        for partition in partitions:
            self.labels.pop(partition, None)
            if partition == HOME:
                self._home = False
                self.watches.clear()
                self._dirty.clear()
                self._gone.clear()
                self._written.clear()

    def watch(self, scorer: Scorer) -> Watch:
        """The scorer's watch, made where there is none; it will be written."""
        found = self.watches.get(scorer)
        if found is None:
            found = self.watches[scorer] = Watch(scorer, self._rules)
        self._dirty.add(scorer)
        return found

    def drop(self, scorer: Scorer) -> None:
        """Let go of a scorer for good."""
        del self.watches[scorer]
        self._dirty.discard(scorer)
        self._gone.append(scorer)

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
            packed = watch.pack()
            records.append((HOME, _watch_key(scorer), packed))
            if watch.unsaid:
                self._written[scorer] = packed, len(watch.unsaid)
        self._dirty.clear()
        self._gone.clear()
        return records

    def take_durable(self, table: Entries) -> list[dict[str, Any]]:
        """Alert events that the table holds with the state they come from: to be said now. Each comes once, but for a crash."""
        events: list[dict[str, Any]] = []
        for scorer, (packed, unsaid) in list(self._written.items()):
            if table.get(HOME, _watch_key(scorer)) != packed:
                continue
            watch = self.watch(scorer)
            events += watch.unsaid[:unsaid]
            del watch.unsaid[:unsaid], self._written[scorer]
        return events

    def _labels(self, entries: Sequence[tuple[bytes, bytes]]) -> Labels:
        rules = self._rules
        segments = [(int(key.removeprefix(_JOURNAL)), data) for key, data in entries if key.startswith(_JOURNAL)]
        return Labels.restore(segments, timeout_us=rules.label_timeout_us, pane_us=rules.pane_us, most=rules.most_keys)

    def _load_watches(self, entries: Sequence[tuple[bytes, bytes]]) -> list[StateError]:
        faults: list[StateError] = []
        for key, data in entries:
            if key.startswith(_WATCH) and data:
                scorer = Scorer(*json.loads(key.removeprefix(_WATCH)))
                try:
                    watch = self.watches[scorer] = Watch.unpack(scorer, self._rules, data)
                except StateError as e:
                    faults.append(e)
                    continue
                if watch.unsaid:
                    self._written[scorer] = data, len(watch.unsaid)
        return faults


def _watch_key(scorer: Scorer) -> bytes:
    return _WATCH + json.dumps(scorer, separators=(",", ":")).encode()
