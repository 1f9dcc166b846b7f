"""Model folders on this machine, by the digest of their bytes. Shell.

    <root>/artifacts/<digest>/...     a model folder: complete or absent (moved into place whole), re-verified when read
    <root>/index.json                 {"<name>": {"aliases": {"champion": "3"}, "versions": {"3": "<digest>"}}}

The index is the last thing the registry said, so that a worker can start while the registry is down. Several
processes may share a root: folders are moved into place, the index is rewritten under a file lock.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from models.artifacts import verify_digest
from models.errors import UntrustedModel

if TYPE_CHECKING:
    from collections.abc import Callable


class Known(msgspec.Struct):
    """What the registry last said about one model name."""

    aliases: dict[str, str] = {}
    versions: dict[str, str] = {}


class ArtifactCache:
    """Model folders and the index under one local folder, made if absent and readable by its owner alone."""

    def __init__(self, root: Path) -> None:
        self._artifacts = root / "artifacts"
        self._index = root / "index.json"
        self._artifacts.mkdir(parents=True, exist_ok=True, mode=0o700)

    def get(self, digest: str, *, what: str) -> Path | None:
        """The folder with this digest, its bytes verified now; None if absent. A corrupt one is removed."""
        folder = self._folder(digest)
        if not folder.is_dir():
            return None
        try:
            verify_digest(folder, expected=digest, what=what)
        except UntrustedModel:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        return folder

    def add(self, digest: str, download: Callable[[Path], Path], *, what: str) -> Path:
        """Let `download` fill a private temporary folder and answer where the model is; verify; move into place.

        Raises `UntrustedModel` if the bytes are not those of `digest`, and whatever `download` raises; then nothing
        is left behind.
        """
        with tempfile.TemporaryDirectory(dir=self._artifacts, prefix=".incoming-", ignore_cleanup_errors=True) as incoming:
            model = download(Path(incoming))
            verify_digest(model, expected=digest, what=what)
            folder = self._folder(digest)
            with suppress(OSError):  # another process put the same bytes there first
                model.rename(folder)
        return folder

    def _folder(self, digest: str) -> Path:
        if re.fullmatch("[0-9a-f]{64}", digest) is None:  # it becomes a path: nothing else may
            msg = f"artifact digest {digest!r} is not a SHA-256 in hex; publish the version again with models.publish"
            raise UntrustedModel(msg)
        return self._artifacts / digest

    def version_of(self, name: str, alias: str) -> str | None:
        """The version the alias named when last seen."""
        return self._read().get(name, Known()).aliases.get(alias)

    def digest_of(self, name: str, version: str) -> str | None:
        """The digest of the version when last seen."""
        return self._read().get(name, Known()).versions.get(version)

    def remember(self, name: str, *, version: str, digest: str | None = None, alias: str | None = None) -> None:
        """Note what the registry said about one version."""
        lock = self._index.with_suffix(".lock")
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            index = self._read()
            known = index.setdefault(name, Known())
            before = msgspec.json.encode(known)
            if digest is not None:
                known.versions[version] = digest
            if alias is not None:
                known.aliases[alias] = version
            if msgspec.json.encode(known) == before:
                return
            fresh = self._index.with_suffix(f".{os.getpid()}.new")
            fresh.write_bytes(msgspec.json.encode(index))
            fresh.replace(self._index)

    def _read(self) -> dict[str, Known]:
        """The index; empty if absent or unreadable, since the registry can always tell it again."""
        try:
            return msgspec.json.decode(self._index.read_bytes(), type=dict[str, Known])
        except (OSError, msgspec.MsgspecError):
            return {}
