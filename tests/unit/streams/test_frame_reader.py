"""Frames received whole are those a stream would give, whatever pieces they come in, and their memory is nobody else's."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import weakref
from asyncio import selector_events, sslproto
from typing import Any

import pytest
from aiokafka import TopicPartition, conn
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import _MemoryRecordsPy
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import frame_reader
from streams.frame_reader import FrameProtocol, FrameRecords, Memory
from streams.headernames import KeptRecords
from tests.odd_headers import GZIP, RawName, builder

SMALL = frame_reader._SMALL
SIZES = st.sampled_from([0, 1, 2, SMALL - 5, SMALL - 4, SMALL - 3, SMALL, 2 * SMALL, 100_000]) | st.integers(0, 200)
ENDS: list[Any] = [None, "eof", ConnectionResetError("gone")]


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big", signed=True) + body


def protocol_here(reader: asyncio.StreamReader) -> FrameProtocol:
    loop = asyncio.get_running_loop()
    return FrameProtocol(loop.create_future(), reader, loop=loop)


def feed(protocol: FrameProtocol, data: bytes, most: int) -> None:
    """Receive `data` as asyncio would of a socket that has at most `most` bytes at a time."""
    while data:
        buffer = protocol.get_buffer(-1)
        n = min(len(buffer), most, len(data))
        assert n > 0
        buffer[:n] = data[:n]
        protocol.buffer_updated(n)
        data = data[n:]


async def by_protocol(pieces: list[bytes], end: Any, most: int, turns: list[bool]) -> tuple[list[bytes], str]:
    reader = asyncio.StreamReader()
    protocol, frames = protocol_here(reader), list[bytes]()

    async def read() -> None:
        while True:
            frames.append(bytes(await protocol.frame()))

    task = asyncio.create_task(read())
    for at, piece in enumerate(pieces):
        feed(protocol, piece, most)
        if turns[at % len(turns)]:
            await asyncio.sleep(0)
    return frames, await ended(task, protocol, end)


async def by_stream(pieces: list[bytes], end: Any) -> tuple[list[bytes], str]:
    """What aiokafka's own reading task does."""
    reader = asyncio.StreamReader(limit=conn.READER_LIMIT)
    loop = asyncio.get_running_loop()
    protocol, frames = conn.AIOKafkaProtocol(loop.create_future(), reader, loop=loop), list[bytes]()

    async def read() -> None:
        while True:
            size = int.from_bytes(await reader.readexactly(4), "big", signed=True)
            frames.append(await reader.readexactly(size))

    task = asyncio.create_task(read())
    for piece in pieces:
        if not task.done():
            protocol.data_received(piece)
            await asyncio.sleep(0)
    return frames, await ended(task, protocol, end)


async def ended(task: asyncio.Task[None], protocol: Any, end: Any) -> str:
    """What the reading task came to after this end of the connection."""
    for _ in range(3):
        await asyncio.sleep(0)
    if end == "eof":
        protocol.eof_received()
        assert (
            protocol._stream_reader.at_eof() or type(protocol) is not FrameProtocol
        )  # so a connection knows it is not connected
    elif end is not None:
        protocol.connection_lost(end)
        assert protocol._closed_fut.done()
    for _ in range(3):
        await asyncio.sleep(0)
    if not task.done():
        task.cancel()
        return "waits"
    return type(task.exception()).__name__


def cut(data: bytes, at: list[int]) -> list[bytes]:
    points = sorted({0, len(data), *(p % (len(data) + 1) for p in at)})
    return [data[a:b] for a, b in itertools.pairwise(points)]


@settings(deadline=None)
@given(
    sizes=st.lists(SIZES, max_size=8),
    missing=st.integers(0, 9),
    at=st.lists(st.integers(0, 1 << 20), max_size=12),
    most=st.sampled_from([1 << 18, SMALL - 1, 1000]),
    turns=st.lists(st.booleans(), min_size=1, max_size=5),
    end=st.sampled_from(ENDS),
)
def test_the_frames_and_the_end_are_those_of_a_stream(
    sizes: list[int], missing: int, at: list[int], most: int, turns: list[bool], end: Any
) -> None:
    data = b"".join(framed(bytes([n + 1]) * size) for n, size in enumerate(sizes))
    pieces = cut(data[: len(data) - missing] if missing < len(data) else data, at)
    stream = asyncio.run(by_stream(pieces, end))
    assert asyncio.run(by_protocol(pieces, end, most, turns)) == stream


