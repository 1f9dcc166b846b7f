"""The samples of a soak: both workers, their files and Kafka's, every few seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from tests.chaos.reading import Following
from tests.soak.watching import behind, folder_mb, process, size_mb, topic_mb

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.chaos.names import Names
    from tests.chaos.workers import Crew, Group
    from tests.kafka.cluster import Node
    from tests.soak.rows import Book

INFERENCE: Group = "inference"
MONITOR: Group = "monitor"
CLEANER_S = 25.0
"""Kafka's cleaner looks every 15 s: what has not changed for so long is clean."""
REST_S = 120.0


class Watch:
    """The samples, a list for each figure, all of the same length."""

    def __init__(self, folder: Path, node: Node, names: Names, crew: Crew, tables: Mapping[str, str], book: Book) -> None:
        self.samples: dict[str, list[float]] = {}
        self._folder, self._node, self._crew, self._tables, self._book = folder, node, crew, tables, book
        topics = names.topics
        groups = {
            INFERENCE: (names.kafka.inference_group, [topics.features]),
            MONITOR: (names.kafka.monitor_group, [topics.inference_log, topics.outcomes]),
        }
        self._behind = {g: [Following(names.servers, group, t) for t in read] for g, (group, read) in groups.items()}
        self._servers = names.servers

    def alive(self) -> bool:
        """True; raises with the end of its log when a worker has ended."""
        for name, worker in self._crew.workers.items():
            if worker.ended:
                raise RuntimeError(f"{name} left with {worker.process.returncode}:\n{worker.log[-4000:]}")
        return True

    def look(self, at_s: float) -> None:
        """Take one sample; fails when a worker has ended."""
        self.alive()
        duckdb = self._folder / f"{MONITOR}.duckdb"
        now: dict[str, float] = {"at_s": at_s, "rows": self._book.sent}
        for group in (INFERENCE, MONITOR):
            worker = self._crew.workers[group]
            now |= {f"{group}_{k}": v for k, v in process(worker.process.pid).items()}
            now |= {f"{group}_state_mb": folder_mb(worker.state), f"{group}_behind": behind(self._behind[group])}
        segments = duckdb.with_name(f"{duckdb.name}.segments")
        now["duckdb_mb"] = size_mb([duckdb, duckdb.with_name(f"{duckdb.name}.wal")]) + folder_mb(segments)
        now |= {f"{table}_changelog_mb": topic_mb(self._node, topic) for table, topic in self._tables.items()}
        for name, value in now.items():
            self.samples.setdefault(name, []).append(round(value, 2))

    def behind(self) -> int:
        """Records not committed, of both groups."""
        return sum(behind(groups) for groups in self._behind.values())

    def at_rest(self) -> dict[str, dict[str, float]]:
        """Size of the changelogs once nothing is written and Kafka has compacted what it may: all but each last segment."""

        def sizes() -> dict[str, float]:
            return {table: topic_mb(self._node, topic, closed=True) for table, topic in self._tables.items()}

        before, since = sizes(), time.monotonic()
        deadline = since + REST_S
        while time.monotonic() < min(since + CLEANER_S, deadline):
            time.sleep(0.5)
            now = sizes()
            if now != before:
                before, since = now, time.monotonic()
        return {table: {"compacted_mb": round(mb, 3)} for table, mb in before.items()}

    def ends(self, topic: str) -> Mapping[int, int]:
        """Where the partitions of a topic end."""
        reading = Following(self._servers, "soak-ends", topic)
        try:
            return reading.ends()
        finally:
            reading.close()

    def __len__(self) -> int:
        return len(self.samples.get("at_s", ()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for groups in self._behind.values():
            for group in groups:
                group.close()
