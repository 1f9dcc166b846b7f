"""A challenger's process: loads one version, then answers vectors until its pipe ends. Shell; `models.apart` starts it.

    python -m models.apart_child '{"folder": ..., "asks": 7, "answers": 8, ...}'     two pipes, by their numbers

    ask      uint32 number, rows, columns;   then float64[rows, columns]
    answer   uint32 number, kind, bytes;     then that many bytes: float64[rows] (`SCORED`), else words

All in this machine's byte order. Vectors are read into the array that is scored, answers are written from the array that the
model gave. Standard output and standard error lead nowhere once it serves.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from models.artifacts import verify_digest
from models.errors import ModelError
from models.folder import load_folder
from models.trial import Limits, bind

if TYPE_CHECKING:
    from models.handle import Predict

HEAD: Final = struct.Struct("=III")
READY, SCORED, RAISED, SHAPE, TYPE, REFUSED = range(6)
"""Kinds of answers: it serves from now on (number 0); float64[rows]; predict's exception; the shape of what it gave instead, as
JSON; the dtype likewise; it is not loaded, and why."""

MOST_WORDS: Final = 4_000
"""Bytes of an answer in words."""

ROOM_BYTES: Final = 512 << 20
"""What the process may grow by once the version is loaded, a chunk's vectors included."""


class ServeTask(msgspec.Struct, frozen=True, kw_only=True):
    """A folder to serve, as which version, and the pipes to do it by. `parent`: the process that asks."""

    folder: str
    name: str
    version: str
    digest: str
    allow_code: bool
    limits: Limits
    parent: int
    asks: int
    answers: int


def serve(predict: Predict, *, asks: int, answers: int) -> None:
    """Answer what comes through one pipe into the other, until the first ends."""
    _send(answers, 0, READY)
    head = memoryview(bytearray(HEAD.size))
    room = np.empty(0)  # for the vectors of one call after another: fresh memory costs as much as the copy
    while _fill(asks, head):
        number, rows, columns = HEAD.unpack(head)
        if room.size < rows * columns:
            room = np.empty(rows * columns)
        values = room[: rows * columns].reshape(rows, columns)
        if not _fill(asks, values.data.cast("B")):
            return
        values.flags.writeable = False
        try:
            given = np.asarray(predict(values))
        except Exception as e:  # noqa: BLE001 - whatever a model raises is an answer; what ends the process ends it
            _send(answers, number, RAISED, _words(f"{type(e).__name__}: {e}"))
            continue
        if given.shape != (rows,):
            _send(answers, number, SHAPE, msgspec.json.encode(given.shape))
        elif given.dtype.kind not in "fiub":
            _send(answers, number, TYPE, _words(given.dtype.str))
        else:
            _send(answers, number, SCORED, np.ascontiguousarray(given, dtype=np.float64).data.cast("B"))


def _fill(pipe: int, to: memoryview) -> bool:
    """Read until `to` is full; False if the pipe ends."""
    at = 0
    while at < len(to):
        got = os.readv(pipe, [to[at:]])
        if got == 0:
            return False
        at += got
    return True


def _send(pipe: int, number: int, kind: int, body: bytes | memoryview = b"") -> None:
    left = [memoryview(HEAD.pack(number, kind, len(body))), memoryview(body)]
    while left:
        done = os.writev(pipe, left)
        while left and done >= len(left[0]):
            done -= len(left.pop(0))
        if left:
            left[0] = left[0][done:]


def _words(text: str) -> bytes:
    return text.encode(errors="replace")[:MOST_WORDS]


def _settle() -> None:
    """From now on: no output, and no more memory than `ROOM_BYTES` beyond what it has."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for standard in (1, 2):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    with suppress(OSError, ValueError):  # not on every system
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        bound = pages * resource.getpagesize() + ROOM_BYTES
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


def main(predict: Predict | None = None) -> None:
    """Serve the folder named in the first argument; or this predict in place of its model's."""
    task = msgspec.json.decode(sys.argv[1], type=ServeTask)
    bind(task.limits, parent=task.parent, lasting=True)
    if predict is None:
        folder = Path(task.folder)
        try:
            verify_digest(folder, expected=task.digest, what=f"model {task.name!r} version {task.version}")
            predict = load_folder(
                folder, name=task.name, version=task.version, digest=task.digest, allow_code=task.allow_code
            ).predict
        except ModelError as e:
            _send(task.answers, 0, REFUSED, _words(str(e)))
            os._exit(1)
    _settle()
    serve(predict, asks=task.asks, answers=task.answers)
    os._exit(0)  # past the libraries' own farewells


if __name__ == "__main__":
    main()
