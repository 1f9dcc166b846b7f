"""Connections to servers that answer, stop half way or say nonsense: aiokafka's requests end as they would over a stream."""

from __future__ import annotations

import asyncio
import inspect
import io
import ssl
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition, conn
from aiokafka.consumer import fetcher
from aiokafka.errors import CorrelationIdError, KafkaConnectionError
from aiokafka.protocol.admin import ApiVersionResponse_v0, SaslHandShakeResponse_v0
from aiokafka.protocol.fetch import FetchRequest, FetchResponse_v11
from confluent_kafka import Producer

from streams import fetching, frame_reader
from streams.broker import EmbeddedBroker
from streams.frame_reader import FrameProtocol, FrameRecords, receive_frames
from tests.kafka.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


@pytest.fixture
def received_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace what is replaced, for one test."""
    for where, name in ((fetcher, "MemoryRecords"), (conn, "AIOKafkaProtocol"), (conn, "io")):
        monkeypatch.setattr(where, name, getattr(where, name))
    monkeypatch.setattr(conn.AIOKafkaConnection, "_read", inspect.getattr_static(conn.AIOKafkaConnection, "_read"))
    receive_frames()


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big", signed=True) + body


async def serve(stream: tuple[asyncio.StreamReader, asyncio.StreamWriter], answers: dict[int, Callable[[], bytes]]) -> None:
    """Answer each request with what stands under its API key, after its correlation id; SASL's tokens with nothing."""
    reader, writer = stream
    try:
        while True:
            request = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
            key = int.from_bytes(request[:2], "big")
            writer.write(framed(request[4:8] + answers[key]()) if key in answers else framed(b""))
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        writer.close()


def fetch_answer(sets: list[bytes]) -> bytes:
    partitions: list[Any] = [(n, 0, 9, 9, 0, [], -1, data) for n, data in enumerate(sets)]
    encoded: bytes = FetchResponse_v11(0, 0, 0, [("t", partitions)]).encode()
    return encoded


def answers_of(sets: list[bytes]) -> dict[int, Callable[[], bytes]]:
    return {
        18: ApiVersionResponse_v0(0, [(1, 11, 11), (17, 0, 0), (18, 0, 0)]).encode,
        17: SaslHandShakeResponse_v0(0, ["PLAIN"]).encode,
        1: lambda: fetch_answer(sets),
    }


def secured(folder: Path, protocol: str) -> tuple[ssl.SSLContext | None, dict[str, Any]]:
    """The server's and the client's side."""
    ours: dict[str, Any] = {"security_protocol": protocol, "sasl_plain_username": "u", "sasl_plain_password": "p"}
    if protocol.startswith("SASL"):
        ours["sasl_mechanism"] = "PLAIN"
    if not protocol.endswith("SSL"):
        return None, ours
    authority = Authority(folder, "ca")
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(authority.issue("server").both)
    return theirs, ours | {"ssl_context": ssl.create_default_context(cafile=str(authority.file))}


async def connected(server: Any, ours: dict[str, Any], **more: Any) -> Any:
    return await conn.create_conn("localhost", server.sockets[0].getsockname()[1], **ours, **more)


def check_answer(response: Any, sets: list[bytes]) -> None:
    partitions = response.topics[0][1]
    assert [bytes(p[-1]) for p in partitions] == sets
    assert [type(p[-1]) for p in partitions] == [memoryview, memoryview, bytes, bytes]


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.usefixtures("received_whole")
async def test_a_connection_reads_answers_of_every_size(protocol: str, tmp_path: Path) -> None:
    sets = [b"\1" * 3_000_000, b"\2" * 40_000, b"\3" * 100, b""]
    theirs, ours = secured(tmp_path, protocol)
    answers = answers_of(sets)
    server = await asyncio.start_server(lambda *s: serve(s, answers), "localhost", ssl=theirs)
    async with server:
        connection = await connected(server, ours)
        assert isinstance(connection._protocol, FrameProtocol)
        for _ in range(3):
            for response in await asyncio.gather(*(connection.send(FetchRequest(0, 0, 0, 0, [])) for _ in range(3))):
                check_answer(response, sets)
                assert "memory" in repr(response)  # what aiokafka logs of it when debugging
                del response
        await asyncio.sleep(0)  # until then the callback that woke this up refers to the last answer
        assert all(user() is None for _, user in connection._protocol._memory._kept)
        closed = connection.close()
        await closed
        assert not connection.connected()


@pytest.mark.usefixtures("received_whole")
async def test_a_large_answer_to_anything_else_is_bytes() -> None:
    large = ApiVersionResponse_v0(0, [(1, 11, 11), *[(n, 0, 0) for n in range(100, 5_000)]])
    server = await asyncio.start_server(lambda *s: serve(s, {18: large.encode}), "localhost")
    async with server:
        connection = await connected(server, {})
        assert len(connection._versions) == 4_901
        connection.close()


