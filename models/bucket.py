"""The cache's second level, shared by all workers: a prefix of a Google Cloud Storage bucket. Shell; needs the extra `gcp`.

    <prefix>/artifacts/<digest>.tar   a model folder as `models.packed` writes it
    <prefix>/index.json               as the local one, see `models.index`

One object per artifact, because the store itself makes one object appear whole or not at all: an upload that is cut off
leaves nothing, a reader needs no manifest to know that all parts are there, and of two writers the second is told
(`if_generation_match=0`) that the same bytes are there already. Every call has a timeout, retries within `_RETRY_S`, and
raises `BucketError` with one line; nothing here deletes an object.
"""

from __future__ import annotations

import io
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import msgspec
import structlog

from models.cache import checked_digest
from models.errors import BucketError
from models.index import Index, decode, encode
from models.packed import MAX_PACKED_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = structlog.get_logger()

MAX_INDEX_BYTES: Final = 16 << 20
_TIMEOUT_S: Final = (4.0, 8.0)
"""Of each request: to connect, and without a byte of the answer."""
_RETRY_S: Final = 8.0
_UPLOAD_PIECE_BYTES: Final = 16 << 20
"""What an upload keeps in memory at once; left alone the client takes 100 MB."""
_READ_ROUNDS: Final = 3
ABSENT: Final = 0
"""The generation of an object that is not there, as the store counts."""


class Bucket:
    """A location ``gs://bucket/prefix``. Nothing is contacted until the first call."""

    def __init__(self, location: str) -> None:
        bucket, _, prefix = location.removeprefix("gs://").partition("/")
        prefix = prefix.strip("/")
        self._bucket_name = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._connecting = threading.Lock()
        self._connected: Any = None

    def has(self, digest: str) -> bool:
        """Whether an artifact of this name is there."""
        name = self._artifact(digest)
        with self._errors(name):
            return bool(self._bucket().blob(name).exists(timeout=_TIMEOUT_S, retry=_retry()))

    def fetch(self, digest: str, to: Path, *, bound_s: float) -> int:
        """Download an artifact's bytes, not verified, to the file `to`; its generation, or `ABSENT`. Ends after `bound_s`."""
        name = self._artifact(digest)
        with self._errors(name), to.open("wb") as file:
            return self._download(name, _Bounded(file, max_bytes=MAX_PACKED_BYTES, bound_s=bound_s))

    def put(self, digest: str, packed: Path, *, replacing: int = ABSENT) -> bool:
        """Upload an archive where there is none, or over the generation known to be bad; False if another is there now."""
        name = self._artifact(digest)
        with self._errors(name), packed.open("rb") as file:
            return self._upload(name, file, size_bytes=packed.stat().st_size, replacing=replacing)

    def read_index(self, *, bound_s: float) -> tuple[Index, int]:
        """The index and its generation; empty and `ABSENT` if there is none, empty if it cannot be read."""
        name = f"{self._prefix}index.json"
        data = io.BytesIO()
        with self._errors(name):
            generation = self._download(name, _Bounded(data, max_bytes=MAX_INDEX_BYTES, bound_s=bound_s))
        try:
            return decode(data.getvalue()) if generation != ABSENT else {}, generation
        except (msgspec.MsgspecError, UnicodeDecodeError) as e:
            log.warning("index in the bucket cannot be read, it is taken as empty", object=name, error=str(e))
            return {}, generation

    def write_index(self, index: Index, *, replacing: int) -> bool:
        """Write the index over the generation it was made from; False if another is there now."""
        name = f"{self._prefix}index.json"
        data = encode(index)
        with self._errors(name):
            return self._upload(name, io.BytesIO(data), size_bytes=len(data), replacing=replacing)

    def _artifact(self, digest: str) -> str:
        return f"{self._prefix}artifacts/{checked_digest(digest)}.tar"

    def _download(self, name: str, to: _Bounded) -> int:
        from google.api_core.exceptions import NotFound, PreconditionFailed

        for _ in range(_READ_ROUNDS):
            blob = self._bucket().get_blob(name, timeout=_TIMEOUT_S, retry=_retry())
            if blob is None:
                return ABSENT
            to.expect(blob.size)
            try:
                blob.download_to_file(
                    to, raw_download=True, if_generation_match=blob.generation, timeout=_TIMEOUT_S, retry=_retry()
                )
            except (NotFound, PreconditionFailed):  # replaced in between
                continue
            return int(blob.generation)
        raise OSError("it changes faster than it can be read")

    def _upload(self, name: str, data: BinaryIO, *, size_bytes: int, replacing: int) -> bool:
        from google.api_core.exceptions import PreconditionFailed

        try:
            self._bucket().blob(name, chunk_size=_UPLOAD_PIECE_BYTES).upload_from_file(
                data,
                size=size_bytes,
                content_type="application/octet-stream",
                if_generation_match=replacing,
                timeout=_TIMEOUT_S,
                retry=_retry(),
            )
        except PreconditionFailed:
            return False
        return True

    def _bucket(self) -> Any:
        with self._connecting:
            if self._connected is None:
                from google.cloud.storage import Client  # type: ignore[import-untyped]  # it ships no types

                self._connected = Client(project=None).bucket(self._bucket_name)
            return self._connected

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Turn whatever the client raises (its own errors, requests', urllib3's, google-auth's) into one line of ours."""
        try:
            yield
        except ImportError as e:
            msg = "`storage.cache_dir: gs://…` needs the extra gcp: install trading-ml-inference[gcp]"
            raise BucketError(msg) from e
        except Exception as e:
            said = " ".join(str(e).split())[:200]
            right = _right(e)
            msg = f"gs://{self._bucket_name}/{name}: {type(e).__name__}: {said}; {right}"
            raise BucketError(msg) from e


def _right(error: Exception) -> str:
    from google.auth.exceptions import GoogleAuthError

    if isinstance(error, GoogleAuthError):
        return "check the account: GOOGLE_APPLICATION_CREDENTIALS, or the workload's identity"
    if getattr(error, "code", None) in {401, 403}:
        return "give its account roles/storage.objectUser"
    return "check storage.cache_dir and the network"


def _retry() -> Any:
    from google.cloud.storage.retry import DEFAULT_RETRY  # type: ignore[import-untyped]  # it ships no types

    return DEFAULT_RETRY.with_timeout(_RETRY_S)


class _Bounded(io.RawIOBase):
    """A file that takes so many bytes, for so long."""

    def __init__(self, file: BinaryIO, *, max_bytes: int, bound_s: float) -> None:
        super().__init__()
        self._file = file
        self._max_bytes = max_bytes
        self._until_s = time.monotonic() + bound_s
        self._left_bytes = 0

    def expect(self, size_bytes: int) -> None:
        """Begin anew, for an object of this size."""
        if size_bytes > self._max_bytes:
            raise OSError(f"it has {size_bytes} bytes; at most {self._max_bytes} are read")
        self._left_bytes = size_bytes
        self._file.seek(0)
        self._file.truncate()

    def write(self, data: Any) -> int:
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise OSError("it is longer than the store says")
        if time.monotonic() > self._until_s:
            raise TimeoutError("it takes too long to read")
        return self._file.write(data)