@pytest.mark.parametrize("size", [-1, -(1 << 31)])
@pytest.mark.parametrize("before", [[], [b"a"], [b"a" * 50_000, b""]])
def test_a_negative_size_ends_the_reading_after_what_came_before(size: int, before: list[bytes]) -> None:
    pieces = [b"".join(map(framed, before)) + size.to_bytes(4, "big", signed=True) + b"xy", framed(b"later")]
    assert asyncio.run(by_protocol(pieces, None, 1 << 18, [False])) == (before, "ValueError")
    assert asyncio.run(by_stream(pieces, None)) == (before, "ValueError")


def test_a_size_that_is_nonsense_takes_no_memory() -> None:
    # A web server asked in Kafka's protocol answers "HTTP": 1.2 GB are announced, and 100 bytes come.
    page = b"HTTP/1.1 400 Bad Request".ljust(100)
    assert asyncio.run(by_protocol([page], "eof", 1 << 18, [True])) == ([], "IncompleteReadError")


def test_memory_is_used_again_only_when_nothing_refers_to_it() -> None:
    memory = Memory()
    first = memory.take(50_000)
    first[:] = b"1" * 50_000
    value, whole = first[10:20], weakref.ref(first.obj)
    del first
    second = memory.take(50_000)
    second[:] = b"2" * 50_000
    assert bytes(value) == b"1" * 10
    del value
    assert whole() is None
    third = memory.take(60_000)  # a quarter more was taken at first
    assert bytes(third[:10]) == b"1" * 10
    assert bytes(second[:10]) == b"2" * 10


def test_only_so_much_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    held = [memory.take(20_000) for _ in range(5)]
    assert len(memory._kept) == frame_reader._KEPT
    del held
    monkeypatch.setattr(frame_reader, "_LARGEST_KEPT", 50_000)
    for size in (45_000, 30_000, 40_000, 35_000):
        assert len(memory.take(size)) == size
    assert len(memory._kept) == frame_reader._KEPT
    assert sorted(len(kept) for kept, _ in memory._kept) == [25_000, 37_500, 50_000]


def batch(first: int, n: int, size: int, *, compression: int = 0, name: str = "h") -> bytes:
    made = builder(compression)
    for i in range(n):
        made.append(offset=i, timestamp=1_000 + i, key=b"k%d" % i, value=b"%d" % i * size, headers=[(name, b"x")])
    built = made.build()
    built[0:8] = first.to_bytes(8, "big")
    return bytes(built)


def legacy(magic: int, n: int) -> bytes:
    made = LegacyRecordBatchBuilder(magic, 0, 1 << 20)
    for i in range(n):
        made.append(i, timestamp=1_000 + i, key=b"k", value=b"v" * i)
    return bytes(made.build())


ODD = RawName(b"\xff")
RECORD_SETS = {
    "large": batch(0, 3, 9_000) + batch(3, 1, 90_000),
    "small": b"".join(batch(n, 1, 10) for n in range(40)),
    "gzip": batch(0, 3, 9_000, compression=GZIP) + batch(3, 2, 20),
    "cut": batch(0, 3, 9_000) + batch(3, 3, 9_000)[:-1],
    "none": batch(0, 3, 9_000)[:-1],
    "short": b"abc",
    "odd name": batch(0, 2, 9_000) + batch(2, 2, 9_000, name=ODD),
    "format 0": legacy(0, 4),
    "format 1": legacy(1, 4),
    "corrupt": batch(0, 1, 9_000) + batch(1, 1, 9_000)[:-1] + b"?",
    "corrupt size": batch(0, 1, 9_000) + b"\0" * 8 + (3).to_bytes(4, "big") + b"abc" * 10,
    "negative size": batch(0, 1, 9_000) + b"\0" * 8 + b"\xff" * 4 + b"abc" * 10,
}


