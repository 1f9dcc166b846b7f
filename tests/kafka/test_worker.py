"""The inference worker on a real Kafka, judged by the ledger: every numbered row accounted for, whatever was done to it."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.broker.inference_rows import SYMBOLS
from tests.broker.inference_world import registry
from tests.chaos.feeding import Feed, endless, flowing, numbered
from tests.chaos.ledger import audit
from tests.chaos.reading import Following
from tests.chaos.state import differences, entries, newest_of_changelog
from tests.chaos.workers import Crew

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.names import Names
    from tests.chaos.workers import ChaosWorker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(400)]

FATES = {
    "predicted", "context", "repeated", "rejected: undecodable", "rejected: unknown_feature_set", "rejected: key_mismatch",
    "rejected: wrong_partition", "rejected: out_of_range", "rejected: future", "rejected: conflict", "rejected: expired",
}  # fmt: skip


def test_one_worker_from_end_to_end(names: Names, tmp_path: Path) -> None:
    """As users start it, with a model out of a registry."""
    feed = Feed(names.servers, names.topics.features)
    rows = numbered(11, 3000)
    feed.send(rows[:2000])
    with Crew(tmp_path, names, MLFLOW__TRACKING_URI=registry()) as crew:
        worker = crew.start("a")
        crew.wait_ready()
        feed.send(rows[2000:])
        feed.flush()
        crew.wait("all committed", Following(names.servers, names.kafka.inference_group, names.topics.features).past())
        started = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - started < 10
        assert crew.exits == []
        assert "Traceback" not in worker.log
    ledger = audit(names, sent=len(rows))
    assert ledger.faults == {}
    assert (ledger.rows, ledger.repeated) == (len(rows), 0)
    assert set(ledger.fates) == FATES
    assert sum(ledger.fates.values()) == len(rows)


def test_workers_join_leave_and_are_killed_while_rows_flow_and_an_emptied_disk_is_rebuilt_byte_for_byte(
    names: Names, tmp_path: Path
) -> None:
    rng = random.Random(4)  # noqa: S311 - the same moments every time
    feed = Feed(names.servers, names.topics.features)
    group = Following(names.servers, names.kafka.inference_group, names.topics.features)
    with Crew(tmp_path, names, light=True) as crew:
        first = crew.start("a")
        crew.wait_ready("a")
        with flowing(feed, endless(4), rate=300):
            _joins_and_leaves(crew, first)
            for kill in range(3):
                worker, goal = crew.workers["a"], rng.randint(50, 600)
                crew.wait("some rows", lambda worker=worker, goal=goal: worker.rows() >= goal)  # type: ignore[misc]  # bound now
                crew.kill("a")
                crew.start("a", wipe=kill == 1)
                crew.wait_ready("a", timeout_s=30)
            for _ in range(2):  # what the last one killed had begun to write is then out of use in every partition
                crew.wait("a commit of every partition", group.moved())
        crew.wait("all committed", group.past())
        started = time.monotonic()
        assert crew.stop("a") == 0
        assert time.monotonic() - started < 10
        live = entries(tmp_path / "a")
        crew.start("a", wipe=True)
        crew.wait_ready("a")
        assert crew.stop("a") == 0
        assert crew.exits == []
    assert {key for held in live.values() for key in held} >= {s.encode() for s in SYMBOLS}
    assert differences(entries(tmp_path / "a"), live) == []
    assert differences(newest_of_changelog(names), live) == []
    ledger = audit(names, sent=feed.sent)
    assert ledger.faults == {}
    assert ledger.fates["predicted"] > 1000
    assert ledger.repeated, "no kill fell between a prediction and its commit: this proved nothing"


def _joins_and_leaves(crew: Crew, first: ChaosWorker) -> None:
    second = crew.start("b")
    crew.wait("a share each", lambda: len(first.partitions()) == len(second.partitions()) == 2)
    taken = second.rows()
    crew.wait("rows at the second", lambda: second.rows() > taken + 100)
    assert crew.stop("b") == 0
    crew.wait("all at the first", lambda: first.partitions() == [0, 1, 2, 3])
    taken = first.rows()
    crew.wait("rows at the first", lambda: first.rows() > taken + 100)
