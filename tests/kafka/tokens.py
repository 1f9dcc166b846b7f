"""A token endpoint over TLS: client credentials in, tokens as a broker takes them that checks no signature."""

from __future__ import annotations

import json
import ssl
import threading
import time
from base64 import b64decode, urlsafe_b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, unquote_plus

if TYPE_CHECKING:
    from tests.kafka.certificates import Pair

SPECIAL = "a:b%+ ü/"
"""What a client id may consist of."""


class Provider:
    """Serves tokens for `subject` to the client that knows `secret`; `answer` replaces what it says, `asked` holds the forms."""

    def __init__(self, pair: Pair, *, subject: str, client: str, secret: str, lasts_s: float = 300) -> None:
        self.answer: tuple[int, dict[str, str], bytes] | None = None
        self.asked: list[dict[str, list[str]]] = []
        self._token = (subject, lasts_s)
        self._known = (client, secret)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                outer.asked.append(form)
                status, headers, body = outer.answer or outer.judge(self.headers["Authorization"], form)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Not into the test's output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}/token"

    def judge(self, authorization: str, form: dict[str, list[str]]) -> tuple[int, dict[str, str], bytes]:
        """The answer of RFC 6749."""
        client, _, secret = b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        if (unquote_plus(client), unquote_plus(secret)) != self._known:
            return 401, {}, json.dumps({"error": "invalid_client", "error_description": f"not {secret}"}).encode()
        if form.get("grant_type") != ["client_credentials"]:
            return 400, {}, json.dumps({"error": "unsupported_grant_type"}).encode()
        subject, lasts_s = self._token
        body = {"access_token": unsigned(subject, lasts_s), "token_type": "Bearer", "expires_in": lasts_s}
        return 200, {}, json.dumps(body).encode()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="tokens", args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def unsigned(subject: str, lasts_s: float) -> str:
    """A token that nobody signed."""
    now = int(time.time())
    parts = ({"alg": "none"}, {"sub": subject, "iat": now, "exp": now + lasts_s})
    return ".".join(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."
