"""The embedded broker as a process of its own, and how other commands find it.

Shell. Its port is chosen by the system, so it leaves its address in a file; `discover` reads the file and believes it
only while something accepts connections there.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from streams.broker import NOTICE, EmbeddedBroker
from streams.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from config import Settings

BROKER_FILE = Path("var/broker.json")
"""Where a broker leaves its address, relative to the working folder."""

BOOTSTRAP_VARIABLE = "TRADING_ML__KAFKA__BOOTSTRAP_SERVERS"
"""The environment variable that overrides `kafka.bootstrap_servers`."""

_CONNECT_S = 0.5


def discover(path: Path = BROKER_FILE) -> str | None:
    """Addresses of the embedded broker whose file this is; None without a file, or when nobody listens there any more."""
    try:
        found = json.loads(path.read_bytes())
        servers = str(found["bootstrap_servers"])
        host, port = servers.split(",", maxsplit=1)[0].rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=_CONNECT_S):
            return servers
    except (OSError, ValueError, KeyError, TypeError):
        return None


def with_embedded_broker(settings: Settings, env: Mapping[str, str], path: Path = BROKER_FILE) -> Settings:
    """Settings that lead to the embedded broker, when one answers and nobody says otherwise.

    Only where `environment` is `local`, and only when `env` does not set `kafka.bootstrap_servers`: an address given by
    environment variable always wins, the address in the settings file yields to a broker that is there.
    """
    if settings.environment != "local" or BOOTSTRAP_VARIABLE in env:
        return settings
    found = discover(path)
    if found is None:
        return settings
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"bootstrap_servers": found})})


def run_broker(
    topics: Mapping[str, int],
    *,
    brokers: int = 1,
    path: Path = BROKER_FILE,
    with_parent: bool = False,
    rebalance_delay_ms: int = 100,
    announce: Callable[[str], object] = print,
) -> None:
    """Serve until SIGINT or SIGTERM; with `with_parent` also until standard input ends, as it does when its writer dies.

    Announces `NOTICE`, then one line of JSON with `bootstrap_servers`. Raises `BrokerError` when another embedded broker
    already answers at the address in `path`.
    """
    running = discover(path)
    if running is not None:
        raise BrokerError(f"an embedded broker already answers at {running} (file {path}): use it, end it, or name another file")
    with _stop_signals() as wake, EmbeddedBroker(topics, brokers=brokers, rebalance_delay_ms=rebalance_delay_ms) as broker:
        content = json.dumps({"bootstrap_servers": broker.bootstrap_servers, "pid": os.getpid()})
        _publish(path, content)
        try:
            announce(NOTICE)
            announce(content)
            _wait(wake, with_parent=with_parent)
        finally:
            _withdraw(path, content)


def _publish(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(content)
    part.replace(path)  # a reader sees the whole line or none


def _withdraw(path: Path, content: str) -> None:
    with contextlib.suppress(OSError):
        if path.read_text() == content:  # never another broker's
            path.unlink()


@contextlib.contextmanager
def _stop_signals() -> Iterator[socket.socket]:
    """Turn SIGINT and SIGTERM into a byte on the socket given, so that one wait covers signals and standard input."""
    wake, write = socket.socketpair()
    write.settimeout(0)  # a signal handler must not wait
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    old = signal.set_wakeup_fd(write.fileno())
    try:
        yield wake
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        wake.close()
        write.close()


def _wait(wake: socket.socket, *, with_parent: bool) -> None:
    watched: list[int] = [wake.fileno()]
    if with_parent:
        watched.append(sys.stdin.fileno())
    while True:
        for ready in select.select(watched, [], [])[0]:
            if ready == wake.fileno() or os.read(ready, 4096) == b"":
                return
