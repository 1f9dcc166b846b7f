"""Kafka's responses received straight into their own memory, not through a stream's growing buffer. Shell.

aiokafka reads a response of megabytes as pieces of 256 KiB that are appended to a bytearray, cut out of it, cut again
for each partition and copied once more for each record, all of it in fresh memory, where a page costs more to get than to fill.
Here a response is received into memory that is used again once nothing refers to it, and a partition's batches are read
where they were received: a record's key and value are the only copies, and the heap they go to keeps its pages. The batches'
checksums, by aiokafka's own code half of what is left then, are google-crc32c's where that is compiled.

It holds for every aiokafka connection of the process, since nothing tells a consumer's from others. What is small,
and what answers anything but a fetch, reaches aiokafka as the `bytes` it always was.

Replaced internals of aiokafka 0.14, each with a contract test in tests/unit/streams/test_frame_reader.py: of `aiokafka.conn`
`AIOKafkaProtocol`, `AIOKafkaConnection._read` and `io`; `MemoryRecords` of `aiokafka.consumer.fetcher`. Used: `_MemoryRecordsPy`
of `aiokafka.record.memory_records`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import io
import mmap
import weakref
from collections import deque
from types import SimpleNamespace
from typing import Any

import google_crc32c
import numpy as np
from aiokafka import conn
from aiokafka.consumer import fetcher
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import _MemoryRecordsPy

from streams.headernames import KeptRecords

_crc32c: Any = google_crc32c.value if google_crc32c.implementation == "c" else None

_PREFIX = 4
"""Bytes before a frame that say its size."""
_SMALL = 1 << 14
"""A frame that fits in so many bytes with its prefix is received beside others, and copied."""
_LONGEST_TEXT = (1 << 15) - 1
"""Of Kafka's protocol; what is longer than this in a fetch response are batches."""
_KEPT = 3
"""Pieces of memory a connection keeps: one is received into while those before it are read."""
_LARGEST_KEPT = 1 << 25
_HEAP = {-3: 1 << 25, -1: 1 << 26}
"""glibc's M_MMAP_THRESHOLD and M_TRIM_THRESHOLD: values of so many bytes are made in the heap, whose end keeps so many free."""
_MAGIC = 16
_CRC = slice(17, 21)
_CHECKED_FROM = 21
_WORTH_A_CALL = 1 << 12
"""Bytes of a batch from which a call of google-crc32c saves more than it costs."""


