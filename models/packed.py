"""A model folder as one archive: the same folder always gives the same bytes. Shell; reads and writes, never runs.

A plain tar (ustar, no compression): any tar opens it, but only what `pack` itself writes is unpacked here. Each header
is compared with the one `pack` would have written, so links, devices, sparse files, extended headers and anything that
unpacks to more bytes than the archive has cannot occur, rather than being filtered out.
"""

from __future__ import annotations

import tarfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Final

from models.artifacts import MAX_BYTES, MAX_FILES, model_files
from models.errors import UntrustedModel

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK: Final = tarfile.BLOCKSIZE
_END: Final = bytes(2 * _BLOCK)
_COPY_BYTES: Final = 1 << 20

MAX_PACKED_BYTES: Final = MAX_BYTES + MAX_FILES * 2 * _BLOCK + len(_END)
"""Length of the longest archive: a header and less than a block of padding for each file."""


def pack(folder: Path, to: BinaryIO) -> None:
    """Write the folder's files, in path order, as one archive. Raises `UntrustedModel` for a name that does not fit in one."""
    for name, file in model_files(folder).items():
        size_bytes = file.stat().st_size
        to.write(_header(name, size_bytes))
        with file.open("rb") as source:
            while data := source.read(_COPY_BYTES):
                to.write(data)
        to.write(bytes(-size_bytes % _BLOCK))
    to.write(_END)


def unpack(archive: BinaryIO, to: Path) -> None:
    """Write an archive's files below the empty folder `to`. Raises `UntrustedModel` for anything `pack` does not write.

    What was written before the fault stays in `to`: a private temporary folder.
    """
    names: set[str] = set()
    left_bytes = MAX_BYTES
    while (block := _take(archive, _BLOCK)) != bytes(_BLOCK):
        name, size_bytes = _plain_file(block)
        left_bytes -= size_bytes
        names.add(name)
        if left_bytes < 0 or len(names) > MAX_FILES:
            raise UntrustedModel(f"model archive has more than {MAX_FILES} files or {MAX_BYTES} bytes")
        file = to / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("xb") as target:
                for at in range(0, size_bytes, _COPY_BYTES):
                    target.write(_take(archive, min(_COPY_BYTES, size_bytes - at)))
        except (FileExistsError, NotADirectoryError) as e:
            raise UntrustedModel(f"model archive has {name!r} twice, or as a file and as a folder") from e
        _take(archive, -size_bytes % _BLOCK)
    if archive.read(_COPY_BYTES) != bytes(_BLOCK):
        raise UntrustedModel("model archive goes on after its end")


def _header(name: str, size_bytes: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size_bytes
    try:
        return member.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except (ValueError, UnicodeError) as e:
        raise UntrustedModel(f"model file name {name!r} does not fit in an archive: {e}") from e


def _plain_file(block: bytes) -> tuple[str, int]:
    """(name, bytes) of a file from its header."""
    try:
        member = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError) as e:
        raise UntrustedModel(f"model archive is damaged: {e}") from e
    parts = PurePosixPath(member.name).parts
    if "/".join(parts) != member.name or not parts or {"..", "/"} & set(parts) or "\\" in member.name:
        raise UntrustedModel(f"model archive names {member.name!r}, which is not a path below the model folder")
    if member.size < 0 or _header(member.name, member.size) != block:
        raise UntrustedModel(f"model archive has {member.name!r} as something other than a plain file")
    return member.name, member.size


def _take(archive: BinaryIO, size_bytes: int) -> bytes:
    """Exactly so many bytes."""
    data = archive.read(size_bytes)
    if len(data) != size_bytes:
        raise UntrustedModel("model archive is cut short")
    return data
