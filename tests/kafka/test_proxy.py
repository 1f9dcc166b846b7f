"""The proxy does to a connection what it says, without any Kafka."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.kafka.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

SECOND = 1.0


@pytest.fixture
def echo() -> Iterator[int]:
    """A port that says back what it hears."""

    def answer(caller: socket.socket) -> None:
        with caller, contextlib.suppress(OSError):
            while data := caller.recv(65536):
                caller.sendall(data)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with Proxy(port=port, target=echo) as p:
        yield p


def call(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def exchange(s: socket.socket, data: bytes) -> bytes:
    s.sendall(data)
    heard = b""
    while len(heard) < len(data):
        piece = s.recv(65536)
        if not piece:
            break
        heard += piece
    return heard


def gone(s: socket.socket) -> bool:
    try:
        return s.recv(1) == b""
    except ConnectionError:
        return True


def test_what_goes_in_comes_out_both_ways(proxy: Proxy) -> None:
    with call(proxy) as s:
        for data in (b"one", bytes(range(256)) * 4000):
            assert exchange(s, data) == data


def test_a_cut_ends_open_connections_and_lets_the_next_through(proxy: Proxy) -> None:
    with call(proxy) as s:
        assert exchange(s, b"x") == b"x"
        proxy.cut()
        assert gone(s)
    with call(proxy) as s:
        assert exchange(s, b"y") == b"y"


def test_refuse_hangs_up_until_open_again(proxy: Proxy) -> None:
    with call(proxy) as before:
        assert exchange(before, b"x") == b"x"
        proxy.mode = "refuse"
        assert gone(before)
    with call(proxy) as s:
        assert gone(s)
    proxy.mode = "open"
    with call(proxy) as s:
        assert exchange(s, b"y") == b"y"


def test_swallow_answers_nothing_and_hangs_up_only_when_it_ends(proxy: Proxy) -> None:
    with call(proxy) as s:
        assert exchange(s, b"x") == b"x"
        proxy.mode = "swallow"
        s.sendall(b"y")
        s.settimeout(0.3)
        with pytest.raises(TimeoutError):
            s.recv(1)
        proxy.mode = "open"
        s.settimeout(5)
        assert gone(s)


def test_a_delay_does_not_narrow_the_pipe(proxy: Proxy) -> None:
    proxy.delay_s = 0.15
    data = b"z" * 2_000_000
    with call(proxy) as s:
        started = time.monotonic()
        threading.Thread(target=s.sendall, args=(data,), daemon=True).start()
        heard = 0
        while heard < len(data):
            heard += len(s.recv(65536))
        took = time.monotonic() - started
    assert 2 * proxy.delay_s <= took < 2 * proxy.delay_s + 3 * SECOND


def test_throttled_bytes_take_their_time(proxy: Proxy) -> None:
    proxy.bytes_per_s = 100_000
    with call(proxy) as s:
        started = time.monotonic()
        assert exchange(s, b"z" * 20_000) == b"z" * 20_000
    assert time.monotonic() - started > 0.2
