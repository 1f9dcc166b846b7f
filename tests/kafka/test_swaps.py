"""Promotions while rows flow, a worker joins and one is killed: each row has one champion, the one of its event time."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from tests.broker.inference_rows import MODEL, PARTITIONS
from tests.chaos.feeding import Feed, flowing
from tests.chaos.ledger import bits
from tests.chaos.reading import Following, read_all
from tests.chaos.workers import Crew
from tests.kafka import swaps

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.names import Names

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]
AHEAD_S = 240
"""In event time; a second of the flow is some twenty minutes of it."""


def test_promotions_a_rollback_a_rebalance_and_a_kill_leave_each_row_the_one_champion_of_its_time(
    names: Names, tmp_path: Path
) -> None:
    uri, client = swaps.publish_all(tmp_path)
    feed = Feed(names.servers, names.topics.features)
    group = Following(names.servers, names.kafka.inference_group, names.topics.features)
    settings: dict[str, Any] = {
        "MLFLOW__TRACKING_URI": uri,
        "STORAGE__CACHE_DIR": str(tmp_path / "cache"),
        "INFERENCE__CACHE_TTL": "0.3s",
        "INFERENCE__SWITCH_AHEAD": f"{AHEAD_S}s",
    }
    with Crew(tmp_path, names, **settings) as crew:

        def promote(version: str) -> None:
            client.set_registered_model_alias(MODEL, "champion", version)

        def switched(number: int) -> None:
            everywhere = {(p, number) for p in range(PARTITIONS)}
            crew.wait(f"order {number} everywhere", lambda: everywhere <= set(swaps.switches(names)))

        for name in ("a", "b"):
            crew.start(name)
        crew.wait("a share each", lambda: [len(w.partitions()) for w in crew.workers.values()] == [2, 2])
        with flowing(feed, swaps.stream(7), rate=250):
            crew.wait("rows", lambda: all(w.rows() > 50 for w in crew.workers.values()))
            promote("2")
            crew.start("c")
            crew.wait("the first switch", lambda: bool(swaps.switches(names)))
            crew.kill("b")
            switched(2)
            promote("3")
            switched(3)
            crew.wait_ready("c")
            promote("1")
            switched(4)
            crew.wait("a commit of every partition", group.moved())
        crew.wait("all committed", group.past())
        assert {name: crew.stop(name) for name in ("a", "c")} == {"a": 0, "c": 0}
        assert crew.exits == []
    assert {n: o.version for n, o in swaps.orders(names).items()} == {1: "1", 2: "2", 3: "3", 4: "1"}
    _judge(names)


def _judge(names: Names) -> None:
    want = swaps.demand(names)
    assert dict(want.switched) == {p: [2, 3, 4] for p in range(PARTITIONS)}
    bodies: defaultdict[tuple[str, int, int], set[bytes]] = defaultdict(set)
    for r in read_all(names.servers, names.topics.predictions):
        body = json.loads(r.value or b"")
        bodies[body["symbol"], body["ts_event_us"], body["revision"]].add(r.value or b"")
        assert body["role"] == "champion"
    assert [at for at, some in bodies.items() if len(some) > 1] == []
    found = {at: json.loads(next(iter(some))) for at, some in bodies.items()}
    assert set(found) == set(want.answers)
    assert {at: b["version"] for at, b in found.items()} == {at: version for at, (version, _) in want.answers.items()}
    assert Counter(want.numbers.values()).keys() == {1, 2, 3, 4}
    for symbol in swaps.SYMBOLS:
        numbers = [want.numbers[at] for at in sorted(want.numbers) if at[0] == symbol]
        assert numbers == sorted(numbers)
    _judge_log(names, want)
    assert read_all(names.servers, names.topics.features_rejected) == []


def _judge_log(names: Names, want: swaps.Demand) -> None:
    """The vectors logged are the oracle's, bit for bit."""
    import pyarrow as pa

    logged: defaultdict[tuple[str, int, int], set[tuple[str, bytes]]] = defaultdict(set)
    for r in read_all(names.servers, names.topics.inference_log):
        table = pa.ipc.open_stream(r.value).read_all()
        columns = [table[n].to_pylist() for n in ("prediction_id", "symbol", "ts_event_us", "revision", "vector")]
        for pid, symbol, event, revision, vector in zip(*columns, strict=True):
            logged[symbol, event, revision].add((pid.split(":")[1], bits(vector)))
    assert logged == {at: {(version, bits(vector))} for at, (version, vector) in want.answers.items()}
