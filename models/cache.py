"""Model folders on this machine, by the digest of their bytes. Shell.

    <root>/artifacts/<digest>/...     a model folder: complete or absent (moved into place whole), re-verified when read

Several processes may share a root on a local disk. Who uses a folder holds a shared lock on it (`Held`), which ends
with the process at the latest; only a folder that nobody holds is trimmed, the least recently used first.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
import uuid
import weakref
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import structlog

from models.artifacts import verify_digest
from models.errors import UntrustedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

log = structlog.get_logger()

_DEBRIS_AGE_S: Final = 3600
"""Age at which a temporary folder that nobody holds is what a killed process left behind."""


class Held:
    """A verified model folder that no process trims until this is closed, by hand or with the last reference."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self.close = weakref.finalize(self, os.close, lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_kept(root: Path, digest: str) -> bool:
    """Whether a cache has a folder of this digest; its bytes are not looked at."""
    return (root / "artifacts" / checked_digest(digest)).is_dir()


class ArtifactCache:
    """Model folders under `<root>/artifacts`, made if absent and readable by its owner alone.

    `max_bytes`: trimmed to this after each addition; None: never. `keep`: digests that stay whatever their age.
    """

    def __init__(self, root: Path, *, max_bytes: int | None = None, keep: Callable[[], Collection[str]] = frozenset) -> None:
        self._artifacts = root / "artifacts"
        self._lock = root / "artifacts.lock"
        self._max_bytes = max_bytes
        self._keep = keep
        self._artifacts.mkdir(parents=True, exist_ok=True, mode=0o700)

    def get(self, digest: str, *, what: str) -> Held | None:
        """The folder with this digest, its bytes verified now; None if absent. A corrupt one is removed."""
        folder = self._folder(digest)
        held = _hold(folder)
        if held is None:
            return None
        try:
            verify_digest(folder, expected=digest, what=what)
        except (UntrustedModel, OSError) as e:
            log.warning("cached model removed: it does not verify", error=str(e))
            held.close()
            self._remove(folder)
            return None
        _touch(folder)
        return held

    def add(self, digest: str, download: Callable[[Path], Path], *, what: str) -> Held:
        """Let `download` fill a private temporary folder and answer where the model is; verify; move into place; trim.

        Raises `UntrustedModel` if the bytes are not those of `digest`, and whatever `download` raises; then nothing
        is left behind.
        """
        folder = self._folder(digest)
        with self.scratch() as incoming:
            model = download(incoming)
            verify_digest(model, expected=digest, what=what)
            held = Held(folder, _lock_shared(model))  # before it can be seen, so that it cannot be trimmed at once
            try:
                _touch(model)
                model.rename(folder)
            except OSError:  # another process put the same bytes there first
                held.close()
                there = self.get(digest, what=what)
                if there is None:
                    raise
                held = there
        self.trim()
        return held

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A private temporary folder on the cache's own disk; what a killed process leaves of it is swept up later."""
        with (
            tempfile.TemporaryDirectory(dir=self._artifacts, prefix=".scratch-", ignore_cleanup_errors=True) as made,
            Held(Path(made), _lock_shared(Path(made))) as scratch,
        ):
            yield scratch.folder

    def trim(self) -> None:
        """Remove least recently used folders until `max_bytes` are kept; never one in use, here or elsewhere, or in `keep`."""
        if self._max_bytes is None:
            return
        with self._lock.open("w") as alone:
            try:
                fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return  # another process is trimming
            self._sweep()
            found = sorted(
                (folder.lstat().st_mtime_ns, folder) for folder in self._artifacts.iterdir() if not folder.name.startswith(".")
            )
            sizes = {folder: _size(folder) for _, folder in found}
            total_bytes = sum(sizes.values())
            keep = self._keep() if total_bytes > self._max_bytes else ()
            for _, folder in found:
                if total_bytes <= self._max_bytes:
                    return
                if folder.name not in keep and self._remove_unused(folder):
                    total_bytes -= sizes[folder]
            if total_bytes > self._max_bytes:
                log.warning(
                    "model cache is larger than storage.cache_max_bytes: all of it is in use or named by an alias",
                    bytes=total_bytes,
                    max_bytes=self._max_bytes,
                )

    def _sweep(self) -> None:
        """Remove what killed processes left behind."""
        for debris in self._artifacts.glob(".*"):
            with suppress(OSError):
                if time.time() - debris.lstat().st_mtime > _DEBRIS_AGE_S:
                    self._remove_unused(debris)

    def _remove_unused(self, folder: Path) -> bool:
        """Remove a folder unless somebody holds it."""
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        else:
            self._remove(folder)
            return True
        finally:
            os.close(lock)

    def _remove(self, folder: Path) -> None:
        """Out of sight first: a folder with a digest for a name is never half there."""
        gone = self._artifacts / f".gone-{uuid.uuid4().hex}"
        with suppress(OSError):
            folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _folder(self, digest: str) -> Path:
        return self._artifacts / checked_digest(digest)


def checked_digest(digest: str) -> str:
    """The digest, which becomes a path or an object's name: nothing but a SHA-256 in hex may."""
    if re.fullmatch("[0-9a-f]{64}", digest) is None:
        msg = f"artifact digest {digest!r} is not a SHA-256 in hex; publish the version again with models.publish"
        raise UntrustedModel(msg)
    return digest


def _hold(folder: Path) -> Held | None:
    """Hold a folder; None if it is not there, or cannot be read."""
    try:
        return Held(folder, _lock_shared(folder))
    except OSError:
        return None


def _lock_shared(folder: Path) -> int:
    """A shared lock on the folder that stands under this name when it is had. Raises `OSError` if none does."""
    while True:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            if os.fstat(lock).st_ino == folder.stat().st_ino:
                return lock
        except OSError:
            os.close(lock)
            raise
        os.close(lock)  # trimmed while we waited for it, and put there anew


def _touch(folder: Path) -> None:
    """Note that the folder is used now, for the order of trimming."""
    with suppress(OSError):
        os.utime(folder)


def _size(folder: Path) -> int:
    """Bytes of all files below a folder; one that vanishes meanwhile counts nothing."""
    total_bytes = 0
    for at, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                total_bytes += os.lstat(Path(at) / name).st_size
    return total_bytes
