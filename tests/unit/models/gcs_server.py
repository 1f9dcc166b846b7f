"""A small HTTP server that speaks the part of Google Cloud Storage's JSON API the cache uses, and can be made to fail.

Objects get generations; uploads are multipart or resumable, as the real client sends them; downloads have x-goog-hash
and answer ranges; preconditions give 412, absent objects 404. What a test may do to it: see `FakeStorage`.
"""

from __future__ import annotations

import base64
import json
import threading
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUCKET = "bucket"


@dataclass
class Stored:
    """One generation of an object."""

    data: bytes
    generation: int


@dataclass
class Request:
    """What was asked: `kind` is meta, media, multipart, begin, piece, or other."""

    kind: str
    name: str
    query: dict[str, str]


@dataclass
class FakeStorage:
    """Objects of one bucket by name, and how it misbehaves.

    `status[kind]`: answers this instead, `times[kind]` times, else always; `silent[kind]`: does not answer at all until
    `release` is set; `cut_bytes[kind]`: breaks the connection after so many bytes of the body; `before[kind]`: called
    before the request is carried out.
    """

    objects: dict[str, Stored] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    status: dict[str, int] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    cut_bytes: dict[str, int] = field(default_factory=dict)
    drip_s: float | None = None
    before: dict[str, Callable[[Request], object]] = field(default_factory=dict)
    release: threading.Event = field(default_factory=threading.Event)
    generations: int = 100
    sessions: dict[str, tuple[str, dict[str, str], bytearray]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def kinds(self) -> dict[str, int]:
        """How often each kind was asked."""
        found: dict[str, int] = defaultdict(int)
        for request in self.requests:
            found[request.kind] += 1
        return found

    def put(self, name: str, data: bytes) -> int:
        """Store an object as another writer would; its generation."""
        with self.lock:
            self.generations += 1
            self.objects[name] = Stored(data, self.generations)
            return self.generations

    def store(self, name: str, data: bytes, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Store an upload if its precondition holds."""
        with self.lock:
            there = self.objects.get(name)
            wanted = query.get("ifGenerationMatch")
            if wanted is not None and int(wanted) != (0 if there is None else there.generation):
                return 412, error(412, "At least one of the pre-conditions you specified did not hold.")
            self.put(name, data)
            return 200, self.meta(name)

    def meta(self, name: str) -> dict[str, Any]:
        """An object's resource."""
        there = self.objects[name]
        return {
            "kind": "storage#object",
            "bucket": BUCKET,
            "name": name,
            "generation": str(there.generation),
            "metageneration": "1",
            "size": str(len(there.data)),
            "crc32c": checksum(there.data),
        }


def checksum(data: bytes) -> str:
    import google_crc32c

    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "errors": [{"message": message, "domain": "global"}]}}


