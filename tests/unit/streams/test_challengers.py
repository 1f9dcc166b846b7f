"""A worker's challengers: scored after the champions' records are sent, in processes of their own, started once."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from config.sections import ServedModel, Topics
from models import apart
from models.errors import ChallengerUnavailable, UntrustedModel
from models.registry import Resolution, VersionFolder
from streams.challengers import Challengers
from streams.following import Following
from streams.inference import InferenceHandler
from streams.pipeline import Pipeline
from tests.unit.models.apart_actor import COMMAND
from tests.unit.streams.pipes import PARTITIONS, X1, X, bar, bodies, handle, order_of, part, put_in_force, serve, switch, total
from tests.unit.streams.wire import nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from models.handle import ModelHandle
    from streams.pipeline import StepResult
    from streams.switches import Order

ENDS = dict.fromkeys(range(PARTITIONS), 0)
CHAMPION = handle("m", [X, X1])


class Sent:
    """An outbox that keeps what it is given."""

    def __init__(self) -> None:
        self.topics: list[str] = []

    def send_many(self, topic: str, _records: Any) -> None:
        self.topics.append(topic)

    def send(self, topic: str, **_record: Any) -> None:
        self.topics.append(topic)


def test_the_champions_records_are_handed_over_before_a_challenger_is_asked() -> None:
    outbox: Any = Sent()
    seen: list[list[str]] = []

    def look(x: Any) -> Any:
        seen.append(list(outbox.topics))
        return total(x)

    topics = Topics()
    pipeline = serve(CHAMPION)
    put_in_force(pipeline, handle("m", [X, X1], version="2", predict=look), offsets=ENDS, seq=1, role="challenger")
    handler = InferenceHandler(pipeline, outbox, topics, idle_wait_s=1.0)
    table: Any = SimpleNamespace(get=nothing, items=lambda _p: [])
    handler.use_table(table)
    chunk: Any = SimpleNamespace(parts=part(bar(10, x=1.0), first=10))
    handler.process(chunk)
    assert seen == [[topics.predictions, topics.inference_log]]
    assert outbox.topics == [topics.predictions, topics.inference_log, topics.predictions_shadow, topics.inference_log]


class Files:
    """A registry that has version 2 as a folder only."""

    def __init__(self, folder: Path, spec: Any) -> None:
        self._folder = folder
        self._spec = spec
        self.closed = 0
        self.tried: list[bool] = []

    def folder(self, _name: str, _version: str, *, tried: bool = True) -> VersionFolder:
        self.tried.append(tried)
        held: Any = SimpleNamespace(folder=self._folder, close=self._close)
        return VersionFolder("d2", self._spec, held)

    def _close(self) -> None:
        self.closed += 1


class Ordered:
    """Stands in for `Following`, with orders to hear of."""

    def __init__(self, orders: list[Order], champions: list[ModelHandle], challengers: Challengers) -> None:
        self.orders = orders
        self.loaded = {(h.name, h.version): h for h in champions}
        self._challengers = challengers
        self.forgotten: list[tuple[set[Any], set[Any]]] = []

    def known(self) -> list[Order]:
        return self.orders

    def newest(self) -> list[Order]:
        return list({(o.model, o.role): o for o in self.orders}.values())

    async def have(self, versions: list[tuple[str, str]], *, apart: bool = False) -> list[ModelHandle]:
        assert apart, "a challenger's version is not asked for as another"
        return [self._challengers.have(v) for v in versions]

    async def caught_up(self) -> None:
        """It always is."""

    def forget(self, keep: set[Any], challengers: set[Any]) -> None:
        self.forgotten.append((keep, challengers))
        self._challengers.forget(challengers)


@pytest.fixture(name="files")
def fixture_files(tmp_path: Path) -> Files:
    (tmp_path / "MLmodel").touch()
    return Files(tmp_path, CHAMPION.spec)


@pytest.fixture(name="make")
def fixture_make(files: Files) -> Iterator[Callable[..., Challengers]]:
    made: list[Challengers] = []

    def make(command: Any = COMMAND) -> Challengers:
        registry: Any = files
        made.append(Challengers(registry, budget_s=20.0, command=command))
        return made[-1]

    yield make
    for one in made:
        one.forget(())


def test_a_challenger_in_force_is_scored_apart_while_the_same_version_as_champion_is_scored_here(
    files: Files, make: Callable[..., Challengers]
) -> None:
    challengers = make()
    second = handle("m", [X, X1], version="2", predict=lambda x: total(x) * 10)
    orders = [order_of(CHAMPION, seq=1), order_of(second, seq=1, role="challenger"), order_of(second, seq=2, from_us=15)]
    following: Any = Ordered(orders[:2], [CHAMPION], challengers)
    pipeline = Pipeline([CHAMPION], partitions=PARTITIONS, max_future_us=10**15, slack_rows=8, orders=orders[:1])
    outbox: Any = Sent()
    handler = InferenceHandler(pipeline, outbox, Topics(), idle_wait_s=1.0, following=following, challengers=challengers)
    table: Any = SimpleNamespace(get=nothing, items=lambda _p: [])
    handler.use_table(table)
    handler.append_switches([0], now_s=0.0)
    assert outbox.topics == []  # its process is not there yet

    def run(parts: Any) -> StepResult:
        chunk: Any = SimpleNamespace(parts=parts)
        asyncio.run(handler.prepare(chunk))
        return pipeline.step(parts, nothing)

    home = switch(orders[1], offset=0)
    run(home)
    assert files.tried == [False]
    handler.append_switches([home[0].partition, (home[0].partition + 1) % PARTITIONS], now_s=0.0)
    assert outbox.topics == [Topics().features]  # the other partition's
    out = run(part(bar(10, x=1.0), first=1))
    assert [b["value"] for b in bodies(out)] == [json.loads(v)["value"] for _, _, v in out.shadow] == [1.0]
    following.orders, following.loaded = orders, {("m", "1"): CHAMPION, ("m", "2"): second}
    run(switch(orders[2], offset=2))
    out = run(part(bar(20, x=2.0), first=3))
    assert [(b["version"], b["value"]) for b in bodies(out)] == [("2", 30.0)]
    assert [(b["version"], b["value"]) for b in (json.loads(v) for _, _, v in out.shadow)] == [("2", 3.0)]
    handler.append_switches([home[0].partition], now_s=0.0)
    assert following.forgotten == [({("m", "1"), ("m", "2")}, {("m", "2")})]
    challengers.forget(())
    handler.append_switches([home[0].partition], now_s=0.0)
    assert pipeline.partitions.apart == {}
    assert files.closed == 1


def test_one_that_does_not_start_is_refused_before_its_order_and_abstains_after(
    files: Files, make: Callable[..., Challengers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "FIRST_REST_S", 60.0)
    challengers = make(["/bin/sh", "-c", "echo no such model >&2; exit 5"])
    with pytest.raises(
        UntrustedModel, match=r"is not served as challenger: its process ended with exit code 5 \(no such model\)"
    ) as caught:
        challengers.load(("m", "2"))
    assert caught.value.check == "trial"
    assert (challengers.loaded, files.closed) == ({}, 1)
    there = challengers.have(("m", "2"))
    with pytest.raises(ChallengerUnavailable):
        there.predict(np.zeros((1, 2)))
    assert challengers.load(("m", "2")) is there


def test_a_challenger_is_started_once_and_loaded_here_only_when_it_is_promoted(
    files: Files, make: Callable[..., Challengers]
) -> None:
    challengers = make()
    aliases = {"champion": "1", "next": "2"}
    written: dict[Any, Order] = {}
    loads: list[str] = []

    def load(_name: str, version: str) -> ModelHandle:
        loads.append(version)
        return handle("m", [X, X1], version=version)

    def append(order: Order) -> Order:
        if order.seq > 1 or order.role != "champion":
            following.forget(())  # as a worker does between an order's loading and its being known
        return written.setdefault(order.key, order)

    registry: Any = SimpleNamespace(
        resolve=lambda _name, alias: aliases[alias],
        lookup=lambda _name, alias: Resolution(aliases[alias], from_cache=False),
        load=load,
        pin=nothing,
        unpin=nothing,
    )
    topic: Any = SimpleNamespace(read=list, orders=lambda: list(written.values()), append=append)
    served = ServedModel(name="m", challenger_alias="next")
    following = Following([served], registry, topic, challengers=challengers, ahead_us=1, load_deadline_s=0.0)
    following.start()
    asyncio.run(following.give_orders(stream_time_us=0))
    asyncio.run(following.load_ordered())
    assert [(o.role, o.version, o.digest) for o in written.values()] == [("champion", "1", ""), ("challenger", "2", "d2")]
    assert (loads, files.tried, list(challengers.loaded)) == (["1"], [True], [("m", "2")])
    assert list(following.loaded) == [("m", "1")]
    aliases["champion"] = "2"
    asyncio.run(following.give_orders(stream_time_us=0))
    assert loads == ["1", "2"]
    assert list(written.values())[-1].role == "champion"
