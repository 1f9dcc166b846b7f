"""A real Apache Kafka of one or three nodes on loopback ports, started from its own jars: killed, paused, restarted, cut off.

KRaft, each node broker and controller. Where Kafka has a default that decides about loss or recovery, it is left alone;
settings below say what is changed and why.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from streams.demo.processes import _die_with_parent
from tests.kafka.artifacts import java, library
from tests.kafka.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

CLUSTER_ID = "QUJDREVGR0hJSktMTU5PUA"
_JVM = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
START_S = 60.0


class Node:
    """One node: a process with its own folder and ports. `proxy` stands before its client port if the cluster was asked to."""

    def __init__(self, number: int, folder: Path, *, ports: Mapping[str, int]) -> None:
        self.number = number
        self.folder = folder
        self.ports = dict(ports)
        self.proxy: Proxy | None = None
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return f"127.0.0.1:{self.ports['advertised']}"

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    @property
    def properties(self) -> Path:
        """Its settings."""
        return self.folder / "server.properties"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder / "kafka.log"

    def format(self) -> None:
        """Lay out its empty data folder."""
        command = [*_command("kafka.tools.StorageTool"), "format", "-t", CLUSTER_ID, "-c", str(self.properties)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=START_S)
        if done.returncode != 0:
            raise RuntimeError(f"the data folder could not be formatted: {done.stdout}{done.stderr}")

    def start(self) -> None:
        """Start it, for the first time or again. From the main thread: the kernel ends it with the thread that began it."""
        if self.running:
            raise RuntimeError(f"node {self.number} runs already")
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [*_command("kafka.Kafka"), str(self.properties)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - it makes one system call
            )

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nobody is told."""
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(20)

    def stop(self, timeout_s: float = 40) -> None:
        """SIGTERM, and SIGKILL for one that does not end."""
        self._signal(signal.SIGTERM)
        if self.process is not None:
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()

    def pause(self) -> None:
        """Hold it still: its connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.running:
            self.process.send_signal(number)


class KafkaCluster:
    """Context manager of 1 or 3 nodes. `proxied`: clients reach each node through a `Proxy`. `settings`: broker settings."""

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 1,
        proxied: bool = False,
        settings: Mapping[str, str] | None = None,
        make: Callable[..., Node] = Node,
    ) -> None:
        self.folder = folder
        self.nodes: list[Node] = []
        ports = iter(_free_ports(nodes * 4))
        for number in range(1, nodes + 1):
            names = dict(zip(("client", "internal", "controller", "advertised"), itertools.islice(ports, 4), strict=True))
            if not proxied:
                names["advertised"] = names["client"]
            self.nodes.append(make(number, folder / f"node-{number}", ports=names))
        self._proxied = proxied
        self._settings = dict(settings or {})

    @property
    def bootstrap_servers(self) -> str:
        """Every node's address."""
        return ",".join(n.address for n in self.nodes)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            for node in self.nodes:
                self._prepare(node)
            with ThreadPoolExecutor(len(self.nodes)) as pool:
                list(pool.map(lambda n: n.format(), self.nodes))
            for node in self.nodes:
                node.start()
            self.wait_ready()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every node at once; the folder stays."""
        for node in self.nodes:
            node.kill()
            if node.proxy is not None:
                node.proxy.close()

    def wait_ready(self, *, timeout_s: float = START_S) -> None:
        """Return when all running nodes are in the cluster and take topics; raises with the end of a log otherwise."""
        from confluent_kafka import KafkaException

        deadline = time.monotonic() + timeout_s
        running = {n.number for n in self.nodes if n.running}
        while time.monotonic() < deadline:
            for node in self.nodes:
                if node.number in running and not node.running:
                    raise RuntimeError(f"node {node.number} ended:\n{_tail(node.log)}")
            with contextlib.suppress(KafkaException):
                if all(_serves(n.address, running) for n in self.nodes if n.number in running):
                    return
            time.sleep(0.05)
        raise RuntimeError(f"no Kafka within {timeout_s:g} s:\n{_tail(self.nodes[0].log)}")

    def _prepare(self, node: Node) -> None:
        shutil.rmtree(node.folder, ignore_errors=True)
        node.folder.mkdir(parents=True)
        if self._proxied:
            node.proxy = Proxy(port=node.ports["advertised"], target=node.ports["client"])
        copies = str(min(3, len(self.nodes)))
        properties = {
            "process.roles": "broker,controller",
            "node.id": str(node.number),
            "controller.quorum.voters": ",".join(f"{n.number}@127.0.0.1:{n.ports['controller']}" for n in self.nodes),
            "listeners": ",".join(f"{n.upper()}://127.0.0.1:{node.ports[n]}" for n in ("client", "internal", "controller")),
            "advertised.listeners": f"CLIENT://{node.address},INTERNAL://127.0.0.1:{node.ports['internal']}",
            "listener.security.protocol.map": "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "INTERNAL",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(node.folder / "data"),
            "default.replication.factor": copies,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "min.insync.replicas": "2" if len(self.nodes) > 1 else "1",
            "transaction.state.log.min.isr": "1",
            "auto.create.topics.enable": "false",  # a topic that is missing must be an error, as in production
            "offsets.topic.num.partitions": "4",  # 50 files to open by default
            "group.initial.rebalance.delay.ms": "0",  # 3 s of waiting for members that do not come
            "group.min.session.timeout.ms": "1000",  # quick tests want a dead worker noticed in 2 s; 6 s is the default
            "log.retention.ms": "-1",  # test rows carry a fixed date in the past
            "log.cleaner.dedupe.buffer.size": str(16 << 20),  # 128 MiB by default, of a heap of 256
            **self._settings,
        }
        text = "".join(f"{k}={v}\n" for k, v in properties.items())
        node.properties.write_text(text, encoding="utf-8")


def _command(main: str) -> list[str]:
    return [java(), *_JVM, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{library()}{os.sep}*", main]


def _serves(address: str, running: set[int]) -> bool:
    """Whether this node itself answers, knows all the others and a leader of every partition."""
    from confluent_kafka.admin import AdminClient

    found = AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(timeout=1)
    return running <= set(found.brokers) and all(p.leader >= 0 for t in found.topics.values() for p in t.partitions.values())


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on, all different: each is held until all are found."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def _tail(log: Path, lines: int = 15) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError as e:
        return f"({e})"