@contextmanager
def serving(storage: FakeStorage) -> Iterator[str]:
    """The address at which `storage` answers."""
    handler = type("Handler", (_Handler,), {"storage": storage})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            storage.release.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    storage: FakeStorage

    def _serve(self) -> None:
        with suppress(OSError):  # the client has given up
            self._carry_out()

    do_GET = do_POST = do_PUT = _serve  # noqa: N815  # the names http.server calls

    def _carry_out(self) -> None:
        storage = self.storage
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        request = Request(self._kind(url.path, query), query.get("name") or unquote(url.path.partition("/o/")[2]), query)
        with storage.lock:
            storage.requests.append(request)
        if request.kind in storage.silent:
            storage.release.wait(60)
            self.close_connection = True
            return
        if request.kind in storage.before:
            storage.before[request.kind](request)
        body = self._body(request.kind)
        if body is None:
            self.close_connection = True
            return
        if request.kind in storage.status and storage.times.get(request.kind, 1) > 0:
            if request.kind in storage.times:
                storage.times[request.kind] -= 1
            code = storage.status[request.kind]
            self._answer(code, error(code, f"account x does not have storage access, says\n the fake with {code}"))
            return
        self._do(request, body)

    def _kind(self, path: str, query: dict[str, str]) -> str:
        if self.command == "GET" and "/o/" in path:
            return "media" if query.get("alt") == "media" else "meta"
        upload = query.get("uploadType")
        if self.command == "POST" and upload == "multipart":
            return "multipart"
        if upload == "resumable":
            return "begin" if self.command == "POST" else "piece"
        return "other"

    def _body(self, kind: str) -> bytes | None:
        """The request's body; None when the connection breaks on the way."""
        length = int(self.headers.get("content-length") or 0)
        cut = self.storage.cut_bytes.get(kind)
        if cut is not None and cut < length and kind != "media":
            self.rfile.read(cut)
            return None
        return self.rfile.read(length)

    def _do(self, request: Request, body: bytes) -> None:
        storage, name = self.storage, request.name
        if request.kind in {"meta", "media"}:
            there = storage.objects.get(name)
            wanted, this = request.query.get("ifGenerationMatch"), request.query.get("generation")
            if there is None or (this is not None and int(this) != there.generation):
                self._answer(404, error(404, f"No such object: {BUCKET}/{name}"))
            elif wanted is not None and int(wanted) != there.generation:
                self._answer(412, error(412, "At least one of the pre-conditions you specified did not hold."))
            elif request.kind == "meta":
                self._answer(200, storage.meta(name))
            else:
                self._media(there)
        elif request.kind == "multipart":
            parts = list(BytesParser(policy=HTTP).parsebytes(self._mime() + body).iter_parts())
            said = json.loads(parts[0].get_content())
            data = body_after(body, self.headers["content-type"])
            if "crc32c" in said and said["crc32c"] != checksum(data):
                self._answer(400, error(400, "Provided CRC32C does not match"))
            else:
                self._answer(*storage.store(said["name"], data, request.query))
        elif request.kind == "begin":
            session = f"s{len(storage.sessions)}"
            storage.sessions[session] = json.loads(body)["name"], request.query, bytearray()
            where = f"http://{self.headers['host']}/upload/o?uploadType=resumable&upload_id={session}"
            self._answer(200, {}, location=where)
        elif request.kind == "piece":
            self._piece(request, body)
        else:
            self._answer(404, error(404, f"{self.command} {self.path} is not part of this fake"))

    def _piece(self, request: Request, body: bytes) -> None:
        name, query, data = self.storage.sessions[request.query["upload_id"]]
        span, _, total = self.headers["content-range"].removeprefix("bytes ").partition("/")
        if span != "*":
            del data[int(span.partition("-")[0]) :]
            data += body
        if total != "*" and len(data) == int(total):
            self._answer(*self.storage.store(name, bytes(data), query))
        elif data:
            self._answer(308, {}, range=f"bytes=0-{len(data) - 1}")
        else:
            self._answer(308, {})

    def _mime(self) -> bytes:
        return b"Content-Type: " + self.headers["content-type"].encode() + b"\r\n\r\n"

    def _media(self, there: Stored) -> None:
        start = int((self.headers.get("range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        data = there.data[start:]
        self.send_response(206 if start else 200)
        self.send_header("content-length", str(len(data)))
        self.send_header("x-goog-generation", str(there.generation))
        self.send_header("x-goog-hash", f"crc32c={checksum(there.data)}")
        self.end_headers()
        cut = self.storage.cut_bytes.get("media", len(data))
        if self.storage.drip_s is not None:
            for at in range(len(data)):
                self.wfile.write(data[at : at + 1])
                self.wfile.flush()
                if self.storage.release.wait(self.storage.drip_s):
                    break
        else:
            self.wfile.write(data[:cut])
        self.close_connection = cut < len(data)

    def _answer(self, code: int, said: dict[str, Any], **headers: str) -> None:
        data = json.dumps(said).encode()
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def body_after(body: bytes, content_type: str) -> bytes:
    """The second part of a multipart/related body, byte for byte."""
    boundary = b"--" + content_type.partition("boundary=")[2].strip("\"'").encode()
    second = body.split(boundary)[2]
    return second.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