class Memory:
    """Memory of one connection's large frames, used again when nothing refers any more to what was received into it."""

    def __init__(self) -> None:
        self._kept: list[tuple[mmap.mmap, weakref.ref[Any]]] = []

    def take(self, size: int) -> memoryview:
        """So many bytes, at least one, of whatever content; theirs who asked until the last view of them is gone.

        New memory is mapped, so it costs nothing until it is written: a size that is nonsense does no harm.
        """
        free = [at for at, (_, user) in enumerate(self._kept) if user() is None]
        fitting = [at for at in free if len(self._kept[at][0]) >= size]
        if fitting:
            at = min(fitting, key=lambda at: len(self._kept[at][0]))
            memory = self._kept[at][0]
        else:
            # A quarter more than was asked for, so that frames of about one size do not each need a larger piece.
            memory, at = mmap.mmap(-1, size + size // 4, flags=mmap.MAP_PRIVATE), len(self._kept)
            if at == _KEPT and free:
                at = min(free, key=lambda at: len(self._kept[at][0]))
        # Views refer to this array, however they are cut, and it is no one else's: its end is theirs.
        user: Any = np.frombuffer(memory, np.uint8)
        if at < _KEPT and len(memory) <= _LARGEST_KEPT:
            self._kept[at : at + 1] = [(memory, weakref.ref(user))]
        return memoryview(user)[:size]


class FrameProtocol(conn.AIOKafkaProtocol, asyncio.BufferedProtocol):  # type: ignore[misc]  # aiokafka is untyped
    """aiokafka's protocol, with whole frames for its reading task in place of a stream of bytes.

    asyncio asks a `BufferedProtocol` where to put what comes. That is a small window at first; as soon as a large frame's
    size is known, it is the rest of that frame's memory, so what follows the frame comes into the window again.
    """

    def __init__(self, closed: asyncio.Future[None], reader: asyncio.StreamReader, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(closed, reader, loop=loop)
        self._memory = Memory()
        self._window = memoryview(bytearray(_SMALL))
        self._large: memoryview | None = None
        self._filled = 0  # of the large frame if there is one, else of the window
        self._frames: deque[bytes | memoryview] = deque()
        self._end: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Where to put what comes next; never empty, for full frames are taken out at once."""
        return (self._window if self._large is None else self._large)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take out the frames that are complete."""
        if self._end is not None:  # what a peer says after nonsense means nothing
            return
        self._filled += nbytes
        if self._large is None:
            self._take_from_window()
        elif self._filled == len(self._large):
            self._frames.append(self._large)
            self._large, self._filled = None, 0
        if self._frames or self._end is not None:
            self._wake()

    def _take_from_window(self) -> None:
        window, at, end = self._window, 0, self._filled
        while end - at >= _PREFIX:
            start = at + _PREFIX
            size = int.from_bytes(window[at:start], "big", signed=True)
            if size < 0:
                self._end = ValueError(f"a frame of {size} bytes was announced: what answers does not speak Kafka's protocol")
                at = end
                break
            if size > _SMALL - _PREFIX:
                self._large = self._memory.take(size)
                self._large[: end - start] = window[start:end]
                self._filled = end - start
                return
            if end - start < size:
                break
            self._frames.append(bytes(window[start : start + size]))
            at = start + size
        self._filled = end - at
        if at:
            window[: self._filled] = window[at:end]

    def eof_received(self) -> Any:
        """Nothing follows: the reading task ends after the frames that are complete."""
        self._finish(asyncio.IncompleteReadError(b"", None if self._large is None else len(self._large)))
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The same, with the error if there was one."""
        self._finish(exc or asyncio.IncompleteReadError(b"", None))
        super().connection_lost(exc)

    def _finish(self, end: BaseException) -> None:
        if self._end is None:
            self._end = end
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def frame(self) -> bytes | memoryview:
        """The next frame; raises what ended the connection once there is none. For one task at a time."""
        while not self._frames:
            if self._end is not None:
                raise self._end
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._frames.popleft()


async def _read(self_ref: weakref.ref[Any]) -> None:
    """Stand for `AIOKafkaConnection._read`: frame by frame, holding no connection and no frame in between."""
    connection = self_ref()
    protocol = getattr(connection, "_protocol", None)
    del connection
    if not isinstance(protocol, FrameProtocol):  # it was about to connect when `receive_frames` was called
        await _read_stream(self_ref)
        return
    while True:
        frame = await protocol.frame()
        connection = self_ref()
        if connection is None:
            return
        if isinstance(frame, memoryview) and not _answers_fetch(connection):
            frame = bytes(frame)
        connection._handle_frame(frame)  # noqa: SLF001 - this is the connection's own task
        del connection, frame


_read_stream = conn.AIOKafkaConnection._read  # noqa: SLF001 - replaced below


def _answers_fetch(connection: Any) -> bool:
    requests = connection._requests  # noqa: SLF001 - as above
    return bool(requests) and getattr(requests[0][1], "API_KEY", None) == FetchRequest.API_KEY


class Opened:
    """A fetch response's bytes as aiokafka's decoders read them: what is short as `bytes`, batches as they lie there."""

    __slots__ = ("_at", "_frame")

    def __init__(self, frame: memoryview) -> None:
        self._frame = frame
        self._at = 0

    def read(self, size: int) -> bytes | memoryview:
        """The next `size` bytes, or as many as there are."""
        found = self._frame[self._at : self._at + size]
        self._at += len(found)
        return found if size > _LONGEST_TEXT else bytes(found)


def _opened(frame: bytes | memoryview) -> Opened | io.BytesIO:
    return Opened(frame) if isinstance(frame, memoryview) else io.BytesIO(frame)


class _Checked:
    """A batch of aiokafka's with a faster check of its bytes."""

    __slots__ = ("_batch", "_lies")

    def __init__(self, batch: Any, lies: memoryview) -> None:
        self._batch = batch
        self._lies = lies

    def validate_crc(self) -> bool:
        # An array, because google-crc32c takes no view.
        found: int = _crc32c(np.frombuffer(self._lies[_CHECKED_FROM:], np.uint8))
        return found == int.from_bytes(self._lies[_CRC], "big")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Any:
        return iter(self._batch)


class _Batches:
    """The batches in a view, each as aiokafka's reader of a batch, which is compiled and takes views.

    Its compiled reader of batch after batch takes `bytes` alone; the one in Python finds them as well.
    """

    __slots__ = ("_found", "has_next", "size_in_bytes")

    def __init__(self, data: memoryview) -> None:
        self._found = _MemoryRecordsPy(data)
        self.has_next = self._found.has_next
        self.size_in_bytes = self._found.size_in_bytes

    def next_batch(self) -> Any:
        lies = self._found._next_slice  # noqa: SLF001 - where the next batch lies
        batch = self._found.next_batch()
        if _crc32c is None or lies is None or len(lies) < _WORTH_A_CALL or lies[_MAGIC] < 2:  # noqa: PLR2004 - format 2 has this CRC
            return batch
        return _Checked(batch, lies)


class FrameRecords(KeptRecords):
    """What a fetch brought of one partition, read where it was received."""

    __slots__ = ()

    def __init__(self, data: bytes | memoryview) -> None:
        if isinstance(data, bytes):
            super().__init__(data)
            return
        super().__init__(b"")
        self._data = data  # type: ignore[assignment]  # `bytes_of` only cuts it
        self._records = _Batches(data)
        self.has_next = self._records.has_next
        self.size_in_bytes = self._records.size_in_bytes


def _keep_heap() -> None:
    """Keep the pages of values that a chunk is done with for those of the next, where the C library is glibc.

    By default it gives the end of the heap back from two of the largest pieces on, and each fetch's values would be new pages.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        for name, size in _HEAP.items():
            mallopt(name, size)


def receive_frames() -> None:
    """From now on, new connections of this process receive frame by frame; after `take_whole`, which sets the records' class."""
    _keep_heap()
    fetcher.MemoryRecords = FrameRecords
    conn.io = SimpleNamespace(BytesIO=_opened)
    conn.AIOKafkaConnection._read = staticmethod(_read)  # noqa: SLF001 - as the module says
    conn.AIOKafkaProtocol = FrameProtocol  # the last, for connections are made meanwhile: all it needs must be there
