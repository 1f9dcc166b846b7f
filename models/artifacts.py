"""The files of a model version: which may be there, and the digest of their bytes. Shell; reads, never runs.

The digest is written to the version's registry tag `artifact_digest` when it is published and compared after every
download and every read from cache: a changed byte, name, or number of files is a different digest.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Final

from models.errors import UntrustedModel

if TYPE_CHECKING:
    from pathlib import Path

DIGEST_TAG: Final = "artifact_digest"
"""Registry tag of a model version that holds its digest."""

SPEC_FILE: Final = "extra_files/serving_spec.json"
EXAMPLE_FILE: Final = "extra_files/example.json"

MAX_FILES: Final = 64
MAX_BYTES: Final = 1 << 30

_ADDED_BY_DOWNLOAD: Final = frozenset({"registered_model_meta"})
"""Written by MLflow's client beside a download, so not part of what was published."""


def model_files(folder: Path) -> dict[str, Path]:
    """Relative POSIX path to file, sorted by path, of every file in a model folder.

    Raises `UntrustedModel` for a link, symbolic or hard, anything else that is not a plain file or folder, more than
    `MAX_FILES` files, or more than `MAX_BYTES` together.
    """
    found: dict[str, Path] = {}
    total_bytes = 0
    for at, folders, files in os.walk(folder, followlinks=False):
        here = folder.__class__(at)
        for name in (*folders, *files):
            entry = here / name
            info = entry.lstat()
            relative = entry.relative_to(folder).as_posix()
            if stat.S_ISDIR(info.st_mode):
                continue
            if not stat.S_ISREG(info.st_mode):
                msg = f"model file {relative!r} is a link or a special file; a model folder holds plain files only"
                raise UntrustedModel(msg, check="files")
            if info.st_nlink > 1:
                msg = f"model file {relative!r} is a hard link, so it may change from outside; it must be a file of its own"
                raise UntrustedModel(msg, check="files")
            total_bytes += info.st_size
            if relative not in _ADDED_BY_DOWNLOAD:
                found[relative] = entry
    if len(found) > MAX_FILES or total_bytes > MAX_BYTES:
        msg = f"model folder has {len(found)} files, {total_bytes} bytes; at most {MAX_FILES} files, {MAX_BYTES} bytes are loaded"
        raise UntrustedModel(msg, check="files")
    return dict(sorted(found.items()))


def folder_digest(folder: Path) -> str:
    """SHA-256 over (path, length, bytes) of every file in path order, 64 hex digits. Raises as `model_files`."""
    digest = hashlib.sha256()
    for relative, file in model_files(folder).items():
        data = file.read_bytes()
        name = relative.encode()
        digest.update(len(name).to_bytes(8, "big") + name + len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def verify_digest(folder: Path, *, expected: str, what: str) -> None:
    """Raise `UntrustedModel` unless the folder's bytes are those registered."""
    found = folder_digest(folder)
    if found != expected:
        msg = f"{what}: its files have digest {found}, registered is {expected}; publish it again, or find out who changed it"
        raise UntrustedModel(msg, check="digest")
