"""What a case stands on: one Kafka node for all, topics and groups of its own, worker processes, rows, CPU time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from benchmarks.contenders import CONTENDERS, Setup
from benchmarks.job import FRAME_ROWS
from benchmarks.sending import FRAMES_AHEAD, Sender
from benchmarks.surroundings import BenchmarkFailed, cpu_s, memory_mb
from benchmarks.watch import Answered, Log
from streams.topics import PANES_TABLE, changelog
from tests.chaos.names import Names
from tests.chaos.workers import Crew

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.job import Feed
    from tests.kafka.cluster import KafkaCluster

HELD_STILL_S = 60.0
"""Session timeout where workers are held still while a topic is filled: the group must not give them up meanwhile."""
COMMIT_S = 1.0
_POLL_S = 0.005
_WAIT_S = 90.0
_OWN = ("STORAGE__STATE_DIR", "KAFKA__BOOTSTRAP_SERVERS", "KAFKA__PARTITIONS", "WEB__PORT")
"""Settings in which each worker or stage is its own."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all stages share: the cluster, the job's models in a registry, a folder to work in."""

    cluster: KafkaCluster
    setup: Setup
    folder: Path

    def broker_cpu_s(self) -> float:
        """CPU time of the broker so far."""
        process = self.cluster.nodes[0].process
        if process is None:
            raise BenchmarkFailed("the broker does not run")
        return cpu_s(process.pid)


class Stage:
    """Context manager of one case. `contender`: whose wire formats and model are used, one of ours.

    Workers are started from the main thread. One that ends by itself fails the case.
    """

    def __init__(
        self, ground: Ground, name: str, feed: Feed, *, contender: str = "ours", session_s: float = HELD_STILL_S
    ) -> None:
        self.ground = ground
        self.feed = feed
        self._name = name
        self.contender = CONTENDERS[contender]
        self.names = Names(ground.cluster.bootstrap_servers, name, session_s=session_s)
        self.names.create()
        folder = ground.folder / name
        folder.mkdir(parents=True)
        env = ground.setup.env(folder, contender=self.contender)
        settings = {key.removeprefix("TRADING_ML__"): value for key, value in env.items() if key != "CONFIG_PATH"}
        settings = {key: value for key, value in settings.items() if key not in _OWN}
        settings["INFERENCE__COMMIT_INTERVAL"] = f"{COMMIT_S:g}s"
        self.crew = Crew(folder, self.names, light=False, **settings)
        servers, partitions = self.names.servers, self.names.kafka.partitions
        self.log = Log(servers, self.names.kafka.inference_group, partitions)
        in_frames = self.contender.wire_in == "frames"
        self.sender = Sender(feed, self.names.topics.features, servers=servers, in_frames=in_frames)
        self._answered = Answered(
            self.log,
            self.names.topics.predictions,
            servers=servers,
            partitions=partitions,
            in_frames=self.contender.wire_out == "frames",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.crew.close()
        self._answered.close()
        self.log.close()
        if kind is None:
            delete_topics(self.names.servers, self._name)

    def wait(self, what: str, condition: Callable[[], bool], timeout_s: float = _WAIT_S) -> None:
        """Wait for a condition; raises `BenchmarkFailed` when it does not come true or a worker ended."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            ended = [name for name, worker in self.crew.workers.items() if worker.ended]
            if ended or time.monotonic() > deadline:
                logs = "\n".join(f"--- {n}: {w.log[-1500:]}" for n, w in self.crew.workers.items())
                raise BenchmarkFailed(f"{self._name}: {what}: {f'{ended} ended' if ended else 'not in time'}\n{logs}")
            time.sleep(_POLL_S)

    def start(self, workers: Sequence[str]) -> None:
        """Start workers on empty folders; returns when all partitions are shared out evenly and served."""
        for name in workers:
            self.crew.start(name, wipe=True)
        self.wait_shared_out()

    def wait_shared_out(self, timeout_s: float = _WAIT_S) -> None:
        """Wait until the workers there are serve all partitions, each its share."""
        every = list(range(self.names.kafka.partitions))

        def shared_out() -> bool:
            held = [w.partitions() for w in self.crew.workers.values()]
            least = len(every) // len(held)
            return sorted(p for some in held for p in some) == every and min(map(len, held)) >= least

        self.wait("partitions shared out", shared_out, timeout_s)

    def fill(self, rows: int) -> int:
        """Put rows into the topic as fast as the broker takes them until there are so many; returns how many there are.

        Frames are sent whole, one of each partition at least, so there may be some more.
        """
        sent, job = self.sender.rows, self.feed.job
        in_frames = self.contender.wire_in == "frames"
        while sum(sent) < rows:
            ahead = [0] * len(sent)
            if in_frames:
                each = max(1, min(FRAMES_AHEAD, (rows - sum(sent)) // (FRAME_ROWS * len(sent))))
                ahead = [(FRAMES_AHEAD - each) * FRAME_ROWS] * len(sent)
            done = [n - unanswered for n, unanswered in zip(sent, ahead, strict=True)]
            self.sender.top_up(done, rows=job.frame_ticks * job.symbols if in_frames else rows)
            self.wait("rows acknowledged", lambda: sum(self.log.ends(self.names.topics.features)) >= sum(self.sender.records))
        return sum(sent)

    def wait_answered(self, rows: int) -> None:
        """Wait until so many rows have their prediction."""
        self.wait(f"{rows} predictions", lambda: sum(self._answered.rows()) >= rows)

    def check_answered(self, rows: int) -> None:
        """Raise `BenchmarkFailed` when there are predictions of more rows: they would have been counted as too few."""
        answered = sum(self._answered.rows())
        if answered != rows:
            raise BenchmarkFailed(f"{self._name}: {rows} rows, {answered} predictions")

    def wait_committed(self) -> None:
        """Wait until the group has committed all there is."""
        topic = self.names.topics.features
        end = sum(self.log.ends(topic))
        self.wait("all committed", lambda: self.log.committed(topic) >= end)

    def workers_cpu_s(self) -> float:
        """CPU time of all workers so far."""
        return sum(cpu_s(w.process.pid) for w in self.crew.workers.values())

    def workers_mb(self) -> list[float]:
        """Resident memory of each worker."""
        return [memory_mb(w.process.pid, "VmRSS") for w in self.crew.workers.values()]

    def topic_bytes(self) -> dict[str, int]:
        """Bytes on the broker's disk, by what the topic is for."""
        t = self.names.topics
        topics = {
            "features": t.features,
            "predictions": t.predictions,
            "inference_log": t.inference_log,
            "changelog": self.names.windows,
            "monitor_changelog": changelog(self.names.kafka.monitor_group, PANES_TABLE),
        }
        data = self.ground.cluster.nodes[0].folder / "data"
        return {what: sum(f.stat().st_size for f in data.glob(f"{topic}-[0-9]*/*.log")) for what, topic in topics.items()}

    def changelog_records(self) -> int:
        """Records written to the changelog of windows so far."""
        return sum(self.log.ends(self.names.windows))


def delete_topics(servers: str, prefix: str) -> None:
    """Delete what a stage wrote: the next should not wait for its disk."""
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": servers, "log_level": 2})
    names = [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefix)]
    for answer in admin.delete_topics(names, operation_timeout=20).values():
        answer.result()
