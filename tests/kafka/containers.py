"""The same nodes as containers, where Docker is there and Java or Maven is not.

Through testcontainers and Apache's own image, on the host's network, so that settings, ports, proxies and folders are
those of the processes in `cluster`; only how a node is begun and ended differs. Linux only, as is Docker's host network.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import Any

from tests.kafka.artifacts import VERSION, Unavailable
from tests.kafka.cluster import CLUSTER_ID, Node

IMAGE = f"apache/kafka:{VERSION}"


def check() -> None:
    """Raise `Unavailable` where no Docker answers."""
    try:
        docker: Any = importlib.import_module("docker")  # comes with testcontainers; has no types
    except ImportError as e:
        raise Unavailable("testcontainers is not installed") from e
    try:
        docker.from_env(timeout=10).ping()
    except docker.errors.DockerException as e:
        raise Unavailable(f"no Docker answers ({str(e).splitlines()[0][:120]})") from e


class ContainerNode(Node):
    """A node whose process is a container. Its data folder lies in the container, so `format` has nothing to do."""

    _container: Any = None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        if self._container is None:
            return False
        inner = self._container.get_wrapped_container()
        inner.reload()
        return str(inner.status) in {"created", "running", "paused"}

    def format(self) -> None:
        """The container does it when it starts."""

    def start(self) -> None:
        """Begin the container, or the same one again with the data it has."""
        if self._container is not None:
            self._container.get_wrapped_container().start()
            return
        from testcontainers.core.container import DockerContainer

        home, settings = "/opt/kafka/bin", self.properties
        run = (
            f"{home}/kafka-storage.sh format --ignore-formatted -t {CLUSTER_ID} -c {settings} && "
            f"exec {home}/kafka-server-start.sh {settings}"
        )
        self._container = (
            DockerContainer(IMAGE, entrypoint=["bash", "-c"], network_mode="host", user=f"{os.getuid()}:{os.getgid()}")
            .with_command([run])
            .with_volume_mapping(str(self.folder), str(self.folder), "rw")
            .with_env("KAFKA_HEAP_OPTS", "-Xmx256m")
        )
        self._container.start()

    def kill(self) -> None:
        """SIGKILL, through Docker."""
        self._do("kill")

    def stop(self, timeout_s: float = 40) -> None:
        """SIGTERM, and SIGKILL for one that does not end."""
        self._do("stop", timeout=int(timeout_s))

    def pause(self) -> None:
        """Freeze it."""
        self._do("pause")

    def resume(self) -> None:
        """Let it go on."""
        self._do("unpause")

    def _do(self, what: str, **how: Any) -> None:
        if self._container is not None and self.running:
            docker: Any = importlib.import_module("docker")
            with contextlib.suppress(docker.errors.APIError):  # it ended by itself in between
                getattr(self._container.get_wrapped_container(), what)(**how)
