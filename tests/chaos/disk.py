"""A disk that is really full: a small file system in memory, where the right to mount one is there."""

from __future__ import annotations

import os
import resource
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = "64m"
"""Room for the state of every partition, many times."""


class SmallDisk:
    """A mounted file system of `SIZE`; `fill` leaves no block of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Take every free block, as another program's files would."""
        with self._filler.open("ab") as f:
            while free := self._free():
                with suppress(OSError):  # the worker took some of it meanwhile
                    os.posix_fallocate(f.fileno(), f.seek(0, os.SEEK_END), free)

    def free(self) -> None:
        """Give them back."""
        self._filler.unlink(missing_ok=True)

    def _free(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk | None]:
    """Mount it at a folder, which is made; None where this process may not mount."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def may_not_grow(pid: int, folder: Path) -> None:
    """Files of this process may grow no further: a write fails with EFBIG as on a full disk with ENOSPC, no mount needed."""
    largest = max((f.stat().st_size for f in folder.rglob("*") if f.is_file()), default=0)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest, largest))
