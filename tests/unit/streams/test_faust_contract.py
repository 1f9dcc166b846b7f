"""What `streams` overrides or calls inside Faust and aiokafka is still there, with the signature it was written against.

A new minor version of either is let in by raising the pins in pyproject.toml after this file passes with it.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiokafka
import faust
import pytest
import rocksdict
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance
from faust import streams as faust_streams
from faust.app.base import App
from faust.stores import rocksdb
from faust.transport import consumer as base
from faust.transport import drivers
from faust.transport.drivers import aiokafka as driver
from faust.worker import Worker

from streams import chunks

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("package", "pinned"),
    [("faust-streaming", r"0\.15\.(?!0$|1$|2$)\d+"), ("aiokafka", r"0\.14\.\d+"), ("rocksdict", r"0\.3\.\d+")],
)
def test_the_versions_are_those_it_was_written_for(package: str, pinned: str) -> None:
    assert re.fullmatch(pinned, version(package))
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (line,) = [d for d in declared if d.startswith(f"{package}>")]
    assert re.search(r"<0\.\d+$", line), f"{line}: the next minor is shut out"


OVERRIDDEN: list[tuple[type, type, str, list[str]]] = [
    (driver.Consumer, chunks.ChunkConsumer, "getmany", ["self", "timeout"]),
    (driver.Consumer, chunks.ChunkConsumer, "ack", ["self", "message"]),
    (driver.Consumer, chunks.ChunkConsumer, "perform_seek", ["self"]),
    (driver.Consumer, chunks.ChunkConsumer, "seek_to_committed", ["self"]),
    (driver.Consumer, chunks.ChunkConsumer, "force_commit", ["self", "topics", "start_new_transaction"]),
    (driver.Consumer, chunks.ChunkConsumer, "on_partitions_revoked", ["self", "revoked"]),
    (driver.Consumer, chunks.ChunkConsumer, "on_buffer_full", ["self", "tp"]),
    (driver.Consumer, chunks.ChunkConsumer, "verify_event_path", ["self", "now", "tp"]),
    (driver.Consumer, chunks.ChunkConsumer, "_new_consumer_thread", ["self"]),
    (driver.AIOKafkaConsumerThread, chunks.ChunkConsumerThread, "_create_worker_consumer", ["self", "transport"]),
]


@pytest.mark.parametrize(("theirs", "ours", "name", "parameters"), OVERRIDDEN, ids=[o[2] for o in OVERRIDDEN])
def test_what_is_overridden_is_called_as_it_was(theirs: type, ours: type, name: str, parameters: list[str]) -> None:
    assert issubclass(ours, theirs)
    assert list(inspect.signature(inspect.unwrap(getattr(theirs, name))).parameters) == parameters
    assert list(inspect.signature(getattr(ours, name)).parameters) == parameters
    assert name in vars(ours)
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    assert [k(inspect.unwrap(getattr(ours, name))) for k in kinds] == [k(inspect.unwrap(getattr(theirs, name))) for k in kinds]


def test_every_override_has_its_line_above() -> None:
    tested = {(ours.__name__, name) for _, ours, name, _ in OVERRIDDEN}
    for ours, theirs in ((chunks.ChunkConsumer, driver.Consumer), (chunks.ChunkConsumerThread, driver.AIOKafkaConsumerThread)):
        found = {
            (ours.__name__, n) for n, f in vars(ours).items() if inspect.isfunction(f) and n != "__init__" and hasattr(theirs, n)
        }
        assert {f for f in found if f[0] == ours.__name__} == {t for t in tested if t[0] == ours.__name__}


def test_the_docstring_names_what_is_overridden() -> None:
    docstring = ast.get_docstring(ast.parse(Path(chunks.__file__).read_text())) or ""
    assert [n for _, _, n, _ in OVERRIDDEN if f"{n}`" not in docstring and n != "_new_consumer_thread"] == []
    assert "`CoordinatorGroupRebalance._send_sync_group_request`" in docstring


CALLED: list[tuple[Any, str, list[str]]] = [
    (base.Consumer, "_wait_next_records", ["self", "timeout"]),
    (base.Consumer, "_commit_offsets", ["self", "offsets", "start_new_transaction"]),
    (base.Consumer, "commit", ["self", "topics", "start_new_transaction"]),
    (base.Consumer, "wait_empty", ["self"]),
    (driver.Consumer, "_to_message", ["self", "tp", "record"]),
    (driver.Consumer, "highwater", ["self", "tp"]),
    (driver.Consumer, "assignment", ["self"]),
    (driver.AIOKafkaConsumerThread, "seek_to_beginning", ["self", "partitions"]),
    (aiokafka.AIOKafkaConsumer, "seek_to_beginning", ["self", "partitions"]),
    (CoordinatorGroupRebalance, "_send_sync_group_request", ["self", "request"]),
    (rocksdb.Store, "_db_for_partition", ["self", "partition"]),
    (rocksdb.Store, "apply_changelog_batch", ["self", "batch", "to_key", "to_value"]),
    (rocksdb.Store, "set_persisted_offset", ["self", "tp", "offset"]),
    (rocksdict.Rdict, "write", ["self", "write_batch", "write_opt"]),
    (Worker, "install_signal_handlers", ["self"]),
]


@pytest.mark.parametrize(("owner", "name", "parameters"), CALLED, ids=[c[1] for c in CALLED])
def test_what_is_called_is_called_so(owner: Any, name: str, parameters: list[str]) -> None:
    original = chunks._send_sync_group_request if name == "_send_sync_group_request" else inspect.unwrap(getattr(owner, name))
    assert list(inspect.signature(original).parameters) == parameters


def test_attributes_that_are_read_or_replaced_exist() -> None:
    made = inspect.getsource(base.Consumer.__init__) + inspect.getsource(base.Consumer._reset_state)
    for name in (
        "_read_offset",
        "_acked",
        "_acked_index",
        "_unacked_messages",
        "_buffered_partitions",
        "flow_active",
        "scheduler",
    ):
        assert f"self.{name} " in made
    assert base.Consumer._waiting_for_ack is None
    assert "fetch_max_wait_ms=1500" in inspect.getsource(driver.AIOKafkaConsumerThread._create_worker_consumer)
    assert "self._fetch_max_wait_ms" in inspect.getsource(aiokafka.AIOKafkaConsumer.__init__)
    assert rocksdb.Store.offset_key == b"__faust\0offset__"
    assert driver.Transport.Consumer is driver.Consumer


def test_revocation_drains_and_commits_before_it_is_announced() -> None:
    """So a group forgets its windows only after their last checkpoint."""
    source = inspect.getsource(App._on_partitions_revoked)
    steps = ["consumer.stop_flow", "self.flow_control.clear", "self._consumer_wait_empty", "self.on_partitions_revoked.send"]
    places = [source.index(s) for s in steps]
    assert places == sorted(places)
    assert "commit_and_end_transactions" in inspect.getsource(base.Consumer.wait_empty)


def test_faust_drops_by_read_offset_what_a_seek_brings_again() -> None:
    """Why `_ReadOffsets` answers None for chunk topics: then nothing is dropped, and no gap is acknowledged."""
    source = inspect.getsource(base.Consumer._drain_messages)
    assert "get_read_offset = self._read_offset.__getitem__" in source
    assert "if r_offset is None or offset >= r_offset:" in source
    assert "if gap > 1 and r_offset:" in source


def test_aiokafka_seeks_only_where_something_is_committed() -> None:
    """Why `seek_to_committed` is overridden; and its fetch takes no partitions to mean all of them."""
    assert "if offset and offset > 0:\n                self._fetcher.seek_to(tp, offset)" in inspect.getsource(
        aiokafka.AIOKafkaConsumer.seek_to_committed
    )
    assert "if partitions and tp not in partitions:" in inspect.getsource(Fetcher.fetched_records)


def test_recovery_writes_the_value_of_each_message_then_the_offset() -> None:
    """`table.guard` puts the value to hold into the message, and holds the offset back."""
    source = inspect.getsource(rocksdb.Store.apply_changelog_batch)
    assert "put(msg.key, msg.value)" in source
    assert source.rstrip().endswith("self.set_persisted_offset(tp, offset)")


def test_streams_run_compiled() -> None:
    """The pure-Python stream acknowledges events it skipped after a rebalance; the compiled one does not."""
    compiled: Any = faust_streams
    assert compiled._CStreamIterator is not None


def test_the_queue_before_an_agent_is_as_long_as_its_topic_says_but_only_if_told_afterwards() -> None:
    app = faust.App("contract", broker="kafka://127.0.0.1:1", store="memory://")
    assert app.topic("a", maxsize=2).maxsize is None  # if this fails, Faust passes it on: `streams.group` may too
    topic = app.topic("b")
    topic.maxsize = 2

    async def full_after() -> int:
        queue = app.agent(topic)(_take_nothing).channel.clone(is_iterator=True).queue
        taken = 0
        while not queue.full():
            queue.put_nowait(object())
            taken += 1
        return taken

    assert asyncio.run(full_after()) == 2


async def _take_nothing(stream: Any) -> None:
    async for _ in stream:
        pass


def test_the_second_that_a_worker_need_not_wait_for_comes_after_everything_has_ended() -> None:
    source = inspect.getsource(Worker._sentinel_task)
    assert source.strip().splitlines()[1:] == ["        await asyncio.sleep(1.0)"]
    shutdown = inspect.getsource(Worker._shutdown_loop)
    assert shutdown.index("self._gather_all()") < shutdown.index("self._sentinel_task()") < shutdown.index("self.loop.close()")
    assert inspect.getsource(Worker.stop_and_shutdown).index("self.stop()") >= 0


def test_the_scheme_is_known_after_registering() -> None:
    chunks.register()
    assert drivers.TRANSPORTS.by_url(f"{chunks.SCHEME}://x:1") is chunks.ChunkTransport
    assert CoordinatorGroupRebalance._send_sync_group_request is chunks._sync_group
    assert faust.App is App or issubclass(faust.App, App)


async def test_a_sync_error_joins_again_but_a_forbidden_group_still_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    from aiokafka.errors import GroupAuthorizationFailedError, KafkaError

    async def answers(error: Exception | None) -> object:
        async def send(_self: object, _request: object) -> object:
            if error is not None:
                raise error
            return "assignment"

        monkeypatch.setattr(chunks, "_send_sync_group_request", send)
        return await chunks._sync_group(None, None)

    assert await answers(None) == "assignment"
    assert await answers(KafkaError("[Error 42]")) is None
    with pytest.raises(GroupAuthorizationFailedError):
        await answers(GroupAuthorizationFailedError())
