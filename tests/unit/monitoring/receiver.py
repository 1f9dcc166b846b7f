"""A receiver of alerts as an HTTP server in a thread, with everything that may be wrong with one."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    import ssl

Mode = Literal["take", "fail", "busy", "hang", "drip", "drip body", "huge", "redirect", "refuse", "then fail"]
METADATA = "http://169.254.169.254/latest/meta-data/"


class Receiver:
    """Listens on loopback; `taken` is what it answered with 200, `asked` how often it was called. May be closed and reopened."""

    def __init__(self, mode: Mode = "take", *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.mode = mode
        self.taken: list[tuple[str, dict[str, str], bytes]] = []
        self.asked = 0
        self.port = port
        self._tls = tls
        self._over = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self.open()

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}/hook"

    def open(self) -> None:
        """Listen, at the same port as before."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.asked += 1
                with suppress(OSError):
                    receiver.answer(self, body)

            def log_message(self, *_: object) -> None:
                pass

        self._over.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a caller that hangs up is no news
        self.port = self._server.server_address[1]
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._over.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, to: BaseHTTPRequestHandler, body: bytes) -> None:
        mode = self.mode
        if mode in {"take", "drip body", "huge", "then fail"}:
            self.taken.append((to.path, {k.lower(): v for k, v in to.headers.items()}, body))
        if mode == "then fail":  # it took it, and says that it did not
            self.mode = "take"
            return self._say(to, 500)
        if mode == "hang":
            self._over.wait(20)
            return None
        if mode == "drip":
            to.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not self._over.wait(0.05):
                to.wfile.write(b"X-Slow: 1\r\n")
            return None
        if mode in {"drip body", "huge"}:
            to.send_response(200)
            to.end_headers()
            while not self._over.wait(0.05 if mode == "drip body" else 0):
                to.wfile.write(b"x" * (1 if mode == "drip body" else 65536))
            return None
        status = {"take": 200, "fail": 503, "busy": 429, "redirect": 307, "refuse": 404}[mode]
        return self._say(to, status)

    def _say(self, to: BaseHTTPRequestHandler, status: int) -> None:
        to.send_response(status)
        if status == 429:
            to.send_header("Retry-After", "7")
        if status == 307:
            to.send_header("Location", METADATA)
        to.send_header("Content-Length", "2")
        to.end_headers()
        to.wfile.write(b"ok")

    def events(self) -> list[dict[str, Any]]:
        """The records in the CloudEvents that it took."""
        return [json.loads(body)["data"] for _, _, body in self.taken]

    def incidents(self) -> dict[tuple[str, str], set[str]]:
        """(incident, firing or resolved) → the keys it was told with."""
        found: dict[tuple[str, str], set[str]] = {}
        for _, headers, body in self.taken:
            record = json.loads(body)["data"]
            assert headers["idempotency-key"] == record["event_id"]
            found.setdefault((record["incident_id"], record["state"]), set()).add(record["event_id"])
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wait_until(condition: Any, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)