@pytest.fixture
async def half_a_fetch() -> AsyncIterator[tuple[Any, list[asyncio.StreamWriter]]]:
    """A server that says half an answer to a fetch, and the streams it has."""
    writers: list[asyncio.StreamWriter] = []

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        answers = {18: answers_of([])[18]}
        request = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
        writer.write(framed(request[4:8] + answers[18]()))
        await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
        writer.write((1 << 20).to_bytes(4, "big") + b"x" * 500_000)
        await writer.drain()

    server = await asyncio.start_server(half, "localhost")
    async with server:
        yield server, writers


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


EXPECTED: dict[str, type[Exception]] = {
    "eof": KafkaConnectionError,
    "reset": KafkaConnectionError,
    "close": KafkaConnectionError,
    "time": TimeoutError,
    "nonsense": CorrelationIdError,
}


@pytest.mark.parametrize("how", EXPECTED)
@pytest.mark.usefixtures("received_whole")
async def test_what_ends_a_connection_fails_its_requests(how: str, half_a_fetch: Any) -> None:
    server, writers = half_a_fetch
    reasons: list[Any] = []
    connection = await connected(server, {}, request_timeout_ms=1_000, on_close=lambda _, reason: reasons.append(reason))
    request = asyncio.ensure_future(connection.send(FetchRequest(0, 0, 0, 0, [])))
    await until(lambda: connection._protocol._large is not None and connection._protocol._filled == 500_000)
    if how == "eof":
        writers[0].close()
    elif how == "reset":
        writers[0].transport.abort()
    elif how == "nonsense":
        writers[0].write(b"x" * ((1 << 20) - 500_000) + b"\xff" * 4)
    elif how == "close":
        connection.close(conn.CloseReason.SHUTDOWN)
    with pytest.raises(EXPECTED[how]):
        await request
    if how == "time":
        assert connection.connected()  # its client closes it then
        connection.close()
    await until(lambda: bool(reasons))
    assert not connection.connected()
    with pytest.raises(KafkaConnectionError):
        await connection.send(FetchRequest(0, 0, 0, 0, []))


@pytest.mark.usefixtures("received_whole")
async def test_a_connection_nobody_holds_is_closed() -> None:
    answers = answers_of([])
    server = await asyncio.start_server(lambda *s: serve(s, answers), "localhost")
    async with server:
        connection = await connected(server, {})
        task, gone = connection._read_task, weakref.ref(connection)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        with pytest.warns(ResourceWarning, match="Unclosed AIOKafkaConnection"):
            del connection
        assert gone() is None
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()


async def test_a_connection_made_while_it_is_replaced_keeps_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conn, "io", SimpleNamespace(BytesIO=frame_reader._opened))
    monkeypatch.setattr(conn.AIOKafkaConnection, "_read", staticmethod(frame_reader._read))
    answers = answers_of([b"\1" * 100_000])
    server = await asyncio.start_server(lambda *s: serve(s, answers), "localhost")
    async with server:
        connection = await connected(server, {})
        assert type(connection._protocol) is not FrameProtocol
        response = await connection.send(FetchRequest(0, 0, 0, 0, []))
        assert response.topics[0][1][0][-1] == b"\1" * 100_000
        connection.close()


@pytest.mark.broker
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("codec", ["none", "gzip"])
@pytest.mark.usefixtures("received_whole")
async def test_a_consumer_reads_a_topic_again_and_again(*, whole: bool, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_whole", {"t"} if whole else set())
    monkeypatch.setattr(fetcher, "PartitionRecords", fetching.WholeBatches)
    monkeypatch.setattr(fetcher, "FetchResult", fetching.FetchedWhole)
    values = [bytes([n]) * (1 << 17 + n % 3) for n in range(8)] + [b"small"] * 5
    with EmbeddedBroker({"t": 1}) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 2, "compression.type": codec})
        for value in values:
            producer.produce("t", value, partition=0)
        assert producer.flush(20.0) == 0
        async with AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers, fetch_max_wait_ms=10) as consumer:
            tp = TopicPartition("t", 0)
            consumer.assign([tp])
            for _ in range(4):
                consumer.seek(tp, 0)
                found: list[Any] = []
                while len(found) < len(values):
                    found += (await consumer.getmany(timeout_ms=200, max_records=3)).get(tp, [])
                assert [r.value for r in found] == values
                assert [r.offset for r in found] == list(range(len(values)))


@pytest.mark.usefixtures("received_whole")
def test_the_names_are_replaced() -> None:
    assert fetcher.MemoryRecords is FrameRecords
    assert conn.AIOKafkaProtocol is FrameProtocol
    assert conn.AIOKafkaConnection._read is frame_reader._read
    assert isinstance(conn.io.BytesIO(b"x"), io.BytesIO)
    assert isinstance(conn.io.BytesIO(memoryview(b"x")), frame_reader.Opened)
