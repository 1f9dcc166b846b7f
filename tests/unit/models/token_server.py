"""Google's token endpoint on loopback, and key files that lead to it."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class TokenServer(ThreadingHTTPServer):
    """Google's token endpoint as google-auth asks it: a signed assertion in, a token out."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Grants)
        self.status = 200
        self.asked: list[dict[str, list[str]]] = []

    def write_key(self, file: Path) -> Path:
        """A service account's key file whose tokens come from here."""
        key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        account = {
            "type": "service_account",
            "client_email": "worker@p.iam.gserviceaccount.com",
            "private_key_id": "1",
            "private_key": pem.decode(),
            "token_uri": f"http://127.0.0.1:{self.server_port}/token",
        }
        file.write_text(json.dumps(account))
        return file


class _Grants(BaseHTTPRequestHandler):
    server: TokenServer

    def do_POST(self) -> None:
        self.server.asked.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        granted = {"access_token": f"token-{len(self.server.asked)}", "expires_in": 3600, "token_type": "Bearer"}
        refused = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        body = json.dumps(granted if self.server.status == 200 else refused).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def granting() -> Iterator[TokenServer]:
    """A server in a thread of its own."""
    server = TokenServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(10)
