"""What a soak looks at every few seconds: processes, folders, topics' files, and how far the groups are behind."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import Consumer, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.reading import Following
    from tests.kafka.cluster import Node
    from tests.soak.rows import Book

MB = 1e6


def process(pid: int) -> dict[str, float]:
    """Resident memory in MB, open file descriptors and threads of a process."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return {
        "rss_mb": int(fields["VmRSS"].split()[0]) * 1024 / MB,
        "anonymous_mb": int(fields["RssAnon"].split()[0]) * 1024 / MB,
        "fds": len(os.listdir(f"/proc/{pid}/fd")),  # noqa: PTH208 - names of a folder that changes, nothing else of them
        "threads": int(fields["Threads"]),
    }


def size_mb(files: Iterable[Path]) -> float:
    """Size of these files together; one that goes meanwhile counts nothing."""
    total = 0
    for file in files:
        try:
            found = file.stat()
        except FileNotFoundError:
            continue
        total += found.st_size
    return total / MB


def folder_mb(folder: Path) -> float:
    """Size of all files below a folder."""
    return size_mb(Path(where) / name for where, _, names in os.walk(folder) for name in names)


def topic_mb(node: Node, topic: str, *, closed: bool = False) -> float:
    """Size of a topic's log on a node, its indexes left out; `closed`: without the segments that are written to.

    Fails where the node's files are not here but in a container.
    """
    segments: dict[Path, list[Path]] = {}
    for file in sorted((node.folder / "data").glob(f"{topic}-*/*.log")):
        segments.setdefault(file.parent, []).append(file)
    if not segments:
        raise RuntimeError(f"no log of {topic} below {node.folder}: a soak needs Kafka's own jars, not a container")
    return size_mb(file for held in segments.values() for file in (held[:-1] if closed else held))


def behind(groups: Iterable[Following]) -> int:
    """Records that stand in the topics and are not committed."""
    total = 0
    for group in groups:
        ends, committed = group.ends(), group.committed()
        total += sum(max(0, end - committed[p]) for p, end in ends.items())
    return total


class Reader:
    """A thread that enters every prediction in the book."""

    def __init__(self, servers: str, topic: str, book: Book, *, partitions: int) -> None:
        self._consumer = Consumer({"bootstrap.servers": servers, "group.id": "soak", "enable.auto.commit": False, "log_level": 2})
        self._consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
        self._book = book
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._failure: Exception | None = None

    def check(self) -> None:
        """Raise what ended the thread."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                messages: list[Any] = self._consumer.consume(1000, 0.1)
                for m in messages:
                    if m.error() is not None:
                        raise RuntimeError(f"predictions cannot be read: {m.error()}")  # noqa: TRY301 - seen by `check`
                    self._book.enter(m.value(), m.timestamp()[1])
        except Exception as e:  # noqa: BLE001 - raised again by `check`
            self._failure = e

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()