def read(records: Any, *, check_crcs: bool) -> list[Any]:
    found: list[Any] = [records.size_in_bytes()]
    source = fetcher.PartitionRecords(TopicPartition("t", 0), records, [], 0, None, None, check_crcs, fetcher.READ_COMMITTED)
    try:
        found.extend(source)
    except CorruptRecordException as e:
        found.append(str(e))
    return [*found, source.next_fetch_offset]


@pytest.mark.parametrize("fast", [True, False], ids=["google-crc32c", "aiokafka's"])
@pytest.mark.parametrize("check_crcs", [True, False])
@pytest.mark.parametrize("name", RECORD_SETS)
def test_the_records_of_a_view_are_those_of_its_bytes(
    *, name: str, check_crcs: bool, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fast:
        monkeypatch.setattr(frame_reader, "_crc32c", None)
    data = RECORD_SETS[name]
    found = read(FrameRecords(memoryview(bytearray(data))), check_crcs=check_crcs)
    assert found == read(KeptRecords(data), check_crcs=check_crcs) == read(FrameRecords(data), check_crcs=check_crcs)
    if name == "corrupt" and check_crcs:
        assert "Invalid CRC" in found[-2]


def test_records_keep_no_view_of_what_they_were_read_from() -> None:
    frame = bytearray(batch(0, 2, 9_000))
    records = FrameRecords(memoryview(frame))
    found = records.next_batch().records()
    del records
    frame.clear()  # raises where a view is left
    assert len(found) == 2


def test_aiokafka_connects_and_reads_by_the_names_that_are_replaced() -> None:
    connect = inspect.getsource(conn.AIOKafkaConnection.connect)
    assert "protocol = AIOKafkaProtocol(self._closed_fut, reader, loop=loop)" in connect
    assert connect.index("self._protocol = reader, writer, protocol") < connect.index("self._create_reader_task()")
    assert "create_task(self._read(self_ref))" in inspect.getsource(conn.AIOKafkaConnection._create_reader_task)
    assert (
        inspect.getsource(frame_reader._read_stream).split("while True:")[1].split()
        == (
            'resp = await reader.readexactly(4) (size,) = struct.unpack(">i", resp) resp = await reader.readexactly(size) '
            "self = self_ref() if self is None: return self._handle_frame(resp) del self"
        ).split()
    )
    assert frame_reader._read_stream is not frame_reader._read
    assert issubclass(FrameProtocol.__mro__[1], asyncio.StreamReaderProtocol)
    assert FrameProtocol.__mro__[1].__module__ == "aiokafka.conn"


def test_aiokafka_opens_an_answer_once_and_knows_its_request_by_place() -> None:
    whole = inspect.getsource(conn)
    assert whole.count("io.") - whole.count("asyncio.") == 1
    handle = inspect.getsource(conn.AIOKafkaConnection._handle_frame)
    assert "correlation_id, request, fut = self._requests[0]" in handle
    assert "resp = io.BytesIO(resp)" in handle
    assert "(correlation_id, request_struct, fut)" in inspect.getsource(conn.AIOKafkaConnection.send)
    assert "(None, None, fut)" in inspect.getsource(conn.AIOKafkaConnection._send_sasl_token)


def test_the_reader_in_python_takes_views_and_looks_one_batch_ahead() -> None:
    data = batch(0, 1, 10) + batch(1, 1, 20)
    found = _MemoryRecordsPy(memoryview(data))
    first = found._next_slice
    assert first == batch(0, 1, 10)
    assert next(iter(found.next_batch())).value == b"0" * 10
    assert found._next_slice == batch(1, 1, 20)


def test_asyncio_gives_the_buffer_to_the_socket_and_to_tls() -> None:
    assert "isinstance(protocol, protocols.BufferedProtocol)" in inspect.getsource(selector_events._SelectorSocketTransport)  # type: ignore[attr-defined]  # private
    assert "isinstance(app_protocol, protocols.BufferedProtocol)" in inspect.getsource(sslproto.SSLProtocol)
